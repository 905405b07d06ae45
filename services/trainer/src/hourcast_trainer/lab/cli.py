"""`hourcast backtest | compare | report`."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hourcast.errors import ConfigurationError, UnavailableError
from hourcast.patience import stopping
from hourcast_trainer.cli import moment, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hourcast.store import Store
    from hourcast_trainer.lab.backtest import BacktestReport
    from hourcast_trainer.settings import TrainerSettings

__all__ = ["backtest", "compare", "report"]

_LOG = logging.getLogger("hourcast.trainer")
_TELL_S = 20.0


def _every(_context: click.Context, parameter: click.Parameter, value: str) -> int:
    units = {"d": 1, "w": 7}
    if value[:-1].isdigit() and value[-1:] in units and int(value[:-1]) > 0:
        return int(value[:-1]) * units[value[-1]]
    raise click.BadParameter(f"{value!r} is not a span; write it as 1w or 3d", param=parameter)


def _shard(_context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    index, _, number = value.partition("/")
    if index.isdigit() and number.isdigit() and int(index) < int(number):
        return int(index), int(number)
    raise click.BadParameter(
        f"{value!r} is not a shard; write it as I/N with I from 0 to N-1, such as 0/4", param=parameter
    )


@click.command()
@click.option(
    "--from", "start", required=True, callback=moment, help="first hour that is forecast, e.g. 2024-06-06"
)
@click.option("--to", "end", required=True, callback=moment, help="end, exclusive")
@click.option(
    "--every", "every_days", default="1w", show_default=True, callback=_every, help="time between trainings"
)
@click.option(
    "--jobs", default=2, show_default=True, type=click.IntRange(1, 64), help="trainings side by side"
)
@click.option("--json", "as_json", is_flag=True, help="figures as JSON")
@click.option(
    "--shard",
    callback=_shard,
    help="do only each N-th week, beginning with the I-th: I/N, I from 0; shards run side by side",
)
def backtest(
    start: datetime, end: datetime, every_days: int, jobs: int, as_json: bool, shard: tuple[int, int] | None
) -> None:
    """Walk forward: train as production would have, week by week, and compare with "the price stays"."""
    import json

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from hourcast_trainer.lab.backtest import remaining, report, run_backtest
    from hourcast_trainer.lab.deciding import decide_weeks
    from hourcast_trainer.registry import Registry

    settings, store = opened()
    store.upgrade()
    _check_span(settings, store, start, end)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    stopping()
    # One process for a shard at a time; shards do different weeks and need not know of each other.
    name = "backtest" if shard is None else f"backtest-{shard[0]}-of-{shard[1]}"
    with store.exclusive(name), Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task, registry = bar.add_task("back-test", total=None), Registry(settings, name)
        for week, done, total in run_backtest(settings, store, registry, start, end, every_days, jobs, shard):
            bar.update(task, completed=done, total=total, description=f"back-test {week.alias}")
            if not bar.console.is_terminal:
                _LOG.info("%s: %d of %d weeks", week.alias, done, total)
    left = remaining(settings, store, start, end, every_days)
    if shard is not None and left:
        click.echo(
            f"shard {shard[0]} of {shard[1]} is done; {left} weeks of other shards are left, and the last prints the report"
        )
        return
    decide_weeks(settings, store, registry, start, end, every_days)
    result = report(store, settings, start, end, every_days)
    if as_json:
        both = {
            "model": result.model.as_dict(),
            "naive": result.naive.as_dict(),
            "months": {
                m: {"model": a.as_dict(), "naive": b.as_dict()} for m, (a, b) in result.months.items()
            },
            "weeks_by_model": result.models,
            "weeks_by_floor": result.floors,
            "synthetic": settings.synthetic,
        }
        click.echo(json.dumps(both, indent=1))
        return
    _show(result, settings, start, end)


@click.command()
@click.option(
    "--from", "start", required=True, callback=moment, help="first hour that is forecast, e.g. 2024-03-07"
)
@click.option("--to", "end", required=True, callback=moment, help="end, exclusive")
@click.option(
    "--every", "every_days", default="1w", show_default=True, callback=_every, help="time between refits"
)
@click.option(
    "--kinds",
    default="",
    help="kinds of model beside the naive floor (default: all that can be served); `boosting+QQQ` is boosting that looks at QQQ as well",
)
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1, 64), help="folds side by side")
@click.option(
    "--shard", callback=_shard, help="do only each N-th fold, beginning with the I-th: I/N, I from 0"
)
@click.option("--untouched-from", callback=moment, help="first hour at which nobody looked while choosing")
@click.option(
    "--export", type=click.Path(file_okay=False, path_type=Path), help="folder for the rows as Parquet files"
)
@click.option("--json", "as_json", is_flag=True, help="figures as JSON")
def compare(
    start: datetime,
    end: datetime,
    every_days: int,
    kinds: str,
    jobs: int,
    shard: tuple[int, int] | None,
    untouched_from: datetime | None,
    export: Path | None,
    as_json: bool,
) -> None:
    """Walk every kind of model over the same folds, and say which is worth serving.

    Needs the store alone. What is done is kept: the same again only reads, a longer span adds folds, a kill loses one.
    """
    import json

    from hourcast_trainer.lab.comparing import show, walked
    from hourcast_trainer.lab.walk import to_do
    from hourcast_trainer.models import trainable

    settings, store = opened()
    store.upgrade()
    _check_span(settings, store, start, end)
    stopping()
    names = [name.strip() for name in kinds.split(",") if name.strip() and name.strip() != "naive"]
    job = walked(settings, store, start, end, every_days, ["naive", *(names or trainable())])
    name = "compare" if shard is None else f"compare-{shard[0]}-of-{shard[1]}"
    with store.exclusive(name):
        _follow(job.run(jobs, shard), "folds")
    left = to_do(store, settings, job.walk, job.bars, job.steps, job.variants)
    if shard is not None and left:
        click.echo(
            f"shard {shard[0]} of {shard[1]} is done; {len(left)} folds of other shards are left, and the last prints the figures"
        )
        return
    if export is not None:
        files = job.stored.export(export)
        click.echo(f"{len(files)} files and lineage.jsonl are in {export}", err=True)
    from hourcast_trainer.lab.analysis import analyse

    analysis = analyse(
        job.stored, untouched_from_s=None if untouched_from is None else int(untouched_from.timestamp())
    )
    if as_json:
        click.echo(
            json.dumps(analysis.as_dict() | {"walk": job.walk, "synthetic": settings.synthetic}, indent=1)
        )
        return
    show(analysis, settings)


@click.command()
@click.option("--from", "start", callback=moment, help="first hour (default: where the kept walk begins)")
@click.option("--to", "end", callback=moment, help="end, exclusive (default: where the kept walk ends)")
@click.option(
    "--every", "every_days", default="1w", show_default=True, callback=_every, help="time between refits"
)
@click.option(
    "--kinds", default="", help="kinds of model beside the naive floor (default: all that are kept)"
)
@click.option("--untouched-from", callback=moment, help="first hour at which nobody looked while choosing")
@click.option(
    "--headline", help="kind that the page is about (default: the best on the hours before --untouched-from)"
)
@click.option("--note", "notes", multiple=True, help="a sentence that the page shows; may be given again")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="file for the page",
)
@click.option("--mlflow/--no-mlflow", default=True, show_default=True, help="keep the page in MLflow as well")
def report(
    start: datetime | None,
    end: datetime | None,
    every_days: int,
    kinds: str,
    untouched_from: datetime | None,
    headline: str | None,
    notes: tuple[str, ...],
    out: Path,
    mlflow: bool,
) -> None:
    """Write the skill report of the walk that `hourcast compare` left: one HTML page that needs no other file.

    It is kept in the store, where the API and the dashboard find it, and in MLflow.
    """
    from hourcast.clock import clock_from
    from hourcast_trainer.lab.reporting import kept_comparison, report_of

    settings, store = opened()
    store.upgrade()
    names = [name.strip() for name in kinds.split(",") if name.strip() and name.strip() != "naive"]
    job, lacking = kept_comparison(settings, store, every_days, start, end, names)
    for kind, told in lacking.items():
        click.echo(f"{kind} is left out: it has {told}", err=True)
    made_at = clock_from(settings.clock, store.clock).now()
    made = report_of(job, every_days, untouched_from, headline, made_at, notes)
    out.write_text(made.html, encoding="utf-8")
    store.save_report(settings.model_name, made_at, made.title, made.html)
    click.echo(
        f"{out}: {len(made.html.encode()) / 1e6:.2f} MB, kept in the store as {settings.model_name}'s report"
    )
    for span in made.analysis.spans:
        found = span.kinds[made.analysis.headline]
        met = sum(v.met for v in found.verdicts)
        click.echo(
            f"{made.analysis.headline}, {span.span.name} span, {found.total.n:,} hours: pinball loss "
            f"{found.total.pinball_ratio - 1:+.2%} at 1 h (p {found.next_hour.p:.1g}), {found.total.pinball_all_ratio - 1:+.2%} over all "
            f"horizons, Winkler {found.total.winkler_ratio - 1:+.2%}, in 90 %: {found.total.coverage_90:.1%}; "
            f"{met} of {len(found.verdicts)} promises met"
        )
    if mlflow:
        from hourcast_trainer.registry import Registry

        registry = Registry(settings, "report")
        registry.ready()
        with registry.answering():
            registry.clear_interrupted()
            run_id = registry.keep_report(made.title, made.html, made.analysis.as_dict(), made.metrics)
        click.echo(f"kept in MLflow as run {run_id}")


def _follow(steps: "Iterator[tuple[int, int]]", what: str) -> None:
    """Show (done, in all) as it goes: a bar with the time left on a terminal, else a line now and then."""
    import time

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    began, first, told = time.monotonic(), None, time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        for done, total in steps:
            bar.update(task, completed=done, total=total)
            first = done if first is None else first
            now = time.monotonic()
            if not bar.console.is_terminal and (now - told > _TELL_S or done == total):
                told = now
                left = (now - began) / max(done - first, 1) * (total - done)
                _LOG.info("%d of %d %s, about %d min left", done, total, what, round(left / 60))


def _check_span(settings: "TrainerSettings", store: "Store", start: datetime, end: datetime) -> None:
    symbol = settings.target.symbol
    known = next(iter(store.freshness([symbol])), None)
    if known is None or known.last_close is None or known.first_open is None:
        raise UnavailableError(f"there are no bars of {symbol}; run `hourcast etl run` first")
    from hourcast_trainer.models import MODELS

    need = timedelta(days=settings.gate_days, hours=MODELS["naive"].history_h(settings) + 1)
    if start < known.first_open + need:
        raise ConfigurationError(
            f"--from {start:%Y-%m-%d} is too early: bars of {symbol} begin at {known.first_open:%Y-%m-%d}, "
            f"and the first training needs {need.days + 1} days; start at {known.first_open + need + timedelta(days=1):%Y-%m-%d} or later"
        )
    if end > known.last_close:
        raise ConfigurationError(
            f"--to {end:%Y-%m-%d %H:%M} is too late: the newest bar of {symbol} closed at "
            f"{known.last_close.astimezone(UTC):%Y-%m-%d %H:%M}"
        )


def _show(result: "BacktestReport", settings: "TrainerSettings", start: datetime, end: datetime) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    title = f"{settings.target.symbol}, one hour ahead, {start:%Y-%m-%d} to {end:%Y-%m-%d}"
    if settings.synthetic:
        title += " (SYNTHETIC BARS)"
    # Ten columns within the 80 of a plain terminal.
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("month", no_wrap=True)
    table.add_column("hours", justify="right", no_wrap=True)
    for name in ("RMSE", "MAE", "pinball", "in 90 %"):
        table.add_column(name, justify="right", no_wrap=True)
        table.add_column("naive", justify="right", style="dim", no_wrap=True)
    rows = [*result.months.items(), ("all", (result.model, result.naive))]
    for i, (name, (ours, naive)) in enumerate(rows):
        if i == len(rows) - 1:
            table.add_section()
        cells = [name, str(ours.n)]
        for figure, form in (("rmse", ",.1f"), ("mae", ",.1f"), ("pinball", ",.2f"), ("coverage_90", ".1%")):
            cells += [format(getattr(part, figure), form) for part in (ours, naive)]
        table.add_row(*cells)
    console.print(table)
    console.print(
        f"Pinball loss against naive: {result.model.pinball / result.naive.pinball:.4f}. "
        f"{result.models} weeks were forecast by a model, {result.floors} by the naive floor.\n"
        "naive: the price stays, with the quantiles of the last 30 days around it. Figures are in quote currency."
    )
