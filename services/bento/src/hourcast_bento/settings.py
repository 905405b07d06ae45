"""Settings of the packager and of serving."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from hourcast.settings import CoreSettings

__all__ = ["ServingSettings"]


class ServingSettings(CoreSettings):
    """What serving may hold, answer and call."""

    model_version: Annotated[
        int | None, Field(ge=1, description="version that a server serves; set by the rollout")
    ] = None
    model_alias: Annotated[
        str | None, Field(description="alias under which it is served; set by the rollout")
    ] = None
    package_dir: Annotated[
        Path | None,
        Field(description="folder with the model of a package; set by `hourcast serve`"),
    ] = None
    lru_packages: Annotated[
        int, Field(ge=0, le=64, description="other versions than the served one that are kept in memory")
    ] = 8
    predict_max_hours: Annotated[
        int, Field(ge=24, le=100_000, description="hours, times horizons, that one range request may ask for")
    ] = 10_000
    record_poll_s: Annotated[
        float, Field(gt=0, le=600, description="seconds between two looks for a new bar to forecast from")
    ] = 0.5
    callback_hosts: Annotated[
        tuple[str, ...],
        Field(description="hosts (`name` or `name:port`) that `callback_url` may name, as JSON; empty: none"),
    ] = ()
    callback_private: Annotated[
        bool,
        Field(description="whether an allowed callback host may resolve to a private or loopback address"),
    ] = False
    callback_timeout_s: Annotated[
        float, Field(gt=0, le=60, description="seconds that a callback may take")
    ] = 5.0
    fetch_wait_s: Annotated[
        float, Field(ge=0, description="seconds that a new server waits for its package or for the bucket")
    ] = 600.0
    cache_packages: Annotated[
        int,
        Field(ge=1, le=1000, description="packages that the cache of servers keeps, the last used"),
    ] = 5
