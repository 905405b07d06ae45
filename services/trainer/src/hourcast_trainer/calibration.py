"""Where a new version's online calibration starts: where production's has got to."""

from collections.abc import Mapping
from datetime import timedelta

import numpy as np

from hourcast.conformal import ConformalState, Outcomes, advance, walk
from hourcast.contracts import Bars, to_epoch
from hourcast.forecaster import Forecaster
from hourcast.store import Store
from hourcast.verification import first_made
from hourcast_trainer.calendar import TrainingPlan
from hourcast_trainer.measuring import measure

__all__ = ["carried_on", "warmed_up"]


def warmed_up(forecaster: Forecaster, bars: Mapping[str, Bars], plan: TrainingPlan) -> ConformalState:
    """The state that a candidate's own forecasts over the held-out window would have led to.

    Raises:
        DataError: when no hour of the window can be forecast.
    """
    measured = measure(forecaster, bars, plan.gate_start_s, plan.gate_end_s)
    spec = forecaster.spec
    state = ConformalState.start(plan.gate_start, spec.horizons, spec.levels)
    last = measured.last_close
    returns = np.log(measured.quantiles / last[:, None, None])
    return walk(state, measured.origin, returns, np.log(measured.actual / last[:, None]))[1]


def carried_on(
    state: ConformalState, store: Store, model: str, target: Bars, plan: TrainingPlan
) -> ConformalState:
    """A served version's state, taken on by the forecasts that were served since and the closes that came.

    Which forecasts those are says `first_made`.
    """
    until = plan.decided_at + timedelta(seconds=1)
    recorded = store.forecasts(model, target.symbol, start=state.as_of, end=until)
    rows = first_made(recorded, state.levels)
    if not rows:
        return advance(state, Outcomes.none(len(state.levels)), plan.decided_at)
    times = np.array([to_epoch(row.target_time) for row in rows], np.int64)
    horizons = np.array([row.horizon for row in rows], np.int64)
    close = dict(zip(target.close_time.tolist(), target.close.tolist(), strict=True))
    actual = np.array([close.get(moment, np.nan) for moment in times.tolist()])
    outcomes = Outcomes.of(times, horizons, np.array([row.quantiles for row in rows]), actual)
    return advance(state, outcomes, plan.decided_at)
