"""Walk-forward: every week a training as production would have done it, measured on the week that followed.

Each week's model is fitted and gated on what was known then; a week whose candidate fails its gate is forecast by
the naive floor, as in production. Weeks do not depend on each other, so they are fitted side by side, and a
week that is in the store already with the same data and settings is not fitted again.
"""

import hashlib
import multiprocessing
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from hourcast import __version__
from hourcast.contracts import HOUR_S, Bars, FloatArray, Golden, backtest_alias, from_epoch
from hourcast.errors import ConfigurationError
from hourcast.forecaster import LEVELS, make_golden
from hourcast.store import BacktestRows, Evaluation, Store
from hourcast_trainer.calendar import TrainingPlan, plan_for
from hourcast_trainer.datasets import data_fingerprint
from hourcast_trainer.gate import Decision, decide
from hourcast_trainer.measuring import Measured, common, measure, measure_naive
from hourcast_trainer.metrics import Figures, figures
from hourcast_trainer.models import MODELS, FitRequest, Fitted
from hourcast_trainer.registry import Registry
from hourcast_trainer.settings import TrainerSettings
from hourcast_trainer.training import read_bars

__all__ = ["BacktestReport", "Week", "fit_week", "remaining", "report", "run_backtest", "weeks"]


@dataclass(frozen=True, slots=True)
class Week:
    """One step: the forecasts are for closes in (start, end]."""

    start: datetime
    end: datetime
    plan: TrainingPlan

    @property
    def alias(self) -> str:
        """`backtest_YYYYMMDD`."""
        return backtest_alias(self.plan.trained_through)


@dataclass(frozen=True, slots=True)
class WeekResult:
    """A fitted week: the version to register, its gate, and its forecasts one hour ahead beside naive ones."""

    week: Week
    fitted: Fitted
    decision: Decision
    golden: Golden
    measured: Measured
    naive: Measured


def weeks(start: datetime, end: datetime, every_days: int, settings: TrainerSettings) -> list[Week]:
    """The steps from `start` to `end`; the last may be shorter."""
    if start >= end:
        raise ConfigurationError(f"--from {start:%Y-%m-%d} must lie before --to {end:%Y-%m-%d}")
    out = []
    at = start
    while at < end:
        stop = min(at + timedelta(days=every_days), end)
        out.append(Week(at, stop, plan_for(at, settings.gate_days, settings.train_days)))
        at = stop
    return out


def fit_week(bars: Mapping[str, Bars], settings: TrainerSettings, week: Week) -> WeekResult:
    """Fit, gate and measure one week."""
    known = {symbol: part.known_at(week.plan.gate_end_s) for symbol, part in bars.items()}
    target = settings.target.symbol
    request = FitRequest(known, week.plan, settings)
    floor = measure_naive(known[target], week.plan.train_end_s, week.plan.gate_end_s)
    if len(known[target].known_at(week.plan.train_end_s)) >= MODELS["lstm"].history_h(settings):
        fitted = MODELS["lstm"].fit(request)
        held_out = measure(fitted.forecaster(), known, week.plan.train_end_s, week.plan.gate_end_s)
        ours, theirs = common(held_out, floor)
        decision = decide(ours.scores, {"naive": theirs.scores}, settings.gate_margin)
    else:
        fitted, decision = MODELS["naive"].fit(request), Decision(True, "too little history for the LSTM", {})
    if not decision.passed:
        fitted = MODELS["naive"].fit(request)
        decision = Decision(True, f"the naive floor; the LSTM was {decision.reason}", decision.ratios)
    start_s, end_s = int(week.start.timestamp()), int(week.end.timestamp())
    golden = make_golden(fitted.forecaster(), known, week.plan.gate_end_s)
    measured, naive = common(
        measure(fitted.forecaster(), bars, start_s, end_s), measure_naive(bars[target], start_s, end_s)
    )
    return WeekResult(week, fitted, decision, golden, measured, naive)


_SHARED: dict[str, tuple[Mapping[str, Bars], TrainerSettings]] = {}


def _start_worker(bars: Mapping[str, Bars], settings: TrainerSettings) -> None:
    _SHARED["all"] = (bars, settings)


def _work(week: Week) -> WeekResult:
    bars, settings = _SHARED["all"]
    return fit_week(bars, settings, week)


def _fit_all(
    bars: Mapping[str, Bars], settings: TrainerSettings, todo: list[Week], jobs: int
) -> Iterator[WeekResult]:
    if jobs <= 1 or len(todo) < 3:
        for week in todo:
            yield fit_week(bars, settings, week)
        return
    # torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_start_worker, initargs=(bars, settings)
    ) as pool:
        yield from pool.map(_work, todo)


def _recipe(bars: Mapping[str, Bars], settings: TrainerSettings, week: Week) -> str:
    """What decides a week's result; a stored week with the same recipe is not done again."""
    parts = [
        data_fingerprint(bars, week.plan.start_s, int(week.end.timestamp())),
        week.start.isoformat(),
        week.end.isoformat(),
        __version__,
        settings.model_dump_json(
            include={
                "series", "gate_days", "gate_margin", "train_days", "seed", "lstm_hidden", "lstm_window_h",
                "lstm_epochs", "train_threads",
            }
        ),
    ]  # fmt: skip
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def run_backtest(
    settings: TrainerSettings,
    store: Store,
    registry: Registry,
    start: datetime,
    end: datetime,
    every_days: int,
    jobs: int,
    shard: tuple[int, int] | None = None,
) -> Iterator[tuple[Week, int, int]]:
    """Do every week that is not done; yields (week, number done, number in all) as they become done.

    With `shard` (i, n) only the weeks whose place is i modulo n, and the numbers are of those.
    """
    steps = weeks(start, end, every_days, settings)
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
    for result in _fit_all(bars, settings, todo, jobs):
        with registry.answering():
            _save(settings, store, registry, bars, result, recipes[result.week.alias])
        number += 1
        yield result.week, number, len(steps)


def remaining(
    settings: TrainerSettings, store: Store, start: datetime, end: datetime, every_days: int
) -> int:
    """How many weeks of the span are not done with the present bars and settings."""
    steps = weeks(start, end, every_days, settings)
    return len(_todo(settings, store, read_bars(store, settings, end), steps)[1])


def _todo(
    settings: TrainerSettings, store: Store, bars: Mapping[str, Bars], steps: list[Week]
) -> tuple[dict[str, str], list[Week]]:
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
    result: WeekResult,
    recipe: str,
) -> None:
    """Register, tag, record the rows, set the alias; the evaluation comes last and says that the week is done."""
    week, alias = result.week, result.week.alias
    ours, theirs = result.measured.scores, result.naive.scores
    metrics = {f"backtest_{key}": value for key, value in ours.next_hour.as_dict().items()}
    version, _run = registry.register(
        result.fitted, result.golden, bars, "backtest", metrics, {}, f"{result.fitted.spec.kind} {alias}"
    )
    registry.decide(version, result.fitted, result.decision, "backtest", alias, metrics)
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
                "recipe": recipe,
            },
            reason=result.decision.reason,
            made_at=week.plan.decided_at,
        )
    )


@dataclass(frozen=True, slots=True)
class BacktestReport:
    """Figures of the stitched forecasts one hour ahead and of the naive floor, in all and by month."""

    model: Figures
    naive: Figures
    months: Mapping[str, tuple[Figures, Figures]]
    networks: int
    floors: int


def report(
    store: Store, settings: TrainerSettings, start: datetime, end: datetime, every_days: int
) -> BacktestReport:
    """Figures over the stored rows of the weeks from `start` to `end`."""
    wanted = {week.alias for week in weeks(start, end, every_days, settings)}
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
        networks=sum(kind != "naive" for kind in kinds),
        floors=sum(kind == "naive" for kind in kinds),
    )
