"""Do the quantiles mean what they say: PIT, reliability, and how both go over time."""

from dataclasses import dataclass

import numpy as np

from hourcast.contracts import HOUR_S, FloatArray, IntArray
from hourcast_trainer.lab.analysis._scored import BoolArray, Scored

__all__ = ["ROLLING_H", "OverTime", "Pit", "over_time", "pit"]

ROLLING_H = 720
_DAY_S = 24 * HOUR_S


@dataclass(frozen=True, slots=True)
class Pit:
    """Where the closes fell among the quantiles of one horizon.

    `bins` (Q+1,) are shares: below the lowest quantile, between each two, above the highest. `below` (Q,) is the share at or below
    each quantile, which should be its level. `distance` is the share of closes that would have to fall in another bin for a flat
    histogram, `expected` what chance alone makes of it, and `worst` the largest difference between `below` and its level.
    """

    horizon: int
    n: int
    bins: FloatArray
    below: FloatArray
    distance: float
    expected: float
    worst: float


def pit(scored: Scored, counted: BoolArray, horizon: int, levels: FloatArray) -> Pit:
    """Histogram of the probability integral transform, `horizon` hours ahead.

    Gneiting, Balabdaoui and Raftery, "Probabilistic Forecasts, Calibration and Sharpness", JRSS B 69 (2007); bins between the
    quantiles stand for the transform itself. A close at a quantile counts as below it. `levels` (Q,) are evenly spaced.
    """
    at = counted[:, horizon - 1]
    n, q = int(at.sum()), len(levels)
    if n == 0:
        none = np.full(q + 1, np.nan)
        return Pit(horizon, 0, none, none[:-1], float("nan"), float("nan"), float("nan"))
    bins = np.bincount(scored.above[at, horizon - 1], minlength=q + 1) / n
    below = np.cumsum(bins)[:-1]
    should = np.diff(np.concatenate([[0.0], levels, [1.0]]))
    # The mean of |share - p| of a binomial share, by its normal limit.
    chance = np.sqrt(2 / np.pi * should * (1 - should) / n).sum() / 2
    return Pit(
        horizon=horizon,
        n=n,
        bins=bins,
        below=below,
        distance=float(np.abs(bins - should).sum() / 2),
        expected=float(chance),
        worst=float(np.abs(below - levels).max()),
    )


@dataclass(frozen=True, slots=True)
class OverTime:
    """How one kind did as time went, one hour ahead, at the end of D days: `at` (D,) epoch seconds.

    `skill` is 1 less the ratio of pinball losses to the reference over the 30 days before, `cumulative` the same since the beginning.
    `coverage` and `raw_coverage` (2, D) are the shares of closes within the 90 % interval over the 30 days before, one hour ahead
    and at the longest horizon, after and before online calibration. NaN until 30 days are over.
    """

    at: IntArray
    skill: FloatArray
    cumulative: FloatArray
    coverage: FloatArray
    raw_coverage: FloatArray


def over_time(scored: Scored, reference: Scored, counted: BoolArray) -> OverTime:
    """Figures of the trailing 30 days, once a day."""
    origin = scored.origin[counted[:, 0]]
    if not len(origin):
        return OverTime(np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty((2, 0)), np.empty((2, 0)))
    first = -(-int(origin[0]) // _DAY_S)
    at = np.arange(first, int(origin[-1]) // _DAY_S + 1, dtype=np.int64) * _DAY_S
    end = np.searchsorted(scored.origin, at, side="right")
    begin = np.searchsorted(scored.origin, at - ROLLING_H * HOUR_S, side="right")
    whole = at >= int(origin[0]) + (ROLLING_H - 1) * HOUR_S

    def running(values: FloatArray | BoolArray, horizon: int) -> FloatArray:
        inside = np.where(counted[:, horizon - 1], values[:, horizon - 1], 0.0)
        return np.concatenate([[0.0], np.cumsum(inside)])

    def trailing(total: FloatArray) -> FloatArray:
        out: FloatArray = np.where(whole, total[end] - total[begin], np.nan)
        return out

    ours, theirs = running(scored.pinball, 1), running(reference.pinball, 1)
    ends = (1, scored.horizons)
    with np.errstate(invalid="ignore", divide="ignore"):

        def held(within: BoolArray) -> FloatArray:
            return np.stack([trailing(running(within, h)) / trailing(running(counted, h)) for h in ends])

        return OverTime(
            at=at,
            skill=1 - trailing(ours) / trailing(theirs),
            cumulative=np.where(whole, 1 - ours[end] / theirs[end], np.nan),
            coverage=held(scored.within[-1]),
            raw_coverage=held(scored.raw_within[-1]),
        )
