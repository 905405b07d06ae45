"""What closes that came have taught: how much wider or narrower intervals are told than the model came with."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from hourcast.conformal import ConformalState, advance, shifts_at
from hourcast.contracts import FloatArray, IntArray, from_epoch
from hourcast.errors import UnavailableError
from hourcast.forecaster import Forecaster
from hourcast_bento.live import LiveRecord, LiveRows

__all__ = ["Calibration", "Calibrator"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the closes that came have taught the served version: `outcomes` of them since `trained`.

    `state` is that of the last of them, `trained` the one that the model came with.
    """

    trained: ConformalState
    state: ConformalState
    outcomes: int

    @property
    def stretch_90(self) -> float:
        """Mean factor, over horizons, on the distances of the 90 % interval's ends from the median."""
        return _stretch_90(self.state)

    @property
    def trained_stretch_90(self) -> float:
        """The same as the model came."""
        return _stretch_90(self.trained)


def _stretch_90(state: ConformalState) -> float:
    ends = [state.levels.index(level) for level in (0.05, 0.95)]
    return float(np.exp(state.table[:, ends]).mean())


class Calibrator:
    """Carries a model's conformal state on by the live record."""

    def __init__(self, live: LiveRecord) -> None:
        self._live = live

    def shift(self, forecaster: Forecaster, origins: IntArray, newest: datetime | None) -> FloatArray | None:
        """The conformal shift (N, H, Q) that was known at each origin; None: that of the model's own state.

        The state that the model came with goes on by the live forecasts whose closes came since, whichever version
        made them; before the first of those it stays as it came.
        """
        state = forecaster.spec.conformal
        if state is None or newest is None or state.levels != self._live.levels:
            return None
        rows = self.rows(state.as_of, newest)
        if not len(rows) or not len(origins) or origins.max() < rows.target_time[0]:
            return None
        shift = shifts_at(state, rows.outcomes, origins)
        shift[origins < rows.target_time[0]] = state.table
        return shift

    def rows(self, since: datetime, newest: datetime) -> LiveRows:
        """Live forecasts whose closes came after `since`; those that were read last while the database is down."""
        try:
            return self._live.rows(since, newest)
        except UnavailableError:
            return self._live.seen(since)

    def of(self, forecaster: Forecaster, newest: datetime | None) -> Calibration | None:
        """What closes have taught the served version; None for one that is not calibrated, such as the naive floor."""
        trained = forecaster.spec.conformal
        if trained is None:
            return None
        rows = self._live.seen(trained.as_of) if newest is None else self.rows(trained.as_of, newest)
        if not len(rows):
            return Calibration(trained, trained, 0)
        return Calibration(
            trained, advance(trained, rows.outcomes, from_epoch(rows.target_time[-1])), len(rows)
        )
