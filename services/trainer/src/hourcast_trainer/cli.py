"""`hourcast train | features`."""

import logging
import signal
import threading
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hourcast.contracts import alias_kind, parse_hour
from hourcast.errors import ConfigurationError, HourcastError, RefusedError, UnavailableError
from hourcast.patience import keep_trying, stopping

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hourcast.store import Store
    from hourcast_trainer.settings import TrainerSettings

__all__ = ["features", "moment", "opened", "train"]

_LOG = logging.getLogger("hourcast.trainer")
_PAUSE_S = 5.0


def moment(_context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """An option's value as an hour; a callback of click.

    Raises:
        BadParameter: when it is none.
    """
    if value is None:
        return None
    try:
        return parse_hour(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None


def opened() -> "tuple[TrainerSettings, Store]":
    """Settings, and the store until the command ends.

    Raises:
        ConfigurationError: when a setting is wrong.
    """
    from hourcast.store import open_store
    from hourcast_trainer.settings import TrainerSettings

    settings = TrainerSettings.load()
    logging.getLogger().setLevel(settings.log_level)
    # MLflow tells at INFO what we tell better.
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    for name in ("urllib3", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)
    store = open_store(settings.resolved_database_url)
    click.get_current_context().call_on_close(store.close)
    return settings, store


@click.command()
@click.option(
    "--as-of", callback=moment, help="train as if it were this hour (default: now, by HOURCAST_CLOCK)"
)
@click.option("--watch", is_flag=True, help="stay, and train whenever it is due")
@click.option(
    "--wait",
    "wait_s",
    default=0.0,
    type=click.FloatRange(0, 86_400),
    help="seconds to try again while bars, store or MLflow are not there",
)
def train(as_of: datetime | None, watch: bool, wait_s: float) -> None:
    """Train, check and register a version when one is due; ends with 0 also when nothing is due."""
    settings, store = opened()
    if watch:
        if as_of is not None:
            raise ConfigurationError("--as-of and --watch exclude each other: a watch follows HOURCAST_CLOCK")
        if wait_s:
            raise ConfigurationError("--wait and --watch exclude each other: a watch tries again by itself")
        _watch(settings, store)
        return
    from hourcast.clock import clock_from
    from hourcast_trainer.registry import Registry
    from hourcast_trainer.training import Outcome, train_once

    clock = clock_from(settings.clock, store.clock)
    registry: list[Registry] = []

    def attempt() -> Outcome:
        if not registry:
            registry.append(Registry(settings))
        # The clock is read anew: while it was waited, an hour may have passed.
        return train_once(settings, store, registry[0], as_of or clock.now(), click.echo)

    outcome = keep_trying(attempt, wait_s, stopping(), _PAUSE_S, lambda line: click.echo(line, err=True))
    click.echo(outcome.message)


def _watch(settings: "TrainerSettings", store: "Store") -> None:
    """Look at the clock, train what is due, until told to stop."""
    from hourcast.clock import clock_from
    from hourcast_trainer.calendar import plan_of
    from hourcast_trainer.registry import Registry
    from hourcast_trainer.training import train_once

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    clock = clock_from(settings.clock, store.clock)
    registry: Registry | None = None
    told, idle_for = "", None
    while not stop.is_set():
        try:
            moment = clock.now()
            plan = plan_of(moment, settings)
            # Within one UTC day the answer "nothing due" stays the same.
            if plan.trained_through != idle_for:
                registry = registry or Registry(settings)
                outcome = train_once(settings, store, registry, moment, lambda line: _LOG.info("%s", line))
                if outcome.status == "nothing due":
                    idle_for = plan.trained_through
                _LOG.info("%s", outcome.message)
                told = ""
        except HourcastError as error:
            if str(error) != told:
                _LOG.warning("%s", error)
                told = str(error)
            if not isinstance(error, UnavailableError):
                stop.wait(30)
        stop.wait(settings.train_poll_s)


@click.command()
@click.option(
    "--as-of", callback=moment, help="what was known at this moment (default: now, by HOURCAST_CLOCK)"
)
@click.option("--from", "start", required=True, callback=moment, help="first hour, e.g. 2025-06-26")
@click.option("--to", "end", required=True, callback=moment, help="end, exclusive")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Parquet file")
@click.option("--alias", help="whose features (default: the newest alias of production)")
def features(as_of: datetime | None, start: datetime, end: datetime, out: Path, alias: str | None) -> None:
    """Write the features that a model saw, an hour a row, with the fingerprint that its forecasts carry."""
    from hourcast.clock import clock_from
    from hourcast.contracts import to_epoch
    from hourcast.forecaster import load
    from hourcast_trainer.registry import Registry
    from hourcast_trainer.table import feature_table, write_table

    if start >= end:
        raise click.BadParameter(f"--from {start:%Y-%m-%d %H:%M} must lie before --to {end:%Y-%m-%d %H:%M}")
    settings, store = opened()
    moment = as_of or clock_from(settings.clock, store.clock).now()
    gone = store.forgotten("bar_revisions")
    if gone is not None and moment < gone:
        raise RefusedError(
            f"what was known at {moment:%Y-%m-%d %H:%M} is not kept any more: revisions of bars before {gone:%Y-%m-%d %H:%M} have "
            "gone (HOURCAST_RECORDS_KEEP_DAYS); name a later --as-of"
        )
    registry = Registry(settings, "features")
    registry.ready()
    with registry.answering():
        name, version = _version_of(registry.aliases(), alias)
        forecaster = load(registry.forecaster_of(version))
    bars = store.read_recorded(settings.model_name, forecaster.symbols, known_at=moment, as_of=as_of)
    table = feature_table(forecaster, bars, to_epoch(start), to_epoch(end))
    about = {
        "model": settings.model_name,
        "version": str(version),
        "alias": name,
        "as_of": moment.isoformat(),
    }
    out.write_bytes(write_table(table, about))
    usable, recorded = table.usable, table.recorded
    click.echo(
        f"{out}: {len(usable)} hours of version {version} (alias {name}) as of {moment:%Y-%m-%d %H:%M} UTC, "
        f"{int(usable.sum())} usable, {int((usable & recorded).sum())} of them as recorded, the others reconstructed"
    )


def _version_of(aliases: "Mapping[str, int]", alias: str | None) -> tuple[str, int]:
    """The alias that was asked for, or the newest of production, and its version."""
    dated = sorted(name for name in aliases if alias_kind(name) == "date")
    if alias is None and not dated:
        raise UnavailableError("no version has an alias yet; run `hourcast train`")
    name = alias or dated[-1]
    if name not in aliases:
        raise RefusedError(
            f"there is no alias {name!r}; the newest are {', '.join(reversed(dated[-5:])) or 'none yet'}"
        )
    return name, aliases[name]
