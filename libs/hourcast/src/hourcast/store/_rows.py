"""Rows as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from hourcast.contracts import FloatArray, IntArray

__all__ = [
    "BacktestRows",
    "Evaluation",
    "Event",
    "ForecastRow",
    "Freshness",
    "IngestRun",
    "Quarantined",
    "UpsertResult",
    "WalkFold",
]


@dataclass(frozen=True, slots=True)
class UpsertResult:
    """How many bars a write inserted, revised (values differ from the stored ones) and left as they were."""

    inserted: int
    revised: int
    unchanged: int

    def __add__(self, other: "UpsertResult") -> "UpsertResult":
        return UpsertResult(
            self.inserted + other.inserted,
            self.revised + other.revised,
            self.unchanged + other.unchanged,
        )


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row that broke the data contract, as it came, and why it was kept out of `bars`."""

    symbol: str
    open_time: datetime
    reason: str
    row: Mapping[str, Any]
    source: str
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class IngestRun:
    """One run of one series. `status` is `running` until it ends; a killed run stays `running`."""

    symbol: str
    source: str
    started_at: datetime
    status: Literal["running", "complete", "partial", "failed"]
    ended_at: datetime | None = None
    fetched: int = 0
    inserted: int = 0
    revised: int = 0
    quarantined: int = 0
    reason: str | None = None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A version measured against `baseline` on a held-out window (`stage` gate), or a challenge (champion).

    That of a back-tested week (backtest) is filed under the version whose fit the week is; kind and figures are of what served.
    """

    model: str
    version: int
    alias: str | None
    kind: str
    stage: Literal["gate", "backtest", "champion"]
    baseline: str
    window_start: datetime
    window_end: datetime
    passed: bool
    figures: Mapping[str, Any]
    reason: str
    made_at: datetime


@dataclass(frozen=True, slots=True)
class BacktestRows:
    """The hourly forecasts that one back-test alias made over its own week.

    `origin` and `target_time` (n,) are epoch seconds; `last_close` and `actual` (n,) and `quantiles`,
    `naive_quantiles` (n, levels) are prices.
    """

    model: str
    alias: str
    version: int
    origin: IntArray
    target_time: IntArray
    last_close: FloatArray
    actual: FloatArray
    quantiles: FloatArray
    naive_quantiles: FloatArray


@dataclass(frozen=True, slots=True)
class ForecastRow:
    """One recorded forecast: made at `made_at` from bars known at `origin`, for the close at `target_time`.

    `made_at < target_time` tells a live forecast from a reconstructed one.
    """

    model: str
    version: int
    symbol: str
    origin: datetime
    horizon: int
    target_time: datetime
    made_at: datetime
    alias: str | None
    last_close: float
    levels: tuple[float, ...]
    quantiles: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that the controller or a person did. `at` is by the clock setting, `wall_at` by the wall."""

    at: datetime
    actor: str
    kind: str
    model: str
    version: int | None
    alias: str | None
    reason: str
    wall_at: datetime
    evidence: Mapping[str, Any] = field(default_factory=dict)
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Freshness:
    """The first and the newest bar of a symbol, and where the newest came from."""

    symbol: str
    first_open: datetime | None
    last_close: datetime | None
    source: str | None


@dataclass(frozen=True, slots=True)
class WalkFold:
    """Forecasts of one kind over one fold of a walk-forward.

    `walk` names the walk's options, `recipe` all that decides the rows, `lineage` says the same to people. `parquet` is the
    file of its rows and `sha256` its sum; it is empty where only the rest was asked for.
    """

    model: str
    walk: str
    kind: str
    start: datetime
    end: datetime
    recipe: str
    sha256: str
    lineage: Mapping[str, Any]
    parquet: bytes
    made_at: datetime
