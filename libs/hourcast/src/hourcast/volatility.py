"""How wide an hour's return is usually spread, from how wide the last hours were.

A heterogeneous autoregression on the logarithm (Corsi, "A Simple Approximate Long-Memory Model of Realized
Volatility", Journal of Financial Econometrics 7, 2009) over exponentially weighted means of the range's variance
(Parkinson, "The Extreme Value Method for Estimating the Variance of the Rate of Return", Journal of Business 53,
1980), for each horizon, times the usual size of the hours of the week that lie ahead.
"""

from collections.abc import Sequence
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveFloat, PositiveInt, model_validator

from hourcast.contracts import HOUR_S, FloatArray, IntArray
from hourcast.errors import DataError

__all__ = ["HALFLIVES_H", "VolatilitySpec", "fit_volatility", "hour_of_week", "season"]

HALFLIVES_H: tuple[float, ...] = (2.0, 6.0, 24.0, 96.0, 336.0)
_RIDGE = 5.0
_FAR = 5.0
_STEPS = 25


class VolatilitySpec(BaseModel):
    """Weights of one regression a horizon.

    Of K half-lives (hours) each gives the logarithm of a volatility; standardised by `centre` and `spread` (K,), it
    enters the log-scale of horizon h with `weights[h]` (1 + K, the constant first). `horizons` (H,) hours.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    halflives_h: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = HALFLIVES_H
    horizons: tuple[PositiveInt, ...]
    centre: tuple[FiniteFloat, ...]
    spread: tuple[FiniteFloat, ...]
    weights: tuple[tuple[FiniteFloat, ...], ...]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        number = len(self.halflives_h)
        if len(self.centre) != number or len(self.spread) != number or min(self.spread) <= 0:
            raise ValueError("centre and spread must have a number a half-life, spread above 0")
        if not self.horizons or [len(row) for row in self.weights] != [1 + number] * len(self.horizons):
            raise ValueError("weights must have the shape (horizons, 1 + half-lives)")
        return self

    def scale(self, log_volatility: FloatArray, seasonal: FloatArray, horizons: Sequence[int]) -> FloatArray:
        """The scale (N, h) of the log-returns over `horizons` (h,).

        Args:
            log_volatility: (N, K) what `features.build` gives.
            seasonal: (N, h) the usual size of the hours ahead, from `season`.
            horizons: some of the spec's.
        """
        columns = _columns(log_volatility, np.asarray(self.centre), np.asarray(self.spread))
        rows = [self.horizons.index(h) for h in horizons]
        # Element by element, so that a row's value does not depend on how many rows there are.
        weights = np.asarray(self.weights)[rows]
        level = weights[None, :, 0] + (columns[:, None, 1:] * weights[None, :, 1:]).sum(axis=2)
        out: FloatArray = np.exp(level) * seasonal
        return out


def hour_of_week(moment_s: IntArray) -> IntArray:
    """0 … 167, counted from Thursday 00:00 UTC, as the epoch is."""
    hours: IntArray = (moment_s // HOUR_S) % 168
    return hours


def season(factors: Sequence[float], origins: IntArray, horizons: Sequence[int]) -> FloatArray:
    """(N, H): the root of the summed squared `factors` (168,) over the hours of each horizon from each origin."""
    ahead = np.arange(1, max(horizons) + 1, dtype=np.int64) * HOUR_S
    table = np.asarray(factors)[hour_of_week(origins[:, None] + ahead)]
    total: FloatArray = np.sqrt(np.cumsum(table**2, axis=1))
    return total[:, np.asarray(horizons) - 1]


def _columns(log_volatility: FloatArray, centre: FloatArray, spread: FloatArray) -> FloatArray:
    # Far outside of what was seen a straight line must not go on.
    standard = np.clip((log_volatility - centre) / spread, -_FAR, _FAR)
    out: FloatArray = np.concatenate([np.ones((len(standard), 1)), standard], axis=1)
    return out


def fit_volatility(
    log_volatility: FloatArray,
    seasonal: FloatArray,
    change: FloatArray,
    horizons: Sequence[int],
    halflives_h: Sequence[float] = HALFLIVES_H,
    ridge: float = _RIDGE,
) -> VolatilitySpec:
    """Fit by the quasi-likelihood of the gamma distribution with logarithmic link, which asks for the mean alone.

    Args:
        log_volatility: (N, K) at each origin.
        seasonal: (N, H) usual size of the hours ahead.
        change: (N, H) the log-returns that came; NaN where none did.
        horizons: (H,) hours.
        halflives_h: (K,) hours.
        ridge: pull of the weights towards 0, in samples.

    Raises:
        DataError: when no log-return came over one of the horizons.
    """
    centre = log_volatility.mean(axis=0)
    spread = np.maximum(log_volatility.std(axis=0), 1e-3)
    columns = _columns(log_volatility, centre, spread)
    rows = []
    for place, horizon in enumerate(horizons):
        size = np.abs(change[:, place]) / seasonal[:, place]
        good = np.isfinite(size)
        if not good.any():
            raise DataError(f"there is no log-return over {horizon} h to learn a volatility from")
        rows.append(_fit_one(columns[good], size[good], ridge))
    return VolatilitySpec(
        halflives_h=tuple(halflives_h),
        horizons=tuple(horizons),
        centre=tuple(centre.tolist()),
        spread=tuple(spread.tolist()),
        weights=tuple(tuple(row.tolist()) for row in rows),
    )


def _fit_one(columns: FloatArray, size: FloatArray, ridge: float) -> npt.NDArray[np.float64]:
    """Damped Newton steps on the sum of level + size * exp(-level), with a ridge on all but the constant."""
    size = size + 1e-3 * max(float(size.mean()), 1e-12)
    weights = np.zeros(columns.shape[1])
    weights[0] = np.log(size.mean())
    pull = np.full(len(weights), ridge)
    pull[0] = 0.0

    def ratio_at(tried: FloatArray) -> FloatArray:
        return size * np.exp(np.minimum(-(columns @ tried), 500.0))

    def loss(tried: FloatArray) -> float:
        return float(np.sum(columns @ tried + ratio_at(tried)) + 0.5 * pull @ tried**2)

    for _ in range(_STEPS):
        ratio = ratio_at(weights)
        # Expected curvature is 1 a sample; the observed one runs away with a single jump.
        gradient = columns.T @ (1 - ratio) + pull * weights
        curvature = (columns * (0.3 + 0.7 * np.minimum(ratio, 5.0))[:, None]).T @ columns + np.diag(pull)
        step = np.linalg.solve(curvature, gradient)
        if float(np.abs(step).max()) < 1e-7:
            return weights - step
        here = loss(weights)
        # A step whose curvature was cut may go too far, and the next ones ever further.
        while loss(weights - step) > here and float(np.abs(step).max()) > 1e-7:
            step = step / 2
        weights = weights - step
    return weights
