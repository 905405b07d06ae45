"""The dashboard's settings. It shares no code with the other services, so the prefix is all that they share."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["VizSettings"]


class VizSettings(BaseSettings):
    """Where the API is, and how often to look."""

    model_config = SettingsConfigDict(env_prefix="HOURCAST_", extra="ignore", frozen=True)

    api_url: Annotated[str, Field(description="address of the API")] = "http://127.0.0.1:8000"
    viz_refresh_s: Annotated[
        float, Field(ge=1, le=3600, description="seconds between two looks of the dashboard")
    ] = 3.0
    viz_timeout_s: Annotated[float, Field(gt=0, le=120, description="seconds that the API may take")] = 20.0
