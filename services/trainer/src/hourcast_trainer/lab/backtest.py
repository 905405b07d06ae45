"""Walk-forward as production would have gone: every week a training, its gate, and the week that followed.

Each week's model is fitted and gated on what was known then. A week whose candidate fails its gate is forecast by the
naive floor: production would keep the version before while that holds, but then a week would depend on those before
it, and on where the back-test began. The engine is `hourcast_trainer.lab.walk`: weeks do not depend on each other, and a
week that is in the store already with the same data and settings is not fitted again. When no week is left, the
forecasts are calibrated from the first hour to the last, each by what had come by then.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from hourcast.contracts import HOUR_S, Bars, FloatArray, Golden, from_epoch
from hourcast.forecaster import LEVELS, make_golden
from hourcast.store import BacktestRows, Evaluation, Store
from hourcast.verification import Figures, figures
from hourcast_trainer.choice import Chooser, Question, questions_of
from hourcast_trainer.gate import Decision, decide
from hourcast_trainer.lab.walk import (
    Fold,
    FoldResult,
    Variant,
    folds,
    forecast_fold,
    kept,
    recipe_of,
    rows_of,
    side_by_side,
    walk_id,
)
from hourcast_trainer.measuring import Measured, common, measure, measure_naive
from hourcast_trainer.models import MODELS, Fitted
from hourcast_trainer.registry import Registry
from hourcast_trainer.settings import TrainerSettings
from hourcast_trainer.training import read_bars

__all__ = ["BacktestReport", "calibrate", "fit_week", "remaining", "report", "run_backtest"]

_PRODUCTION = "production"


@dataclass(frozen=True, slots=True)
class WeekResult:
    """A fitted week: what is served in it, its gate, its forecasts, and beside naive ones those one hour ahead."""

    served: FoldResult
    decision: Decision
    golden: Golden
    measured: Measured
    naive: Measured

    @property
    def fitted(self) -> Fitted:
        """The version to register."""
        assert self.served.fitted is not None
        return self.served.fitted

    @property
    def week(self) -> Fold:
        """The week."""
        return self.served.fold


def fit_week(bars: Mapping[str, Bars], settings: TrainerSettings, week: Fold, chooser: Chooser) -> WeekResult:
    """Fit, gate and forecast one week."""
    plan, target = week.plan, settings.target.symbol
    known = {symbol: part.known_at(plan.gate_end_s) for symbol, part in bars.items()}
    served, decision = _candidate(bars, known, settings, week, chooser)
    if served is None:
        (served,) = forecast_fold(bars, settings, week, [_variant(settings, "naive")], chooser)
    assert served.fitted is not None
    forecaster = served.fitted.forecaster()
    start_s, end_s = int(week.start.timestamp()), int(week.end.timestamp())
    measured, naive = common(
        measure(forecaster, bars, start_s, end_s), measure_naive(bars[target], start_s, end_s)
    )
    return WeekResult(served, decision, make_golden(forecaster, known, plan.gate_end_s), measured, naive)


def _variant(settings: TrainerSettings, kind: str) -> Variant:
    return Variant(_PRODUCTION, kind, settings.feature_series)


def _candidate(
    bars: Mapping[str, Bars],
    known: Mapping[str, Bars],
    settings: TrainerSettings,
    week: Fold,
    chooser: Chooser,
) -> tuple[FoldResult | None, Decision]:
    """The candidate if it passes, and its decision."""
    plan, kind, target = week.plan, settings.model_kind, settings.target.symbol
    if len(plan.known(known[target])) < MODELS[kind].history_h(settings):
        return None, Decision(True, f"the naive floor; too little history for the {kind} model", {})
    (made,) = forecast_fold(bars, settings, week, [_variant(settings, kind)], chooser)
    assert made.fitted is not None
    held_out = measure(made.fitted.forecaster(), known, plan.gate_start_s, plan.gate_end_s)
    floor = measure_naive(known[target], plan.gate_start_s, plan.gate_end_s)
    ours, theirs = common(held_out, floor)
    decision = decide(ours, {"naive": theirs}, settings.gate_margin, settings.gate_p)
    if decision.passed:
        return made, decision
    return None, Decision(
        True, f"the naive floor; the {kind} model was {decision.reason}", decision.ratios, decision.evidence
    )


def _recipe(bars: Mapping[str, Bars], settings: TrainerSettings, week: Fold) -> str:
    """What decides a week's result; a stored week with the same recipe is not done again."""
    gate = settings.model_dump_json(include={"gate_margin", "gate_p", "model_kind"})
    rows = recipe_of(bars, settings, _variant(settings, settings.model_kind), week, fit_week)
    return hashlib.sha256(f"{rows}|{gate}".encode()).hexdigest()[:16]


def run_backtest(
    settings: TrainerSettings,
    store: Store,
    registry: Registry,
    start: datetime,
    end: datetime,
    every_days: int,
    jobs: int,
    shard: tuple[int, int] | None = None,
) -> Iterator[tuple[Fold, int, int]]:
    """Do every week that is not done; yields (week, number done, number in all) as they become done.

    With `shard` (i, n) only the weeks whose place is i modulo n, and the numbers are of those.
    """
    steps = folds(start, end, every_days, settings)
    if shard is not None:
        steps = steps[shard[0] :: shard[1]]
    bars = read_bars(store, settings, end)
    registry.ready()
    with registry.answering():
        registry.clear_interrupted()
    recipes, todo = _todo(settings, store, bars, steps)
    number = len(steps) - len(todo)
    for week in steps:
        if week not in todo:
            yield week, number, len(steps)
            break
    walk = walk_id(settings, every_days)

    def asked(week: Fold) -> list[Question]:
        return questions_of(settings, settings.model_kind, week.start, settings.feature_series)

    for result in side_by_side(fit_week, bars, settings, todo, asked, jobs):
        with registry.answering():
            _save(settings, store, registry, bars, walk, result, recipes[result.week.alias])
        number += 1
        yield result.week, number, len(steps)


def remaining(
    settings: TrainerSettings, store: Store, start: datetime, end: datetime, every_days: int
) -> int:
    """How many weeks of the span are not done with the present bars and settings."""
    steps = folds(start, end, every_days, settings)
    return len(_todo(settings, store, read_bars(store, settings, end), steps)[1])


def _todo(
    settings: TrainerSettings, store: Store, bars: Mapping[str, Bars], steps: list[Fold]
) -> tuple[dict[str, str], list[Fold]]:
    """The recipe of each week by its alias, and the weeks that the store does not hold by it."""
    done = {
        e.alias: e.figures.get("recipe")
        for e in store.evaluations(settings.model_name, "backtest")
        if e.alias is not None
    }
    recipes = {week.alias: _recipe(bars, settings, week) for week in steps}
    return recipes, [week for week in steps if done.get(week.alias) != recipes[week.alias]]


def _save(
    settings: TrainerSettings,
    store: Store,
    registry: Registry,
    bars: Mapping[str, Bars],
    walk: str,
    result: WeekResult,
    recipe: str,
) -> None:
    """Register, tag, record the rows, set the alias; the evaluation comes last and says that the week is done."""
    week, alias = result.week, result.week.alias
    ours, theirs = result.measured.scores, result.naive.scores
    metrics = {f"backtest_{key}": value for key, value in ours.next_hour.as_dict().items()}
    version = registry.register(
        result.fitted, result.golden, bars, "backtest", metrics, {}, result.decision, alias
    )
    store.save_walk_folds([kept(settings, walk, result.served, recipe, week.plan.decided_at)])
    store.save_backtest(
        BacktestRows(
            model=settings.model_name,
            alias=alias,
            version=version,
            origin=result.measured.origin,
            target_time=result.measured.origin + HOUR_S,
            last_close=result.measured.last_close,
            actual=result.measured.actual[:, 0],
            quantiles=result.measured.quantiles[:, 0],
            naive_quantiles=result.naive.quantiles[:, 0],
        )
    )
    registry.set_alias(version, alias)
    store.save_evaluation(
        Evaluation(
            model=settings.model_name,
            version=version,
            alias=alias,
            kind=result.fitted.spec.kind,
            stage="backtest",
            baseline="naive",
            window_start=week.start,
            window_end=week.end,
            passed=True,
            figures={
                "candidate": ours.as_dict(),
                "baseline": theirs.as_dict(),
                "ratios": dict(result.decision.ratios),
                "evidence": dict(result.decision.evidence),
                "recipe": recipe,
            },
            reason=result.decision.reason,
            made_at=week.plan.decided_at,
        )
    )


def calibrate(
    settings: TrainerSettings, store: Store, start: datetime, end: datetime, every_days: int
) -> None:
    """Give the rows one hour ahead the width that had been learned by their hour; rows that have it are left alone.

    The state is carried through the whole span, so this waits for its last week.
    """
    steps = folds(start, end, every_days, settings)
    target = read_bars(store, settings, end)[settings.target.symbol]
    walk = rows_of(store, settings, walk_id(settings, every_days), steps, _PRODUCTION, target)
    wanted = {week.alias for week in steps}
    for rows in store.backtest_rows(settings.model_name):
        if rows.alias not in wanted:
            continue
        place = np.searchsorted(walk.origin, rows.origin)
        quantiles = walk.last_close[place, None] * np.exp(walk.returns[place, 0].astype(np.float64))
        if not np.array_equal(quantiles, rows.quantiles):
            store.save_backtest(replace(rows, quantiles=quantiles))


@dataclass(frozen=True, slots=True)
class BacktestReport:
    """Figures of the stitched forecasts one hour ahead and of the naive floor, in all and by month."""

    model: Figures
    naive: Figures
    months: Mapping[str, tuple[Figures, Figures]]
    models: int
    floors: int


def report(
    store: Store, settings: TrainerSettings, start: datetime, end: datetime, every_days: int
) -> BacktestReport:
    """Figures over the stored rows of the weeks from `start` to `end`."""
    wanted = {week.alias for week in folds(start, end, every_days, settings)}
    rows = [r for r in store.backtest_rows(settings.model_name) if r.alias in wanted]
    kinds = [e.kind for e in store.evaluations(settings.model_name, "backtest") if e.alias in wanted]

    def joined(name: str) -> FloatArray:
        return np.concatenate([getattr(r, name) for r in rows])

    actual, ours, naive = joined("actual"), joined("quantiles"), joined("naive_quantiles")
    month = np.array([f"{from_epoch(int(s)):%Y-%m}" for s in joined("origin")])
    return BacktestReport(
        model=figures(actual, ours, LEVELS),
        naive=figures(actual, naive, LEVELS),
        months={
            str(name): (
                figures(actual[month == name], ours[month == name], LEVELS),
                figures(actual[month == name], naive[month == name], LEVELS),
            )
            for name in np.unique(month)
        },
        models=sum(kind != "naive" for kind in kinds),
        floors=sum(kind == "naive" for kind in kinds),
    )
