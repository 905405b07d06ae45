"""How good forecasts were: losses, figures, and which forecast of an hour counts. Pure; written once for all services."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from hourcast.contracts import FloatArray
from hourcast.store import ForecastRow

__all__ = ["Figures", "figures", "first_made", "inside", "pinball"]

_ORDER = attrgetter("target_time", "horizon", "made_at", "version")


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


def inside(
    actual: FloatArray, quantiles: FloatArray, levels: Sequence[float], low: float, high: float
) -> npt.NDArray[np.bool_]:
    """(...,): whether what came lies between the quantiles (..., Q) of two levels, ends included."""
    at = list(levels)
    within: npt.NDArray[np.bool_] = (actual >= quantiles[..., at.index(low)]) & (
        actual <= quantiles[..., at.index(high)]
    )
    return within


def figures(actual: FloatArray, quantiles: FloatArray, levels: Sequence[float]) -> Figures:
    """Figures over all forecasts; `actual` (...,), `quantiles` (..., Q), at least one."""
    off = quantiles[..., list(levels).index(0.5)] - actual
    return Figures(
        n=int(actual.size),
        rmse=float(np.sqrt(np.mean(off**2))),
        mae=float(np.mean(np.abs(off))),
        pinball=float(pinball(actual, quantiles, levels).mean()),
        coverage_90=float(np.mean(inside(actual, quantiles, levels, 0.05, 0.95))),
    )


def first_made(recorded: Iterable[ForecastRow], levels: Sequence[float]) -> list[ForecastRow]:
    """The forecasts that count as live: one a target hour and horizon, in that order.

    It was made before its hour came; of several, the one made first, which is what users had been told. What has other
    levels or holds no number is left out.
    """
    first: dict[tuple[object, int], ForecastRow] = {}
    for row in sorted(recorded, key=_ORDER):
        if (
            row.made_at < row.target_time
            and row.levels == tuple(levels)
            and math.isfinite(sum(row.quantiles))
        ):
            first.setdefault((row.target_time, row.horizon), row)
    return list(first.values())
