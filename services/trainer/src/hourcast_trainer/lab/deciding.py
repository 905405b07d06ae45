"""The weeks of a back-test decided in order, when all are fitted: who served each, and what the store and MLflow say of it."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from threadpoolctl import threadpool_limits

from hourcast.contracts import HOUR_S, Bars
from hourcast.errors import UnavailableError
from hourcast.forecaster import Forecaster, load, make_golden
from hourcast.store import BacktestRows, Evaluation, Store, WalkFold
from hourcast_trainer.gate import Decision
from hourcast_trainer.lab.backtest import PRODUCTION, VERSION
from hourcast_trainer.lab.line import Entrant, Line, Served, Week
from hourcast_trainer.lab.walk import Fold, folds, walk_id
from hourcast_trainer.lab.walk.rows import read_parquet
from hourcast_trainer.lab.walk.sources import sources_of
from hourcast_trainer.models import MODELS, FitRequest
from hourcast_trainer.registry import Registry
from hourcast_trainer.settings import TrainerSettings
from hourcast_trainer.training import read_bars

__all__ = ["decide_weeks"]

_JUDGING = {"model_kind", "gate_margin", "gate_p", "champion_p", "champion_days"}
_WAIT_S = 900


def decide_weeks(
    settings: TrainerSettings,
    store: Store,
    registry: Registry,
    start: datetime,
    end: datetime,
    every_days: int,
) -> None:
    """Decide every week of the span; weeks that are decided already, and all before them, are left alone.

    Safe to kill at any line and to call again; of several at once one does it, and the others find it done.
    """
    steps = folds(start, end, every_days, settings)
    with _alone(store):
        found = store.walk_folds(settings.model_name, walk_id(settings, every_days), PRODUCTION)
        by_start = {fold.start: fold for fold in found}
        kept = [by_start[week.start] for week in steps]
        marks = _marks(settings, kept)
        done = {e.alias: e for e in store.evaluations(settings.model_name, "backtest")}
        # Served version by week, of weeks that need no writing.
        before = {
            week.alias: int(done[week.alias].figures["served"])
            for week, mark in zip(steps, marks, strict=True)
            if week.alias in done and done[week.alias].figures.get("decided") == mark
        }
        if len(before) == len(steps):
            return
        bars = read_bars(store, settings, end)
        with registry.answering(), threadpool_limits(1):
            registry.ready()
            line, floors = Line(settings, bars), dict[int, int]()
            # The champion is asked every week.
            fetched = lru_cache(maxsize=4)(partial(_fetched, registry))
            for week, fold, mark in zip(steps, kept, marks, strict=True):
                served = line.step(_week(week, fold, fetched))
                if week.alias in before:
                    if served.version.kind == "naive":
                        floors[served.version.number] = before[week.alias]
                    continue
                own = int(fold.lineage[VERSION])
                version = _version_of(settings, registry, bars, served.version, by_start, floors)
                if version != own:
                    registry.note_decision(own, served.decision, week.alias)
                else:
                    registry.note_decision(own, Decision(True, served.reason, {}), week.alias)
                _write(settings, store, registry, served, own, version, mark)


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    """Shards that end at the same moment take turns."""
    with ExitStack() as held:
        for left in range(_WAIT_S, -1, -1):
            try:
                held.enter_context(store.exclusive("backtest-deciding"))
                break
            except UnavailableError:
                if not left:
                    raise
                time.sleep(1)
        yield


def _marks(settings: TrainerSettings, kept: Sequence[WalkFold]) -> list[str]:
    """16 hex digits a week over all that decides it: rules, levels, and the weeks up to it."""
    told = hashlib.sha256(f"{sources_of([Line])}|{settings.model_dump_json(include=_JUDGING)}".encode())
    out = []
    for fold in kept:
        told.update(f"|{fold.recipe}|{fold.lineage[VERSION]}".encode())
        out.append(told.hexdigest()[:16])
    return out


def _fetched(registry: Registry, version: int) -> Forecaster:
    with TemporaryDirectory() as folder:
        return load(registry.forecaster_of(version, Path(folder)))


def _week(week: Fold, kept: WalkFold, fetched: Callable[[int], Forecaster]) -> Week:
    rows = read_parquet(kept.parquet)
    too_short = kept.lineage["kind"] == "naive"
    return Week(week, rows, None if too_short else partial(fetched, int(kept.lineage[VERSION])))


def _version_of(
    settings: TrainerSettings,
    registry: Registry,
    bars: Mapping[str, Bars],
    served: Entrant,
    kept: Mapping[datetime, WalkFold],
    floors: dict[int, int],
) -> int:
    """The registered version behind one of the line; a floor is registered when it first serves."""
    own = kept[served.fold.start].lineage
    if served.kind != "naive" or own["kind"] == "naive":
        return int(own[VERSION])
    if served.number not in floors:
        plan = served.fold.plan
        known = {symbol: part.known_at(plan.gate_end_s) for symbol, part in bars.items()}
        fitted = MODELS["naive"].fit(FitRequest(known, plan, settings))
        golden = make_golden(fitted.forecaster(), known, plan.gate_end_s)
        passes = Decision(True, "the naive floor passes by definition", {})
        floors[served.number] = registry.register(
            fitted, golden, bars, "backtest", {}, {}, passes, served.fold.alias
        )
    return floors[served.number]


def _write(
    settings: TrainerSettings,
    store: Store,
    registry: Registry,
    served: Served,
    own: int,
    version: int,
    mark: str,
) -> None:
    """The rows, the alias; the evaluation comes last and says that the week is decided."""
    week, ours, naive = served.fold, served.measured, served.naive
    store.save_backtest(
        BacktestRows(
            model=settings.model_name,
            alias=week.alias,
            version=version,
            origin=ours.origin,
            target_time=ours.origin + HOUR_S,
            last_close=ours.last_close,
            actual=ours.actual[:, 0],
            quantiles=ours.quantiles[:, 0],
            naive_quantiles=naive.quantiles[:, 0],
        )
    )
    registry.set_alias(version, week.alias)
    store.save_evaluation(
        Evaluation(
            model=settings.model_name,
            version=own,
            alias=week.alias,
            kind=served.version.kind,
            stage="backtest",
            baseline="naive",
            window_start=week.start,
            window_end=week.end,
            passed=served.decision.passed,
            figures={
                "candidate": ours.scores.as_dict(),
                "baseline": naive.scores.as_dict(),
                "ratios": dict(served.decision.ratios),
                "evidence": dict(served.decision.evidence),
                "decided": mark,
                "served": version,
            },
            reason=served.reason,
            made_at=week.plan.decided_at,
        )
    )
