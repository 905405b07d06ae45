"""What the page, serving, the controller and the etl ask of the store, asked by their own code; and what each question costs."""

import asyncio
import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import sqlalchemy as sa

from bench.history import END, EXOGENOUS, HOLE, Size, model_of, target_of, version_at
from hourcast.bucket import FolderBucket
from hourcast.clock import FrozenClock
from hourcast.conformal import ConformalState
from hourcast.contracts import Bars
from hourcast.decisions import Decision
from hourcast.features import ExogenousFeature, FeatureSpec
from hourcast.forecaster import HORIZONS, LEVELS, Forecaster, ForecasterSpec, TrainingSpan
from hourcast.store import Hour, SeriesState, Store
from hourcast.volatility import HALFLIVES_H, VolatilitySpec
from hourcast_bento.app import build_app
from hourcast_bento.kept import Kept
from hourcast_bento.package import PackageInfo
from hourcast_bento.serving import Serving
from hourcast_bento.settings import ServingSettings
from hourcast_controller.champion import MOVED
from hourcast_controller.journal import Journal
from hourcast_controller.loop import Controller
from hourcast_controller.registry import Registry
from hourcast_controller.settings import ControllerSettings
from hourcast_controller.targets.local import LocalTarget

__all__ = ["Asked", "Question", "questions"]

_HOUR = timedelta(hours=1)
_NOBODY = "http://127.0.0.1:9"


@dataclass(frozen=True, slots=True)
class Question:
    """One statement: the `Store` method that sent it, rows that it gave, rows that the database read for it, milliseconds.

    SQLite does not count rows; there `read` is 0, and `Asked.steps` tells how much was done. `plan` is what EXPLAIN says,
    "table: access by index" for each table, where that was asked for.
    """

    method: str
    sql: str
    gave: int
    read: int
    ms: float
    plan: tuple[str, ...] = ()


@dataclass(slots=True)
class Asked:
    """What was sent to the database meanwhile; `steps` are those of SQLite's virtual machine, in hundreds."""

    questions: list[Question] = field(default_factory=list)
    steps: int = 0

    @property
    def read(self) -> int:
        """Rows that the database has read."""
        return sum(question.read for question in self.questions)

    def of(self, method: str) -> list[Question]:
        """The statements of one method."""
        return [question for question in self.questions if question.method == method]

    @classmethod
    @contextlib.contextmanager
    def listening(cls, explain: bool = False) -> Iterator["Asked"]:
        """Listen to every engine of this process; with `explain` MySQL and MariaDB tell how they find the rows."""
        told = cls()
        opened: dict[int, tuple[int, float]] = {}

        def step() -> None:
            told.steps += 1

        def before(connection: Any, cursor: Any, *_: Any) -> None:
            dbapi = cursor.connection
            if connection.dialect.name == "sqlite":
                dbapi.set_progress_handler(step, 100)
            opened[id(cursor)] = (_counted(connection, dbapi), time.perf_counter())

        def after(connection: Any, cursor: Any, sql: str, parameters: Any, *_: Any) -> None:
            ms = 1000 * (time.perf_counter() - opened[id(cursor)][1])
            read = _counted(connection, cursor.connection) - opened.pop(id(cursor))[0]
            # The second look counts the first.
            own = _own(connection, cursor.connection)
            selects = sql.lstrip().startswith("SELECT")
            gave = max(0, cursor.rowcount) if selects else 0
            plan = _explained(cursor.connection, sql, parameters) if explain and selects else ()
            told.questions.append(
                Question(_method(), " ".join(sql.split()), gave, max(0, read - own), ms, plan)
            )

        sa.event.listen(sa.Engine, "before_cursor_execute", before)
        sa.event.listen(sa.Engine, "after_cursor_execute", after)
        try:
            yield told
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", before)
            sa.event.remove(sa.Engine, "after_cursor_execute", after)


def _counted(connection: sa.Connection, dbapi: Any) -> int:
    """Rows that this session has read so far; those that an index condition threw away as well, where the server tells."""
    if connection.dialect.name == "sqlite":
        return 0
    with dbapi.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler%'")
        values = {name.lower(): int(value) for name, value in cursor.fetchall()}
    read = sum(value for name, value in values.items() if name.startswith("handler_read_"))
    return read + values.get("handler_icp_attempts", 0) - values.get("handler_icp_match", 0)


def _own(connection: sa.Connection, dbapi: Any) -> int:
    """What one look adds to the counters."""
    return -_counted(connection, dbapi) + _counted(connection, dbapi)


def _explained(dbapi: Any, sql: str, parameters: Any) -> tuple[str, ...]:
    """How the server finds the rows of a statement, table by table."""
    with dbapi.cursor() as cursor:
        cursor.execute(f"EXPLAIN FORMAT=TRADITIONAL {sql}", parameters)
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return tuple(f"{row['table']}: {row['type']} by {row['key']}" for row in rows if row["table"])


def _method() -> str:
    """The outermost method of the store on the way to the statement."""
    found, frame = "?", sys._getframe()
    while frame is not None:
        name = frame.f_code.co_name
        inside = "/hourcast/store/" in frame.f_code.co_filename
        if inside and not name.startswith("_") and callable(getattr(Store, name, None)):
            found = name
        frame = frame.f_back  # type: ignore[assignment]
    return found


@dataclass(slots=True)
class _Room:
    """A served version over a store, made anew for each question, so that nothing is remembered."""

    store: Store
    size: Size
    folder: Path

    @property
    def url(self) -> str:
        return self.store.engine.url.render_as_string(hide_password=False)

    def _model(self) -> Forecaster:
        k = len(HALFLIVES_H)
        volatility = VolatilitySpec(
            halflives_h=tuple(HALFLIVES_H), horizons=HORIZONS, centre=(-4.6,) * k, spread=(0.3,) * k,
            weights=tuple((-4.8, *((0.3 / k / h**0.2,) * k)) for h in HORIZONS),
        )  # fmt: skip
        features = FeatureSpec(
            target=target_of(0), window=24, vol_lags=336, seasonal=(1.0,) * 168, volatility=volatility,
            exogenous=tuple(ExogenousFeature(symbol=s, max_staleness_s=30 * 3600, scale=0.01) for s in EXOGENOUS),
        )  # fmt: skip
        trained = END - timedelta(days=14)
        spec = ForecasterSpec(
            kind="volatility", target=target_of(0), base=(tuple(np.linspace(-1.9, 1.9, len(LEVELS))),) * len(HORIZONS),
            features=features, conformal=ConformalState.start(trained, HORIZONS, LEVELS),
            training=TrainingSpan(start=trained - timedelta(days=365), end=trained, rows=8760),
            trained_through=date(2026, 5, 17), decided_at=trained, data_fingerprint="0" * 16, code_version="0", seed=1,
        )  # fmt: skip
        return Forecaster(spec, None, ())

    @contextlib.contextmanager
    def serving(self) -> Iterator[Serving]:
        """A server that has just started."""
        forecaster = self._model()

        def info(version: int) -> PackageInfo:
            return PackageInfo(
                model=model_of(0), version=version, run_id="0" * 32, alias=None, kind="volatility",
                data_fingerprint="0" * 16, trained_through=date(2026, 5, 17), decided_at=END, synthetic=True,
            )  # fmt: skip

        settings = ServingSettings.load(
            state_dir=self.folder,
            model_name=model_of(0),
            clock="store",
            database_url=self.url,
            model_alias="20260517",
        )
        serving = Serving(settings, info(version_at(self.size, END)), forecaster)
        # Whoever reigned where nothing was issued has its package.
        first, last = (version_at(self.size, self.size.start + part) for part in HOLE)
        for v in range(first - 1, last + 2):
            serving.models._others[v] = Kept(lambda v=v: (info(v), forecaster), math.inf, 60, f"version {v}")  # type: ignore[misc]
        try:
            yield serving
        finally:
            serving.stop()

    def get(self, path: str, **query: str) -> None:
        """An answer of a server that was never asked before."""
        with self.serving() as serving:

            async def ask() -> httpx.Response:
                transport = httpx.ASGITransport(build_app(lambda: serving))
                async with httpx.AsyncClient(transport=transport, base_url="http://pod") as client:
                    return await client.get(path, params=query)

            # In a thread of its own: whoever asks may have an event loop running in this one, as Playwright does.
            with ThreadPoolExecutor(1) as alone:
                answer = alone.submit(lambda: asyncio.run(ask())).result()
        assert answer.status_code == 200, answer.text

    def record(self) -> None:
        """What the recorder does at a new hour that another server has issued."""
        with self.serving() as serving:
            now = serving.clock.now()
            hour, newest = serving.market.origin(now)
            assert newest is not None
            serving.recorder.record(now, newest, None, hour)
            serving.recorder.measure()

    def turn(self) -> None:
        """A turn of the controller's loop, with nobody but the store there."""
        settings = ControllerSettings.load(
            state_dir=self.folder, model_name=model_of(0), database_url=self.url, mlflow_url=_NOBODY, node_url=_NOBODY,
            # The history has a place in time of its own: nothing of it is to be forgotten.
            events_keep_days=36_500,
        )  # fmt: skip
        journal = Journal(self.store, FrozenClock(END), model_of(0), "controller")
        target, bucket = LocalTarget(_NOBODY), FolderBucket(self.folder / "bucket")
        with Registry(_NOBODY, model_of(0)) as registry:
            Controller(settings, registry, bucket, self.store, target, journal).turn()
        target.close()

    def decide(self) -> None:
        """What the controller stores when it quarantines a version."""
        told = Decision(END, "controller", "quarantined", model_of(0), 1, None, "a test", datetime.now(UTC))
        self.store.decide(told, seen=self.store.standing(model_of(0)).id)

    def etl(self) -> None:
        """What a run of the etl asks when each series brings three bars that are there already."""
        store, now = self.store, END
        store.freshness([target_of(0), *EXOGENOUS])
        for symbol in (target_of(0), *EXOGENOUS):
            run = store.begin_ingest(symbol, "binance", now)
            bars: Bars = store.read_bars(symbol, known_at=now, last=3)
            store.read_bars(symbol, end=now - 3 * _HOUR, last=200)
            store.upsert_bars(bars, "binance", now)
            store.leave_quarantine(symbol, [now - i * _HOUR for i in range(1, 4)])
            store.update_ingest(run, status="complete")
        store.ingest_runs(8)
        store.newest_hour(model_of(0), now)
        store.read_many((target_of(0), *EXOGENOUS), known_at=now, last=1)
        series = {symbol: SeriesState("there", now) for symbol in (target_of(0), *EXOGENOUS)}
        store.close_hour(Hour(model_of(0), now, now, now, series))
        # An hour that nobody has closed, as every run closes one.
        newest = store.newest_hour("another")
        hour = (now if newest is None else newest.hour) + _HOUR
        store.close_hour(Hour("another", hour, now, now, series))

    def backfill(self) -> None:
        """Bars of long ago are fetched again."""
        symbol, at = target_of(0), self.size.start + 300 * _HOUR
        self.store.read_bars(symbol, end=at, last=200)
        bars = self.store.read_bars(symbol, start=at, end=at + 24 * _HOUR)
        self.store.upsert_bars(bars, "binance", END)
        self.store.leave_quarantine(symbol, [at + i * _HOUR for i in range(24)])


def questions(store: Store, size: Size, folder: Path) -> dict[str, Callable[[], object]]:
    """Everything that is asked of a store with a history of `size`, by who asks; each may be asked again.

    Those that write leave the history as it was, but for a few rows at its end.
    """
    room = _Room(store, size, folder)
    get, model = room.get, model_of(0)

    def span(start: datetime, hours: int, horizon: str = "1") -> dict[str, str]:
        return {"start": start.isoformat(), "end": (start + hours * _HOUR).isoformat(), "horizon": horizon}

    old, hole = size.start + timedelta(days=50), size.start + HOLE[0]
    return {
        "page: /health": lambda: get("/health"),
        "page: /aliases": lambda: get("/aliases"),
        "page: /freshness": lambda: get("/freshness"),
        "page: /skill": lambda: get("/skill"),
        "page: /history": lambda: get("/history", limit="300"),
        "page: /calibration": lambda: get("/calibration"),
        "page: /predict, the present hour": lambda: get("/predict"),
        "page: /report": lambda: get("/report"),
        "page: /btc-info, 31 days": lambda: get("/btc-info", limit="744"),
        "page: /predict of an alias, 31 days": lambda: get("/predict", alias="20260517", **span(END - 744 * _HOUR, 745)),
        "page: /predict-production, 31 days": lambda: get("/predict-production", **span(END - 744 * _HOUR, 745)),
        "API: /btc-info, 1,000 hours of long ago": lambda: get("/btc-info", start=old.isoformat(), limit="1000"),
        "API: /predict, a week of long ago": lambda: get("/predict", **span(old, 168)),
        "API: /predict-production, a week of long ago": lambda: get("/predict-production", **span(old, 168)),
        "API: /predict-production, where nothing was issued": lambda: get("/predict-production", **span(hole, 24)),
        "serving: the recorder at an hour": room.record,
        "controller: a turn, and once a day": room.turn,
        "controller: the champion moved": lambda: store.decisions(model, kind=MOVED, limit=200),
        "controller: a decision": room.decide,
        "`hourcast history`": lambda: store.events(model, limit=30),
        "etl: a run": room.etl,
        "etl: a day of long ago again": room.backfill,
    }  # fmt: skip
