"""What endpoints answer, as `/openapi.json` tells it; schemathesis holds the answers to it."""

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

__all__ = [
    "PROBLEMS",
    "Aliases",
    "Calibrated",
    "Candles",
    "Fresh",
    "Health",
    "History",
    "Predicted",
    "Problem",
    "Skill",
]


class _Answer(BaseModel):
    # What is not named here is not answered, and what is named is always there.
    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)


class Problem(_Answer):
    """Why there is no other answer, and when it may help to ask again (seconds)."""

    detail: str
    retry_after_s: float | None


class _Hour(_Answer):
    hour: datetime
    closed_at: datetime
    given_up: list[str]


class _Failing(_Answer):
    part: str
    since: datetime
    reason: str


class Health(_Answer):
    """What is served, and whether its bars are fresh."""

    status: Literal["ok", "degraded"]
    model: str
    symbol: str
    version: int
    alias: str
    kind: str
    run_id: str
    data_fingerprint: str
    trained_through: date
    decided_at: datetime
    synthetic: bool
    now: datetime | None
    newest_bar_close: datetime | None
    bar_age_s: float | None
    stale: bool
    reason: str | None
    hour: _Hour | None
    failing: list[_Failing]


class _Served(_Answer):
    alias: str
    version: int
    run_id: str
    kind: str
    trained_through: date
    decided_at: datetime


class _Alias(_Served):
    available: bool
    alias_kind: str | None


class Aliases(_Answer):
    """Aliases, the newest first, and what is served."""

    model: str
    synthetic: bool
    served: _Served
    aliases: list[_Alias]
    generated_at: datetime


class _Gap(BaseModel):
    model_config = ConfigDict(json_schema_extra={"required": ["from", "to", "missing"]})

    to: datetime
    missing: int


class _Series(_Answer):
    symbol: str
    first_open: datetime | None
    last_close: datetime | None
    age_s: float | None
    max_staleness_s: float
    stale: bool
    source: str | None
    gaps: list[_Gap]


class Fresh(_Answer):
    """How fresh each series is; a gap goes `from` the end of a bar `to` the open of the next."""

    now: datetime
    synthetic: bool
    series: list[_Series]


class _Event(_Answer):
    at: datetime
    actor: str
    kind: str
    version: int | None
    alias: str | None
    reason: str
    evidence: dict[str, Any]


class _Produced(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"required": ["version", "alias", "kind", "from", "to", "reason"]}
    )

    version: int | None
    alias: str | None
    kind: str
    to: datetime | None
    reason: str


class History(_Answer):
    """Events, the newest first, what was in production `from` when `to` when, and what stands in a version's way."""

    synthetic: bool
    events: list[_Event]
    in_production: list[_Produced]
    blocked: dict[str, Any] | None


class _Errors(_Answer):
    alias: str | None
    version: int | None
    kind: str
    source: str
    n: int
    rmse: float | None
    mae: float | None
    pinball: float | None
    coverage_90: float | None
    rmse_naive: float | None
    mae_naive: float | None
    pinball_naive: float | None
    coverage_90_naive: float | None
    skill_pinball: float | None


class _Window(_Answer):
    days: int
    horizon: int | None
    n: int
    independent: float
    coverage_50: float | None
    coverage_90: float | None
    coverage_90_low: float | None
    coverage_90_high: float | None
    pinball: float | None
    pinball_naive: float | None
    skill: float | None
    skill_low: float | None
    skill_high: float | None


class Skill(_Answer):
    """Errors by alias and of live forecasts."""

    naive: str
    synthetic: bool
    rows: list[_Errors]
    live: list[_Window]


class _Stretch(_Answer):
    horizon: int
    stretch_05: float
    stretch_95: float


class Calibrated(_Answer):
    """How far the closes that came have stretched the intervals."""

    model: str
    symbol: str
    version: int
    alias: str
    kind: str
    synthetic: bool
    adaptive: bool
    outcomes: int
    since: datetime | None
    as_of: datetime | None
    stretch_90: float | None
    trained_stretch_90: float | None
    horizons: list[_Stretch]


class _Bar(_Answer):
    open_time: datetime
    close_time: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float


class Candles(_Answer):
    """Bars in order of time; `truncated` where more follow."""

    symbol: str
    synthetic: bool
    now: datetime
    bars: list[_Bar]
    truncated: bool


_Source = Literal["issued", "reconstructed", "computed"]


class _Forecast(BaseModel):
    """`alias`, `version` and `issued_at` are there where rows may differ in them."""

    origin: datetime
    target_time: datetime
    horizon: int
    last_close: float
    point: float
    quantiles: list[float]
    actual: float | None
    source: _Source


class Predicted(_Answer):
    """Forecasts and what they are made of; quantiles at `levels`, prices in the quote currency."""

    model: str
    symbol: str
    alias: str
    version: int | None
    run_id: str | None
    kind: str | None
    data_fingerprint: str | None
    synthetic: bool
    source: _Source
    issued_at: datetime | None
    fingerprint: str | None
    calibration: dict[str, Any] | None
    note: str | None
    now: datetime
    newest_bar_close: datetime | None
    bar_age_s: float | None
    levels: list[float]
    forecasts: list[_Forecast]


_WHY = {
    403: "what was asked for is not allowed",
    404: "there is no such thing; the sentence lists what there is",
    408: "the body did not come in time",
    413: "the body is too large",
    422: "the request cannot be answered as it is; the sentence says what would be right",
    500: "the server failed at this request",
    503: "it cannot be answered now; the sentence says why, and Retry-After when to ask again",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": why} for status, why in _WHY.items()
}
"""How each status that is no success is answered."""
