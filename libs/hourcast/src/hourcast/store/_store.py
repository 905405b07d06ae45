"""The store itself."""

import contextlib
import gzip
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from hourcast.contracts import Bars, from_epoch, to_epoch
from hourcast.errors import UnavailableError
from hourcast.store import _schema as t
from hourcast.store._engine import create_engine, refusal, run_transaction, unavailable
from hourcast.store._rows import (
    BacktestRows,
    Evaluation,
    Event,
    ForecastRow,
    Freshness,
    IngestRun,
    Quarantined,
    UpsertResult,
    WalkFold,
)

__all__ = ["Store", "open_store"]

_PRICES = ("open", "high", "low", "close", "volume")
_CHUNK = 500


def open_store(url: str) -> "Store":
    """The store at a SQLAlchemy URL. Nothing is contacted yet.

    Raises:
        ConfigurationError: when the URL is not one of SQLite or MySQL.
    """
    return Store(create_engine(url))


def _lock_name(name: str) -> str:
    """MySQL takes 64 characters; a longer name keeps its difference from others."""
    return name if len(name) <= 64 else f"{name[:47]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


class Store:
    """Reads and writes of every table; each method is one transaction.

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
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        newest = ScriptDirectory.from_config(config).get_current_head()
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
            raise UnavailableError(
                f"the store's tables are at revision {at or 'none'} and this Hourcast needs {newest}; the setup job "
                f"(`hourcast setup database`) brings them up, because {told}",
                retry_after_s=5,
            ) from error

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
            connection = self._engine.connect()
        except DBAPIError as error:
            raise unavailable(self._engine, error) from error
        with connection:
            if connection.scalar(sa.select(sa.func.get_lock(lock, 0))) != 1:
                raise taken
            try:
                yield
            finally:
                # A server that went away meanwhile has freed it already.
                with contextlib.suppress(DBAPIError):
                    connection.scalar(sa.select(sa.func.release_lock(lock)))

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

    # -- bars -----------------------------------------------------------------------------------

    def upsert_bars(self, bars: Bars, source: str, ingested_at: datetime) -> UpsertResult:
        """Write bars by (symbol, open_time). A bar with other values than the stored one is revised and counted.

        All of `bars` is written or, when the process is killed amid it, nothing.
        """
        if not len(bars):
            return UpsertResult(0, 0, 0)

        def work(connection: Connection) -> UpsertResult:
            stored = self._read_bars(
                connection,
                bars.symbol,
                t.bars.c.open_time.between(
                    from_epoch(bars.open_time.min()), from_epoch(bars.open_time.max())
                ),
            )
            place = {int(moment): i for i, moment in enumerate(stored.open_time)}
            rows, inserted, revised = [], 0, 0
            for i, moment in enumerate(bars.open_time.tolist()):
                j = place.get(moment)
                if j is None:
                    inserted += 1
                elif bars.close_time[i] == stored.close_time[j] and all(
                    getattr(bars, name)[i] == getattr(stored, name)[j] for name in _PRICES
                ):
                    continue
                else:
                    revised += 1
                rows.append(
                    {
                        "symbol": bars.symbol,
                        "open_time": from_epoch(moment),
                        "close_time": from_epoch(bars.close_time[i]),
                        **{name: float(getattr(bars, name)[i]) for name in _PRICES},
                        "source": source,
                        "ingested_at": ingested_at,
                    }
                )
            self._upsert(connection, t.bars, rows, update=True)
            return UpsertResult(inserted, revised, len(bars) - inserted - revised)

        return run_transaction(self._engine, work, writes=True)

    def _read_bars(
        self,
        connection: Connection,
        symbol: str,
        *where: sa.ColumnElement[bool],
        last: int | None = None,
    ) -> Bars:
        c = t.bars.c
        # Naive UTC as the database has it: making each of thousands of moments aware costs more than reading them.
        moments = (sa.type_coerce(column, sa.DateTime()) for column in (c.open_time, c.close_time))
        statement = sa.select(*moments, *(c[name] for name in _PRICES)).where(c.symbol == symbol, *where)
        # Within a symbol both times are in the same order, and `known_at` is about the close: its index serves.
        statement = statement.order_by(c.close_time.desc() if last else c.open_time).limit(last)
        rows = connection.execute(statement).all()
        if last:
            rows = rows[::-1]
        if not rows:
            return Bars.empty(symbol)
        columns = list(zip(*rows, strict=True))
        opened, closed = (np.array(column, "datetime64[s]").astype(np.int64) for column in columns[:2])
        return Bars(symbol, opened, closed, *(np.array(column, np.float64) for column in columns[2:]))

    def read_bars(
        self,
        symbol: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        known_at: datetime | None = None,
        last: int | None = None,
    ) -> Bars:
        """Bars of `symbol`, in order of time.

        `start <= open_time < end`; `known_at` keeps only bars that had closed by then; `last` keeps the newest n.
        """
        c = t.bars.c
        where: list[sa.ColumnElement[bool]] = []
        if start is not None:
            where.append(c.open_time >= start)
        if end is not None:
            where.append(c.open_time < end)
        if known_at is not None:
            where.append(c.close_time <= known_at)
        return run_transaction(
            self._engine,
            lambda connection: self._read_bars(connection, symbol, *where, last=last),
            writes=False,
        )

    def read_many(
        self,
        symbols: Iterable[str],
        *,
        start: datetime | None = None,
        known_at: datetime | None = None,
    ) -> dict[str, Bars]:
        """Bars of several symbols, read in one transaction, so that they belong together."""
        c = t.bars.c
        where: list[sa.ColumnElement[bool]] = []
        if start is not None:
            where.append(c.open_time >= start)
        if known_at is not None:
            where.append(c.close_time <= known_at)
        return run_transaction(
            self._engine,
            lambda connection: {s: self._read_bars(connection, s, *where) for s in symbols},
            writes=False,
        )

    def freshness(self, known_at: datetime | None = None) -> list[Freshness]:
        """Count, first and newest bar of each stored symbol."""
        c = t.bars.c
        statement = (
            sa.select(c.symbol, sa.func.count(), sa.func.min(c.open_time), sa.func.max(c.close_time))
            .group_by(c.symbol)
            .order_by(c.symbol)
        )
        if known_at is not None:
            statement = statement.where(c.close_time <= known_at)

        def work(connection: Connection) -> list[Freshness]:
            found = []
            for symbol, count, first, newest in connection.execute(statement):
                source = connection.scalar(
                    sa.select(c.source).where(c.symbol == symbol, c.close_time == newest).limit(1)
                )
                found.append(Freshness(symbol, count, first, newest, source))
            return found

        return run_transaction(self._engine, work, writes=False)

    # -- etl ------------------------------------------------------------------------------------

    def begin_ingest(self, symbol: str, source: str, started_at: datetime) -> int:
        """Record that a run started; returns its id."""

        def work(connection: Connection) -> int:
            result = connection.execute(
                sa.insert(t.ingest_runs).values(
                    symbol=symbol,
                    source=source,
                    started_at=started_at,
                    status="running",
                    fetched=0,
                    inserted=0,
                    revised=0,
                    quarantined=0,
                )
            )
            key = result.inserted_primary_key
            assert key is not None
            return int(key[0])

        return run_transaction(self._engine, work, writes=True)

    def update_ingest(self, run_id: int, **values: Any) -> None:
        """Set columns of a run (`status`, `ended_at`, `fetched`, `reason`, `source`…)."""
        statement = sa.update(t.ingest_runs).where(t.ingest_runs.c.id == run_id).values(**values)
        run_transaction(self._engine, lambda c: c.execute(statement), writes=True)

    def ingest_runs(self, limit: int = 20) -> list[IngestRun]:
        """The newest runs first."""
        rows = self._read(sa.select(t.ingest_runs).order_by(t.ingest_runs.c.id.desc()).limit(limit))
        return [IngestRun(**row._mapping) for row in rows]

    def quarantine(self, rows: Sequence[Quarantined]) -> None:
        """Keep rows that broke the contract out of `bars`, with the reason; the same row twice is one."""
        values = [
            {
                "symbol": r.symbol, "open_time": r.open_time, "reason": r.reason,
                "row": dict(r.row), "source": r.source, "seen_at": r.seen_at,
            }
            for r in rows
        ]  # fmt: skip
        run_transaction(
            self._engine,
            lambda c: self._upsert(c, t.quarantined_bars, values, update=True),
            writes=True,
        )

    def leave_quarantine(self, symbol: str, opened: Sequence[datetime]) -> int:
        """Take rows out of quarantine, because good ones came in their place; returns how many."""
        if not opened:
            return 0
        c = t.quarantined_bars.c
        # Few rows are ever in quarantine: look for those before naming thousands of hours.
        held = {q.open_time for q in self.quarantined(symbol)} & set(opened)
        if not held:
            return 0
        statement = sa.delete(t.quarantined_bars).where(c.symbol == symbol, c.open_time.in_(held))
        run_transaction(self._engine, lambda connection: connection.execute(statement), writes=True)
        return len(held)

    def quarantined(self, symbol: str | None = None) -> list[Quarantined]:
        """The rows in quarantine, in order of time."""
        statement = sa.select(t.quarantined_bars).order_by(
            t.quarantined_bars.c.symbol, t.quarantined_bars.c.open_time
        )
        if symbol is not None:
            statement = statement.where(t.quarantined_bars.c.symbol == symbol)
        return [Quarantined(**row._mapping) for row in self._read(statement)]

    # -- trainer --------------------------------------------------------------------------------

    def save_evaluation(self, evaluation: Evaluation) -> None:
        """Record an evaluation; the same (model, version, stage, baseline) again replaces it."""
        c = t.evaluations.c
        values = {name: getattr(evaluation, name) for name in evaluation.__dataclass_fields__} | {
            "figures": dict(evaluation.figures)
        }

        def work(connection: Connection) -> None:
            connection.execute(
                sa.delete(t.evaluations).where(
                    c.model == evaluation.model,
                    c.version == evaluation.version,
                    c.stage == evaluation.stage,
                    c.baseline == evaluation.baseline,
                )
            )
            connection.execute(sa.insert(t.evaluations).values(**values))

        run_transaction(self._engine, work, writes=True)

    def evaluations(self, model: str, stage: str | None = None) -> list[Evaluation]:
        """Evaluations of a model in the order in which they were made."""
        columns = [c for c in t.evaluations.c if c.name != "id"]
        statement = sa.select(*columns).where(t.evaluations.c.model == model)
        if stage is not None:
            statement = statement.where(t.evaluations.c.stage == stage)
        return [Evaluation(**r._mapping) for r in self._read(statement.order_by(t.evaluations.c.id))]

    def save_backtest(self, rows: BacktestRows) -> None:
        """Replace the hourly forecasts of one back-test alias."""
        c = t.backtest_rows.c
        values = [
            {
                "model": rows.model,
                "alias": rows.alias,
                "version": rows.version,
                "origin": from_epoch(rows.origin[i]),
                "target_time": from_epoch(rows.target_time[i]),
                "last_close": float(rows.last_close[i]),
                "actual": float(rows.actual[i]),
                "quantiles": rows.quantiles[i].tolist(),
                "naive_quantiles": rows.naive_quantiles[i].tolist(),
            }
            for i in range(len(rows.origin))
        ]

        def work(connection: Connection) -> None:
            connection.execute(sa.delete(t.backtest_rows).where(c.model == rows.model, c.alias == rows.alias))
            if values:
                connection.execute(sa.insert(t.backtest_rows), values)

        run_transaction(self._engine, work, writes=True)

    def backtest_rows(self, model: str) -> list[BacktestRows]:
        """The hourly forecasts of every back-test alias of a model, by alias."""
        table = t.backtest_rows
        statement = sa.select(table).where(table.c.model == model).order_by(table.c.alias, table.c.origin)
        by_alias: dict[str, list[sa.Row[Any]]] = {}
        for row in self._read(statement):
            by_alias.setdefault(row.alias, []).append(row)
        return [
            BacktestRows(
                model,
                alias,
                rows[0].version,
                np.array([to_epoch(r.origin) for r in rows], np.int64),
                np.array([to_epoch(r.target_time) for r in rows], np.int64),
                np.array([r.last_close for r in rows]),
                np.array([r.actual for r in rows]),
                np.array([r.quantiles for r in rows]),
                np.array([r.naive_quantiles for r in rows]),
            )
            for alias, rows in by_alias.items()
        ]

    def save_walk_folds(self, folds: Sequence[WalkFold]) -> None:
        """Record folds; one of the same model, walk, kind and start is replaced."""
        c = t.walk_folds.c

        def work(connection: Connection) -> None:
            for fold in folds:
                connection.execute(
                    sa.delete(t.walk_folds).where(
                        c.model == fold.model,
                        c.walk == fold.walk,
                        c.kind == fold.kind,
                        c.start == fold.start,
                    )
                )
                values = {name: getattr(fold, name) for name in fold.__dataclass_fields__}
                connection.execute(sa.insert(t.walk_folds).values(**values | {"lineage": dict(fold.lineage)}))

        run_transaction(self._engine, work, writes=True)

    def walk_folds(self, model: str, walk: str, kind: str, *, files: bool = True) -> list[WalkFold]:
        """Folds of a walk in order of time; without `files` those are left out."""
        c = t.walk_folds.c
        columns = [column for column in c if files or column.name != "parquet"]
        statement = sa.select(*columns).where(c.model == model, c.walk == walk, c.kind == kind)
        return [
            WalkFold(**{"parquet": b"", **row._mapping}) for row in self._read(statement.order_by(c.start))
        ]

    def walk_kinds(self, model: str, walk: str) -> list[str]:
        """The kinds that a walk has folds of."""
        c = t.walk_folds.c
        statement = sa.select(c.kind).distinct().where(c.model == model, c.walk == walk).order_by(c.kind)
        return [str(row.kind) for row in self._read(statement)]

    def save_report(self, model: str, made_at: datetime, title: str, html: str) -> None:
        """Keep a page; a model's earlier ones go, since they can be made again from the walk."""
        # A fixed time keeps equal pages equal.
        body = gzip.compress(html.encode(), mtime=0)

        def work(connection: Connection) -> None:
            connection.execute(sa.delete(t.reports).where(t.reports.c.model == model))
            connection.execute(
                sa.insert(t.reports).values(model=model, made_at=made_at, title=title[:255], html=body)
            )

        run_transaction(self._engine, work, writes=True)

    def newest_report(self, model: str) -> tuple[datetime, str] | None:
        """When a model's page was made, and the page; None where there is none."""
        c = t.reports.c
        statement = sa.select(c.made_at, c.html).where(c.model == model).order_by(c.made_at.desc()).limit(1)
        rows = self._read(statement)
        return (rows[0].made_at, gzip.decompress(rows[0].html).decode()) if rows else None

    # -- serving --------------------------------------------------------------------------------

    def save_forecasts(self, rows: Sequence[ForecastRow]) -> None:
        """Record forecasts; one that is recorded already stays as it was first made."""
        values = [
            {name: getattr(row, name) for name in row.__dataclass_fields__}
            | {"levels": list(row.levels), "quantiles": list(row.quantiles)}
            for row in rows
        ]
        run_transaction(
            self._engine,
            lambda c: self._upsert(c, t.forecasts, values, update=False),
            writes=True,
        )

    def forecasts(
        self,
        model: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        version: int | None = None,
        horizon: int | None = None,
    ) -> list[ForecastRow]:
        """Recorded forecasts with start <= target_time < end, by target time."""
        c = t.forecasts.c
        statement = sa.select(t.forecasts).where(c.model == model)
        if start is not None:
            statement = statement.where(c.target_time >= start)
        if end is not None:
            statement = statement.where(c.target_time < end)
        if version is not None:
            statement = statement.where(c.version == version)
        if horizon is not None:
            statement = statement.where(c.horizon == horizon)
        return [
            ForecastRow(**{**row._mapping, "levels": tuple(row.levels), "quantiles": tuple(row.quantiles)})
            for row in self._read(statement.order_by(c.target_time, c.version, c.horizon))
        ]

    # -- controller -----------------------------------------------------------------------------

    def add_event(self, event: Event) -> int:
        """Append an event; returns its id."""

        def work(connection: Connection) -> int:
            result = connection.execute(
                sa.insert(t.events).values(
                    at=event.at,
                    actor=event.actor,
                    kind=event.kind,
                    model=event.model,
                    version=event.version,
                    alias=event.alias,
                    reason=event.reason,
                    evidence=dict(event.evidence),
                    wall_at=event.wall_at,
                )
            )
            key = result.inserted_primary_key
            assert key is not None
            return int(key[0])

        return run_transaction(self._engine, work, writes=True)

    def events(self, model: str, *, kind: str | None = None, limit: int | None = None) -> list[Event]:
        """Events of a model, the newest first."""
        statement = sa.select(t.events).where(t.events.c.model == model)
        if kind is not None:
            statement = statement.where(t.events.c.kind == kind)
        return [
            Event(**row._mapping) for row in self._read(statement.order_by(t.events.c.id.desc()).limit(limit))
        ]

    # -- clock ----------------------------------------------------------------------------------

    def clock(self) -> datetime:
        """The replay's present moment.

        Raises:
            UnavailableError: when no replay has set it.
        """
        rows = self._read(sa.select(t.clock.c.now))
        if not rows:
            raise UnavailableError(
                "the store's clock is not set; start a replay, or set HOURCAST_CLOCK=wall", 5
            )
        moment: datetime = rows[0][0]
        return moment

    def set_clock(self, moment: datetime) -> None:
        """Set the replay's present moment. Only the replay driver calls this."""
        row = {"id": 1, "now": moment.astimezone(UTC)}
        run_transaction(self._engine, lambda c: self._upsert(c, t.clock, [row], update=True), writes=True)
