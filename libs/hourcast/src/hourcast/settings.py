"""Settings that two or more services share. Each service adds its own by subclassing `CoreSettings`.

Every field is read from the environment as `HOURCAST_<NAME>`; `docs/configuration.md` lists all of them
and a test compares.
"""

import json
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from hourcast.errors import ConfigurationError

__all__ = [
    "DEFAULT_SERIES",
    "LISTED",
    "RUNNING_ENV",
    "CoreSettings",
    "Series",
    "StreamSettings",
    "with_password",
]

RUNNING_ENV = "running.env"
"""File in the state folder with what a running `hourcast up` has set."""


class Series(BaseModel):
    """One market series: which market it is and how its bars lie on the clock."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol: Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9^=._/-]+$")]
    role: Literal["target", "exogenous"] = "exogenous"
    provider: Annotated[
        str,
        Field(
            pattern=r"^[a-z][a-z0-9_]{0,31}$", description="`ccxt`, `yfinance`, or another that the etl knows"
        ),
    ] = "yfinance"
    calendar: Annotated[
        str, Field(description="`always`, `XNYS`, `VIX`, or another name known to exchange_calendars")
    ] = "always"
    max_staleness_h: Annotated[float, Field(gt=0)] = 96.0
    files: Annotated[
        tuple[str, ...],
        Field(description="globs, first match wins as the base, looked up in SOURCE=files:DIR"),
    ] = ()


DEFAULT_SERIES: tuple[Series, ...] = (
    Series(
        symbol="BTC/USDT",
        role="target",
        provider="ccxt",
        calendar="always",
        max_staleness_h=3,
        files=("btc_1h.csv", "BTCUSDT-1h-*"),
    ),
    Series(symbol="QQQ", calendar="XNYS", files=("ndx_1h.csv", "QQQ*.csv")),
    Series(symbol="^VIX", calendar="VIX", files=("vix_1h.csv", "VIX*.csv")),
    Series(symbol="GC=F", calendar="CMES", files=("gold_1h.csv", "GC*.csv")),
)


def _listed(value: object) -> object:
    """Words with commas between them, or JSON; `none` is the empty list."""
    if not isinstance(value, str):
        return value
    if value.strip().lower() == "none":
        return ()
    if not value.lstrip().startswith("["):
        return tuple(word.strip() for word in value.split(","))
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError('this is no JSON; write it as A,B or as ["A", "B"]') from None


LISTED = BeforeValidator(_listed)
"""With `NoDecode`, of a setting that is a list of words: it may be written without JSON."""


class CoreSettings(BaseSettings):
    """Where things are, which series there are and what time it is."""

    model_config = SettingsConfigDict(
        env_prefix="HOURCAST_", extra="ignore", frozen=True, env_ignore_empty=True
    )

    state_dir: Annotated[Path, Field(description="folder for everything that one machine keeps")] = Path(
        ".hourcast"
    )
    database_url: Annotated[
        SecretStr | None,
        Field(
            description="SQLAlchemy URL of the store (`sqlite:///…`, `mysql+pymysql://…`); "
            "unset: a SQLite file in the state folder"
        ),
    ] = None
    database_password: Annotated[
        SecretStr | None,
        Field(
            description="password for the account in `HOURCAST_DATABASE_URL`, as it is, in whatever characters; "
            "wins over one in the URL"
        ),
    ] = None
    bucket_url: Annotated[
        str | None,
        Field(description="`file:///…` or `s3://bucket/prefix`; unset: a folder in the state folder"),
    ] = None
    s3_endpoint_url: Annotated[
        str | None,
        Field(description="S3 endpoint, for MinIO and its like; credentials come from the AWS_* variables"),
    ] = None
    mlflow_url: Annotated[str, Field(description="address of the MLflow server")] = "http://127.0.0.1:5000"
    model_name: Annotated[
        str,
        Field(description="name of the registered model", pattern=r"^[A-Za-z0-9_-]{1,64}$"),
    ] = "hourcast"
    series: Annotated[
        tuple[Series, ...], Field(description="the series as JSON; exactly one has role `target`")
    ] = DEFAULT_SERIES
    clock: Annotated[
        str,
        Field(
            description="`wall`, an ISO hour such as `2025-06-26T00:00Z` (frozen), or `store` "
            "(the hour that a replay has written into the store)"
        ),
    ] = "wall"
    synthetic: Annotated[
        bool, Field(description="true where the bars are a seeded sample; labels every answer")
    ] = False
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], Field(description="least level that is logged")
    ] = "INFO"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment, then what a running `hourcast up` on this state folder has set."""
        said = {**env_settings(), **init_settings()}
        folder = Path(said.get("state_dir", cls.model_fields["state_dir"].default))
        return init_settings, env_settings, DotEnvSettingsSource(settings_cls, env_file=folder / RUNNING_ENV)

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        targets = [s.symbol for s in self.series if s.role == "target"]
        if len(targets) != 1:
            raise ValueError(
                f"exactly one series must have role `target`, but {len(targets)} have: {targets}"
            )
        symbols = [s.symbol for s in self.series]
        if len(set(symbols)) != len(symbols):
            raise ValueError(f"symbols must differ, but they are {symbols}")
        return self

    @property
    def target(self) -> Series:
        """The series that is forecast."""
        return next(s for s in self.series if s.role == "target")

    @property
    def exogenous(self) -> tuple[Series, ...]:
        """The other series, in the order of the setting."""
        return tuple(s for s in self.series if s.role == "exogenous")

    @property
    def resolved_database_url(self) -> str:
        """The store's URL with the default filled in. Holds a password where the setting does."""
        if self.database_url is not None:
            return with_password(self.database_url, self.database_password, "HOURCAST_DATABASE_URL")
        return f"sqlite:///{(self.state_dir / 'hourcast.db').resolve()}"

    @property
    def resolved_bucket_url(self) -> str:
        """The bucket's URL with the default filled in."""
        return self.bucket_url or (self.state_dir / "bucket").resolve().as_uri()

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Read the environment; `overrides` win.

        Raises:
            ConfigurationError: naming each setting that is wrong, its value and what is allowed.
        """
        try:
            return cls(**overrides)  # type: ignore[arg-type]  # keyword names are checked by pydantic
        except SettingsError as error:
            found = re.search(r'field "(\w+)"', str(error))
            name = found[1].upper() if found else "…"
            raise ConfigurationError(
                f"HOURCAST_{name}: {error.__cause__ or error}; write it as JSON"
            ) from None
        except ValidationError as error:
            lines = []
            for problem in error.errors():
                name = "_".join(str(part) for part in problem["loc"][:1]) or "series"
                lines.append(
                    f"HOURCAST_{name.upper().removeprefix('HOURCAST_')}: {problem['msg']} (given: {_shown(name, problem['input'])})"
                )
            raise ConfigurationError("; ".join(lines)) from None


class StreamSettings(CoreSettings):
    """What a stream's models look at: read where they are made and where their bars are collected."""

    feature_series: Annotated[
        tuple[str, ...],
        NoDecode,
        LISTED,
        Field(
            description="exogenous series that models look at, with commas between them or as JSON, or `none`; "
            "a series earns its place in `hourcast compare`, and a run that gets no bars of another is not partial"
        ),
    ] = ("QQQ",)

    @model_validator(mode="after")
    def _known_features(self) -> Self:
        known = [series.symbol for series in self.exogenous]
        # The default names a series that an installation need not have.
        told = "feature_series" in self.model_fields_set
        if told and (unknown := [symbol for symbol in self.feature_series if symbol not in known]):
            raise ValueError(f"feature series {unknown} are not among the exogenous series {known}")
        return self


def with_password(url: SecretStr, password: SecretStr | None, name: str) -> str:
    """A database URL with the password put in, whatever characters it has; `name` is the URL's setting.

    SQLite knows no accounts, so its URLs stay as they are.

    Raises:
        ConfigurationError: when there is a password and the URL names no account.
    """
    text = url.get_secret_value()
    if password is None or text.startswith("sqlite"):
        return text
    # By hand, because SQLAlchemy is not in every image that has these settings.
    scheme, _, rest = text.partition("://")
    place, slash, database = rest.partition("/")
    account, at, host = place.rpartition("@")
    user = account.partition(":")[0]
    if not at or not user:
        raise ConfigurationError(
            f"{name} names no account for the password that is set beside it; "
            "write it as mysql+pymysql://user@host:3306/database"
        )
    return f"{scheme}://{user}:{quote(password.get_secret_value(), safe='')}@{host}{slash}{database}"


def _shown(name: str, value: object) -> str:
    if any(word in name for word in ("url", "secret", "password", "token")):
        return "<hidden>"
    return repr(value)[:120]
