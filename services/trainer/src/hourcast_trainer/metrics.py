"""How good forecasts were. Pure functions of arrays."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from hourcast.contracts import FloatArray

__all__ = ["Figures", "Scores", "figures", "pinball"]


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


@dataclass(frozen=True, slots=True)
class Scores:
    """Figures of one version on a span of hours: one hour ahead, and over all horizons."""

    next_hour: Figures
    all_horizons: Figures

    def as_dict(self) -> dict[str, dict[str, float]]:
        """JSON-ready."""
        return {"next_hour": self.next_hour.as_dict(), "all_horizons": self.all_horizons.as_dict()}


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
