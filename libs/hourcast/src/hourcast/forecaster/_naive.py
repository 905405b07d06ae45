"""The naive floor: "the price stays", with the quantiles of the last month's returns around it."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hourcast.contracts import HOUR_S, Bars, FloatArray, IntArray
from hourcast.features import hourly_grid, seen_otherwise
from hourcast.forecaster._spec import HORIZONS, LEVELS, NAIVE_WINDOW_H

__all__ = ["floor_fingerprint", "naive_quantiles"]

# Windows of so many origins at once: all of them would take hundreds of megabytes over years.
_BATCH = 4096


def naive_quantiles(
    bars: Bars,
    origins: IntArray,
    horizons: Sequence[int] = HORIZONS,
    levels: Sequence[float] = LEVELS,
    window_h: int = NAIVE_WINDOW_H,
) -> tuple[FloatArray, FloatArray, np.ndarray[Any, np.dtype[np.bool_]]]:
    """The naive floor: the last close, with the quantiles of the last `window_h` h-hour log-returns around it.

    The quantiles are centred on their median, so that the point forecast is exactly "the price stays". As in
    `hourcast.features.build`, a recorded hour is forecast from the bars as they were at its close.

    Returns:
        prices (N, H, Q), last close (N,), and which origins have enough history (N,).
    """
    origins = np.asarray(origins, np.int64)
    made = _naive_quantiles(bars, origins, horizons, levels, window_h)
    within_s = (window_h + max(horizons) + 1) * HOUR_S
    for i, then in seen_otherwise({bars.symbol: bars}, within_s, origins):
        if not len(then[bars.symbol]):
            made[2][i] = False
            continue
        one = _naive_quantiles(then[bars.symbol], origins[[i]], horizons, levels, window_h)
        for whole, part in zip(made, one, strict=True):
            whole[i] = part[0]
    return made


def _naive_quantiles(
    bars: Bars, origins: IntArray, horizons: Sequence[int], levels: Sequence[float], window_h: int
) -> tuple[FloatArray, FloatArray, np.ndarray[Any, np.dtype[np.bool_]]]:
    need = window_h + max(horizons)
    earliest = int(origins.min()) - (need + 1) * HOUR_S
    # From the bar that was the newest then, so that a hole there does not depend on how much history was read.
    first = int(np.searchsorted(bars.close_time, earliest, side="right")) - 1
    grid = hourly_grid(bars.take(slice(max(first, 0), None)), int(origins.max()))
    place = grid.index(origins)
    inside = (place >= need) & (place < len(grid.close_time))
    safe = np.where(inside, place, 0)
    usable = inside & grid.real[safe]
    last = grid.close[safe]
    log_close = np.log(grid.close)
    out = np.repeat(last[:, None], len(horizons) * len(levels), axis=1)
    prices = out.reshape(len(origins), len(horizons), len(levels))
    good = np.flatnonzero(usable)
    centre = list(levels).index(0.5)
    for i, h in enumerate(horizons):
        change = log_close[h:] - log_close[:-h]
        if len(change) < window_h:
            continue
        windows = np.lib.stride_tricks.sliding_window_view(change, window_h)
        for first in range(0, len(good), _BATCH):
            part = good[first : first + _BATCH]
            chosen = windows[safe[part] - h - window_h + 1]
            spread = np.quantile(chosen, levels, axis=1).T
            spread -= spread[:, centre : centre + 1]
            prices[part, i] = last[part, None] * np.exp(spread)
    return prices, last, usable


def _naive_fingerprint(bars: Bars, origins: IntArray, need_h: int) -> tuple[str, ...]:
    """One mark for each origin of the closes that the naive floor looks at; that of an unusable origin means nothing."""
    earliest = int(origins.min()) - (need_h + 1) * HOUR_S
    first = int(np.searchsorted(bars.close_time, earliest, side="right")) - 1
    grid = hourly_grid(bars.take(slice(max(first, 0), None)), int(origins.max()))
    closes = np.ascontiguousarray(grid.close, dtype="<f8")
    ends = grid.index(origins) + 1
    return tuple(
        hashlib.sha256(closes[max(end - need_h - 1, 0) : max(end, 0)].tobytes()).hexdigest()[:16]
        for end in ends.tolist()
    )


def floor_fingerprint(target: Bars, origins: IntArray, need_h: int) -> tuple[str, ...]:
    """The same from bars that may come with how they looked when an hour was closed, as features do."""
    marks, seen = list(_naive_fingerprint(target, origins, need_h)), target.seen
    if seen is not None:
        for i in np.flatnonzero(np.isin(origins, seen.hour)).tolist():
            then = seen.at(int(np.searchsorted(seen.hour, origins[i])))
            if len(then):
                marks[i] = _naive_fingerprint(then, origins[i : i + 1], need_h)[0]
    return tuple(marks)
