"""Figures by groups of hours: all of a span, months, hours of the week, quintiles of volatility."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hourcast.contracts import HOUR_S, FloatArray, IntArray
from hourcast_trainer.lab.analysis._scored import WIDTHS, BoolArray, Scored

__all__ = [
    "Cut",
    "Skill",
    "cut",
    "hours_of_week",
    "months",
    "quintiles",
    "skill",
    "trailing_volatility",
]

_DAY_H = 24
_ENOUGH_H = 18


@dataclass(frozen=True, slots=True)
class Cut:
    """Figures of one kind in G groups over H horizons, each array (G, H), NaN where there is no forecast.

    Means in quote currency; `coverage` (3, G, H) are the shares of closes within the intervals of `WIDTHS`; `raw_` is
    before online calibration.
    """

    labels: tuple[str, ...]
    n: IntArray
    pinball: FloatArray
    winkler: FloatArray
    rmse: FloatArray
    mae: FloatArray
    width: FloatArray
    coverage: FloatArray
    raw_pinball: FloatArray
    raw_winkler: FloatArray
    raw_coverage: FloatArray


@dataclass(frozen=True, slots=True)
class Skill:
    """Figures of one group of hours. Without a suffix one hour ahead, with `_all` the mean over the horizons.

    Losses and `width` (of the 90 % interval) in quote currency; a `_ratio` is to the reference on the same hours, below 1
    being better; `coverage_` are shares. `n` counts forecasts one hour ahead.
    """

    n: int
    pinball: float
    pinball_ratio: float
    pinball_all: float
    pinball_all_ratio: float
    winkler: float
    winkler_ratio: float
    winkler_all: float
    winkler_all_ratio: float
    coverage_50: float
    coverage_80: float
    coverage_90: float
    coverage_90_all: float
    rmse: float
    rmse_ratio: float
    mae: float
    mae_ratio: float
    width: float
    width_ratio: float


def cut(scored: Scored, counted: BoolArray, group: IntArray, labels: Sequence[str]) -> Cut:
    """Figures by `group` (N,), a place in `labels` or -1 for an hour that is in none, of the forecasts `counted` (N, H)."""
    order = np.argsort(group, kind="stable")
    order = order[np.searchsorted(group[order], 0) :]
    present, begins = np.unique(group[order], return_index=True)
    shape = (len(labels), scored.horizons)
    seen = counted[order]

    def total(values: FloatArray | BoolArray) -> FloatArray:
        out = np.zeros(shape)
        if len(order):
            out[present] = np.add.reduceat(np.where(seen, values[order], 0.0), begins, axis=0)
        return out

    n = total(counted)
    with np.errstate(invalid="ignore", divide="ignore"):

        def mean(values: FloatArray | BoolArray) -> FloatArray:
            out: FloatArray = total(values) / n
            return out

        return Cut(
            labels=tuple(labels),
            n=n.astype(np.int64),
            pinball=mean(scored.pinball),
            winkler=mean(scored.winkler),
            rmse=np.sqrt(mean(scored.off**2)),
            mae=mean(np.abs(scored.off)),
            width=mean(scored.width),
            coverage=np.stack([mean(within) for within in scored.within]),
            raw_pinball=mean(scored.raw_pinball),
            raw_winkler=mean(scored.raw_winkler),
            raw_coverage=np.stack([mean(within) for within in scored.raw_within]),
        )


def skill(ours: Cut, reference: Cut, place: int) -> Skill:
    """The figures of one group, beside those of the reference."""

    def both(name: str) -> tuple[float, float, float, float]:
        mine, theirs = getattr(ours, name)[place], getattr(reference, name)[place]
        mean, other = _mean(mine), _mean(theirs)
        return float(mine[0]), _ratio(mine[0], theirs[0]), mean, _ratio(mean, other)

    pinball, winkler = both("pinball"), both("winkler")
    rmse, mae, width = both("rmse"), both("mae"), both("width")
    held = ours.coverage[:, place]
    return Skill(
        n=int(ours.n[place, 0]),
        pinball=pinball[0],
        pinball_ratio=pinball[1],
        pinball_all=pinball[2],
        pinball_all_ratio=pinball[3],
        winkler=winkler[0],
        winkler_ratio=winkler[1],
        winkler_all=winkler[2],
        winkler_all_ratio=winkler[3],
        coverage_50=float(held[0, 0]),
        coverage_80=float(held[1, 0]),
        coverage_90=float(held[len(WIDTHS) - 1, 0]),
        coverage_90_all=_mean(held[len(WIDTHS) - 1]),
        rmse=rmse[0],
        rmse_ratio=rmse[1],
        mae=mae[0],
        mae_ratio=mae[1],
        width=width[0],
        width_ratio=width[1],
    )


def _mean(values: FloatArray) -> float:
    """Over the horizons that have a forecast at all."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _ratio(ours: float, theirs: float) -> float:
    return float(ours / theirs) if theirs else float("nan")


def months(origin: IntArray) -> tuple[IntArray, tuple[str, ...]]:
    """The UTC month in which each forecast was made: its place (N,) among the months' names, `2024-06`."""
    names, place = np.unique(origin.astype("datetime64[s]").astype("datetime64[M]"), return_inverse=True)
    return place.astype(np.int64), tuple(str(name) for name in names)


def hours_of_week(origin: IntArray) -> IntArray:
    """0 … 167 (N,): the hour that begins at the origin, counted from Monday 00:00 UTC."""
    # The epoch began on a Thursday.
    place: IntArray = (origin // HOUR_S + 3 * _DAY_H) % (7 * _DAY_H)
    return place


def trailing_volatility(origin: IntArray, last_close: FloatArray) -> FloatArray:
    """Realised volatility of the 24 hours up to each origin (N,), as a share of the price over a day; known at the origin.

    The root of 24 times the mean squared hourly log-return. NaN where fewer than 18 of the 24 returns are there: at the
    beginning, and after gaps.
    """
    change = np.diff(np.log(last_close), prepend=np.nan)
    hourly = np.diff(origin, prepend=origin[0] if len(origin) else 0) == HOUR_S
    squared = np.concatenate([[0.0], np.cumsum(np.where(hourly, np.nan_to_num(change) ** 2, 0.0))])
    number = np.concatenate([[0], np.cumsum(hourly)])
    begin = np.searchsorted(origin, origin - _DAY_H * HOUR_S, side="right")
    end = np.arange(1, len(origin) + 1)
    known = number[end] - number[begin]
    # Differences of running sums can be an ulp below zero.
    total = np.maximum(squared[end] - squared[begin], 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        out: FloatArray = np.where(known >= _ENOUGH_H, np.sqrt(total / known * _DAY_H), np.nan)
    return out


def quintiles(values: FloatArray, counted: BoolArray) -> tuple[IntArray, FloatArray]:
    """The fifth that each of `values` (N,) lies in, 0 the calmest, -1 for NaN and what is not `counted` (N,); and the edges (6,)."""
    known = counted & np.isfinite(values)
    if not known.any():
        return np.full(len(values), -1, np.int64), np.full(6, np.nan)
    edges = np.quantile(values[known], np.linspace(0, 1, 6))
    place = np.searchsorted(edges[1:-1], values, side="left").astype(np.int64)
    return np.where(known, place, -1), edges
