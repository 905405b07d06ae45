"""`hourcast`: one command whose parts come from the packages that are installed.

Each package names its commands in the entry-point group `hourcast.commands`; a part is imported only
when it is called, so that `hourcast etl` loads neither torch nor BentoML.
"""

import logging
import sys
from importlib.metadata import entry_points

import click

from hourcast import __version__
from hourcast.errors import HourcastError

__all__ = ["db", "main"]


class _Parts(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({entry.name for entry in entry_points(group="hourcast.commands")})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for entry in entry_points(group="hourcast.commands", name=cmd_name):
            command: click.Command = entry.load()
            return command
        return None


@click.group(cls=_Parts, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hourcast")
def _hourcast() -> None:
    """Keep an hourly price forecast in production by itself."""


def main() -> None:
    """Run the command line; an error that we raised on purpose ends with one sentence and its exit code."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    # What these tell at INFO, a line a request, we tell better.
    for name in ("alembic", "botocore", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        _hourcast(prog_name="hourcast")
    except HourcastError as error:
        click.echo(f"hourcast: {error}", err=True)
        sys.exit(error.exit_code)


@click.group()
def db() -> None:
    """Care for the store."""


@db.command()
@click.option("--revision", default="head", show_default=True, help="where to stop")
def upgrade(revision: str) -> None:
    """Bring the tables to the newest schema; harmless when they are there."""
    from hourcast.settings import CoreSettings
    from hourcast.store import open_store

    with open_store(CoreSettings.load().resolved_database_url) as store:
        store.upgrade(revision)
    click.echo(f"store is at {revision}: {store.engine.url.render_as_string(hide_password=True)}")


if __name__ == "__main__":
    main()
