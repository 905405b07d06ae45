"""What is said of a walk: the forms of its figures."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from hourcast.contracts import HOUR_S, FloatArray, IntArray
from hourcast_trainer.lab.analysis._calibration import OverTime, Pit
from hourcast_trainer.lab.analysis._cuts import Skill
from hourcast_trainer.lab.analysis._statistics import DieboldMariano, Interval
from hourcast_trainer.lab.analysis._verdicts import Verdict

__all__ = [
    "Ablation", "AblationFigures", "Analysis", "Horizons", "HoursOfWeek", "KindResult", "Matrix", "Span", "SpanResult",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Span:
    """Forecasts made at or after `start_s` whose close came no later than `end_s`, epoch seconds."""

    name: str
    start_s: int
    end_s: int


@dataclass(frozen=True, slots=True)
class Horizons:
    """Figures by horizon, each (H,); `coverage` and `raw_coverage` (3, H) of the intervals of 50, 80 and 90 %.

    `p` is that of Diebold and Mariano's test of the pinball loss against the reference's.
    """

    pinball_ratio: FloatArray
    raw_pinball_ratio: FloatArray
    winkler_ratio: FloatArray
    raw_winkler_ratio: FloatArray
    rmse_ratio: FloatArray
    mae_ratio: FloatArray
    coverage: FloatArray
    raw_coverage: FloatArray
    p: FloatArray


@dataclass(frozen=True, slots=True)
class HoursOfWeek:
    """Figures one hour ahead by the hour of the week that is forecast, each (168,), from Monday 00:00 UTC."""

    n: IntArray
    pinball_ratio: FloatArray
    coverage_90: FloatArray


@dataclass(frozen=True, slots=True)
class KindResult:
    """What is said of one kind over one span.

    `next_hour` and `all_horizons` test the pinball loss (one hour ahead, and the mean over the horizons of an origin) against the
    reference's; the intervals are of its ratio to the reference's, at 95 %. `pits` are of the shortest and the longest horizon.
    """

    kind: str
    total: Skill
    months: Mapping[str, Skill]
    month_intervals: Mapping[str, Interval]
    quintiles: tuple[Skill, ...]
    hours_of_week: HoursOfWeek
    horizons: Horizons
    next_hour: DieboldMariano
    next_hour_interval: Interval
    all_horizons: DieboldMariano
    all_horizons_interval: Interval
    pits: tuple[Pit, ...]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Each kind against each other: `p` (K, K) of "the row's pinball loss is smaller than the column's", NaN on the diagonal."""

    kinds: tuple[str, ...]
    p: FloatArray


@dataclass(frozen=True, slots=True)
class SpanResult:
    """Every kind over one span. `volatility_edges` (6,) bound the fifths of trailing volatility, shares of the price over a day."""

    span: Span
    kinds: Mapping[str, KindResult]
    next_hour: Matrix
    all_horizons: Matrix
    volatility_edges: FloatArray


@dataclass(frozen=True, slots=True)
class AblationFigures:
    """What a part is worth over one span: by which share the pinball loss falls when it is there, and p of "it falls by luck"."""

    n: int
    gain_next_hour: float
    interval_next_hour: Interval
    p_next_hour: float
    gain_all: float
    interval_all: Interval
    p_all: float


@dataclass(frozen=True, slots=True)
class Ablation:
    """`kind` is `base` with `part` added (`+`) or taken away (`-`); the figures are by span, those of the part in either case."""

    kind: str
    base: str
    sign: str
    part: str
    spans: Mapping[str, AblationFigures]


@dataclass(frozen=True, slots=True)
class Analysis:
    """All figures of a walk. The first span is the whole; kinds are in order of skill, `headline` first and `reference` last.

    `dropped` says how many origins of a kind were left out because another kind lacks them.
    """

    reference: str
    headline: str
    horizons: int
    levels: tuple[float, ...]
    spans: tuple[SpanResult, ...]
    over_time: Mapping[str, OverTime]
    ablations: tuple[Ablation, ...]
    dropped: Mapping[str, int]
    hours: Mapping[str, FloatArray]
    origin: IntArray

    @property
    def whole(self) -> SpanResult:
        """The span of all rows."""
        return self.spans[0]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Every kind that is no ablation."""
        return tuple(self.whole.kinds)

    def rmse_between(self, start_s: int, end_s: int) -> tuple[int, dict[str, float]]:
        """RMSE one hour ahead of each kind over closes in (start_s, end_s], and of how many hours."""
        inside = (self.origin >= start_s) & (self.origin + HOUR_S <= end_s)
        off = {kind: values[inside] for kind, values in self.hours.items()}
        n = int(np.isfinite(off[self.reference]).sum())
        return n, {
            kind: float(np.sqrt(np.nanmean(values**2))) if n else float("nan") for kind, values in off.items()
        }

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: all but the hours themselves; what is not a number is None."""
        whole = _plain(self)
        assert isinstance(whole, dict)
        return {key: value for key, value in whole.items() if key not in ("hours", "origin")}


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
