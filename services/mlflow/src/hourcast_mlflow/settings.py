"""Settings of the setup jobs, of MLflow's server and of the daily tidying."""

import json
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from hourcast.errors import ConfigurationError
from hourcast.settings import CoreSettings, with_password

__all__ = ["MlflowSettings"]

_NAME = r"^[a-z][a-z0-9_]{0,15}$"
_BUCKET = r"^[a-z0-9][a-z0-9.-]{1,40}[a-z0-9]$"


class MlflowSettings(CoreSettings):
    """Where MySQL, S3 and MLflow are to be set up, and with which accounts."""

    setup_wait_s: Annotated[
        float, Field(ge=0, le=86_400, description="seconds that a setup waits for the server that it sets up")
    ] = 600.0
    mysql_host: Annotated[str | None, Field(description="host of the MySQL server that is set up")] = None
    mysql_port: Annotated[int, Field(ge=1, le=65_535, description="port of the MySQL server")] = 3306
    mysql_admin: Annotated[
        str, Field(min_length=1, max_length=32, description="account that may make databases and accounts")
    ] = "root"
    mysql_admin_password: Annotated[SecretStr | None, Field(description="password of that account")] = None
    mysql_prefix: Annotated[
        str,
        Field(
            pattern=_NAME,
            description="name of the store's database, and what MLflow's database and every account begin with",
        ),
    ] = "hourcast"
    mysql_provision: Annotated[
        bool,
        Field(
            description="make databases and accounts; `false`: they are there, only the tables are brought up"
        ),
    ] = True
    mysql_password_etl: Annotated[SecretStr | None, Field(description="password of the etl's account")] = None
    mysql_password_trainer: Annotated[
        SecretStr | None, Field(description="password of the trainer's account")
    ] = None
    mysql_password_controller: Annotated[
        SecretStr | None, Field(description="password of the controller's account")
    ] = None
    mysql_password_serving: Annotated[
        SecretStr | None, Field(description="password of serving's account")
    ] = None
    mysql_password_tidy: Annotated[
        SecretStr | None,
        Field(description="password of the account that tidies; unset: there is none"),
    ] = None
    mysql_password_mlflow: Annotated[SecretStr | None, Field(description="password of MLflow's account")] = (
        None
    )
    s3_bucket: Annotated[
        str | None, Field(pattern=_BUCKET, description="bucket of the packages, to be set up")
    ] = None
    s3_artifacts_bucket: Annotated[
        str | None, Field(pattern=_BUCKET, description="bucket of MLflow's artefacts, to be set up")
    ] = None
    s3_provision: Annotated[
        bool,
        Field(
            description="make buckets and, by MinIO's interface, accounts and policies; "
            "`false`: only see that the buckets are there"
        ),
    ] = True
    s3_secret_packager: Annotated[
        SecretStr | None, Field(description="secret key of the packager's account")
    ] = None
    s3_secret_controller: Annotated[
        SecretStr | None, Field(description="secret key of the controller's account")
    ] = None
    s3_secret_serving: Annotated[SecretStr | None, Field(description="secret key of serving's account")] = (
        None
    )
    s3_secret_tidy: Annotated[
        SecretStr | None,
        Field(description="secret key of the account that tidies; unset: there is none"),
    ] = None
    s3_secret_mlflow: Annotated[SecretStr | None, Field(description="secret key of MLflow's account")] = None
    mlflow_database_url: Annotated[
        SecretStr | None, Field(description="SQLAlchemy URL of MLflow's own database (`mysql+pymysql://…`)")
    ] = None
    mlflow_database_password: Annotated[
        SecretStr | None, Field(description="password for the account in `HOURCAST_MLFLOW_DATABASE_URL`")
    ] = None
    mlflow_artifacts: Annotated[
        str | None,
        Field(pattern=r"^(s3|file)://.+", description="where MLflow keeps artefacts: `s3://bucket/prefix`"),
    ] = None
    mlflow_allowed_hosts: Annotated[
        tuple[str, ...],
        NoDecode,
        Field(
            description="names under which MLflow may be asked for, as JSON or with commas; this machine's "
            "own (`localhost`) always"
        ),
    ] = ()
    webhook_url: Annotated[
        str | None,
        Field(pattern=r"^https?://.+", description="address at which the controller hears MLflow's webhook"),
    ] = None
    webhook_secret: Annotated[
        SecretStr | None,
        Field(description="key of the webhook's HMAC; unset: no webhook is heard, and polling alone decides"),
    ] = None

    runs_keep_days: Annotated[
        int | None,
        Field(ge=7, description="days after which records of fetches (`ingest_runs`) go; unset: never"),
    ] = 90
    quarantined_keep_days: Annotated[
        int | None,
        Field(ge=7, description="days after which quarantined rows go; unset: never"),
    ] = 365
    records_keep_days: Annotated[
        int | None,
        Field(
            ge=731,
            description="days after which revisions of bars and closed hours go; unset: never. A training that "
            "reaches further back takes bars as they are now",
        ),
    ] = 1826
    forecasts_keep_days: Annotated[
        int | None,
        Field(
            ge=90,
            description="days after which forecasts as issued go; unset: never. Older hours are reconstructed",
        ),
    ] = 1826
    events_keep_days: Annotated[
        int | None,
        Field(ge=1, description="days after which events are forgotten (decisions never are); unset: never"),
    ] = 1826
    walks_keep_days: Annotated[
        int | None,
        Field(
            ge=1,
            description="days after which the rows of a walk go; unset: never. The newest walk of a kind stays",
        ),
    ] = 365
    versions_keep_days: Annotated[
        int | None,
        Field(
            ge=7,
            description="days after which a version that no alias names goes, with its package; unset: never",
        ),
    ] = 90

    @field_validator("mlflow_allowed_hosts", mode="before")
    @classmethod
    def _hosts(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = json.loads(value) if value.lstrip().startswith("[") else value.split(",")
        names = tuple(str(name).strip() for name in value)
        return tuple(name for name in names if name)

    def needed(self, field: str) -> str:
        """The value of a setting that this command cannot do without.

        Raises:
            ConfigurationError: when it is not set.
        """
        value = getattr(self, field)
        if value is None:
            what = type(self).model_fields[field].description
            raise ConfigurationError(
                f"HOURCAST_{field.upper()} is not set ({what}), and this command needs it"
            )
        return value.get_secret_value() if isinstance(value, SecretStr) else str(value)

    @property
    def resolved_mlflow_database_url(self) -> str:
        """The URL of MLflow's database with its password.

        Raises:
            ConfigurationError: when the URL is not set, or not one of MySQL.
        """
        url = self.needed("mlflow_database_url")
        if not url.startswith("mysql+pymysql://"):
            raise ConfigurationError(
                "HOURCAST_MLFLOW_DATABASE_URL is not a URL of MySQL; write it as mysql+pymysql://user@host:3306/database"
            )
        return with_password(SecretStr(url), self.mlflow_database_password, "HOURCAST_MLFLOW_DATABASE_URL")
