"""Forecasters measured on a span of hours, beside the naive floor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hourcast.contracts import HOUR_S, Bars, FloatArray, IntArray
from hourcast.errors import DataError
from hourcast.forecaster import HORIZONS, LEVELS, Forecaster, naive_quantiles
from hourcast.verification import Figures, figures, pinball
from hourcast_trainer.datasets import realised

__all__ = ["Measured", "Scores", "common", "measure", "measure_naive", "uncalibrated"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Figures of one version on a span of hours: one hour ahead, and over all horizons."""

    next_hour: Figures
    all_horizons: Figures

    def as_dict(self) -> dict[str, dict[str, float]]:
        """JSON-ready."""
        return {"next_hour": self.next_hour.as_dict(), "all_horizons": self.all_horizons.as_dict()}


@dataclass(frozen=True, slots=True)
class Measured:
    """Forecasts (n, H, Q) from `origin` (n,) and the closes that came (n, H), NaN where none did in the span."""

    origin: IntArray
    last_close: FloatArray
    quantiles: FloatArray
    actual: FloatArray
    levels: Sequence[float] = LEVELS

    @property
    def scores(self) -> Scores:
        """Figures one hour ahead and over all horizons, of the forecasts whose close came within the span."""
        came = np.isfinite(self.actual)
        return Scores(
            figures(self.actual[came[:, 0], 0], self.quantiles[came[:, 0], 0], self.levels),
            figures(self.actual[came], self.quantiles[came], self.levels),
        )

    @property
    def next_hour_loss(self) -> FloatArray:
        """(n,) pinball loss one hour ahead, in order of time."""
        return pinball(self.actual[:, 0], self.quantiles[:, 0], self.levels)

    @property
    def scaled_loss(self) -> float:
        """Mean pinball loss of log-returns with every horizon counting alike, though longer ones move further."""
        actual = np.log(self.actual / self.last_close[:, None])
        loss = pinball(actual, np.log(self.quantiles / self.last_close[:, None, None]), self.levels)
        with np.errstate(invalid="ignore"):
            size = np.nanmean(np.abs(actual), axis=0)
        return float(np.nanmean(loss / size))

    def take(self, index: IntArray) -> "Measured":
        """The forecasts at `index`."""
        return Measured(
            self.origin[index], self.last_close[index], self.quantiles[index], self.actual[index], self.levels
        )


def _span(target: Bars, start_s: int, end_s: int) -> tuple[IntArray, FloatArray]:
    """Origins whose next close lies in (start_s, end_s], and the closes within the span."""
    at = target.close_time
    origins = at[(at >= start_s) & (at <= end_s - HOUR_S)]
    return origins, realised(target.known_at(end_s), origins, HORIZONS)


def measure(
    forecaster: Forecaster,
    bars: Mapping[str, Bars],
    start_s: int,
    end_s: int,
    shift: FloatArray | None = None,
) -> Measured:
    """Forecast hourly over (start_s, end_s] with one run of the network; `shift` is that of `Forecaster.predict`.

    Raises:
        DataError: when no hour of the span can be forecast.
    """
    target = bars[forecaster.spec.target]
    origins, actual = _span(target, start_s, end_s)
    made = forecaster.predict(bars, origins, skip_unusable=True, shift=shift)
    kept = np.isin(origins, made.origin) & np.isfinite(actual[:, 0])
    both = np.isin(made.origin, origins[kept])
    if not kept.any():
        raise DataError(f"no hour of {target.symbol} can be forecast in the held-out window; load more bars")
    return Measured(made.origin[both], made.last_close[both], made.quantiles[both], actual[kept])


def measure_naive(target: Bars, start_s: int, end_s: int) -> Measured:
    """The naive floor over the same hours."""
    origins, actual = _span(target, start_s, end_s)
    if not len(origins):
        raise DataError(f"no hour of {target.symbol} can be forecast in the held-out window; load more bars")
    quantiles, last, usable = naive_quantiles(target, origins)
    kept = usable & np.isfinite(actual[:, 0])
    if not kept.any():
        raise DataError(f"no hour of {target.symbol} can be forecast in the held-out window; load more bars")
    return Measured(origins[kept], last[kept], quantiles[kept], actual[kept])


def common(*parts: Measured) -> tuple[Measured, ...]:
    """The parts cut to the origins that all of them have."""
    shared = parts[0].origin
    for part in parts[1:]:
        shared = np.intersect1d(shared, part.origin)
    return tuple(part.take(np.flatnonzero(np.isin(part.origin, shared))) for part in parts)


def uncalibrated(forecaster: Forecaster, bars: Mapping[str, Bars], start_s: int, end_s: int) -> Measured:
    """Forecasts of a span as they were fitted.

    The online calibration that a version carries is production's of a certain day: a candidate has none yet, and
    a later one would know what came in the span.
    """
    shape = (len(forecaster.spec.horizons), len(forecaster.spec.levels))
    return measure(forecaster, bars, start_s, end_s, shift=np.zeros(shape))
