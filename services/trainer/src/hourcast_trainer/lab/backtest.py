"""Walk-forward as production would have gone: every week a training, its gate, and the week that followed.

First each week's model is fitted on what was known then, side by side: fits do not depend on each other, and a week that
is kept with the same data and settings is not fitted again (`hourcast_trainer.lab.walk`). When no week is left they are
decided in order, since who serves a week depends on those before it (`hourcast_trainer.lab.deciding`).
"""

import hashlib
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from hourcast.contracts import Bars, FloatArray, Golden, from_epoch, to_epoch
from hourcast.forecaster import LEVELS, make_golden
from hourcast.store import Store
from hourcast.verification import Figures, figures
from hourcast_trainer.choice import Chooser, Question, questions_of
from hourcast_trainer.lab.walk import (
    Fold,
    FoldResult,
    Variant,
    folds,
    forecast_fold,
    kept,
    recipe_of,
    side_by_side,
    walk_id,
)
from hourcast_trainer.measuring import Measured, measure
from hourcast_trainer.models import MODELS, Fitted
from hourcast_trainer.registry import Registry
from hourcast_trainer.settings import TrainerSettings
from hourcast_trainer.training import read_bars

__all__ = ["PRODUCTION", "VERSION", "BacktestReport", "fit_week", "remaining", "report", "run_backtest"]

PRODUCTION = "production"
VERSION = "version"


@dataclass(frozen=True, slots=True)
class WeekResult:
    """A fitted week: its candidate or, where history is too short for one, the naive floor, and how that did in the week."""

    made: FoldResult
    golden: Golden
    measured: Measured

    @property
    def fitted(self) -> Fitted:
        """The version to register."""
        assert self.made.fitted is not None
        return self.made.fitted

    @property
    def week(self) -> Fold:
        """The week."""
        return self.made.fold


def fit_week(bars: Mapping[str, Bars], settings: TrainerSettings, week: Fold, chooser: Chooser) -> WeekResult:
    """Fit and forecast one week."""
    plan, kind = week.plan, settings.model_kind
    known = {symbol: part.known_at(plan.gate_end_s) for symbol, part in bars.items()}
    if len(plan.known(known[settings.target.symbol])) < MODELS[kind].history_h(settings):
        kind = "naive"
    (made,) = forecast_fold(bars, settings, week, [_variant(settings, kind)], chooser)
    assert made.fitted is not None
    forecaster = made.fitted.forecaster()
    measured = measure(forecaster, bars, to_epoch(week.start), to_epoch(week.end))
    return WeekResult(made, make_golden(forecaster, known, plan.gate_end_s), measured)


def _variant(settings: TrainerSettings, kind: str) -> Variant:
    return Variant(PRODUCTION, kind, settings.feature_series)


def _recipe(bars: Mapping[str, Bars], settings: TrainerSettings, week: Fold) -> str:
    """What decides a week's fit; a kept week with the same recipe is not fitted again."""
    rows = recipe_of(bars, settings, _variant(settings, settings.model_kind), week, fit_week)
    return hashlib.sha256(f"{rows}|{settings.model_kind}".encode()).hexdigest()[:16]


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
    bars = read_bars(store, settings, end)
    registry.ready()
    with registry.answering():
        registry.clear_interrupted()
        there = {v.version for v in registry.versions()}
    recipes, todo = _todo(settings, store, bars, steps, every_days, there)
    if shard is not None:
        steps = steps[shard[0] :: shard[1]]
        todo = [week for week in todo if week in steps]
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
    """How many weeks of the span are not fitted with the present bars and settings."""
    steps = folds(start, end, every_days, settings)
    return len(_todo(settings, store, read_bars(store, settings, end), steps, every_days)[1])


def _todo(
    settings: TrainerSettings,
    store: Store,
    bars: Mapping[str, Bars],
    steps: list[Fold],
    every_days: int,
    there: Container[int] | None = None,
) -> tuple[dict[str, str], list[Fold]]:
    """The recipe of each week by its alias, and the weeks that the store does not keep by it, with a version that is `there`."""
    found = {
        fold.start: fold.recipe
        for fold in store.walk_folds(
            settings.model_name, walk_id(settings, every_days), PRODUCTION, files=False
        )
        # Weeks of an earlier release name no version: what it kept is what served.
        if VERSION in fold.lineage and (there is None or fold.lineage[VERSION] in there)
    }
    recipes = {week.alias: _recipe(bars, settings, week) for week in steps}
    return recipes, [week for week in steps if found.get(week.start) != recipes[week.alias]]


def _save(
    settings: TrainerSettings,
    store: Store,
    registry: Registry,
    bars: Mapping[str, Bars],
    walk: str,
    result: WeekResult,
    recipe: str,
) -> None:
    """Register the version, which is not decided yet; the forecasts come last, name it, and say that the week is done."""
    scores = result.measured.scores.next_hour.as_dict()
    metrics = {f"backtest_{key}": value for key, value in scores.items()}
    version = registry.register(
        result.fitted, result.golden, bars, "backtest", metrics, {}, None, result.week.alias
    )
    fold = kept(settings, walk, result.made, recipe, result.week.plan.decided_at)
    store.save_walk_folds([replace(fold, lineage={**fold.lineage, VERSION: version})])


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
    # Of a week that was decided again the newest counts.
    kinds = {e.alias: e.kind for e in store.evaluations(settings.model_name, "backtest") if e.alias in wanted}

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
        models=sum(kind != "naive" for kind in kinds.values()),
        floors=sum(kind == "naive" for kind in kinds.values()),
    )
