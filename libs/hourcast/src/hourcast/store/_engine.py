"""Engines and the retry of transactions that a database asks to be tried again."""

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from hourcast.attempts import try_again
from hourcast.errors import ConfigurationError, UnavailableError

__all__ = ["create_engine", "refusal", "run_transaction", "unavailable"]

T = TypeVar("T")
_ATTEMPTS = 6
# 1213 deadlock, 1205 lock wait timeout: InnoDB has rolled the transaction back and asks for another try.
_MYSQL_RETRY = {1205, 1213}
_MYSQL_NO_TABLE = 1146
# 1044 and 1045 no such account, or not on this database; 1049 no such database; 1698 and 3118 not this way in, locked.
_MYSQL_NO_ACCESS = {1044, 1045, 1049, 1698, 3118, 4151}
# 1142 not on this table, 1143 not on this column, 1227 more than the account has, 1370 no such routine right.
_MYSQL_DENIED = {1142, 1143, 1227, 1370}
# 1036 and 1836 InnoDB of MariaDB and of MySQL, 1290 the server (also against its administrators), 1792 the transaction.
_MYSQL_READ_ONLY = {1036, 1290, 1792, 1836}


def create_engine(url: str, patience_s: float = 60) -> Engine:
    """An engine for `sqlite:///…` or `mysql+pymysql://…`. Nothing is contacted yet, SQLite folders are made.

    A server that does not answer a statement for `patience_s` counts as one that is away; so long is a connection waited for.

    Raises:
        ConfigurationError: when the URL is neither.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise ConfigurationError(
            "HOURCAST_DATABASE_URL is not a database URL; "
            "use sqlite:///path or mysql+pymysql://user:password@host/database"
        ) from None
    if parsed.drivername == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(parsed, connect_args={"timeout": 30})
        sa.event.listen(engine, "connect", _sqlite_connect)
        sa.event.listen(engine, "begin", _sqlite_begin)
        return engine
    if parsed.drivername == "mysql+pymysql":
        return sa.create_engine(
            parsed,
            # What is written may be a secret elsewhere on the server: errors show statements, never values.
            hide_parameters=True,
            pool_pre_ping=True,
            pool_recycle=1800,
            pool_timeout=patience_s,
            isolation_level="READ COMMITTED",
            connect_args={
                "charset": "utf8mb4",
                "connect_timeout": 5,
                "read_timeout": patience_s,
                "write_timeout": patience_s,
                # As text pymysql sends it in Latin-1, and the server knows it in UTF-8.
                **({"password": str(parsed.password).encode()} if parsed.password else {}),
            },
        )
    raise ConfigurationError(
        f"HOURCAST_DATABASE_URL: driver {parsed.drivername!r} is not supported; "
        "use sqlite:///path or mysql+pymysql://user:password@host/database"
    )


def _sqlite_connect(connection: sqlite3.Connection, _record: object) -> None:
    # sqlite3's own BEGIN comes too late to take the write lock; `_sqlite_begin` does it.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 30000")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    # A deferred transaction that reads and then writes fails at once when another wrote between.
    mode = "IMMEDIATE" if connection.get_execution_options().get("writes") else "DEFERRED"
    connection.exec_driver_sql(f"BEGIN {mode}")


def _code(error: DBAPIError) -> int | None:
    args: tuple[Any, ...] = getattr(error.orig, "args", ())
    return args[0] if args and isinstance(args[0], int) else None


def refusal(engine: Engine, error: DBAPIError) -> UnavailableError | None:
    """What to say when the server refuses the account something; None when it is another error.

    It may help to try again later: the setup job makes accounts and gives them their rights.
    """
    code = _code(error)
    account, host = engine.url.username or "", f"{engine.url.host}:{engine.url.port or 3306}"
    if code in _MYSQL_NO_ACCESS:
        return UnavailableError(
            f"the database server at {host} does not let the account {account!r} into {engine.url.database!r} ({code}); "
            "`hourcast setup database` makes it; otherwise check HOURCAST_DATABASE_URL and HOURCAST_DATABASE_PASSWORD",
            retry_after_s=5,
        )
    if code in _MYSQL_DENIED:
        said = str(getattr(error.orig, "args", ("", ""))[1])
        found = re.match(r"([\w ,]+) command denied to user .* for (?:table|column) (\S+)", said)
        what = f"{found[1]} on {found[2]}" if found else said
        return UnavailableError(
            f"the account {account!r} has no right to {what} at {host}; "
            "`hourcast setup database` gives each account the rights of its service and no more",
            retry_after_s=5,
        )
    if code in _MYSQL_READ_ONLY:
        return UnavailableError(
            f"the database server at {host} is read-only now ({code}), so nothing can be stored in {engine.url.database!r}",
            retry_after_s=5,
        )
    if "readonly database" in str(error.orig):
        return UnavailableError(
            f"the store at {engine.url.render_as_string(hide_password=True)} is read-only, so nothing can be stored in it",
            retry_after_s=5,
        )
    return None


def unavailable(engine: Engine, error: DBAPIError) -> UnavailableError:
    """What to say when the server does not do what it was asked for."""
    return refusal(engine, error) or UnavailableError(
        f"the store at {engine.url.render_as_string(hide_password=True)} does not answer "
        f"({type(error.orig).__name__}: {error.orig}); check HOURCAST_DATABASE_URL and that it runs",
        retry_after_s=5,
    )


def run_transaction(engine: Engine, work: Callable[[Connection], T], *, writes: bool) -> T:
    """Run `work` in one transaction, again when the database asks for it.

    Raises:
        UnavailableError: when the database does not answer, or has no tables yet.
    """

    def once() -> T:
        with engine.connect().execution_options(writes=writes) as connection, connection.begin():
            return work(connection)

    try:
        return try_again(once, _asks_again, attempts=_ATTEMPTS, first_s=0.02, jitter_s=0.08)
    except (OperationalError, InterfaceError, ProgrammingError) as error:
        if _code(error) == _MYSQL_NO_TABLE or "no such table" in str(error.orig):
            raise UnavailableError(
                "the store has no tables yet; run `hourcast db upgrade`", retry_after_s=5
            ) from error
        if isinstance(error, ProgrammingError) and not _asks_again(error):
            raise
        raise unavailable(engine, error) from error
    except PoolTimeoutError as error:
        raise UnavailableError("every connection to the store is in use", retry_after_s=5) from error


def _asks_again(error: Exception) -> bool:
    return isinstance(error, OperationalError | InterfaceError | ProgrammingError) and (
        _code(error) in _MYSQL_RETRY or "database is locked" in str(error.orig)
    )
