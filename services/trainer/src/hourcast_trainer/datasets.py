"""Training sets: what a feature specification learns from the past, samples and their targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hourcast.contracts import HOUR_S, Bars, FloatArray, IntArray, fingerprint
from hourcast.errors import DataError
from hourcast.features import (
    VOL_LAGS,
    ExogenousFeature,
    FeatureSpec,
    Grid,
    build,
    hourly_grid,
    log_volatilities,
    seen_otherwise,
)
from hourcast.forecaster import HORIZONS
from hourcast.settings import Series
from hourcast.volatility import HALFLIVES_H, fit_volatility, hour_of_week, season

__all__ = ["Samples", "data_fingerprint", "fit_features", "make_samples", "realised"]

_SEASONAL_PRIOR = 8.0
_MIN_ORIGINS = 30 * 24


@dataclass(frozen=True, slots=True)
class Samples:
    """N samples in order of time: `x` (N, window, width) float32 and `z` (N, H) float32.

    `z` is the h-hour log-return over the scale that the volatility known at the origin made expect.
    """

    origin: IntArray
    x: npt.NDArray[np.float32]
    z: npt.NDArray[np.float32]

    def take(self, chosen: slice) -> "Samples":
        """Some of them."""
        return Samples(self.origin[chosen], self.x[chosen], self.z[chosen])


def _seasonal_factors(grid: Grid, start_s: int) -> FloatArray:
    """(168,) of the hours of the week: how wide returns are in them, around 1."""
    inside = (grid.close_time > start_s) & grid.real
    inside[0] = False
    square = grid.log_return[inside] ** 2
    # One jump must not make its hour of the week look wild for a year.
    square = np.minimum(square, np.quantile(square, 0.995))
    slot = hour_of_week(grid.close_time[inside])
    total = np.bincount(slot, weights=square, minlength=168)
    count = np.bincount(slot, minlength=168)
    # An hour of the week is seen a few dozen times, so its variance leans on its neighbours and on the mean.
    smooth, seen = (np.convolve(np.tile(a, 3), [0.5, 1, 0.5], "same")[168:336] for a in (total, count))
    variance = (smooth + _SEASONAL_PRIOR * square.mean()) / (seen + _SEASONAL_PRIOR)
    factor: FloatArray = np.sqrt(variance / variance.mean())
    return factor


def _exogenous(bars: Mapping[str, Bars], series: Series, start_s: int, end_s: int) -> ExogenousFeature:
    part = bars.get(series.symbol, Bars.empty(series.symbol)).known_at(end_s)
    moves = np.diff(np.log(part.close[part.close_time > start_s]))
    scale = float(np.std(moves)) if len(moves) > 100 else 0.0
    return ExogenousFeature(
        symbol=series.symbol,
        max_staleness_s=int(series.max_staleness_h * HOUR_S),
        scale=max(scale, 1e-4),
    )


def fit_features(
    bars: Mapping[str, Bars],
    target: str,
    exogenous: Sequence[Series],
    window: int,
    start_s: int,
    end_s: int,
    *,
    halflives_h: Sequence[float] = HALFLIVES_H,
) -> FeatureSpec:
    """Learn seasonal factors, volatility weights and exogenous scales from returns that closed in (start_s, end_s].

    Raises:
        DataError: when fewer whole hours than a month are there after those that the first means need.
    """
    grid = hourly_grid(bars[target].known_at(end_s))
    known = (grid.close_time >= start_s) & grid.real
    known[:VOL_LAGS] = False
    if np.count_nonzero(known) < _MIN_ORIGINS:
        raise DataError(
            f"only {np.count_nonzero(known)} whole hours of {target} to learn a volatility from, "
            f"{_MIN_ORIGINS} are needed; load more history with `hourcast etl backfill`"
        )
    factor = _seasonal_factors(grid, start_s)
    origins = grid.close_time[known]
    volatility, last = log_volatilities(grid, factor, halflives_h)[known], grid.close[known]
    # What a forecast from an hour starts from is what was known at its close, as in `features.build`.
    for i, then in seen_otherwise({target: bars[target]}, (VOL_LAGS + 1) * HOUR_S, origins):
        hours = hourly_grid(then[target].take(slice(-VOL_LAGS - 1, None)), int(origins[i]))
        volatility[i] = log_volatilities(hours, factor, halflives_h, first=len(hours.close_time) - 1)[0]
        last[i] = hours.close[-1]
    change = np.log(realised(bars[target].known_at(end_s), origins) / last[:, None])
    weights = fit_volatility(
        volatility, season(factor.tolist(), origins, HORIZONS), change, HORIZONS, halflives_h
    )
    return FeatureSpec(
        target=target,
        exogenous=tuple(_exogenous(bars, series, start_s, end_s) for series in exogenous),
        window=window,
        seasonal=tuple(factor.tolist()),
        volatility=weights,
    )


def make_samples(bars: Mapping[str, Bars], spec: FeatureSpec, start_s: int, end_s: int) -> Samples:
    """Every hour from `start_s` whose features are whole and whose targets had all closed by `end_s`."""
    target = bars[spec.target]
    last_origin = end_s - max(HORIZONS) * HOUR_S
    origins = target.close_time[(target.close_time >= start_s) & (target.close_time <= last_origin)]
    features = build(bars, spec, origins)
    change = np.log(realised(target.known_at(end_s), origins)) - np.log(features.last_close)[:, None]
    ahead = season(spec.seasonal, origins, HORIZONS)
    z = change / spec.volatility.scale(features.log_volatility, ahead, HORIZONS)
    good = features.usable & np.isfinite(z).all(axis=1)
    return Samples(origins[good], features.x[good], np.clip(z[good], -12, 12).astype(np.float32))


def realised(target: Bars, origins: IntArray, horizons: tuple[int, ...] = HORIZONS) -> FloatArray:
    """(N, H): the close at each origin plus each horizon; NaN where no bar closed then."""
    wanted = origins[:, None] + np.asarray(horizons, np.int64) * HOUR_S
    place = np.searchsorted(target.close_time, wanted)
    safe = np.minimum(place, len(target) - 1)
    found = (place < len(target)) & (target.close_time[safe] == wanted)
    out: FloatArray = np.where(found, target.close[safe], np.nan)
    return out


def data_fingerprint(bars: Mapping[str, Bars], start_s: int, end_s: int) -> str:
    """Fingerprint of the bars that closed in (start_s, end_s]."""
    return fingerprint(
        {
            symbol: part.take((part.close_time > start_s) & (part.close_time <= end_s))
            for symbol, part in bars.items()
        }
    )
