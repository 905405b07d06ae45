"""`hourcast etl run | backfill | gaps | status`."""

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from hourcast.contracts import parse_hour
from hourcast.errors import ConfigurationError, HourcastError, RefusedError, UnavailableError
from hourcast.patience import keep_trying, stopping

if TYPE_CHECKING:
    from hourcast.clock import Clock
    from hourcast.store import Hour, Store
    from hourcast_etl.engine import Engine, Progress, RunReport
    from hourcast_etl.settings import EtlSettings

__all__ = ["etl", "pause_before_next_look_s"]

_LOG = logging.getLogger("hourcast.etl")
_PARTIAL = 3
_PAUSE_S = 5.0
_AGAIN_S = 20.0
_LATE_S = 60.0
_TICK_S = 0.01


@click.group()
def etl() -> None:
    """Collect bars."""


def _moment(_context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    try:
        return None if value is None else parse_hour(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None


def _open() -> "tuple[EtlSettings, Store, Clock]":
    from hourcast.clock import clock_from
    from hourcast.store import open_store
    from hourcast_etl.settings import EtlSettings

    settings = EtlSettings.load()
    logging.getLogger().setLevel(settings.log_level)
    store = open_store(settings.resolved_database_url)
    click.get_current_context().call_on_close(store.close)
    return settings, store, clock_from(settings.clock, store.clock)


@contextmanager
def _progress() -> "Iterator[Progress]":
    """A bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _symbol, _done, _total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed} bars"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def update(symbol: str, done: int, total: int) -> None:
            if symbol not in tasks:
                tasks[symbol] = bar.add_task(symbol, total=total)
            bar.update(tasks[symbol], completed=done, total=max(total, done))

        yield update


def _tell(report: "RunReport") -> None:
    for s in report.series:
        extra = f", {s.duplicates} twice" if s.duplicates else ""
        extra += f", {s.quarantined} into quarantine" if s.quarantined else ""
        click.echo(
            f"{s.symbol}: {s.status}, {s.inserted} new, {s.revised} revised of {s.fetched} fetched from {s.source}{extra}"
        )
    for hour in report.closed:
        click.echo(_closed(hour))


def _closed(hour: "Hour") -> str:
    given_up = f" without {', '.join(hour.given_up)}" if hour.given_up else ""
    return f"hour {hour.hour:%Y-%m-%d %H:%M} UTC: closed{given_up}"


@etl.command()
@click.option("--watch", is_flag=True, help="stay, and fetch each new bar")
@click.option("--symbol", "symbols", multiple=True, help="only this series (repeat for more)")
@click.option(
    "--wait",
    "wait_s",
    default=0.0,
    type=click.FloatRange(0, 86_400),
    help="seconds to try again while the store or the sources do not answer",
)
def run(watch: bool, symbols: tuple[str, ...], wait_s: float) -> None:
    """Fetch what is new. Ends with 0 when all came, 3 when only part did (the reason is in `ingest_runs`)."""
    from hourcast_etl.engine import Engine

    settings, store, clock = _open()
    _known(settings, symbols)
    if watch:
        if wait_s:
            raise ConfigurationError("--wait and --watch exclude each other: a watch tries again by itself")
        _watch(settings, store, clock, symbols)
        return

    stop = stopping()

    def attempt() -> "RunReport":
        store.upgrade()
        engine = Engine(settings, store, clock, stop)
        with _progress() as progress:
            report = engine.run(symbols, progress=progress)
        _tell(report)
        report = _until_closed(engine, clock, stop, report)
        if not report.complete:
            raise _PartialRunError(_why_partial(report, settings), report)
        return report

    try:
        keep_trying(attempt, wait_s, stop, _PAUSE_S, lambda line: click.echo(line, err=True))
    except _PartialRunError as partial:
        click.echo(f"hourcast: {partial}", err=True)
        sys.exit(_PARTIAL)


def _until_closed(
    engine: "Engine", clock: "Clock", stop: threading.Event, report: "RunReport"
) -> "RunReport":
    """Look again for the bars that the newest hour lacks, until it is closed or its deadline has passed."""
    while report.deadline is not None and not stop.is_set():
        left_s = (report.deadline - clock.now()).total_seconds()
        if left_s < 0:
            click.echo(f"the newest hour stays open: there is no bar of {', '.join(report.lacking)} yet")
            break
        stop.wait(min(_AGAIN_S, left_s + _TICK_S))
        again = engine.run(report.lacking)
        _tell(again)
        others = (s for s in report.series if s.symbol not in {a.symbol for a in again.series})
        report = replace(again, series=(*others, *again.series))
    return report


def _why_partial(report: "RunReport", settings: "EtlSettings") -> str:
    from hourcast_etl.sources.catalogue import no_market_data

    unreachable = report.failed and settings.source == "live"
    reason = no_market_data(report.reason) if unreachable else report.reason
    return f"the run is partial: {reason}"


class _PartialRunError(UnavailableError):
    """What a run brought is stored; the rest may come with another one."""

    def __init__(self, message: str, report: "RunReport") -> None:
        super().__init__(message)
        self.report = report


def _known(settings: "EtlSettings", symbols: tuple[str, ...]) -> None:
    known = [s.symbol for s in settings.series]
    for symbol in symbols:
        if symbol not in known:
            raise RefusedError(f"there is no series {symbol!r}; there are {', '.join(known)}")


def _watch(settings: "EtlSettings", store: "Store", clock: "Clock", symbols: tuple[str, ...]) -> None:
    """Fetch when an hour has passed, until told to stop; a partial run is tried again within minutes."""
    from hourcast_etl.engine import Engine

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    engine: Engine | None = None
    done: datetime | None = None
    begun: datetime | None = None
    told, retry_at, wanted = "", 0.0, symbols
    while not stop.is_set():
        try:
            if engine is None:
                store.upgrade()
                engine = Engine(settings, store, clock, stop)
            hour = clock.now().replace(minute=0, second=0, microsecond=0)
            if hour != begun:
                begun, wanted = hour, symbols
            if hour != done and time.monotonic() >= retry_at:
                report = engine.run(wanted)
                _log(report)
                pause_s = pause_before_next_look_s(report, settings, clock.now())
                if pause_s is None:
                    done = hour
                else:
                    retry_at = time.monotonic() + pause_s
                    # While sources fail all are asked again; otherwise only what has not come yet.
                    wanted = symbols if report.failed else report.lacking
            told = ""
        except HourcastError as error:
            if str(error) != told:
                _LOG.warning("%s", error)
                told = str(error)
            if not isinstance(error, UnavailableError):
                stop.wait(10)
        stop.wait(settings.etl_poll_s)


def _log(report: "RunReport") -> None:
    for s in report.series:
        if report.complete and (s.inserted or s.revised):
            _LOG.info("%s: %d new, %d revised", s.symbol, s.inserted, s.revised)
    for hour in report.closed:
        if hour.given_up:
            _LOG.warning("%s", _closed(hour))


def pause_before_next_look_s(report: "RunReport", settings: "EtlSettings", now: datetime) -> float | None:
    """Seconds until a watch looks again for what this hour lacks; None when it lacks nothing that may come."""
    partial_s = None if not report.failed else (60.0 if settings.source == "live" else 5.0)
    if report.deadline is None:
        return partial_s
    left_s = (report.deadline - now).total_seconds()
    # The target alone keeps an hour open beyond the deadline.
    late_s = min(_AGAIN_S, left_s + _TICK_S) if left_s >= 0 else _LATE_S
    return late_s if partial_s is None else min(partial_s, late_s)


@etl.command()
@click.option("--from", "start", required=True, callback=_moment, help="first hour, e.g. 2025-06-26")
@click.option("--to", "end", required=True, callback=_moment, help="end, exclusive")
@click.option("--symbol", "symbols", multiple=True, help="only this series (repeat for more)")
def backfill(start: datetime, end: datetime, symbols: tuple[str, ...]) -> None:
    """Fetch a span again: gaps are filled, revisions taken over, nothing is lost."""
    from hourcast_etl.engine import Engine

    if start >= end:
        raise click.BadParameter(f"--from {start:%Y-%m-%d %H:%M} must lie before --to {end:%Y-%m-%d %H:%M}")
    settings, store, clock = _open()
    _known(settings, symbols)
    store.upgrade()
    with _progress() as progress:
        report = Engine(settings, store, clock).run(symbols, (start, end), progress)
    _tell(report)
    if not report.complete:
        click.echo(f"hourcast: the run is partial: {report.reason}", err=True)
        sys.exit(_PARTIAL)


@etl.command()
@click.option(
    "--days", default=30, show_default=True, type=click.IntRange(1, 3650), help="how far back to look"
)
@click.option("--json", "as_json", is_flag=True, help="for programs")
def gaps(days: int, as_json: bool) -> None:
    """List bars that are missing by each market's own hours."""
    from hourcast_etl.hours import find_gaps

    settings, store, clock = _open()
    now = clock.now()
    found = []
    for series in settings.series:
        stored = store.read_bars(series.symbol, known_at=now)
        start = now - timedelta(days=days)
        if settings.source == "live":
            # What was asked for at the first load is owed, whether its source gave it or not.
            start = max(start, now - timedelta(days=settings.etl_days))
        elif len(stored):
            start = max(start, datetime.fromtimestamp(int(stored.open_time[0]), UTC))
        else:
            continue
        found += find_gaps(series, stored.open_time, start, now - timedelta(hours=1, seconds=-1))
    if as_json:
        click.echo(json.dumps([asdict(g) for g in found], default=lambda t: t.isoformat(), indent=1))
        return
    for g in found:
        click.echo(
            f"{g.symbol}: {g.missing} missing, {g.start:%Y-%m-%d %H:%M} to {g.last:%Y-%m-%d %H:%M} UTC"
        )
    if found:
        first, last = min(g.start for g in found), max(g.last for g in found) + timedelta(hours=1)
        click.echo(
            f"fill them: hourcast etl backfill --from {first:%Y-%m-%dT%H:%M} --to {last:%Y-%m-%dT%H:%M}"
        )
    else:
        click.echo(f"no gaps in the last {days} days")


@etl.command()
@click.option("--json", "as_json", is_flag=True, help="for programs")
def status(as_json: bool) -> None:
    """How fresh each series is, and how the last runs went."""
    settings, store, clock = _open()
    now = clock.now()
    symbols = [series.symbol for series in settings.series]
    fresh = {f.symbol: f for f in store.freshness(symbols, known_at=now)}
    counts = store.bar_counts(symbols, known_at=now)
    runs = store.ingest_runs(8)
    quarantined = store.quarantined()
    if as_json:
        body = {
            "now": now,
            "series": [asdict(f) | {"count": counts[f.symbol]} for f in fresh.values()],
            "runs": [asdict(r) for r in runs],
            "quarantined": [asdict(q) for q in quarantined],
        }
        click.echo(json.dumps(body, default=lambda t: t.isoformat(), indent=1))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("series", "bars", "first", "newest close (UTC)", "age", "source"):
        table.add_column(name, no_wrap=True)
    for series in settings.series:
        f = fresh.get(series.symbol)
        if f is None or f.last_close is None or f.first_open is None:
            table.add_row(series.symbol, "0", "", "", "", "none yet")
            continue
        age = (now - f.last_close).total_seconds() / 3600
        table.add_row(
            series.symbol, f"{counts[f.symbol]:,}", f"{f.first_open:%Y-%m-%d}", f"{f.last_close:%Y-%m-%d %H:%M}",
            f"{age:.1f} h", f.source or "",
        )  # fmt: skip
    console.print(table)
    for r in runs:
        why = f": {r.reason}" if r.reason else ""
        console.print(
            f"{r.started_at:%Y-%m-%d %H:%M} {r.symbol} from {r.source}: {r.status}, {r.inserted} new, {r.revised} revised{why}",
            highlight=False,
        )
    if quarantined:
        console.print(f"{len(quarantined)} rows are in quarantine; `hourcast etl status --json` lists them")
