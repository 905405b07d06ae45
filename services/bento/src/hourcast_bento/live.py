"""Forecasts that were recorded before their hour came, beside the closes that came since.

They calibrate what is served (`hourcast.conformal`) and say how good it was. The record is read once and
from then on only where something is new; a restart reads it again and comes to the same rows.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

import numpy as np
import numpy.typing as npt

from hourcast.conformal import Outcomes
from hourcast.contracts import HOUR_S, Bars, FloatArray, IntArray, from_epoch, to_epoch
from hourcast.forecaster import HORIZONS, naive_quantiles
from hourcast.store import ForecastRow, Store
from hourcast.verification import first_made, inside, pinball

__all__ = ["LiveRecord", "LiveRows"]

# A forecast is written hours before its close comes; a close that was missing may be filled in days later.
_AGAIN_H = 6
_WAIT_H = 168
_AT_ONCE_H = 720
_NAIVE_HISTORY = timedelta(hours=720 + max(HORIZONS) + 2)


@dataclass(frozen=True, slots=True)
class LiveRows:
    """M live forecasts whose closes came, at most one a target hour and horizon: the one that was made first.

    In order of `target_time` (M,) epoch s, then `horizon` (M,) h. `actual` (M,) in the quote currency; `below` (M, Q):
    the close was not above the quantile; `inside_50`, `inside_90` (M,); `pinball` (M,), the mean over levels.
    """

    target_time: IntArray
    horizon: IntArray
    actual: FloatArray
    below: npt.NDArray[np.bool_]
    inside_50: npt.NDArray[np.bool_]
    inside_90: npt.NDArray[np.bool_]
    pinball: FloatArray

    def __len__(self) -> int:
        return len(self.target_time)

    @classmethod
    def none(cls, levels: Sequence[float]) -> Self:
        """No forecast yet."""
        return cls.of([], Bars.empty(""), levels)[0]

    @classmethod
    def of(
        cls, recorded: Sequence[ForecastRow], target: Bars, levels: Sequence[float]
    ) -> tuple[Self, IntArray]:
        """Rows of recorded forecasts in any order, and the target times (K,) whose closes have not come.

        What was made after its hour had come, has other horizons or levels, or holds no number is left out.
        """
        rows = [row for row in first_made(recorded, levels) if row.horizon in HORIZONS]
        times = np.array([to_epoch(r.target_time) for r in rows], np.int64)
        horizon = np.array([r.horizon for r in rows], np.int64)
        quantiles = np.array([r.quantiles for r in rows], np.float64).reshape(len(rows), len(levels))
        actual = np.full(len(rows), np.nan)
        if len(target):
            place = np.minimum(np.searchsorted(target.close_time, times), len(target) - 1)
            actual = np.where(target.close_time[place] == times, target.close[place], np.nan)
        came = np.isfinite(actual)
        q, a = quantiles[came], actual[came]

        made = cls(
            times[came], horizon[came], a, a[:, None] <= q, inside(a, q, levels, 0.25, 0.75),
            inside(a, q, levels, 0.05, 0.95), pinball(a, q, levels),
        )  # fmt: skip
        return made, times[~came]

    @property
    def outcomes(self) -> Outcomes:
        """What `hourcast.conformal` learns from."""
        return Outcomes(self.target_time, self.horizon, self.below)

    def between(self, after_s: int, until_s: int) -> "LiveRows":
        """Rows with after < target time <= until."""
        first, last = np.searchsorted(self.target_time, [after_s, until_s], side="right")
        return self._take(slice(int(first), int(last)))

    def _take(self, chosen: slice) -> "LiveRows":
        return LiveRows(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def joined(self, later: "LiveRows") -> "LiveRows":
        """These and later ones."""
        return LiveRows(
            *(
                np.concatenate([getattr(self, name), getattr(later, name)])
                for name in self.__dataclass_fields__
            )
        )


@dataclass(frozen=True, slots=True)
class _Known:
    """Every row with since < target time <= until; rows after `settled` may still change."""

    rows: LiveRows
    since: int
    until: int
    settled: int


@dataclass(frozen=True, slots=True)
class _Naive:
    """The naive floor's quantiles (O, H, Q) from each `origin` (O,), ascending."""

    origin: IntArray
    quantiles: FloatArray


@dataclass(slots=True)
class LiveRecord:
    """The live forecasts of one model's target, read as they come. Thread-safe."""

    store: Store
    model: str
    symbol: str
    levels: tuple[float, ...]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _known: _Known | None = None
    _naive: _Naive | None = None

    def rows(self, since: datetime, until: datetime) -> LiveRows:
        """Rows with since < target time <= until, `until` being the newest close.

        Raises:
            UnavailableError: when something is new and the database does not answer.
        """
        after, last = to_epoch(since), to_epoch(until)
        known = self._known
        if known is None or known.since > after or known.until < last:
            with self._lock:
                known = self._known = self._extended(self._known, after, last)
        return known.rows.between(after, last)

    def seen(self, since: datetime) -> LiveRows:
        """Rows after `since` of those that were read before; nothing is asked."""
        known = self._known
        return (
            LiveRows.none(self.levels) if known is None else known.rows.between(to_epoch(since), known.until)
        )

    def _extended(self, known: _Known | None, after: int, last: int) -> _Known:
        if known is None:
            rows, settled = self._read(after, last)
            return _Known(rows, after, last, settled)
        if known.since > after:
            earlier, settled = self._read(after, known.since)
            rows, settled = earlier.joined(known.rows), min(settled, known.settled)
            known = _Known(rows, after, known.until, settled)
        if known.until < last:
            begin = max(known.settled, known.since)
            newer, settled = self._read(begin, last)
            known = _Known(known.rows.between(known.since, begin).joined(newer), known.since, last, settled)
        return known

    def _read(self, after: int, last: int) -> tuple[LiveRows, int]:
        """Rows with after < target time <= last, and the moment up to which they will not change."""
        whole, settled = LiveRows.none(self.levels), last - _AGAIN_H * HOUR_S
        for begin in range(after, last, _AT_ONCE_H * HOUR_S):
            end = min(last, begin + _AT_ONCE_H * HOUR_S)
            first, after_last = from_epoch(begin + 1), from_epoch(end + 1)
            recorded = self.store.forecasts(self.model, self.symbol, start=first, end=after_last)
            bars = self.store.read_bars(
                self.symbol, start=first - timedelta(hours=2), known_at=from_epoch(end)
            )
            rows, missing = LiveRows.of(recorded, bars, self.levels)
            whole = whole.joined(rows)
            awaited = missing[missing > last - _WAIT_H * HOUR_S]
            if len(awaited):
                settled = min(settled, int(awaited.min()) - 1)
        return whole, settled

    def naive_losses(self, rows: LiveRows) -> FloatArray:
        """Mean pinball loss (M,) of the naive floor for the same closes; NaN where it lacked history.

        Raises:
            UnavailableError: when something is new and the database does not answer.
        """
        origin = rows.target_time - rows.horizon * HOUR_S
        with self._lock:
            known = self._naive = self._naive_for(self._naive, np.unique(origin))
        place = np.searchsorted(known.origin, origin), rows.horizon - HORIZONS[0]
        return pinball(rows.actual, known.quantiles[place], self.levels)

    def _naive_for(self, known: _Naive | None, origin: IntArray) -> _Naive:
        """Naive quantiles from each origin; of those that are known already, those are taken."""
        if known is None:
            known = _Naive(np.empty(0, np.int64), np.empty((0, len(HORIZONS), len(self.levels))))
        kept = np.isin(known.origin, origin)
        new = origin[~np.isin(origin, known.origin)]
        if not len(new):
            return _Naive(known.origin[kept], known.quantiles[kept])
        table = np.full((len(new), len(HORIZONS), len(self.levels)), np.nan)
        start = from_epoch(int(new[0])) - _NAIVE_HISTORY
        bars = self.store.read_bars(self.symbol, start=start, known_at=from_epoch(int(new[-1])))
        if len(bars):
            prices, _, usable = naive_quantiles(bars, new, HORIZONS, self.levels)
            table[usable] = prices[usable]
        whole = np.concatenate([known.origin[kept], new])
        order = np.argsort(whole)
        return _Naive(whole[order], np.concatenate([known.quantiles[kept], table])[order])
