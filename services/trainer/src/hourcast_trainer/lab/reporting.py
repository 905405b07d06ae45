"""The skill report of a walk that is kept: what goes into its page, and where the page goes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from math import isfinite

from hourcast import __version__
from hourcast.contracts import IntArray, to_epoch
from hourcast.errors import UnavailableError
from hourcast.store import Store
from hourcast_trainer.datasets import data_fingerprint
from hourcast_trainer.lab.analysis import Analysis, analyse
from hourcast_trainer.lab.backtest import PRODUCTION
from hourcast_trainer.lab.comparing import Comparison, walked
from hourcast_trainer.lab.report import About, Fold, build, title_of
from hourcast_trainer.lab.walk import WalkRows, walk_id
from hourcast_trainer.settings import TrainerSettings

__all__ = ["Report", "kept_comparison", "report_of"]


@dataclass(frozen=True, slots=True)
class Report:
    """A page with its title, and the figures that it tells."""

    title: str
    html: str
    analysis: Analysis

    @property
    def metrics(self) -> dict[str, float]:
        """The headline's figures over each span, by names that MLflow takes: `whole_pinball_ratio`."""
        out = {}
        for part in self.analysis.spans:
            found, name = part.kinds[self.analysis.headline], part.span.name.replace(" ", "_")
            total = found.total
            figures = {
                "hours": float(total.n),
                "pinball_ratio": total.pinball_ratio,
                "pinball_all_ratio": total.pinball_all_ratio,
                "winkler_ratio": total.winkler_ratio,
                "coverage_90": total.coverage_90,
                "rmse_ratio": total.rmse_ratio,
                "mae_ratio": total.mae_ratio,
                "p": found.next_hour.p,
                "promises_met": float(sum(v.met for v in found.verdicts)),
            }
            out.update({f"{name}_{key}": value for key, value in figures.items() if isfinite(value)})
        return out


def kept_comparison(
    settings: TrainerSettings,
    store: Store,
    every_days: int,
    start: datetime | None = None,
    end: datetime | None = None,
    names: Sequence[str] = (),
) -> tuple[Comparison, dict[str, str]]:
    """The walk that the store keeps with these settings: its whole span and every kind, unless told otherwise.

    Returns:
        the walk; and kinds that were left out because they lack folds of the span, with how many they have.

    Raises:
        UnavailableError: when no such walk is kept.
    """
    walk = walk_id(settings, every_days)
    there = {
        kind: store.walk_folds(settings.model_name, walk, kind, files=False)
        for kind in store.walk_kinds(settings.model_name, walk)
        if kind != PRODUCTION
    }
    if "naive" not in there:
        raise UnavailableError(
            f"no walk of {settings.model_name} with a refit every {every_days} days is kept with these settings; "
            "run `hourcast compare` first"
        )
    start = start or there["naive"][0].start
    end = end or there["naive"][-1].end
    if names:
        return walked(settings, store, start, end, every_days, ["naive", *names]), {}
    steps = [
        (fold.start, fold.end) for fold in walked(settings, store, start, end, every_days, ["naive"]).steps
    ]
    whole, lacking = [], {}
    for kind, kept in there.items():
        number = len({(fold.start, fold.end) for fold in kept} & set(steps))
        if number == len(steps):
            whole.append(kind)
        else:
            lacking[kind] = f"{number} of {len(steps)} folds"
    if "naive" in lacking:
        raise UnavailableError(
            f"the walk is kept in part: naive has {lacking['naive']} from {start:%Y-%m-%d} to {end:%Y-%m-%d}; "
            "run `hourcast compare` over that span"
        )
    order = ["naive", *(kind for kind in whole if kind != "naive")]
    return walked(settings, store, start, end, every_days, order), lacking


class _Counted(Mapping[str, WalkRows]):
    """A walk that remembers the origins of what it was asked for."""

    def __init__(self, rows: Mapping[str, WalkRows]) -> None:
        self._rows = rows
        self.origins: dict[str, IntArray] = {}

    def __getitem__(self, kind: str) -> WalkRows:
        found = self._rows[kind]
        self.origins[kind] = found.origin
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def report_of(
    job: Comparison,
    every_days: int,
    untouched_from: datetime | None,
    headline: str | None,
    made_at: datetime,
    notes: Sequence[str] = (),
) -> Report:
    """Analyse a kept walk and write its page.

    Raises:
        DataError: when a fold is not kept, or is not what was kept.
    """
    stored = job.stored
    rows = _Counted(stored)
    analysis = analyse(
        rows,
        untouched_from_s=None if untouched_from is None else to_epoch(untouched_from),
        headline=headline,
    )
    folds = [
        Fold(
            kind=kind,
            start=fold.start,
            end=fold.end,
            trained_through=date.fromisoformat(str(fold.lineage["trained_through"])),
            rows=int(((origin >= to_epoch(fold.start)) & (origin < to_epoch(fold.end))).sum()),
            sha=fold.sha256,
            chosen=fold.lineage.get("hyper", {}),
        )
        for kind, origin in rows.origins.items()
        for fold in stored.folds(kind)
    ]
    about = _about(job, every_days, untouched_from, headline, notes)
    return Report(title_of(analysis, about), build(analysis, about, folds, made_at), analysis)


def _about(
    job: Comparison,
    every_days: int,
    untouched_from: datetime | None,
    headline: str | None,
    notes: Sequence[str],
) -> About:
    settings, symbol = job.settings, job.settings.target.symbol
    first, last = job.steps[0].start, job.steps[-1].end
    kinds = [variant.name for variant in job.variants if variant.name != "naive"]
    every = f"{every_days // 7}w" if every_days % 7 == 0 else f"{every_days}d"
    words = ["hourcast report", f"--from {_hour(first)}", f"--to {_hour(last)}", f"--every {every}"]
    if kinds:
        words.append(f"--kinds {','.join(kinds)}")
    if untouched_from is not None:
        words.append(f"--untouched-from {_hour(untouched_from)}")
    if headline is not None:
        words.append(f"--headline {headline}")
    rolling = settings.train_window == "rolling"
    return About(
        symbol=symbol,
        currency=symbol.partition("/")[2] or "quote currency",
        refit=f"every {every_days} days; each fold is forecast by models that were fitted before it began",
        window=f"rolling: the last {settings.train_days} days"
        if rolling
        else "expanding: all bars up to then",
        embargo=f"{settings.embargo_h} hours are left out after the training span, before what a model is measured on",
        chosen="hyperparameters once a quarter, on the last weeks of what was known then",
        data_fingerprint=data_fingerprint(job.bars, 0, to_epoch(last)),
        code_version=__version__,
        command=" ".join(words),
        synthetic=settings.synthetic,
        notes=notes,
    )


def _hour(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}" if (moment.hour, moment.minute) == (0, 0) else f"{moment:%Y-%m-%dT%H:%MZ}"
