"""`hourcast setup database | bucket | mlflow | webhook`, `hourcast mlflow-server` and `hourcast tidy`."""

import logging

import click

__all__ = ["mlflow_server", "setup", "tidy"]


@click.group()
def setup() -> None:
    """Make what the services need of MySQL, S3 and MLflow; harmless when it is there."""
    # boto3 and alembic tell at INFO what we tell better.
    for name in ("botocore", "boto3", "alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)


@setup.command()
def database() -> None:
    """Make databases, accounts and tables in MySQL, and give each account the rights of its service."""
    from hourcast_mlflow.database import setup_database
    from hourcast_mlflow.settings import MlflowSettings

    setup_database(MlflowSettings.load(), click.echo)


@setup.command()
def bucket() -> None:
    """Make buckets in S3, and with MinIO an account and a policy for each service."""
    from hourcast_mlflow.bucket import setup_bucket
    from hourcast_mlflow.settings import MlflowSettings

    setup_bucket(MlflowSettings.load(), click.echo)


@setup.command()
def mlflow() -> None:
    """Bring MLflow's tables to its newest schema, and mend a first migration that was cut short."""
    from hourcast_mlflow.migration import setup_mlflow
    from hourcast_mlflow.settings import MlflowSettings

    setup_mlflow(MlflowSettings.load(), click.echo)


@setup.command()
def webhook() -> None:
    """Tell MLflow to call the controller when a version, a tag or an alias changes."""
    from hourcast_mlflow.settings import MlflowSettings
    from hourcast_mlflow.webhook import setup_webhook

    setup_webhook(MlflowSettings.load(), click.echo)


@click.command("mlflow-server")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--host", default="127.0.0.1", show_default=True)
def mlflow_server(port: int, host: str) -> None:
    """Serve MLflow on MySQL and S3 with one worker, once its tables are at the newest schema."""
    from hourcast_mlflow.server import run_server
    from hourcast_mlflow.settings import MlflowSettings

    run_server(MlflowSettings.load(), host, port, click.echo)


@click.command()
@click.option("--dry-run", is_flag=True, help="say what would go, and remove nothing")
@click.option("--watch", is_flag=True, help="stay, and tidy once a day")
def tidy(dry_run: bool, watch: bool) -> None:
    """Remove what is older than it is kept, and versions that no alias names; tell what went."""
    from hourcast.errors import ConfigurationError
    from hourcast_mlflow.settings import MlflowSettings
    from hourcast_mlflow.tidying import tidy_daily, tidy_once

    settings = MlflowSettings.load()
    if watch:
        if dry_run:
            raise ConfigurationError("--dry-run and --watch exclude each other: a watch is there to remove")
        tidy_daily(click.echo)
    else:
        tidy_once(settings, click.echo, dry_run=dry_run)
