"""The line of versions that production would have had: who serves each week, who is champion, how it is calibrated.

The decisions are production's own, `hourcast_trainer.succession`; the line only remembers what registry and store remember
for production. It knows neither. Weeks come in order, each fitted already.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from hourcast.conformal import ConformalState, walk
from hourcast.contracts import Bars, to_epoch
from hourcast.errors import DataError
from hourcast.forecaster import HORIZONS, Forecaster
from hourcast_trainer.calendar import TrainingPlan
from hourcast_trainer.calibration import warmed_up
from hourcast_trainer.datasets import realised
from hourcast_trainer.gate import Decision, Look
from hourcast_trainer.lab.walk import Fold, forecast_hours
from hourcast_trainer.lab.walk.rows import FoldRows
from hourcast_trainer.measuring import Measured, common, measure, measure_naive, uncalibrated
from hourcast_trainer.models import MODELS, FitRequest
from hourcast_trainer.settings import TrainerSettings
from hourcast_trainer.succession import challenged, holds, judged, looks_before, served_by, turn

__all__ = ["Entrant", "Line", "Served", "Week"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Week:
    """A week as its fit left it: its candidate, unless history was too short for one, and that one's forecasts of its hours."""

    fold: Fold
    rows: FoldRows
    candidate: Callable[[], Forecaster] | None


@dataclass(frozen=True, slots=True)
class Entrant:
    """A version of the line: its number in the order of making, the week whose training made it, and how to get it."""

    number: int
    fold: Fold
    kind: str
    load: Callable[[], Forecaster]


@dataclass(frozen=True, slots=True)
class Served:
    """Who served a week, and why; the gate's decision on the candidate; calibrated forecasts of the week beside naive ones."""

    fold: Fold
    version: Entrant
    champion: int
    decision: Decision
    reason: str
    measured: Measured
    naive: Measured


class Line:
    """Versions from the first week on. `step` is called with each week, in order."""

    def __init__(self, settings: TrainerSettings, bars: Mapping[str, Bars]) -> None:
        self._settings, self._bars = settings, bars
        self._target = bars[settings.target.symbol]
        self._made = 0
        self._incumbent: Entrant | None = None
        self._champion: Entrant | None = None
        self._passed: dict[int, Entrant] = {}
        self._challenged: set[int] = set()
        self._looks: list[tuple[datetime, Look]] = []
        self._state: ConformalState | None = None
        self._tail: FoldRows | None = None

    def step(self, week: Week) -> Served:
        """What production would have decided at the week's start, and the forecasts that it would have made in it."""
        fold, kind = week.fold, self._settings.model_kind
        known = {symbol: part.known_at(fold.plan.gate_end_s) for symbol, part in self._bars.items()}
        floor = self._floor(fold, known) if self._incumbent is None else None
        before = self._incumbent or floor
        assert before is not None
        self._champion = self._champion or before
        if week.candidate is None:
            decision = Decision(False, f"too little history for the {kind} model", {})
            served = before
        else:
            self._hold_challenge(fold.plan, known)
            candidate = self._entered(fold, kind, week.candidate)
            decision, served = self._decided(candidate, floor, before, fold, known)
        self._incumbent = served
        rows = week.rows
        if served.fold is not fold or (served.kind == "naive" and week.candidate is not None):
            rows = forecast_hours(served.load(), self._bars, fold, self._settings.target.symbol)
        measured, naive = self._measured_week(fold, self._calibrated(rows, still=served.kind == "naive"))
        reason = _reason(served, decision, kind)
        return Served(fold, served, self._champion.number, decision, reason, measured, naive)

    def _entered(self, fold: Fold, kind: str, load: Callable[[], Forecaster]) -> Entrant:
        self._made += 1
        return Entrant(self._made, fold, kind, load)

    def _floor(self, fold: Fold, known: Mapping[str, Bars]) -> Entrant:
        fitted = MODELS["naive"].fit(FitRequest(known, fold.plan, self._settings))
        floor = self._entered(fold, "naive", fitted.forecaster)
        self._passed[floor.number] = floor
        return floor

    def _decided(
        self,
        candidate: Entrant,
        floor: Entrant | None,
        before: Entrant,
        fold: Fold,
        known: Mapping[str, Bars],
    ) -> tuple[Decision, Entrant]:
        """The gate's decision on a candidate, and who serves; a floor that the week begins with is `floor`."""
        plan, settings = fold.plan, self._settings
        assert self._champion is not None
        forecaster = candidate.load()
        naive = measure_naive(known[settings.target.symbol], plan.gate_start_s, plan.gate_end_s)
        decision = judged(
            measure(forecaster, known, plan.gate_start_s, plan.gate_end_s),
            naive,
            self._since(plan.gate_start, self._champion, plan, known),
            looks_before(self._looks, plan.gate_end),
            settings,
        ).decision
        self._looks.append((plan.gate_end, decision.look))

        def incumbent_holds() -> bool:
            measured = self._since(plan.gate_start, before, plan, known)
            return measured is not None and holds(measured, naive, settings)

        chosen = served_by(decision.passed, floor is not None, incumbent_holds)
        if chosen == "candidate":
            self._passed[candidate.number] = candidate
            # A version takes on what those before it have learned, the weeks of a floor included.
            self._state = self._state or warmed_up(forecaster, known, plan)
            return decision, candidate
        return decision, before if chosen == "incumbent" else floor or self._floor(fold, known)

    def _since(
        self, start: datetime, version: Entrant, plan: TrainingPlan, known: Mapping[str, Bars]
    ) -> Measured | None:
        try:
            return uncalibrated(version.load(), known, to_epoch(start), plan.gate_end_s)
        except DataError as error:
            _LOG.warning("the version of %s cannot be measured: %s", version.fold.alias, error)
            return None

    def _hold_challenge(self, plan: TrainingPlan, known: Mapping[str, Bars]) -> None:
        champion = self._champion
        assert champion is not None
        passed = {
            number: (version.fold.plan.trained_through, number in self._challenged)
            for number, version in self._passed.items()
        }
        turn_of = turn(passed, champion.number, champion.fold.plan.trained_through, plan, self._settings)
        if turn_of is None:
            return
        newest, start = self._passed[turn_of[0]], turn_of[1]
        ours, theirs = (self._since(start, version, plan, known) for version in (newest, champion))
        if ours is None or theirs is None:
            return
        if challenged(ours, theirs, champion.number, self._settings).won:
            self._champion = newest
        self._challenged.add(newest.number)

    def _calibrated(self, rows: FoldRows, *, still: bool) -> FoldRows:
        """A week's forecasts as wide as what had come by each hour has taught; those of a floor stay, and teach too."""
        tail = self._tail or FoldRows(rows.origin[:0], rows.last_close[:0], rows.returns[:0])
        origin, last, returns = (
            np.concatenate([getattr(tail, name), getattr(rows, name)])
            for name in ("origin", "last_close", "returns")
        )
        if self._state is not None:
            actual = np.log(realised(self._target, origin) / last[:, None])
            as_they_are = np.repeat([True, still], [len(tail.origin), len(rows.origin)])
            returns, self._state = walk(self._state, origin, returns, actual, as_they_are)
        # Closes of the next week's first hours answer to these.
        newest = max(HORIZONS)
        self._tail = FoldRows(origin[-newest:], last[-newest:], returns[-newest:])
        return FoldRows(rows.origin, rows.last_close, returns[len(tail.origin) :])

    def _measured_week(self, fold: Fold, rows: FoldRows) -> tuple[Measured, Measured]:
        start_s, end_s = to_epoch(fold.start), to_epoch(fold.end)
        actual = realised(self._target.known_at(end_s), rows.origin)
        quantiles = rows.last_close[:, None, None] * np.exp(rows.returns.astype(np.float64))
        made = Measured(rows.origin, rows.last_close, quantiles, actual)
        made = made.take(np.flatnonzero(np.isfinite(actual[:, 0])))
        ours, naive = common(made, measure_naive(self._target, start_s, end_s))
        return ours, naive


def _reason(served: Entrant, decision: Decision, kind: str) -> str:
    if decision.passed:
        return decision.reason
    why = (
        decision.reason
        if decision.reason.startswith("too little")
        else f"the {kind} model was {decision.reason}"
    )
    if served.kind == "naive":
        return f"the naive floor; {why}"
    return f"the version of {served.fold.alias} stays, still no worse than naive; {why}"
