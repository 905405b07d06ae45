"""`hourcast up`."""

import logging
from pathlib import Path

import click

__all__ = ["up"]


@click.command()
@click.option(
    "--source", help="live, files:DIR or sample (default: live, or sample where no exchange can be reached)"
)
@click.option("--as-of", "as_of", help="freeze the clock at this hour (default for files: the newest bar's)")
@click.option("--replay", help="play this much history forward, e.g. 8w")
@click.option("--state-dir", type=click.Path(path_type=Path), help="folder for everything that is kept")
@click.option("--dashboard/--no-dashboard", default=True, show_default=True)
@click.option("--exit-when-ready", is_flag=True, help="stop everything once it is ready (for checks)")
def up(
    source: str | None,
    as_of: str | None,
    replay: str | None,
    state_dir: Path | None,
    dashboard: bool,
    exit_when_ready: bool,
) -> None:
    """Run everything on this machine: bars, training, registry, serving, dashboard. Ctrl-C stops it all."""
    from rich.console import Console

    from hourcast_local.choices import Options
    from hourcast_local.settings import LocalSettings
    from hourcast_local.up import run

    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings = LocalSettings.load(**({"state_dir": state_dir} if state_dir else {}))
    run(settings, Options(source, as_of, replay, dashboard, exit_when_ready), Console())
