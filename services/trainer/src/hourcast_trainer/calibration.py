"""Where a new version's online calibration starts: where production's has got to."""

from collections.abc import Mapping
from datetime import timedelta

import numpy as np

from hourcast.conformal import ConformalState, Outcomes, advance, walk
from hourcast.contracts import Bars, to_epoch
from hourcast.forecaster import Forecaster
from hourcast.store import Store
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

    A forecast counts when it was recorded before its hour came; of several for an hour, the one made first.
    """
    until = plan.decided_at + timedelta(seconds=1)
    recorded = store.forecasts(model, target.symbol, start=state.as_of, end=until)
    first: dict[tuple[int, int], tuple[float, ...]] = {}
    for row in sorted(recorded, key=lambda r: (r.made_at, r.version)):
        if row.made_at < row.target_time and row.levels == state.levels:
            first.setdefault((to_epoch(row.target_time), row.horizon), row.quantiles)
    if not first:
        return advance(state, Outcomes.none(len(state.levels)), plan.decided_at)
    times, horizons = (np.array(column, np.int64) for column in zip(*first, strict=True))
    close = dict(zip(target.close_time.tolist(), target.close.tolist(), strict=True))
    actual = np.array([close.get(int(moment), np.nan) for moment in times])
    outcomes = Outcomes.of(times, horizons, np.array(list(first.values())), actual)
    return advance(state, outcomes, plan.decided_at)
