"""The engine: folds are fitted side by side, and a fold that is kept with the same recipe is not fitted again.

A fold's rows depend on the bars, the settings and the fold alone; processes and shards share them out as they like.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from hourcast.contracts import HOUR_S, Bars, IntArray, to_epoch
from hourcast.errors import ConfigurationError, DataError
from hourcast.store import Store, WalkFold
from hourcast_trainer.choice import Chooser, Question, questions_of
from hourcast_trainer.datasets import data_fingerprint
from hourcast_trainer.lab.walk.folds import Fold
from hourcast_trainer.lab.walk.processes import side_by_side
from hourcast_trainer.lab.walk.rows import FoldRows, WalkRows, joined, read_parquet, sha256_of, write_parquet
from hourcast_trainer.lab.walk.sources import sources_of
from hourcast_trainer.models import COMPARED, ComparedFit, FitRequest, Fitted, Forecasting, members_of
from hourcast_trainer.settings import TrainerSettings

__all__ = [
    "FoldResult",
    "StoredWalk",
    "Variant",
    "forecast_fold",
    "forecast_hours",
    "kept",
    "recipe_of",
    "rows_of",
    "run_walk",
    "to_do",
    "variants_of",
    "walk_id",
]

_OPTIONS = {"series", "gate_days", "train_days", "train_window", "embargo_h", "seed", "train_threads"}
# Of the kinds in these tables those that a variant takes are followed, and no others.
_TABLES = tuple(("hourcast_trainer.models._registered", name) for name in ("COMPARED", "MODELS"))
# Whatever the trainer can be told decides what is fitted, but for when it trains and how it judges.
_DECIDING = {"series", "feature_series", *TrainerSettings.__annotations__} - {
    "train_every_days", "train_poll_s", "model_kind", "gate_margin", "gate_p", "champion_p", "model_config",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Variant:
    """A kind of model, with the exogenous series that it looks at. Its name is `lstm`, or `lstm+QQQ` in an ablation."""

    name: str
    kind: str
    series: tuple[str, ...]

    def settings(self, settings: TrainerSettings) -> TrainerSettings:
        """The settings with the variant's series."""
        return settings.model_copy(update={"feature_series": self.series})


def variants_of(names: Iterable[str], settings: TrainerSettings) -> list[Variant]:
    """Read names such as `boosting`, `boosting+QQQ+^VIX` or, where the settings have QQQ, `boosting-QQQ`.

    Raises:
        ConfigurationError: when a kind or a series is unknown, or a name comes twice.
    """
    known, series = list(COMPARED), [s.symbol for s in settings.exogenous]
    out = []
    for name in names:
        kind = re.split("[+-]", name, maxsplit=1)[0]
        sign, rest = name[len(kind) : len(kind) + 1], name[len(kind) + 1 :]
        named = [] if not rest else [rest] if rest in series else rest.split(sign)
        if kind not in known:
            raise ConfigurationError(f"there is no kind of model {kind!r}; there are {', '.join(known)}")
        if unknown := [symbol for symbol in named if symbol not in series]:
            raise ConfigurationError(
                f"there is no exogenous series {unknown[0]!r}; there are {', '.join(series) or 'none'}"
            )
        usual = [series.symbol for series in settings.model_series]
        looked_at = [s for s in usual if s not in named] if sign == "-" else [*usual, *named]
        out.append(Variant(name, kind, tuple(dict.fromkeys(looked_at))))
    if len({v.name for v in out}) != len(out):
        raise ConfigurationError(
            f"each kind is compared once, but the names are {', '.join(v.name for v in out)}"
        )
    return out


@dataclass(frozen=True, slots=True)
class FoldResult:
    """What a fold gave for one variant: rows, and the lineage that says how they came about."""

    variant: Variant
    fold: Fold
    rows: FoldRows
    lineage: Mapping[str, Any]
    fitted: Fitted | None = None


def walk_id(settings: TrainerSettings, every_days: int) -> str:
    """16 hex digits that name a walk by its options; its span is not among them, so that it can be extended."""
    parts = [str(every_days), settings.model_dump_json(include=_OPTIONS)]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def recipe_of(
    bars: Mapping[str, Bars],
    settings: TrainerSettings,
    variant: Variant,
    fold: Fold,
    also: Callable[..., object] | None = None,
) -> str:
    """16 hex digits over all that decides a fold's rows: a kept fold with the same recipe is not done again.

    Bars, settings, and the code of the kind and of what fits it; `also` is a function that decides beside
    `forecast_fold`.
    """
    chosen = variant.settings(settings)
    kinds = [variant.kind, *members_of(variant.kind, settings)]
    decide = [
        *(type(COMPARED[kind]) for kind in dict.fromkeys(kinds)),
        forecast_fold,
        *([also] if also else []),
    ]
    parts = [
        data_fingerprint(bars, 0, to_epoch(fold.end) - HOUR_S),
        variant.name,
        fold.start.isoformat(),
        fold.end.isoformat(),
        sources_of(decide, _TABLES),
        chosen.model_dump_json(include=_DECIDING),
    ]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def origins_of(target: Bars, fold: Fold) -> IntArray:
    """The hours of a fold: those whose next close lies in (start, end]."""
    at = target.close_time
    chosen: IntArray = at[(at >= to_epoch(fold.start)) & (at < to_epoch(fold.end))]
    return chosen


def forecast_fold(
    bars: Mapping[str, Bars],
    settings: TrainerSettings,
    fold: Fold,
    variants: Sequence[Variant],
    chooser: Chooser | None = None,
) -> list[FoldResult]:
    """Fit every variant on what was known at the fold's start, and forecast each of its hours.

    Raises:
        DataError: when a variant cannot be fitted, or forecasts no hour of the fold.
    """
    known = {symbol: part.known_at(to_epoch(fold.start)) for symbol, part in bars.items()}
    ready: dict[tuple[str, tuple[str, ...]], Fitted] = {}
    chooser = chooser or Chooser(bars, settings)
    out = []
    # Sums over several threads would depend on how many there are.
    with threadpool_limits(1):
        # An ensemble takes members that are fitted already.
        for variant in sorted(variants, key=lambda v: bool(members_of(v.kind, settings))):
            chosen = variant.settings(settings)
            hyper = chooser.hyper(variant.kind, fold.start, variant.series)
            members = {kind: f for (kind, series), f in ready.items() if series == variant.series}
            fitted = COMPARED[variant.kind].fit(FitRequest(known, fold.plan, chosen, hyper, members))
            servable = fitted if isinstance(fitted, Fitted) else None
            if servable is not None:
                ready[variant.kind, variant.series] = servable
            rows = forecast_hours(fitted.forecaster(), bars, fold, settings.target.symbol)
            out.append(
                FoldResult(variant, fold, rows, _lineage(chosen, variant, fold, fitted, hyper), servable)
            )
    return [next(r for r in out if r.variant == variant) for variant in variants]


def forecast_hours(forecaster: Forecasting, bars: Mapping[str, Bars], fold: Fold, target: str) -> FoldRows:
    """Forecast each hour of a fold.

    Raises:
        DataError: when no hour can be forecast.
    """
    origins = origins_of(bars[target], fold)
    seen = {symbol: part.known_at(to_epoch(fold.end)) for symbol, part in bars.items()}
    made = forecaster.predict(seen, origins, skip_unusable=True)
    if not len(made.origin):
        raise DataError("no hour of the fold can be forecast; load more bars")
    returns = np.log(made.quantiles / made.last_close[:, None, None]).astype(np.float32)
    return FoldRows(made.origin, made.last_close, returns)


def _lineage(
    settings: TrainerSettings, variant: Variant, fold: Fold, fitted: ComparedFit, hyper: Mapping[str, Any]
) -> dict[str, Any]:
    plan, spec = fold.plan, fitted.spec
    return {
        "kind": variant.kind,
        "series": list(variant.series),
        "trained_from": spec.training.start.isoformat(),
        "trained_through": plan.trained_through.isoformat(),
        "training_rows": spec.training.rows,
        "embargo_h": settings.embargo_h,
        "hyper": dict(hyper),
        "params": dict(fitted.params),
        "forecaster": fitted.forecaster().fingerprint,
        "data_fingerprint": spec.data_fingerprint,
        "code_version": spec.code_version,
        "seed": spec.seed,
    }


def _forecast(
    bars: Mapping[str, Bars],
    settings: TrainerSettings,
    task: tuple[Fold, tuple[Variant, ...]],
    chooser: Chooser,
) -> list[FoldResult]:
    return forecast_fold(bars, settings, *task, chooser)


def kept(
    settings: TrainerSettings, walk: str, result: FoldResult, recipe: str, made_at: datetime
) -> WalkFold:
    """A result as the store keeps it."""
    body = write_parquet(result.rows)
    return WalkFold(
        model=settings.model_name,
        walk=walk,
        kind=result.variant.name,
        start=result.fold.start,
        end=result.fold.end,
        recipe=recipe,
        sha256=sha256_of(body),
        lineage=result.lineage,
        parquet=body,
        made_at=made_at,
    )


def to_do(
    store: Store,
    settings: TrainerSettings,
    walk: str,
    bars: Mapping[str, Bars],
    steps: Sequence[Fold],
    variants: Sequence[Variant],
) -> dict[Fold, dict[Variant, str]]:
    """The variants of each fold that the store does not hold by their recipe, and the recipes."""
    out: dict[Fold, dict[Variant, str]] = {}
    for variant in variants:
        there = {
            f.start: f.recipe for f in store.walk_folds(settings.model_name, walk, variant.name, files=False)
        }
        for fold in steps:
            recipe = recipe_of(bars, settings, variant, fold)
            if there.get(fold.start) != recipe:
                out.setdefault(fold, {})[variant] = recipe
    return dict(sorted(out.items(), key=lambda item: item[0].start))


def run_walk(
    settings: TrainerSettings,
    store: Store,
    bars: Mapping[str, Bars],
    steps: Sequence[Fold],
    variants: Sequence[Variant],
    walk: str,
    jobs: int,
    made_at: datetime,
) -> Iterator[tuple[int, int]]:
    """Do and keep every fold of every variant that is not kept; yields (folds done, folds in all)."""
    open_ = to_do(store, settings, walk, bars, steps, variants)
    done = len(steps) - len(open_)
    yield done, len(steps)
    tasks = [(fold, tuple(recipes)) for fold, recipes in open_.items()]

    def asked(task: tuple[Fold, tuple[Variant, ...]]) -> list[Question]:
        fold, wanted = task
        return [q for v in wanted for q in questions_of(settings, v.kind, fold.start, v.series)]

    for (fold, _variants), results in zip(
        tasks, side_by_side(_forecast, bars, settings, tasks, asked, jobs), strict=True
    ):
        store.save_walk_folds(
            [kept(settings, walk, result, open_[fold][result.variant], made_at) for result in results]
        )
        done += 1
        yield done, len(steps)


class StoredWalk(Mapping[str, WalkRows]):
    """The kinds of a walk that the store keeps, by name; each is read and calibrated when it is asked for."""

    def __init__(
        self,
        store: Store,
        settings: TrainerSettings,
        walk: str,
        steps: Sequence[Fold],
        names: Sequence[str],
        target: Bars,
    ) -> None:
        self._store, self._settings, self._walk = store, settings, walk
        self._steps, self._names, self._target = steps, list(names), target

    def __getitem__(self, name: str) -> WalkRows:
        if name not in self._names:
            raise KeyError(name)
        return rows_of(self._store, self._settings, self._walk, self._steps, name, self._target)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def folds(self, name: str) -> list[WalkFold]:
        """The folds of a kind without their rows, for lineage."""
        starts = {fold.start for fold in self._steps}
        found = self._store.walk_folds(self._settings.model_name, self._walk, name, files=False)
        return [fold for fold in found if fold.start in starts]

    def export(self, folder: Path) -> list[Path]:
        """Write a Parquet file a fold and kind, as they are kept, and `lineage.jsonl` beside them; the files."""
        folder.mkdir(parents=True, exist_ok=True)
        out, lines = [], []
        starts = {fold.start for fold in self._steps}
        for name in self._names:
            for fold in self._store.walk_folds(self._settings.model_name, self._walk, name):
                if fold.start not in starts:
                    continue
                path = folder / f"{re.sub('[^A-Za-z0-9]', '_', name)}-{fold.start:%Y%m%dT%H}.parquet"
                path.write_bytes(fold.parquet)
                out.append(path)
                told = {
                    **fold.lineage, "file": path.name, "kind": name, "start": fold.start.isoformat(), "end": fold.end.isoformat(),
                    "sha256": fold.sha256, "recipe": fold.recipe, "walk": fold.walk,
                }  # fmt: skip
                lines.append(json.dumps(told, sort_keys=True))
        (folder / "lineage.jsonl").write_text("".join(f"{line}\n" for line in lines))
        return out


def rows_of(
    store: Store, settings: TrainerSettings, walk: str, steps: Sequence[Fold], name: str, target: Bars
) -> WalkRows:
    """The rows of one variant over some folds, calibrated on the way.

    Raises:
        DataError: when a fold is missing, or is not what was kept.
    """
    by_start = {f.start: f for f in store.walk_folds(settings.model_name, walk, name)}
    parts = []
    for fold in steps:
        found = by_start.get(fold.start)
        if found is None or found.end != fold.end:
            raise DataError(
                f"the walk has no rows of {name} from {fold.start:%Y-%m-%d} to {fold.end:%Y-%m-%d}; run `hourcast compare`"
            )
        if sha256_of(found.parquet) != found.sha256:
            raise DataError(
                f"the rows of {name} from {fold.start:%Y-%m-%d} are not those that were kept; run it again"
            )
        parts.append(read_parquet(found.parquet))
    return joined(name, parts, target, calibrate=name != "naive")
