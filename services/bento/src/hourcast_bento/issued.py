"""Forecasts as they were issued: what users got, whichever server and version they asked."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np

from hourcast.contracts import FloatArray, to_epoch
from hourcast.forecaster import Forecasts
from hourcast.store import Fan, Source, Store

__all__ = ["IssuedRecord", "Told", "calibration_of", "forecasts_of", "joined"]

Told = Source | Literal["computed"]
"""Where an answer is from; `computed` is made for the one who asks and kept nowhere."""

_SECOND = timedelta(seconds=1)
_KEPT = 4


@dataclass(slots=True)
class IssuedRecord:
    """The served fans of one model's target. Thread-safe; a fan that was read once never changes."""

    store: Store
    model: str
    symbol: str
    _known: dict[datetime, Fan] = field(default_factory=dict)

    def at(self, origin: datetime) -> Fan | None:
        """What was issued at an hour, or None where nothing was yet.

        Raises:
            UnavailableError: when it is not known yet and the database does not answer.
        """
        known = self._known.get(origin)
        if known is None:
            found = self.between(origin, origin + _SECOND)
            known = self._keep(found[0]) if found else None
        return known

    def between(self, start: datetime, end: datetime) -> list[Fan]:
        """Fans of hours with start <= hour < end, in order."""
        return self.store.fans(self.model, self.symbol, start=start, end=end)

    def issue(self, fans: Sequence[Fan]) -> list[Fan]:
        """Issue fans, and learn what stands for their hours.

        Raises:
            UnavailableError: when the database does not take them.
        """
        standing = self.store.issue(fans) if fans else []
        for fan in standing[-_KEPT:]:
            self._keep(fan)
        return standing

    def _keep(self, fan: Fan) -> Fan:
        if len(self._known) >= _KEPT:
            self._known = {}
        self._known[fan.origin] = fan
        return fan


def forecasts_of(fan: Fan) -> Forecasts:
    """A fan as an array of one origin."""
    return Forecasts(
        np.array([to_epoch(fan.origin)], np.int64), fan.horizons, fan.levels, np.array([fan.last_close]),
        np.array([fan.quantiles], np.float64),
    )  # fmt: skip


def joined(
    parts: Sequence[Forecasts], horizons: tuple[int, ...], levels: tuple[float, ...]
) -> tuple[Forecasts, Sequence[int]]:
    """Parts of the same horizons and levels by origin, and the place that each had in the order of the parts."""
    origin = np.concatenate([np.empty(0, np.int64), *(p.origin for p in parts)])
    order = np.argsort(origin, kind="stable")
    last = np.concatenate([np.empty(0), *(p.last_close for p in parts)])
    table = np.concatenate([np.empty((0, len(horizons), len(levels))), *(p.quantiles for p in parts)])
    return Forecasts(origin[order], horizons, levels, last[order], table[order]), order.tolist()


def calibration_of(table: FloatArray, as_of: datetime) -> dict[str, Any]:
    """What a fan tells of the shifts (H, Q) that stretched it, the newest close behind them being that of `as_of`."""
    digest = hashlib.sha256(np.ascontiguousarray(table, "<f8").tobytes()).hexdigest()[:16]
    return {"as_of": as_of.isoformat().replace("+00:00", "Z"), "digest": digest}
