"""`hourcast setup database` on a real server: accounts, tables, and exactly the rights of the design."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from hourcast.contracts import Bars
from hourcast.decisions import Decision
from hourcast.errors import UnavailableError
from hourcast.store import (
    ACCOUNTS,
    PRIVILEGES,
    RETENTION,
    RIGHTS,
    TABLES,
    BacktestRows,
    Evaluation,
    Event,
    Fan,
    Quarantined,
    Store,
    open_store,
    rights_of,
)
from hourcast.store._schema import metadata
from tests.integration.conftest import hourcast, run_well
from tests.ports import find_port

pytestmark = pytest.mark.integration

_NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
_prefixes = (f"hc{n}" for n in itertools.count(1))
# Each character that an URL, a shell or SQL takes for something else.
_ODD = "p@ss:w/o%r'd\"#?&=+ \\"


@dataclass(frozen=True)
class Made:
    """A server with databases and accounts of a prefix."""

    prefix: str
    environment: Mapping[str, str]
    admin: sa.URL

    def url(self, account: str, database: str | None = None) -> str:
        """How an account reaches the store."""
        url = self.admin.set(
            username=f"{self.prefix}_{account}",
            password=self.environment[f"HOURCAST_MYSQL_PASSWORD_{account.upper()}"],
            database=database or self.prefix,
        )
        return url.render_as_string(hide_password=False)

    def execute(self, statement: str, url: str | None = None) -> list[sa.Row[tuple[object, ...]]]:
        """Run a statement, as the administrator unless a URL says otherwise."""
        there = sa.make_url(url or self.admin)
        engine = sa.create_engine(
            there,
            poolclass=sa.NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"password": str(there.password).encode()},
        )
        with engine.connect() as connection:
            result = connection.execute(sa.text(statement))
            return list(result.all()) if result.returns_rows else []


@pytest.fixture
def unmade(mysql_server: str) -> Iterator[Made]:
    """A prefix that nobody uses; all that was made under it is gone afterwards."""
    admin = sa.make_url(mysql_server)
    prefix = next(_prefixes)
    environment = {
        "HOURCAST_MYSQL_HOST": str(admin.host), "HOURCAST_MYSQL_PORT": str(admin.port), "HOURCAST_MYSQL_PREFIX": prefix,
        "HOURCAST_MYSQL_ADMIN": str(admin.username), "HOURCAST_MYSQL_ADMIN_PASSWORD": str(admin.password),
        "HOURCAST_SETUP_WAIT_S": "20",
        **{f"HOURCAST_MYSQL_PASSWORD_{a.upper()}": f"{_ODD}{a}" + ("" if a == "mlflow" else "ü€") for a in (*ACCOUNTS, "mlflow")},
    }  # fmt: skip
    made = Made(prefix, environment, admin)
    yield made
    for database in (prefix, f"{prefix}_mlflow"):
        made.execute(f"DROP DATABASE IF EXISTS `{database}`")
    for account in (*ACCOUNTS, "mlflow"):
        made.execute(f"DROP USER IF EXISTS '{prefix}_{account}'@'%'")


@pytest.fixture
def made(unmade: Made) -> Made:
    """After a setup."""
    run_well(unmade.environment, "setup", "database")
    return unmade


def test_a_setup_says_what_it_made_and_again_does_nothing(unmade: Made) -> None:
    """Databases, tables and accounts are told once; a second run has nothing to tell but that all is there."""
    first = run_well(unmade.environment, "setup", "database").splitlines()
    p = unmade.prefix
    assert first[:3] == [
        f"database {p}: made",
        f"database {p}_mlflow: made",
        f"database {p}: tables brought from revision none to 0009",
    ]
    assert first[3:9] == [f"account {p}_{a}: made" for a in (*ACCOUNTS, "mlflow")]
    second = run_well(unmade.environment, "setup", "database").splitlines()
    assert second == first[9:]
    host = f"{unmade.admin.host}:{unmade.admin.port}"
    assert second == [f"MySQL at {host} is set up: database {p} with 5 accounts, {p}_mlflow with one"]


def test_secrets_of_release_0_1_0_know_no_account_that_tidies(unmade: Made) -> None:
    """The others are made as before, and what is missing is told."""
    del (given := dict(unmade.environment))["HOURCAST_MYSQL_PASSWORD_TIDY"]
    out = run_well(given, "setup", "database").splitlines()
    assert out[-1] == (
        "HOURCAST_MYSQL_PASSWORD_TIDY is not set, so there is no account that tidies, and `hourcast tidy` cannot come in"
    )
    assert out[-2].endswith(f"database {unmade.prefix} with 4 accounts, {unmade.prefix}_mlflow with one")
    assert f"account {unmade.prefix}_tidy: made" not in out


def test_no_password_is_told(unmade: Made) -> None:
    """Neither what a setup says nor what it complains about holds a password."""
    done = hourcast(unmade.environment, "setup", "database")
    wrong = hourcast(
        {**unmade.environment, "HOURCAST_MYSQL_ADMIN_PASSWORD": "hunter2", "HOURCAST_SETUP_WAIT_S": "0"},
        "setup", "database",
    )  # fmt: skip
    assert wrong.returncode == 5
    for text in (done.stdout, done.stderr, wrong.stdout, wrong.stderr):
        assert "p@ss" not in text
        assert "hunter2" not in text
        assert str(unmade.admin.password) not in text


_NO_SUCH_TABLE = 1146


def _code(error: sa.exc.DBAPIError) -> int:
    assert error.orig is not None
    code: int = error.orig.args[0]
    return code


def _try(table: str, privilege: str, columns: list[str]) -> str:
    column = columns[0]
    return {
        "SELECT": f"SELECT * FROM `{table}` LIMIT 0",
        "INSERT": f"INSERT INTO `{table}` ({', '.join(f'`{c}`' for c in columns)}) SELECT {', '.join(['NULL'] * len(columns))} FROM DUAL WHERE FALSE",
        # The WHERE reads no column, which would need SELECT as well.
        "UPDATE": f"UPDATE `{table}` SET `{column}` = NULL WHERE FALSE",
        "DELETE": f"DELETE FROM `{table}` WHERE FALSE",
    }[privilege]


def test_each_account_may_do_what_its_service_does_and_nothing_else(made: Made) -> None:
    """Every privilege on every table, tried by every account: allowed where the design says so, else refused."""
    columns = {name: [c.name for c in table.columns] for name, table in metadata.tables.items()}
    columns["alembic_version"] = ["version_num"]
    allowed, found, codes = set(), set(), set()
    for account in ACCOUNTS:
        for table in TABLES:
            for privilege in PRIVILEGES:
                if privilege in RIGHTS[account].get(table, ()):
                    allowed.add((account, table, privilege))
                try:
                    made.execute(_try(table, privilege, columns[table]), made.url(account))
                except sa.exc.OperationalError as error:
                    codes.add(_code(error))
                else:
                    found.add((account, table, privilege))
    assert found == allowed
    assert codes == {1142}


_FURTHER = (
    "CREATE TABLE {own}.mine (id INT)", "DROP TABLE {store}.bars", "ALTER TABLE {store}.events ADD COLUMN x INT",
    "TRUNCATE TABLE {store}.events", "CREATE DATABASE {store}_more", "SELECT * FROM mysql.user",
    "CREATE USER 'x'@'%' IDENTIFIED BY 'y'", "GRANT SELECT ON {store}.bars TO '{store}_etl'@'%'",
    "SELECT * FROM {store}_mlflow.nothing",
)  # fmt: skip


def test_no_account_reaches_further(made: Made) -> None:
    """Schema, other databases, accounts and rights are out of reach; MLflow's account has its own database only."""
    through, codes = set(), set()
    for account in (*ACCOUNTS, "mlflow"):
        own = f"{made.prefix}_mlflow" if account == "mlflow" else made.prefix
        for statement in (
            *_FURTHER,
            *(f"SELECT * FROM {{store}}.{table}" for table in TABLES if account == "mlflow"),
        ):
            try:
                made.execute(statement.format(own=own, store=made.prefix), made.url(account, own))
            except sa.exc.DBAPIError as error:
                codes.add(_code(error))
                if _code(error) == _NO_SUCH_TABLE:
                    through.add((account, statement))
            else:
                through.add((account, statement))
    assert codes <= {1044, 1045, 1142, 1227, 1410, _NO_SUCH_TABLE}
    assert through == {("mlflow", _FURTHER[0]), ("mlflow", _FURTHER[-1])}


def _bars() -> Bars:
    return Bars.of("T", [0, 3600], [[1, 1, 1, 1, 1], [1, 1, 1, 2, 1]])


def _evaluation() -> Evaluation:
    return Evaluation("m", 1, None, "naive", "gate", "naive", _NOW, _NOW, True, {}, "why", _NOW)


def _backtest() -> BacktestRows:
    import numpy as np

    one = np.array([1.0])
    return BacktestRows(
        "m", "a", 1, np.array([0]), np.array([3600]), one, one, np.array([[1.0]]), np.array([[1.0]])
    )


def _decision() -> Decision:
    return Decision(_NOW, "controller", "rolled", "m", 1, None, "why", _NOW)


def _event() -> Event:
    return Event(_NOW, "controller", "rolled", "m", 1, None, "why", _NOW)


def _fan() -> Fan:
    return Fan("m", "served", "T", _NOW, 1, None, _NOW, _NOW, 1.0, (0.5,), (1,), ((1.0,),))


def _etl(store: Store) -> None:
    for _ in range(2):
        store.upgrade()
        run = store.begin_ingest("T", "s", _NOW)
        assert store.upsert_bars(_bars(), "s", _NOW).revised == 0
        store.quarantine([Quarantined("T", _NOW, "odd", {"close": 1}, "s", _NOW)])
        store.update_ingest(run, status="complete", ended_at=_NOW)
    assert store.leave_quarantine("T", [_NOW]) == 1
    assert len(store.ingest_runs()) == 2
    assert [*store.bar_counts([f.symbol for f in store.freshness()]).values()] == [2]


def _trainer(store: Store) -> None:
    store.upgrade()
    with store.exclusive("train"), store.exclusive("backtest-0-of-2"):
        store.read_many(["T"])
        store.freshness()
        for _ in range(2):
            store.save_evaluation(_evaluation())
            store.save_backtest(_backtest())
    assert len(store.evaluations("m")) == 1
    assert len(store.backtest_rows("m")) == 1


def _controller(store: Store) -> None:
    store.decide(_decision())
    store.decide(_decision(), seen=store.standing("m").id)
    assert len(store.decisions("m", kind="rolled")) == 2
    assert len(store.events("m", kind="rolled", limit=5)) == 2


def _serving(store: Store) -> None:
    store.read_bars("T", last=1)
    store.freshness()
    for _ in range(2):
        store.issue([_fan()])
    assert store.fans("m", "T") == [_fan()]
    store.evaluations("m", "gate")
    store.backtest_rows("m")
    store.events("m")
    store.decisions("m")
    assert store.standing("m").id == 0


def _tidy(store: Store) -> None:
    for table, rule in RETENTION.items():
        if rule.keeping is not None:
            assert store.forget(table, _NOW, dry_run=True) == store.forget(table, _NOW) == 0
    assert store.forget_backtest("m", 1) == 0
    assert store.standing("m").id == 0
    store.add_event(replace(_event(), kind="tidied"))


@pytest.mark.parametrize(
    ("account", "work"),
    [("etl", _etl), ("trainer", _trainer), ("controller", _controller), ("serving", _serving), ("tidy", _tidy)],
)  # fmt: skip
def test_each_account_can_do_the_work_of_its_service(
    made: Made, account: str, work: Callable[[Store], None]
) -> None:
    """What a service reads and writes goes through under its own account, twice over, and the clock is readable."""
    store = open_store(made.url(account))
    work(store)
    with pytest.raises(UnavailableError, match="the store's clock is not set"):
        store.clock()
    store.close()


def test_a_right_that_is_missing_is_told(made: Made) -> None:
    """Account, privilege and table are named, and what gives rights."""
    store = open_store(made.url("serving"))
    with pytest.raises(UnavailableError) as caught:
        store.add_event(_event())
    told = str(caught.value)
    assert told.startswith(f"the account '{made.prefix}_serving' has no right to INSERT on ")
    assert "events" in told
    assert told.endswith(
        "; `hourcast setup database` gives each account the rights of its service and no more"
    )
    store.close()


def test_an_upgrade_needs_no_more_than_reading_when_the_tables_are_newest(made: Made) -> None:
    """A service whose account may change no table calls it harmlessly; behind, it is told what brings them up."""
    store = open_store(made.url("etl"))
    store.upgrade()
    made.execute(f"UPDATE `{made.prefix}`.alembic_version SET version_num = '0002'")
    with pytest.raises(UnavailableError) as caught:
        store.upgrade()
    assert str(caught.value).startswith(
        "the store's tables are at revision 0002 and this Hourcast needs 0009; the setup job (`hourcast setup database`) "
        f"brings them up, because the account '{made.prefix}_etl' has no right to CREATE"
    )
    store.close()


def test_an_account_that_does_not_exist_is_told_without_its_password(made: Made) -> None:
    """A service that starts before the setup ended waits with a sentence, and shows no password."""
    store = open_store(made.url("etl").replace(f"{made.prefix}_etl", "nobody"))
    with pytest.raises(UnavailableError) as caught:
        store.read_bars("T")
    assert str(caught.value) == (
        f"the database server at {made.admin.host}:{made.admin.port} does not let the account 'nobody' into '{made.prefix}' "
        "(1045); `hourcast setup database` makes it; otherwise check HOURCAST_DATABASE_URL and HOURCAST_DATABASE_PASSWORD"
    )
    store.close()


def test_a_changed_password_takes_hold_and_the_old_one_does_not(made: Made) -> None:
    """After a secret was changed and the setup ran again, the new one opens and the old one no longer."""
    old = made.url("etl")
    changed = Made(made.prefix, {**made.environment, "HOURCAST_MYSQL_PASSWORD_ETL": "new"}, made.admin)
    out = run_well(changed.environment, "setup", "database")
    assert out.splitlines()[0] == f"account {made.prefix}_etl: password renewed"
    assert changed.execute("SELECT 1", changed.url("etl")) == [(1,)]
    with pytest.raises(sa.exc.OperationalError, match="1045"):
        made.execute("SELECT 1", old)


def test_rights_that_are_too_many_are_taken_and_missing_ones_given(made: Made) -> None:
    """Whatever an account was given or lost, by table, column, database or everywhere: after a setup it is exact."""
    p, user = made.prefix, f"'{made.prefix}_serving'@'%'"
    for what in (
        f"DELETE ON `{p}`.bars", f"UPDATE (open) ON `{p}`.bars", f"ALL PRIVILEGES ON `{p}`.events", f"SELECT ON `{p}_mlflow`.*",
        "PROCESS ON *.*",
    ):  # fmt: skip
        made.execute(f"GRANT {what} TO {user}")
    made.execute(f"GRANT SELECT ON `{p}`.clock TO {user} WITH GRANT OPTION")
    made.execute(f"REVOKE INSERT ON `{p}`.forecasts FROM {user}")
    made.execute(f"GRANT SELECT ON `{p}`.bars TO '{p}_mlflow'@'%'")
    out = run_well(made.environment, "setup", "database").splitlines()
    assert out[:2] == [f"account {p}_{a}: rights set to those of its service" for a in ("serving", "mlflow")]
    assert len(out) == 3
    with open_store(made.url("serving")) as store:
        _serving(store)
    held = {str(row[0]) for row in made.execute(f"SHOW GRANTS FOR {user}")}
    assert len(held) == 1 + len(RIGHTS["serving"])
    assert not any(
        "GRANT OPTION" in line or "ALL PRIV" in line or "(" in line.split(" ON ")[0] for line in held
    )
    assert len(rights_of("serving", p)) == sum(len(line.split(" ON ")[0].split(",")) for line in held) - 1


def test_accounts_that_are_there_are_only_looked_at(made: Made) -> None:
    """Without provisioning nothing is made: accounts that come in are enough, one that does not is named."""
    given = {**made.environment, "HOURCAST_MYSQL_PROVISION": "false"}
    assert len(run_well(given, "setup", "database").splitlines()) == 1
    done = hourcast({**given, "HOURCAST_MYSQL_PASSWORD_TRAINER": "wrong"}, "setup", "database")
    assert done.returncode == 6
    assert done.stderr.startswith(
        f"hourcast: MySQL at {made.admin.host}:{made.admin.port} does not let the account {made.prefix}_trainer into database "
        f"{made.prefix} with the password in HOURCAST_MYSQL_PASSWORD_TRAINER ((1045, "
    )
    assert done.stderr.strip().endswith("; make it, or let the setup do it (HOURCAST_MYSQL_PROVISION=true)")


def test_a_server_that_is_not_there_is_waited_for_and_told_once(unmade: Made) -> None:
    """What is waited for and for how long, once; then exit code 5."""
    port = find_port()
    done = hourcast(
        {**unmade.environment, "HOURCAST_MYSQL_PORT": str(port), "HOURCAST_SETUP_WAIT_S": "2"}, "setup", "database"
    )  # fmt: skip
    assert done.returncode == 5
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"waiting up to 2 s: MySQL at {unmade.admin.host}:{port}: it does not answer (")
    assert done.stderr.startswith(f"hourcast: MySQL at {unmade.admin.host}:{port}: it does not answer (")


def test_a_binary_log_without_trust_is_refused_in_one_sentence(unmade: Made) -> None:
    """Where MLflow's triggers could not be made (error 1419), the setup says which option the server needs."""
    unmade.execute("SET GLOBAL log_bin_trust_function_creators = 0")
    try:
        done = hourcast(unmade.environment, "setup", "database")
    finally:
        unmade.execute("SET GLOBAL log_bin_trust_function_creators = 1")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"hourcast: MySQL at {unmade.admin.host}:{unmade.admin.port} writes a binary log and log_bin_trust_function_creators is "
        "off, so MLflow's account may not make the triggers of its tables (error 1419); start the server with "
        "--log-bin-trust-function-creators=1, or set it in the parameter group of a managed one"
    )
    assert run_well(unmade.environment, "setup", "database")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HOURCAST_MYSQL_HOST", "", "HOURCAST_MYSQL_HOST is not set (host of the MySQL server that is set up), and this command needs it"),
        ("HOURCAST_MYSQL_PASSWORD_ETL", "", "HOURCAST_MYSQL_PASSWORD_ETL is not set (password of the etl's account), and this command needs it"),
        ("HOURCAST_MYSQL_PREFIX", "a`; DROP", "HOURCAST_MYSQL_PREFIX: String should match pattern '^[a-z][a-z0-9_]{0,15}$' (given: 'a`; DROP')"),
    ],
)  # fmt: skip
def test_a_setting_that_is_missing_or_wrong_is_named(
    unmade: Made, name: str, value: str, message: str
) -> None:
    """Nothing is tried before all is known, and no name reaches SQL that could mean something there."""
    done = hourcast({**unmade.environment, name: value}, "setup", "database")
    assert (done.returncode, done.stderr.strip()) == (2, f"hourcast: {message}")
