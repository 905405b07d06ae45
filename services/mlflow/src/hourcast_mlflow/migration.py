"""`hourcast setup mlflow`: MLflow's tables at its newest schema.

MySQL ends a transaction at each change of a table, so a first migration that is killed leaves tables that the next
try finds in its way (error 1050). They hold nothing yet, and are dropped; a database that has been at a newest
schema once, or holds a row of anybody, is never dropped.
"""

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from hourcast.errors import ConfigurationError, HourcastError, RefusedError, UnavailableError
from hourcast_mlflow.settings import MlflowSettings
from hourcast_mlflow.waiting import until_it_answers

__all__ = ["State", "decide", "newest_revision", "see_that_it_is_newest", "setup_mlflow"]

Say = Callable[[str], None]
_REVISION = "alembic_version"
_SELECT_REVISION = sa.text("SELECT version_num FROM alembic_version LIMIT 1")
_MARKER = "hourcast_setup"
# Rows of these come from the migrations themselves, not from anybody's work.
_SEEDED = {_REVISION, "workspaces"}


@dataclass(frozen=True, slots=True)
class State:
    """What a database holds. `rows` names the tables that have any; `complete`: it was at a newest schema once."""

    revision: str | None
    tables: frozenset[str]
    rows: frozenset[str]
    complete: bool


def decide(state: State, newest: str, known: frozenset[str]) -> str:
    """`done`, `make` (nothing is there), `upgrade` (keep all), `mend` (drop what a cut first migration left). Pure.

    Raises:
        RefusedError: when the database holds tables of something else, and none of MLflow's.
    """
    ours = state.tables & known
    if state.revision == newest:
        return "done"
    if state.complete or state.rows - _SEEDED:
        if not ours - {_REVISION}:
            raise RefusedError(
                f"the database holds tables that are not MLflow's ({', '.join(sorted(state.tables - known)[:5])}); "
                "give MLflow a database of its own in HOURCAST_MLFLOW_DATABASE_URL"
            )
        return "upgrade"
    return "mend" if ours else "make"


def newest_revision() -> str:
    """The schema that the installed MLflow wants."""
    from alembic.script import ScriptDirectory

    head = ScriptDirectory(str(_scripts())).get_current_head()
    assert head is not None
    return head


def _scripts() -> Path:
    import mlflow.store.db_migrations

    return Path(next(iter(mlflow.store.db_migrations.__path__)))


def _known_tables() -> frozenset[str]:
    """Every table that any of MLflow's migrations makes or knows."""
    import mlflow.store.db.utils  # noqa: F401 it registers every table
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase

    made = re.compile(r"""(?:create_table|rename_table)\(\s*["'](\w+)["'](?:\s*,\s*["'](\w+)["'])?""")
    found = {
        name
        for path in (_scripts() / "versions").glob("*.py")
        for match in made.finditer(path.read_text())
        for name in match.groups()
        if name
    }
    return frozenset(found | set(Base.metadata.tables) | set(InitialBase.metadata.tables) | {_REVISION})


def _engine(url: str) -> Engine:
    return sa.create_engine(
        url,
        poolclass=sa.NullPool,
        hide_parameters=True,
        connect_args={"charset": "utf8mb4", "connect_timeout": 5, "read_timeout": 3600},
    )


def _unavailable(engine: Engine, error: DBAPIError) -> UnavailableError:
    return UnavailableError(
        f"the database {engine.url.render_as_string(hide_password=True)} does not answer ({error.orig}); check "
        "HOURCAST_MLFLOW_DATABASE_URL and HOURCAST_MLFLOW_DATABASE_PASSWORD, and that `hourcast setup database` has run",
        retry_after_s=5,
    )


def _look(connection: Connection) -> State:
    tables = frozenset(sa.inspect(connection).get_table_names())
    revision = None
    if _REVISION in tables:
        revision = connection.scalar(_SELECT_REVISION)
    rows = {name for name in tables if connection.scalar(sa.select(sa.exists().select_from(sa.table(name))))}
    return State(revision, tables, frozenset(rows - {_MARKER}), _MARKER in rows)


def see_that_it_is_newest(url: str) -> None:
    """Nothing when MLflow's tables are at the newest schema.

    Raises:
        UnavailableError: when they are not, or the database does not answer.
    """
    engine = _engine(url)
    newest = newest_revision()
    try:
        with engine.connect() as connection:
            revision = None
            if sa.inspect(connection).has_table(_REVISION):
                revision = connection.scalar(_SELECT_REVISION)
    except DBAPIError as error:
        raise _unavailable(engine, error) from error
    if revision != newest:
        raise UnavailableError(
            f"they are at revision {revision or 'none'} and MLflow needs {newest}; `hourcast setup mlflow` brings them up"
        )


def setup_mlflow(settings: MlflowSettings, say: Say) -> None:
    """Bring MLflow's database to the newest schema.

    Raises:
        ConfigurationError: when the URL is missing or wrong, or the server does not let MLflow make its triggers.
        UnavailableError: when the database does not answer in time, or a migration fails.
        RefusedError: when the database belongs to something else.
    """
    engine = _engine(settings.resolved_mlflow_database_url)
    until_it_answers("MLflow's database", lambda: _answers(engine), settings.setup_wait_s, say)
    newest, known = newest_revision(), _known_tables()
    try:
        with engine.connect() as connection, _alone(connection, engine, settings.setup_wait_s, say):
            state = _look(connection)
            # An open transaction would hold the tables that are about to change.
            connection.rollback()
            step = decide(state, newest, known)
            if step == "mend":
                left = state.tables & known
                say(
                    f"a first migration was cut short and left {len(left)} tables without a row; they are dropped, and it begins anew"
                )
                _drop(connection, left)
            if step != "done":
                say(
                    f"MLflow's tables: from revision {(state.revision if step == 'upgrade' else None) or 'none'} to {newest}"
                )
                _migrate(engine, step)
            _mark(connection, newest)
    except DBAPIError as error:
        raise _told(error, engine) from error
    say(f"MLflow's tables are at revision {newest}")


def _answers(engine: Engine) -> None:
    try:
        with engine.connect() as connection:
            connection.scalar(sa.text("SELECT 1"))
    except DBAPIError as error:
        raise _unavailable(engine, error) from error


@contextlib.contextmanager
def _alone(connection: Connection, engine: Engine, limit_s: float, say: Say) -> Iterator[None]:
    """Only one migration of a database at a time; a killed one frees it when its connection ends."""
    name: sa.BindParameter[str] = sa.bindparam("name", f"hourcast-mlflow-{engine.url.database}"[:64])

    def take() -> None:
        if connection.scalar(sa.select(sa.func.get_lock(name, 0))) != 1:
            raise UnavailableError("another migration of it runs, or one that was killed still ends")

    until_it_answers("MLflow's database", take, limit_s, say)
    try:
        yield
    finally:
        with contextlib.suppress(DBAPIError):
            connection.scalar(sa.select(sa.func.release_lock(name)))


def _drop(connection: Connection, tables: frozenset[str]) -> None:
    connection.execute(sa.text("SET FOREIGN_KEY_CHECKS = 0"))
    # The revision goes last: killed amid this, what is left is still seen as what it is.
    for name in sorted(tables, key=lambda name: (name == _REVISION, name)):
        connection.execute(sa.text(f"DROP TABLE IF EXISTS `{name}`"))
    connection.execute(sa.text("SET FOREIGN_KEY_CHECKS = 1"))
    connection.commit()


def _migrate(engine: Engine, step: str) -> None:
    from mlflow.store.db.utils import _initialize_tables, _upgrade_db

    # MLflow sets its own level when it is imported.
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    # What `mlflow db upgrade` does, which takes the password as an argument.
    if step == "upgrade":
        _upgrade_db(engine)  # type: ignore[no-untyped-call]
    else:
        _initialize_tables(engine)  # type: ignore[no-untyped-call]


def _mark(connection: Connection, newest: str) -> None:
    """Record that this database has been whole, so that nothing of it is ever dropped."""
    connection.execute(
        sa.text(
            "CREATE TABLE IF NOT EXISTS hourcast_setup (revision VARCHAR(32) PRIMARY KEY, at DATETIME(6) NOT NULL)"
        )
    )
    connection.execute(
        sa.text(
            "INSERT INTO hourcast_setup VALUES (:newest, UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE at = at"
        ),
        {"newest": newest},
    )
    connection.commit()


def _told(error: DBAPIError, engine: Engine) -> HourcastError:
    code = error.orig.args[0] if error.orig is not None and error.orig.args else 0
    if code == 1419:
        return ConfigurationError(
            "MySQL writes a binary log and log_bin_trust_function_creators is off, so MLflow's account may not make its "
            "triggers (error 1419); start the server with --log-bin-trust-function-creators=1"
        )
    return UnavailableError(
        f"the migration of {engine.url.render_as_string(hide_password=True)} failed ({error.orig}); nothing was dropped; "
        "run it again, and where it fails the same way restore the database from a backup"
    )
