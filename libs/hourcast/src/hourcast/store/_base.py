"""The connection, the tables and the locks that every record of the store rests on."""

import contextlib
import hashlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from hourcast.errors import UnavailableError
from hourcast.store import _schema as t
from hourcast.store._engine import refusal, run_transaction, unavailable

__all__ = ["Connected", "after_closes", "newest_first"]

_LOG = logging.getLogger(__name__)
_CHUNK = 500
_MIGRATIONS = Path(__file__).parent / "migrations"


def newest_revision() -> str:
    """The revision that this code needs. Its migrations are numbered, so that who only reads needs no alembic."""
    return max(path.name[:4] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def _older(at: str | None) -> str:
    return (
        f"the store's tables are at revision {at or 'none'} and this Hourcast needs {newest_revision()}; the setup job "
        "(`hourcast setup database`) brings them up"
    )


_A_YEAR_S, _BEAT_S = 31_536_000, 20.0


def _lock_name(name: str) -> str:
    """MySQL takes 64 characters; a longer name keeps its difference from others."""
    return name if len(name) <= 64 else f"{name[:47]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


@contextlib.contextmanager
def _kept_alive(connection: Connection, name: str) -> Iterator[None]:
    """Ask something now and then: whatever stands between us and the server ends silent connections as well.

    The connection must be used by nobody else meanwhile.
    """
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(_BEAT_S):
            try:
                connection.scalar(sa.select(1))
            except DBAPIError:
                _LOG.warning(
                    "the connection that holds the lock of `%s` is lost; from now on another may be started",
                    name,
                )
                return

    thread = threading.Thread(target=beat, name=f"lock of {name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def after_closes(connection: Connection, moment: datetime) -> datetime:
    """`moment`, or a microsecond after the newest close of an hour where that is later.

    So what comes after a close is later than it, by a clock that stands still or goes back as well.
    """
    newest: datetime | None = connection.scalar(
        sa.select(t.hours.c.closed_at).order_by(t.hours.c.closed_at.desc()).limit(1)
    )
    return moment if newest is None else max(moment, newest + timedelta(microseconds=1))


def newest_first(
    statement: "sa.Select[*tuple[Any, ...]]", table: sa.Table, index: str
) -> "sa.Select[*tuple[Any, ...]]":
    """The rows with the highest `id` first, found by `index`, which begins with what is asked for and ends with `id`.

    MySQL and MariaDB would rather walk down the primary key and throw away the rows of all others, or sort every row that
    another index finds: both take the longer, the longer the history is. Each heeds a hint that the other does not;
    neither minds one that names an index which tables of an earlier release lack.
    """
    hinted = statement.with_hint(table, "IGNORE INDEX FOR ORDER BY (PRIMARY)", "mysql")
    return hinted.prefix_with(f"/*+ INDEX({table.name} {index}) */", dialect="mysql").order_by(
        table.c.id.desc()
    )


class Connected:
    """A database and what every record does with it; each method is one transaction.

    Every method raises `UnavailableError` when the database does not answer or has no tables.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine, for migrations and tests."""
        return self._engine

    def close(self) -> None:
        """Give every connection back."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- schema ---------------------------------------------------------------------------------

    def upgrade(self, revision: str = "head") -> None:
        """Bring the tables to `revision`; harmless when they are there, safe when two do it at once.

        An account that may not change tables may call it too: at the newest revision nothing is done.

        Raises:
            UnavailableError: when the database does not answer, or its tables are older and the account may not
                change them.
        """
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        newest = newest_revision()
        try:
            at = self.revision()
            if revision == "head" and at == newest:
                return
            with self._engine.connect().execution_options(writes=True) as connection:
                with self._alone(connection):
                    config.attributes["connection"] = connection
                    command.upgrade(config, revision)
                connection.commit()
        except DBAPIError as error:
            told = refusal(self._engine, error)
            if told is None:
                raise unavailable(self._engine, error) from error
            raise UnavailableError(f"{_older(at)}, because {told}", retry_after_s=5) from error

    def behind(self) -> str | None:
        """What is wrong where the tables are older than this code needs; None where they are not, newer ones included.

        Raises:
            UnavailableError: when the database does not answer.
        """
        at = self.revision()
        return _older(at) if at is None or at < newest_revision() else None

    def revision(self) -> str | None:
        """The revision of the tables; None where there are none yet."""

        def work(connection: Connection) -> str | None:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
            return found

        return run_transaction(self._engine, work, writes=False)

    @contextlib.contextmanager
    def _alone(self, connection: Connection) -> Iterator[None]:
        # MySQL commits at each DDL statement, so a transaction cannot keep two upgrades apart there.
        if self._engine.dialect.name == "sqlite":
            yield
            return
        if connection.scalar(sa.text("SELECT GET_LOCK('hourcast-upgrade', 60)")) != 1:
            raise UnavailableError("another upgrade of the store holds the lock; try again", 5)
        try:
            yield
        finally:
            connection.scalar(sa.text("SELECT RELEASE_LOCK('hourcast-upgrade')"))

    @contextlib.contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Hold a lock by name, so that only one process on this store does a thing; a killed holder frees it.

        Raises:
            UnavailableError: when another process holds it.
        """
        taken = UnavailableError(
            f"another `{name}` on this store is running; try again when it has ended", 30
        )
        if self._engine.dialect.name == "sqlite":
            import fcntl

            with Path(f"{self._engine.url.database}.{name}.lock").open("w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise taken from None
                yield
            return
        lock: sa.BindParameter[str] = sa.bindparam(
            "lock", _lock_name(f"hourcast-{self._engine.url.database}-{name}")
        )
        try:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        except DBAPIError as error:
            raise unavailable(self._engine, error) from error
        with connection:
            # The server ends a connection that is silent for this long, 8 hours or minutes, and frees its lock.
            connection.exec_driver_sql(f"SET SESSION wait_timeout = {_A_YEAR_S}")
            try:
                if connection.scalar(sa.select(sa.func.get_lock(lock, 0))) != 1:
                    raise taken
                with _kept_alive(connection, name):
                    yield
            finally:
                # A server that went away meanwhile has freed it already.
                with contextlib.suppress(SQLAlchemyError):
                    connection.scalar(sa.select(sa.func.release_lock(lock)))
                # None that the pool would hand on with its patience.
                connection.invalidate()

    def _read(self, statement: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        return run_transaction(
            self._engine, lambda connection: connection.execute(statement).all(), writes=False
        )

    def _upsert(
        self, connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], update: bool
    ) -> None:
        """Insert rows; those whose key exists are updated, or left alone without `update`."""
        keys = [column.name for column in table.primary_key]
        if not rows:
            return
        values = [name for name in rows[0] if name not in keys]
        if self._engine.dialect.name == "sqlite":
            insert = sqlite.insert(table)
            statement: sa.Insert = (
                insert.on_conflict_do_update(
                    index_elements=keys, set_={name: insert.excluded[name] for name in values}
                )
                if update
                else insert.on_conflict_do_nothing(index_elements=keys)
            )
        else:
            into = mysql.insert(table)
            # Setting a key to itself is MySQL's way to leave a row alone; INSERT IGNORE would hide errors.
            names = values if update else keys[:1]
            statement = into.on_duplicate_key_update({name: into.inserted[name] for name in names})
        for first in range(0, len(rows), _CHUNK):
            connection.execute(statement, list(rows[first : first + _CHUNK]))
