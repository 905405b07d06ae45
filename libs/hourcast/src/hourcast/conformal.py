"""Adaptive conformal calibration: widths that answer to how often the closes that came lay inside.

Each quantile's distance from the median is multiplied by exp(shift). When a close comes, the shift of the quantile
of level a that was forecast for it moves by rate * (a - 1{close <= quantile}), away from the median for a quantile
that was passed too often. Gibbs and Candès, "Adaptive Conformal Inference Under Distribution Shift", NeurIPS 2021;
the quantile tracker of Angelopoulos, Candès and Tibshirani, "Conformal PID Control for Time Series Prediction",
NeurIPS 2023, on a logarithmic scale. The sum leaks, so that what happened seasons ago is forgotten, and a state is
a function of a set of outcomes: neither their order nor how they are cut into parts matters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, PositiveInt, model_validator

from hourcast.contracts import HOUR_S, FloatArray, IntArray, from_epoch, to_epoch

__all__ = ["HALFLIFE_H", "RATE", "ConformalState", "Outcomes", "advance", "shifted", "shifts_at", "walk"]

RATE = 0.005
HALFLIFE_H = 2160.0
_LIMIT = 0.7


class ConformalState(BaseModel):
    """What the outcomes up to `as_of` have taught.

    `shift` (H, Q) is the logarithm of each quantile's stretch; the median's is 0. An outcome of horizon h moves it by
    `rate` / sqrt(h), since outcomes of neighbouring origins overlap; a move is worth half after `halflife_h` hours.
    It is kept as the sum that it is; `table` bounds it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: AwareDatetime
    horizons: tuple[PositiveInt, ...]
    levels: tuple[float, ...]
    rate: Annotated[float, Field(gt=0, le=0.1)] = RATE
    halflife_h: Annotated[float, Field(ge=24)] = HALFLIFE_H
    shift: tuple[tuple[FiniteFloat, ...], ...]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (
            any(tuple(sorted(set(axis))) != axis for axis in (self.horizons, self.levels))
            or 0.5 not in self.levels
        ):
            raise ValueError("horizons and levels must be ascending and distinct, levels hold 0.5")
        if [len(row) for row in self.shift] != [len(self.levels)] * len(self.horizons):
            raise ValueError("shift must have the shape (horizons, levels)")
        return self

    @classmethod
    def start(cls, as_of: datetime, horizons: Sequence[int], levels: Sequence[float]) -> Self:
        """The state before any outcome: nothing is stretched."""
        row = (0.0,) * len(levels)
        return cls(
            as_of=as_of, horizons=tuple(horizons), levels=tuple(levels), shift=(row,) * len(tuple(horizons))
        )

    @property
    def table(self) -> FloatArray:
        """`shift` as an array (H, Q), kept within what a forecast may be stretched by."""
        return np.clip(np.asarray(self.shift, np.float64), -_LIMIT, _LIMIT)

    def _moves(self, horizon: IntArray, below: npt.NDArray[np.bool_]) -> FloatArray:
        """(M, Q): what each outcome adds when it comes."""
        levels = np.asarray(self.levels)
        side = np.sign(np.round(levels - 0.5, 9))
        size = self.rate / np.sqrt(horizon.astype(np.float64))
        moves: FloatArray = size[:, None] * (levels - below) * side
        return moves


@dataclass(frozen=True, slots=True)
class Outcomes:
    """M forecasts whose closes came.

    `target_time` (M,) epoch seconds of the close; `horizon` (M,) hours; `below` (M, Q): whether the close was not
    above each quantile that was forecast.
    """

    target_time: IntArray
    horizon: IntArray
    below: npt.NDArray[np.bool_]

    @classmethod
    def none(cls, levels: int) -> Self:
        """No outcome of forecasts with so many levels."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, levels), np.bool_))

    @classmethod
    def of(cls, target_time: IntArray, horizon: IntArray, quantiles: FloatArray, actual: FloatArray) -> Self:
        """Outcomes of forecasts `quantiles` (M, Q) for `actual` (M,); those without a close (NaN) are left out."""
        came = np.isfinite(actual) & np.isfinite(quantiles).all(axis=1)
        return cls(target_time[came], horizon[came], actual[came, None] <= quantiles[came])

    def take(self, chosen: npt.NDArray[np.bool_] | IntArray) -> "Outcomes":
        """The outcomes at `chosen`."""
        return Outcomes(self.target_time[chosen], self.horizon[chosen], self.below[chosen])

    def joined(self, other: "Outcomes") -> "Outcomes":
        """Both."""
        return Outcomes(
            np.concatenate([self.target_time, other.target_time]),
            np.concatenate([self.horizon, other.horizon]),
            np.concatenate([self.below, other.below]),
        )


def advance(state: ConformalState, outcomes: Outcomes, until: datetime) -> ConformalState:
    """The state at `until`, after the outcomes with `as_of` < target time <= `until`; others are ignored.

    Horizons that the state does not know are ignored too. `until` before `as_of` gives the state as it is.
    """
    if until <= state.as_of:
        return state
    shift = _sums(state, outcomes, np.array([to_epoch(until)], np.int64))[0]
    return state.model_copy(
        update={"as_of": from_epoch(to_epoch(until)), "shift": tuple(map(tuple, shift.tolist()))}
    )


def shifts_at(state: ConformalState, outcomes: Outcomes, moments: IntArray) -> FloatArray:
    """The shift (N, H, Q) that was known at each of `moments` (N,), epoch seconds in any order, as `table` bounds it.

    At moments before `as_of` it is the state's own.
    """
    return np.clip(_sums(state, outcomes, moments), -_LIMIT, _LIMIT)


def _sums(state: ConformalState, outcomes: Outcomes, moments: IntArray) -> FloatArray:
    """What `shifts_at` bounds. A bound on the way would make the state depend on how outcomes are cut into parts."""
    since = to_epoch(state.as_of)
    known = np.isin(outcomes.horizon, state.horizons) & (outcomes.target_time > since)
    used = outcomes.take(known)
    # Summed in one order, whatever order they came in, so that equal sets give equal bits. Where quantiles do not
    # cross, the number of them above the close says which they are.
    used = used.take(np.lexsort((used.below.sum(axis=1), used.horizon, used.target_time)))
    order = np.argsort(moments, kind="stable")
    places = np.searchsorted(np.asarray(state.horizons), used.horizon)
    moves = state._moves(used.horizon, used.below)
    out = np.empty((len(moments), len(state.horizons), len(state.levels)))
    shift = np.asarray(state.shift, np.float64).copy()
    at, done = since, 0
    for i in order:
        moment = int(moments[i])
        if moment > at:
            shift *= 0.5 ** ((moment - at) / HOUR_S / state.halflife_h)
            stop = int(np.searchsorted(used.target_time, moment, side="right"))
            if stop > done:
                age_h = (moment - used.target_time[done:stop]) / HOUR_S
                fading = 0.5 ** (age_h / state.halflife_h)
                np.add.at(shift, places[done:stop], moves[done:stop] * fading[:, None])
                done = stop
            at = moment
        out[i] = shift
    return out


def shifted(quantiles: FloatArray, shift: FloatArray, centre: int) -> FloatArray:
    """Quantiles (..., H, Q) of log-returns with distances from the median (at `centre`) stretched by exp(shift)."""
    median = quantiles[..., centre : centre + 1]
    stretched: FloatArray = np.sort(median + (quantiles - median) * np.exp(shift), axis=-1)
    return stretched


def walk(
    state: ConformalState,
    origin: IntArray,
    quantiles: FloatArray,
    actual: FloatArray,
    as_they_are: npt.NDArray[np.bool_] | None = None,
) -> tuple[FloatArray, ConformalState]:
    """Calibrate forecasts in order of time, each by what had come by its origin.

    Args:
        state: the state before the first origin.
        origin: (N,) epoch seconds, ascending whole hours.
        quantiles: (N, H, Q) forecast log-returns before calibration.
        actual: (N, H) log-returns that came, NaN where none did.
        as_they_are: (N,) forecasts that are not stretched, such as the naive floor's; their outcomes count.

    Returns:
        Calibrated quantiles (N, H, Q), and the state at the last origin (not before `as_of`).
    """
    out = np.empty_like(quantiles)
    if not len(origin):
        return out, state
    centre = state.levels.index(0.5)
    horizons = np.asarray(state.horizons, np.int64)
    counts = np.isfinite(actual) & np.isfinite(quantiles).all(axis=2)
    shift = np.asarray(state.shift, np.float64).copy()
    first, at = int(origin[0]), to_epoch(state.as_of)
    row = np.full((int(origin[-1]) - first) // HOUR_S + 1, -1, np.int64)
    row[(origin - first) // HOUR_S] = np.arange(len(origin))
    place = np.arange(len(horizons))
    for hour, i in enumerate(row):
        moment = first + hour * HOUR_S
        # What came by `as_of` is in the state already.
        if moment > at:
            shift *= 0.5 ** ((moment - at) / HOUR_S / state.halflife_h)
            at = moment
            back = hour - horizons
            made = np.where(back >= 0, row[np.maximum(back, 0)], -1)
            came = made >= 0
            came[came] = counts[made[came], place[came]]
            if came.any():
                which, of = made[came], place[came]
                shift[of] += state._moves(horizons[came], actual[which, of, None] <= out[which, of])
        if i >= 0:
            stretched = as_they_are is None or not as_they_are[i]
            out[i] = (
                shifted(quantiles[i], np.clip(shift, -_LIMIT, _LIMIT), centre) if stretched else quantiles[i]
            )
    return out, state.model_copy(update={"as_of": from_epoch(at), "shift": tuple(map(tuple, shift.tolist()))})
