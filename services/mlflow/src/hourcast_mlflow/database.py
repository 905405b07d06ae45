"""`hourcast setup database`: databases, accounts, the store's tables, and who may do what on them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from hourcast.errors import ConfigurationError, HourcastError, RefusedError, UnavailableError
from hourcast.store import ACCOUNTS, Right, grant_statements, open_store, rights_of
from hourcast_mlflow.settings import MlflowSettings
from hourcast_mlflow.waiting import until_it_answers

__all__ = ["MLFLOW", "Server", "setup_database"]

MLFLOW = "mlflow"
"""The account that owns MLflow's own database, and nothing else."""

Say = Callable[[str], None]
_PASSWORD_WRONG = {1045, 1698}
_NOT_ALLOWED = {1044, 1142, 1227, 1410}


@dataclass(frozen=True, slots=True)
class Server:
    """A MySQL server and the account that sets it up."""

    host: str
    port: int
    admin: str
    password: str

    def url(self, user: str, password: str, database: str | None = None) -> sa.URL:
        """How an account reaches a database of it."""
        return sa.URL.create("mysql+pymysql", user, password, self.host, self.port, database)

    def engine(self, user: str, password: str, database: str | None = None) -> Engine:
        """An engine that keeps no connection and shows no values in its errors."""
        return sa.create_engine(
            self.url(user, password, database),
            poolclass=sa.NullPool,
            hide_parameters=True,
            isolation_level="AUTOCOMMIT",
            # As text pymysql sends the password in Latin-1, and the server knows it in UTF-8.
            connect_args={
                "charset": "utf8mb4",
                "connect_timeout": 5,
                "read_timeout": 300,
                "password": password.encode(),
            },
        )

    @property
    def place(self) -> str:
        """`host:port`, for sentences."""
        return f"{self.host}:{self.port}"


def setup_database(settings: MlflowSettings, say: Say) -> None:
    """Make everything that the services need of MySQL; run again it changes only what differs.

    Raises:
        ConfigurationError: when a password is missing, the administrator may not do it, or the server is set up so
            that MLflow's tables cannot be made.
        UnavailableError: when the server does not answer in time.
        RefusedError: when accounts that should be there do not come in.
    """
    server = Server(
        settings.needed("mysql_host"),
        settings.mysql_port,
        settings.mysql_admin,
        settings.needed("mysql_admin_password"),
    )
    # Secrets that people made for an earlier release know no account that tidies.
    names = [name for name in ACCOUNTS if name != "tidy" or settings.mysql_password_tidy is not None]
    passwords = {name: settings.needed(f"mysql_password_{name}") for name in (*names, MLFLOW)}
    if not passwords[MLFLOW].isascii():
        raise ConfigurationError(
            "HOURCAST_MYSQL_PASSWORD_MLFLOW has characters beyond ASCII, which MLflow's own client sends wrongly; choose another"
        )
    store, prefix = settings.mysql_prefix, settings.mysql_prefix
    admin = server.engine(server.admin, server.password)
    until_it_answers(f"MySQL at {server.place}", lambda: _answers(admin, server), settings.setup_wait_s, say)
    with admin.connect() as connection:
        _refuse_without_triggers(connection, server)
        try:
            if settings.mysql_provision:
                for database in (store, f"{prefix}_{MLFLOW}"):
                    _make_database(connection, database, say)
            _upgrade(server, store, say)
            if settings.mysql_provision:
                for account, password in passwords.items():
                    _account(connection, server, prefix, account, password, say)
        except DBAPIError as error:
            raise _told(error, server) from error
    _see_that_all_come_in(server, prefix, passwords)
    say(
        f"MySQL at {server.place} is set up: database {store} with {len(names)} accounts, {prefix}_{MLFLOW} with one"
    )
    if "tidy" not in names:
        say(
            "HOURCAST_MYSQL_PASSWORD_TIDY is not set, so there is no account that tidies, and `hourcast tidy` cannot come in"
        )


def _code(error: DBAPIError) -> int:
    args = getattr(error.orig, "args", ())
    return args[0] if args and isinstance(args[0], int) else 0


def _answers(admin: Engine, server: Server) -> None:
    try:
        with admin.connect() as connection:
            connection.scalar(sa.text("SELECT 1"))
    except DBAPIError as error:
        # A server that is making its own accounts refuses ours for a while, so this may pass too.
        if _code(error) in _PASSWORD_WRONG:
            raise UnavailableError(
                f"it does not let the administrator {server.admin!r} in; check HOURCAST_MYSQL_ADMIN and "
                "HOURCAST_MYSQL_ADMIN_PASSWORD"
            ) from error
        raise UnavailableError(f"it does not answer ({error.orig})") from error


def _refuse_without_triggers(connection: Connection, server: Server) -> None:
    names = ("log_bin", "log_bin_trust_function_creators")
    values = {
        row[0]: row[1].upper() in ("ON", "1")
        for row in connection.execute(
            sa.text(
                "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('log_bin', 'log_bin_trust_function_creators')"
            )
        )
    }
    if values.get(names[0], False) and not values.get(names[1], True):
        raise ConfigurationError(
            f"MySQL at {server.place} writes a binary log and log_bin_trust_function_creators is off, so MLflow's "
            "account may not make the triggers of its tables (error 1419); start the server with "
            "--log-bin-trust-function-creators=1, or set it in the parameter group of a managed one"
        )


def _make_database(connection: Connection, name: str, say: Say) -> None:
    there = connection.scalar(
        sa.text("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = :name"), {"name": name}
    )
    if not there:
        connection.execute(sa.text(f"CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4"))
        say(f"database {name}: made")


def _upgrade(server: Server, database: str, say: Say) -> None:
    store = open_store(
        server.url(server.admin, server.password, database).render_as_string(hide_password=False)
    )
    try:
        before = store.revision()
        store.upgrade()
        after = store.revision()
    except UnavailableError as error:
        raise UnavailableError(
            f"the tables of database {database} could not be brought up: {error}"
        ) from error
    finally:
        store.close()
    if before != after:
        say(f"database {database}: tables brought from revision {before or 'none'} to {after}")


def _account(
    connection: Connection, server: Server, prefix: str, account: str, password: str, say: Say
) -> None:
    user, database = f"{prefix}_{account}", prefix if account != MLFLOW else f"{prefix}_{MLFLOW}"
    # Names have no other characters (the prefix is checked), so they need no escapes.
    quoted = f"'{user}'@'%'"
    known = connection.scalar(
        sa.text("SELECT COUNT(*) FROM mysql.user WHERE user = :user AND host = '%'"), {"user": user}
    )
    if not known:
        # Locked until it has its rights, so that no service comes in with half of them.
        connection.execute(
            sa.text(f"CREATE USER IF NOT EXISTS {quoted} IDENTIFIED BY :password ACCOUNT LOCK"),
            {"password": password},
        )
    changed = _give_rights(connection, account, quoted, database)
    if not known:
        connection.execute(sa.text(f"ALTER USER {quoted} ACCOUNT UNLOCK"))
        say(f"account {user}: made")
        return
    if _why_not(server, user, password, database):
        # A setup that was cut short has left it locked.
        connection.execute(
            sa.text(f"ALTER USER {quoted} IDENTIFIED BY :password ACCOUNT UNLOCK"), {"password": password}
        )
        say(f"account {user}: password renewed")
    if changed:
        say(f"account {user}: rights set to those of its service")


def _give_rights(connection: Connection, account: str, user: str, database: str) -> bool:
    """Give what is missing, take what is too much; whether anything was."""
    held = _held(connection, user)
    if account == MLFLOW:
        # In a database's name `_` stands for any character, where it is not escaped.
        pattern = database.replace("_", "\\_")
        more = {r for r in held if r.database.replace("\\_", "_") != database}
        statements = [f"GRANT ALL PRIVILEGES ON `{pattern}`.* TO {user}", *grant_statements(user, (), more)]
        changed = bool(more) or not held
    else:
        statements = grant_statements(user, rights_of(account, database), held)
        changed = bool(statements)
    for statement in statements:
        connection.execute(sa.text(statement))
    return changed


_GRANT = re.compile(r"^GRANT (?P<what>.+?) ON (?P<where>(?:`[^`]*`|\*)\.(?:`[^`]*`|\*)) TO ")


def _held(connection: Connection, user: str) -> set[Right]:
    found: set[Right] = set()
    for (line,) in connection.execute(sa.text(f"SHOW GRANTS FOR {user}")).all():
        match = _GRANT.match(line)
        if match is None:
            raise RefusedError(
                f"{user} has a right that Hourcast did not give and cannot take ({line.split(' TO ')[0]}); take it away first"
            )
        database, table = (part.strip("`") for part in re.findall(r"`[^`]*`|\*", match["where"]))
        for privilege in re.findall(r"[A-Za-z_ ]+(?:\([^)]*\))?", match["what"]):
            if privilege.strip() != "USAGE":
                found.add(Right(database, table, privilege.strip()))
        if "WITH GRANT OPTION" in line:
            found.add(Right(database, table, "GRANT OPTION"))
    return found


def _why_not(server: Server, user: str, password: str, database: str) -> str:
    """Why an account does not come in; empty when it does."""
    engine = server.engine(user, password, database)
    try:
        with engine.connect() as connection:
            connection.scalar(sa.text("SELECT 1"))
    except DBAPIError as error:
        return str(error.orig)
    return ""


def _see_that_all_come_in(server: Server, prefix: str, passwords: Mapping[str, str]) -> None:
    for account, password in passwords.items():
        user, database = f"{prefix}_{account}", prefix if account != MLFLOW else f"{prefix}_{MLFLOW}"
        if why := _why_not(server, user, password, database):
            raise RefusedError(
                f"MySQL at {server.place} does not let the account {user} into database {database} with the password in "
                f"HOURCAST_MYSQL_PASSWORD_{account.upper()} ({why}); make it, or let the setup do it (HOURCAST_MYSQL_PROVISION=true)"
            )


def _told(error: DBAPIError, server: Server) -> HourcastError:
    if _code(error) in _NOT_ALLOWED:
        return ConfigurationError(
            f"the administrator {server.admin!r} of MySQL at {server.place} may not do what a setup does ({error.orig}); "
            "give it the rights, or make databases and accounts yourself and set HOURCAST_MYSQL_PROVISION=false"
        )
    return UnavailableError(f"MySQL at {server.place} failed amid the setup ({error.orig}); run it again")
