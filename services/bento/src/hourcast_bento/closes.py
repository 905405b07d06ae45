"""The closes that a range asks for, and those that came."""

from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from hourcast.contracts import HOUR_S, Bars, FloatArray, IntArray, to_epoch
from hourcast.forecaster import Forecasts

__all__ = ["SECOND", "actual_of", "aims_within", "origins_of"]

SECOND = timedelta(seconds=1)


def origins_of(target: Bars, start: datetime, end: datetime) -> IntArray:
    """(N,) epoch seconds of the closes with start <= close < end."""
    closes = target.close_time
    chosen: IntArray = closes[(closes >= to_epoch(start)) & (closes < to_epoch(end))]
    return chosen


def aims_within(
    origins: IntArray, horizons: tuple[int, ...], start: datetime, end: datetime
) -> npt.NDArray[np.bool_]:
    """(N, H): whether the close at which a forecast aims lies within start <= close < end."""
    aim = origins[:, None] + np.array(horizons, np.int64) * HOUR_S
    within: npt.NDArray[np.bool_] = (aim >= to_epoch(start)) & (aim < to_epoch(end))
    return within


def actual_of(target: Bars, made: Forecasts) -> FloatArray:
    """(N, H): the closes that came, NaN where none has yet."""
    if not len(target):
        return np.full((len(made.origin), len(made.horizons)), np.nan)
    place = np.searchsorted(target.close_time, made.target_time)
    safe = np.minimum(place, len(target) - 1)
    came: FloatArray = np.where(target.close_time[safe] == made.target_time, target.close[safe], np.nan)
    return came
