"""How good forecasts were, beside "the price stays". Pure functions of arrays."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from hourcast.contracts import HOUR_S, FloatArray, IntArray
from hourcast.verification import figures
from hourcast_bento.live import LiveRows

__all__ = ["LiveWindow", "SkillRow", "live_window", "skill_of", "wilson"]

_Z = NormalDist().inv_cdf(0.975)
_FEW_BLOCKS = 5


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
    made = figures(actual, quantiles, levels)
    return made.rmse, made.mae, made.pinball, made.coverage_90


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


@dataclass(frozen=True, slots=True)
class LiveWindow:
    """How live forecasts of the last `days` did at one horizon (None: at all of them). None where nothing came yet.

    `n` closes came; neighbours share hours, so that they tell about as much as `independent` forecasts that do not.
    The bounds are those of 95 %. `pinball` is in the quote currency, `skill` is 1 - pinball / pinball of naive.
    """

    days: int
    horizon: int | None
    n: int
    independent: float
    coverage_50: float | None = None
    coverage_90: float | None = None
    coverage_90_low: float | None = None
    coverage_90_high: float | None = None
    pinball: float | None = None
    pinball_naive: float | None = None
    skill: float | None = None
    skill_low: float | None = None
    skill_high: float | None = None

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def wilson(share: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share that was seen in `n` independent trials, n > 0.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def _student(df: int) -> float:
    """The 0.975 quantile of Student's t; Abramowitz and Stegun 26.7.5, within 0.01 from 4 degrees of freedom on."""
    z = _Z
    return (
        z
        + (z**3 + z) / (4 * df)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * df**3)
    )


def _skill_bounds(
    block: IntArray, ours: FloatArray, naive: FloatArray, skill: float
) -> tuple[float | None, float | None]:
    """The 95 % interval of a ratio of sums by the delta method, `block` (M,) naming what varies together."""
    _, place = np.unique(block, return_inverse=True)
    blocks = int(place.max()) + 1
    if blocks < _FEW_BLOCKS:
        return None, None
    off = np.bincount(place, ours - (1 - skill) * naive)
    spread = math.sqrt(blocks / (blocks - 1) * float(np.sum(off**2))) / float(naive.sum())
    half = _student(blocks - 1) * spread
    return skill - half, skill + half


def live_window(rows: LiveRows, naive: FloatArray, days: int, horizon: int | None) -> LiveWindow:
    """Figures of `rows` (those of the last `days`) at a horizon; `naive` (M,) losses, NaN where naive lacked history."""
    if horizon is None:
        chosen = np.ones(len(rows), np.bool_)
        independent = len(np.unique(rows.target_time)) / 24
    else:
        chosen = rows.horizon == horizon
        independent = float(chosen.sum()) / horizon
    n = int(chosen.sum())
    if not n:
        return LiveWindow(days, horizon, 0, 0.0)
    coverage = float(rows.inside_90[chosen].mean())
    low, high = wilson(coverage, independent)
    pinball: dict[str, float | None] = {}
    both = chosen & np.isfinite(naive)
    if both.any() and naive[both].sum() > 0:
        ours, floor = rows.pinball[both], naive[both]
        skill = 1 - float(ours.sum() / floor.sum())
        # Days, or as many as hold twice the horizon, so that blocks hardly share hours.
        block_s = 24 * HOUR_S * math.ceil(2 * int(rows.horizon[both].max()) / 24)
        worst, best = _skill_bounds((rows.target_time[both] - 1) // block_s, ours, floor, skill)
        pinball = {
            "pinball": float(ours.mean()), "pinball_naive": float(floor.mean()),
            "skill": skill, "skill_low": worst, "skill_high": best,
        }  # fmt: skip
    inside_50 = float(rows.inside_50[chosen].mean())
    return LiveWindow(days, horizon, n, round(independent, 2), inside_50, coverage, low, high, **pinball)
