"""How good forecasts were, beside "the price stays". Pure functions of arrays."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hourcast.contracts import FloatArray

__all__ = ["SkillRow", "skill_of"]


@dataclass(frozen=True, slots=True)
class SkillRow:
    """Errors of one alias and of the naive floor on the same hours; prices in the quote currency."""

    alias: str | None
    version: int | None
    kind: str
    source: str
    n: int
    rmse: float
    mae: float
    pinball: float
    coverage_90: float
    rmse_naive: float
    mae_naive: float
    pinball_naive: float
    coverage_90_naive: float

    def as_json(self) -> dict[str, Any]:
        """The row with its skill: 1 - pinball / pinball of naive, above 0 is better than naive."""
        naive = self.pinball_naive
        return asdict(self) | {"skill_pinball": 1 - self.pinball / naive if naive else None}


def _errors(actual: FloatArray, quantiles: FloatArray, levels: Sequence[float]) -> tuple[float, ...]:
    level = np.asarray(levels)
    median = quantiles[:, list(levels).index(0.5)]
    off = actual[:, None] - quantiles
    loss = np.maximum(level * off, (level - 1) * off).mean()
    inside = (actual >= quantiles[:, list(levels).index(0.05)]) & (
        actual <= quantiles[:, list(levels).index(0.95)]
    )
    return (
        float(np.sqrt(np.mean((median - actual) ** 2))),
        float(np.mean(np.abs(median - actual))),
        float(loss),
        float(inside.mean()),
    )


def skill_of(
    alias: str | None,
    version: int | None,
    kind: str,
    source: str,
    actual: FloatArray,
    quantiles: FloatArray,
    naive: FloatArray,
    levels: Sequence[float],
) -> SkillRow:
    """Errors over n hours: `actual` (n,), `quantiles` and `naive` (n, levels), n at least 1."""
    return SkillRow(
        alias, version, kind, source, len(actual),
        *_errors(actual, quantiles, levels), *_errors(actual, naive, levels),
    )  # fmt: skip
