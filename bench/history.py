"""A simulated history: what years of hourly work leave in every table of the store, for some streams side by side.

A stream is a registered model with a target of its own; the exogenous series are those of the default settings and shared.
Values are drawn once, with a seed. One stream is written row by row and copied within the database for the others, but for
the tables whose rows have numbers: there the streams' rows lie among each other, as time brings them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import numpy as np
import sqlalchemy as sa

from hourcast.contracts import parse_hour
from hourcast.decisions import Decision, Standing
from hourcast.forecaster import HORIZONS, LEVELS
from hourcast.store import Store
from hourcast.store import _schema as t
from hourcast.store._decisions import _dump

__all__ = ["END", "EXOGENOUS", "HOLE", "Size", "fill", "model_of", "target_of", "version_at"]

END = parse_hour("2026-06-01")
"""The newest closed hour."""
EXOGENOUS = ("QQQ", "^VIX", "GC=F")
_HOUR = timedelta(hours=1)
_WEEK_H = 168
_FOLD_B = 200_000
_REPORT_B = 600_000
HOLE = (timedelta(days=36), timedelta(days=38))
"""After so long no forecast was issued, until so long after the beginning."""


@dataclass(frozen=True, slots=True)
class Size:
    """So many hours of so many streams; a version is rolled out every `roll_h` hours, and a back-test alias has `walk_h`.

    A fan looks `ahead_h` hours ahead; a fold of a walk has `fold_b` bytes, a report `report_b`.
    """

    hours: int
    streams: int
    roll_h: int = _WEEK_H
    walk_h: int = _WEEK_H
    ahead_h: int = 24
    fold_b: int = _FOLD_B
    report_b: int = _REPORT_B

    @property
    def start(self) -> datetime:
        """The first closed hour."""
        return END - (self.hours - 1) * _HOUR


def model_of(stream: int) -> str:
    """The registered model's name."""
    return "hourcast" if stream == 0 else f"stream-{stream}"


def target_of(stream: int) -> str:
    """What the stream forecasts."""
    return "BTC/USDT" if stream == 0 else f"COIN{stream}/USDT"


def version_at(size: Size, hour: datetime) -> int:
    """The version that serves at an hour."""
    return 1 + int((hour - size.start) / _HOUR) // size.roll_h


def fill(store: Store, size: Size) -> None:
    """Write the history into the tables of an empty store."""
    with store.engine.connect().execution_options(writes=True) as connection:
        if store.engine.dialect.name != "sqlite":
            for name in ("unique_checks", "sql_log_bin"):
                connection.exec_driver_sql(f"SET SESSION {name} = 0")
        for table, rows in (
            (t.bars, _bars(size, target_of(0), 1)),
            (t.bar_revisions, _revisions(size, target_of(0), 1)),
            *((t.bars, _bars(size, symbol, i + 2)) for i, symbol in enumerate(EXOGENOUS)),
            *((t.bar_revisions, _revisions(size, symbol, i + 2)) for i, symbol in enumerate(EXOGENOUS)),
            (t.hours, _hours(size)),
            (t.fans, _fans(size)),
            (t.backtest_rows, _backtest_rows(size)),
            (t.walk_folds, _folds(size)),
            (t.reports, _reports(size)),
            (t.quarantined_bars, _quarantined(size)),
        ):
            _insert(connection, table, rows)
        _insert(connection, t.ingest_runs, _ingest_runs(size))
        copied = (t.bars, t.bar_revisions, t.hours, t.fans, t.backtest_rows, t.walk_folds, t.reports)
        for stream in range(1, size.streams):
            for table in (*copied, t.ingest_runs):
                _copy(connection, table, stream)
        _insert(connection, t.evaluations, _evaluations(size))
        decisions = list(_decisions(size))
        _insert(connection, t.decisions, iter(decisions))
        _insert(connection, t.events, iter(decisions))
        _insert(connection, t.standing, _standings(decisions))
        _insert(connection, t.clock, iter([{"id": 1, "now": END}]))
        if store.engine.dialect.name != "sqlite":
            for table in t.metadata.tables:
                connection.exec_driver_sql(f"ANALYZE TABLE {table}").all()
        connection.commit()


def _insert(connection: sa.Connection, table: sa.Table, rows: Iterator[dict[str, Any]]) -> None:
    # Packets of the server's default size hold so many.
    most = 2000 if table not in (t.fans, t.walk_folds, t.reports) else 500 if table is t.fans else 20
    while some := list(islice(rows, most)):
        connection.execute(sa.insert(table), some)
    connection.commit()


def _copy(connection: sa.Connection, table: sa.Table, stream: int) -> None:
    """The rows of the first stream as another's."""
    c = table.c
    values: list[Any] = []
    written = [column for column in c if column.name != "id"]
    for column in written:
        if column.name == "model":
            values.append(sa.literal(model_of(stream)))
        elif column.name == "symbol":
            values.append(sa.literal(target_of(stream)))
        elif column.name == "state":
            values.append(sa.func.replace(sa.type_coerce(column, sa.Text), target_of(0), target_of(stream)))
        else:
            values.append(column)
    mine = c.model == model_of(0) if "model" in c else c.symbol == target_of(0)
    names = [column.name for column in written]
    connection.execute(sa.insert(table).from_select(names, sa.select(*values).where(mine)))
    connection.commit()


def _opens(size: Size, symbol: str) -> list[datetime]:
    """When bars open: a market that never shuts, one of 23 hours on five days, and two of days and hours of their own."""
    hours = [size.start + (i - 1) * _HOUR for i in range(size.hours)]
    if symbol not in EXOGENOUS:
        return hours
    first, last, minute = {"QQQ": (13, 20, 30), "^VIX": (7, 20, 10), "GC=F": (0, 23, 0)}[symbol]
    # The last hour's bar of a market whose hours are not whole has not closed yet.
    return [
        hour + timedelta(minutes=minute)
        for hour in hours
        if hour.weekday() < 5
        and first <= hour.hour < last
        and hour + timedelta(minutes=minute) + _HOUR <= END
    ]


def _bars(size: Size, symbol: str, seed: int) -> Iterator[dict[str, Any]]:
    opens = _opens(size, symbol)
    rng = np.random.default_rng(seed)
    close = 60_000 / seed**3 * np.exp(np.cumsum(rng.normal(0, 0.0005, len(opens))))
    came_s = rng.uniform(2, 60, len(opens))
    revised = rng.random(len(opens)) < (0.003 if symbol not in EXOGENOUS else 0.02)
    for i, opened in enumerate(opens):
        price = float(close[i])
        yield {
            "symbol": symbol, "open_time": opened, "close_time": opened + _HOUR, "open": price * 0.999,
            "high": price * 1.002, "low": price * 0.998, "close": price, "volume": 1000 * float(came_s[i]),
            "source": "binance" if symbol not in EXOGENOUS else "yahoo",
            "ingested_at": opened + (2 if revised[i] else 1) * _HOUR + timedelta(seconds=float(came_s[i])),
        }  # fmt: skip


def _revisions(size: Size, symbol: str, seed: int) -> Iterator[dict[str, Any]]:
    """What the bars that an hour later came with another volume were before."""
    for row in _bars(size, symbol, seed):
        if row["ingested_at"] - row["close_time"] > _HOUR:
            came = row["ingested_at"]
            yield row | {"volume": row["volume"] * 0.9, "replaced_at": came, "ingested_at": came - _HOUR}


def _hours(size: Size) -> Iterator[dict[str, Any]]:
    for i in range(size.hours):
        hour = size.start + i * _HOUR
        state = {
            symbol: {"state": "there", "newest": hour.isoformat()} for symbol in (target_of(0), *EXOGENOUS)
        }
        yield {
            "model": model_of(0), "hour": hour, "closed_at": hour + timedelta(seconds=61, microseconds=i % 1000),
            "wall_at": hour + timedelta(seconds=61), "state": state,
        }  # fmt: skip


def _fans(size: Size) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(5)
    horizons = HORIZONS[: size.ahead_h]
    base = np.linspace(-0.01, 0.01, len(LEVELS)) * np.sqrt(np.array(horizons))[:, None]
    for i in range(size.hours):
        hour = size.start + i * _HOUR
        # The present hour is still to be issued.
        if HOLE[0] <= hour - size.start < HOLE[1] or hour == END:
            continue
        last = float(60_000 * np.exp(rng.normal(0, 0.1)))
        yield {
            "model": model_of(0), "role": "served", "symbol": target_of(0), "origin": hour,
            "version": version_at(size, hour), "alias": f"{hour:%Y%m%d}", "issued_at": hour + timedelta(seconds=62),
            "wall_at": hour + timedelta(seconds=62), "last_close": last, "levels": list(LEVELS),
            "horizons": list(horizons), "quantiles": (last * np.exp(base * rng.uniform(0.5, 2))).astype("<f8").tobytes(),
            "source": "issued", "fingerprint": "0123456789abcdef",
            "calibration": {"as_of": f"{hour:%Y-%m-%dT%H:%M:%SZ}", "digest": "0123456789abcdef"},
            "run_id": "0" * 32, "kind": "ensemble", "data_fingerprint": "0" * 16,
        }  # fmt: skip


def _backtest_rows(size: Size) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(6)
    shape = np.linspace(-0.01, 0.01, len(LEVELS))
    for i in range(size.hours):
        hour = size.start + i * _HOUR
        week = size.start + i // size.walk_h * size.walk_h * _HOUR
        last = float(60_000 * np.exp(rng.normal(0, 0.1)))
        yield {
            "model": model_of(0), "alias": f"backtest_{week:%Y%m%d}", "origin": hour, "version": 10_000 + i // size.walk_h,
            "target_time": hour + _HOUR, "last_close": last, "actual": last * 1.001,
            "quantiles": (last * np.exp(shape)).tolist(), "naive_quantiles": (last * np.exp(2 * shape)).tolist(),
        }  # fmt: skip


def _weeks(size: Size) -> Iterator[datetime]:
    for first in range(0, size.hours, size.walk_h):
        yield size.start + first * _HOUR


def _folds(size: Size) -> Iterator[dict[str, Any]]:
    body = np.random.default_rng(7).bytes(size.fold_b)
    for week in _weeks(size):
        yield {
            "model": model_of(0), "walk": "0123456789abcdef", "kind": "ensemble", "start": week,
            "end": week + size.walk_h * _HOUR, "recipe": "0123456789abcdef", "sha256": "0" * 64,
            "lineage": {"spans": ["2020-01-01"] * 6, "hyperparameters": {f"name{i}": i for i in range(20)}},
            "parquet": body, "made_at": week,
        }  # fmt: skip


def _reports(size: Size) -> Iterator[dict[str, Any]]:
    import gzip

    # Hexadecimal digits are packed to about half of their length, so that the page is twice as long.
    page = np.random.default_rng(8).bytes(size.report_b).hex()
    yield {"model": model_of(0), "made_at": END, "title": "Back-test", "html": gzip.compress(page.encode())}


def _quarantined(size: Size) -> Iterator[dict[str, Any]]:
    for i in range(0, size.hours, 2000):
        yield {
            "symbol": target_of(0), "open_time": size.start + i * _HOUR, "reason": "the high is below the low",
            "row": {"open": 1.0, "high": 0.5, "low": 1.0, "close": 1.0, "volume": 1.0}, "source": "binance",
            "seen_at": size.start + i * _HOUR,
        }  # fmt: skip


def _ingest_runs(size: Size) -> Iterator[dict[str, Any]]:
    opens = {symbol: set(_opens(size, symbol)) for symbol in EXOGENOUS}
    for i in range(size.hours):
        hour = size.start + (i - 1) * _HOUR
        at = hour + _HOUR + timedelta(seconds=5)
        found = [target_of(0)]
        found += [s for s in EXOGENOUS if any(hour + timedelta(minutes=m) in opens[s] for m in (0, 10, 30))]
        for symbol in found:
            yield {
                "symbol": symbol, "source": "binance", "started_at": at, "ended_at": at + timedelta(seconds=1),
                "status": "complete", "fetched": 3, "inserted": 1, "revised": 0, "quarantined": 0, "reason": None,
            }  # fmt: skip


_SCORE = dict.fromkeys(("n", "rmse", "mae", "pinball", "crps", "coverage_90", "coverage_50"), 123.456789)
_SCORES = {"next_hour": _SCORE, "all_horizons": _SCORE}
_FIGURES = {
    "candidate": _SCORES, "baseline": _SCORES, "ratios": {f"ratio {i}": 0.98765 for i in range(8)},
    "evidence": {f"test {i}": 0.0123456 for i in range(10)}, "recipe": "0123456789abcdef",
}  # fmt: skip


def _evaluations(size: Size) -> Iterator[dict[str, Any]]:
    def one(
        stream: int, version: int, at: datetime, alias: str, stage: str, baseline: str
    ) -> Mapping[str, Any]:
        return {
            "model": model_of(stream), "version": version, "alias": alias, "kind": "ensemble", "stage": stage,
            "baseline": baseline, "window_start": at - timedelta(days=14), "window_end": at, "passed": True,
            "figures": _FIGURES, "reason": "no worse than naive in any figure that counts (p = 0.012)", "made_at": at,
        }  # fmt: skip

    def made() -> Iterator[Mapping[str, Any]]:
        # A back-test of the whole span comes before the first version of production.
        for stream in range(size.streams):
            for i, week in enumerate(_weeks(size)):
                yield one(stream, 10_000 + i, week, f"backtest_{week:%Y%m%d}", "backtest", "naive")
        for i, at in enumerate(_rolls(size)):
            for stream in range(size.streams):
                yield one(stream, 1 + i, at, f"{at:%Y%m%d}", "gate", "naive")
                yield one(stream, 1 + i, at, f"{at:%Y%m%d}", "gate", f"v{i}")
                if i > 6:
                    yield one(stream, i - 6, at, f"{at:%Y%m%d}", "champion", f"v{max(1, i - 12)}")

    seen: set[tuple[Any, ...]] = set()
    for row in made():
        key = (row["model"], row["version"], row["stage"], row["baseline"])
        if key not in seen:
            seen.add(key)
            yield dict(row)


def _rolls(size: Size) -> Iterator[datetime]:
    for first in range(0, size.hours, size.roll_h):
        yield size.start + first * _HOUR


def _decisions(size: Size) -> Iterator[dict[str, Any]]:
    aliases: dict[str, int] = {}

    def one(
        stream: int, at: datetime, kind: str, version: int | None, evidence: Mapping[str, Any]
    ) -> dict[str, Any]:
        alias = None if version is None else f"{at:%Y%m%d}"
        return {
            "at": at, "actor": "controller", "kind": kind, "model": model_of(stream), "version": version, "alias": alias,
            "reason": "the newest alias that passed its gate", "evidence": dict(evidence), "wall_at": at,
        }  # fmt: skip

    for i, at in enumerate(_rolls(size)):
        version = 1 + i
        aliases = dict([*aliases.items(), (f"{at:%Y%m%d}", version)][-10:])
        for stream in range(size.streams):
            yield one(stream, at, "roll_started", version, {"from_version": i or None, "aliases": aliases})
            yield one(stream, at + timedelta(seconds=5), "rolled", version, {})
            if i % 5 == 3:
                yield one(stream, at + timedelta(minutes=1), "champion_moved", version, {"p": 0.01})
            if i % 26 == 20:
                yield one(stream, at + timedelta(hours=2), "held", None, {})
                yield one(stream, at + timedelta(hours=3), "released", None, {})
            if i % 20 == 10:
                yield one(stream, at + timedelta(hours=4), "quarantined", version, {"run_id": "0" * 32})
                yield one(stream, at + timedelta(hours=5), "unquarantined", version, {})


def _standings(decisions: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    states: dict[str, Standing] = {}
    for number, values in enumerate(decisions, 1):
        before = states.get(values["model"], Standing())
        states[values["model"]] = before.after(Decision(**values, id=number))
    for model, state in states.items():
        yield {"model": model, "decision_id": state.id, "state": _dump(state)}
