"""`hourcast setup database | bucket | mlflow | webhook` and `hourcast mlflow-server`."""

import logging

import click

__all__ = ["mlflow_server", "setup"]


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
