"""The ETL's settings."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import NoDecode

from hourcast.settings import LISTED, StreamSettings

__all__ = ["EtlSettings"]


class EtlSettings(StreamSettings):
    """Where bars come from, how far back, and how patiently."""

    source: Annotated[
        str, Field(description="`live`, `files:DIR` or `sample`", pattern=r"^(live|sample|files:.+)$")
    ] = "live"
    etl_days: Annotated[
        int,
        Field(
            ge=45, le=3650, description="days of history that a first load fetches (Yahoo gives 730 at most)"
        ),
    ] = 400
    etl_overlap_bars: Annotated[
        int, Field(ge=1, le=500, description="newest bars that a run fetches again, to catch revisions")
    ] = 3
    etl_chunk_bars: Annotated[
        int, Field(ge=50, le=20_000, description="bars that are written in one transaction")
    ] = 1000
    etl_poll_s: Annotated[
        float, Field(gt=0, le=3600, description="seconds between two looks of `hourcast etl run --watch`")
    ] = 0.5
    hour_deadline_s: Annotated[
        float,
        Field(
            ge=0,
            le=3000,
            description="seconds after an hour from which on it is closed without the bars that are missing then",
        ),
    ] = 300.0
    exchanges: Annotated[
        tuple[str, ...],
        NoDecode,
        LISTED,
        Field(
            min_length=1,
            description="exchanges known to ccxt, in order of preference, with commas between them or as JSON",
        ),
    ] = ("binance", "binanceus", "okx", "kraken")
    exchange_url: Annotated[
        str | None,
        Field(description="address that answers in place of every exchange's, for tests and proxies"),
    ] = None
    yahoo_url: Annotated[
        str | None, Field(description="address that answers in place of Yahoo's, for tests and proxies")
    ] = None
    etl_timeout_s: Annotated[float, Field(gt=0, le=120, description="seconds that one request may take")] = (
        15.0
    )
    etl_attempts: Annotated[
        int, Field(ge=1, le=20, description="attempts at one request before the next source")
    ] = 4
    etl_backoff_s: Annotated[
        float, Field(ge=0, le=60, description="pause after the first failed attempt; it doubles, with jitter")
    ] = 1.0
    etl_longest_wait_s: Annotated[
        float, Field(ge=0, le=3600, description="longest pause that a `Retry-After` is granted")
    ] = 120.0
    sample_seed: Annotated[int, Field(ge=0, description="seed of SOURCE=sample")] = 1
