"""How good forecasts were. Pure functions of arrays."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from hourcast.contracts import FloatArray

__all__ = ["Figures", "better_p", "figures", "pinball"]


@dataclass(frozen=True, slots=True)
class Figures:
    """Errors of the point forecast (median) and of the quantiles, in the quote currency; coverage is a share."""

    n: int
    rmse: float
    mae: float
    pinball: float
    coverage_90: float

    def as_dict(self) -> dict[str, float]:
        """JSON-ready."""
        return asdict(self)


def pinball(actual: FloatArray, quantiles: FloatArray, levels: Sequence[float]) -> FloatArray:
    """Pinball loss of each forecast, averaged over levels.

    Koenker and Bassett, "Regression Quantiles", Econometrica 46 (1978).

    Args:
        actual: (...,) what came.
        quantiles: (..., Q) forecast quantiles.
        levels: (Q,) their levels.

    Returns:
        (...,) losses in the unit of `actual`.
    """
    level = np.asarray(levels)
    off = actual[..., None] - quantiles
    loss: FloatArray = np.maximum(level * off, (level - 1) * off).mean(axis=-1)
    return loss


def figures(actual: FloatArray, quantiles: FloatArray, levels: Sequence[float]) -> Figures:
    """Figures over all forecasts; `actual` (...,), `quantiles` (..., Q)."""
    levels = list(levels)
    off = quantiles[..., levels.index(0.5)] - actual
    low, high = quantiles[..., levels.index(0.05)], quantiles[..., levels.index(0.95)]
    return Figures(
        n=int(actual.size),
        rmse=float(np.sqrt(np.mean(off**2))),
        mae=float(np.mean(np.abs(off))),
        pinball=float(pinball(actual, quantiles, levels).mean()),
        coverage_90=float(np.mean((actual >= low) & (actual <= high))),
    )


def better_p(loss: FloatArray, reference: FloatArray, lags: int = 24) -> float:
    """P of "`loss` is not smaller than `reference`", one-sided.

    Diebold and Mariano, "Comparing Predictive Accuracy", JBES 13 (1995), with the Bartlett-kernel variance of
    Newey and West, Econometrica 55 (1987).

    Args:
        loss: (n,) losses of the candidate, in order of time.
        reference: (n,) losses of the other on the same hours.
        lags: hours over which loss differences may be correlated.
    """
    gain = reference - loss
    n = len(gain)
    if n < 2 or not np.any(gain):
        return 1.0
    centred = gain - gain.mean()
    variance = float(centred @ centred) / n
    for lag in range(1, min(lags, n - 1) + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag]) / n
    if variance <= 0:
        return 1.0
    from math import erfc, sqrt

    statistic = float(gain.mean()) / sqrt(variance / n)
    return 0.5 * erfc(statistic / sqrt(2))
