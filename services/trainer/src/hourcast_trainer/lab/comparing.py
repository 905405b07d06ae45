"""Kinds of model over the same folds, and the table that says which is worth serving."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from hourcast.contracts import Bars, from_epoch
from hourcast.store import Store
from hourcast_trainer.lab.analysis import Analysis, SpanResult
from hourcast_trainer.lab.walk import (
    Fold,
    StoredWalk,
    Variant,
    folds,
    run_walk,
    variants_of,
    walk_id,
)
from hourcast_trainer.settings import TrainerSettings
from hourcast_trainer.training import read_bars

__all__ = ["Comparison", "show", "walked"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A walk of some variants: its bars and folds, how to do it, and what is kept of it."""

    settings: TrainerSettings
    store: Store
    bars: dict[str, Bars]
    steps: Sequence[Fold]
    variants: Sequence[Variant]
    walk: str

    def run(self, jobs: int, shard: tuple[int, int] | None = None) -> Iterator[tuple[int, int]]:
        """Do what is not kept; yields (folds done, folds in all), of the shard where one is given."""
        steps = self.steps if shard is None else self.steps[shard[0] :: shard[1]]
        return run_walk(
            self.settings, self.store, self.bars, steps, self.variants, self.walk, jobs, datetime.now(UTC)
        )

    @property
    def stored(self) -> StoredWalk:
        """What is kept."""
        target = self.bars[self.settings.target.symbol]
        names = [variant.name for variant in self.variants]
        return StoredWalk(self.store, self.settings, self.walk, self.steps, names, target)


def walked(
    settings: TrainerSettings,
    store: Store,
    start: datetime,
    end: datetime,
    every_days: int,
    names: Sequence[str],
) -> Comparison:
    """The walk of `names` over [start, end), with the bars that were known at its end.

    Raises:
        ConfigurationError: when a name is unknown or the span is empty.
    """
    return Comparison(
        settings,
        store,
        read_bars(store, settings, end),
        folds(start, end, every_days, settings),
        variants_of(names, settings),
        walk_id(settings, every_days),
    )


def show(analysis: Analysis, settings: TrainerSettings) -> None:
    """Print the kinds side by side over each span, what the headline's figures promise, and the ablations."""
    from rich.console import Console

    console = Console()
    for span in analysis.spans:
        console.print(_table(span, analysis, settings))
    from rich import box
    from rich.table import Table

    for span in analysis.spans:
        found = span.kinds[analysis.headline]
        table = Table(
            title=f"{analysis.headline}, {_told(span)}",
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for name in ("promise", "measured", "limit", ""):
            table.add_column(name)
        for verdict in found.verdicts:
            where = f" ({verdict.where})" if verdict.where else ""
            table.add_row(
                verdict.promise,
                verdict.told + where,
                verdict.limit,
                "met" if verdict.met else "[bold]NOT MET[/]",
            )
        console.print(table)
    for ablation in analysis.ablations:
        parts = [
            f"{name}: 1 h {figures.gain_next_hour:+.2%} (p {figures.p_next_hour:.2g}), "
            f"all horizons {figures.gain_all:+.2%} (p {figures.p_all:.2g})"
            for name, figures in ablation.spans.items()
        ]
        console.print(
            f"{ablation.part} in {ablation.base} lowers the pinball loss by: {'; '.join(parts)}",
            highlight=False,
        )
    console.print(
        f"Ratios are to {analysis.reference}: the last close with the quantiles of the last 720 hours' returns of the same horizon "
        "around it, below 1 is better; 1 h: one hour ahead; all: mean over horizons 1 to 24. p: one-sided "
        "Diebold–Mariano, HAC.",
        highlight=False,
    )


def _told(span: SpanResult) -> str:
    start, end = from_epoch(span.span.start_s), from_epoch(span.span.end_s)
    return f"{span.span.name} span {start:%Y-%m-%d} to {end:%Y-%m-%d}"


def _table(span: SpanResult, analysis: Analysis, settings: TrainerSettings) -> "object":
    from rich import box
    from rich.table import Table

    hours = span.kinds[analysis.reference].total.n
    title = f"{settings.target.symbol}, {_told(span)}, {hours:,} hours"
    if settings.synthetic:
        title += " (SYNTHETIC BARS)"
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("kind", no_wrap=True)
    for name in ("pinball 1 h", "p", "all", "Winkler 90", "in 90 %", "RMSE", "MAE"):
        table.add_column(name, justify="right", no_wrap=True)
    for kind, found in span.kinds.items():
        total = found.total
        p = "" if kind == analysis.reference else f"{found.next_hour.p:.1g}"
        table.add_row(
            kind, f"{total.pinball_ratio:.4f}", p, f"{total.pinball_all_ratio:.4f}", f"{total.winkler_ratio:.4f}",
            f"{total.coverage_90:.1%}", f"{total.rmse_ratio:.4f}", f"{total.mae_ratio:.4f}",
        )  # fmt: skip
    return table
