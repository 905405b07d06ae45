"""What a request asks for: moments, horizons, spans, bars of its own."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from hourcast.errors import HourcastError
from hourcast_bento.horizons import parse_horizons
from hourcast_bento.moments import parse_moment
from hourcast_bento.own_bars import MAX_BYTES, OwnBars, Read, read
from hourcast_bento.serving import Serving

__all__ = [
    "OWN_BARS_BODY", "TIME", "BadInputError", "apart_if_large", "horizons_of", "known_query", "moment_of", "own_bars_schemas", "read_own",
    "served", "span_of",
]  # fmt: skip

TIME: dict[str, Any] = {"json_schema_extra": {"format": "date-time"}}
_LARGE, _BODY_S = 2**19, 10.0
T = TypeVar("T")


class BadInputError(HourcastError):
    """A request that cannot be answered as it is; the message says what would be right."""


def moment_of(name: str, text: str | None) -> datetime | None:
    """The moment that the argument `name` gives; raises BadInputError where it is none."""
    if text is None:
        return None
    try:
        return parse_moment(text)
    except ValueError as error:
        raise BadInputError(f"{name}: {error}") from None


def horizons_of(text: str) -> tuple[int, ...]:
    """Hours ahead, ascending; raises BadInputError where the text names none."""
    try:
        return parse_horizons(text)
    except ValueError as error:
        raise BadInputError(f"horizon: {error}") from None


def span_of(
    start: str | None, end: str | None, now: datetime, newest: datetime | None, max_hours: int, horizons: int
) -> tuple[datetime, datetime] | None:
    """The range that is asked for, from and before; None where none is.

    Raises:
        BadInputError: when it is empty, or holds more forecasts than are answered.
    """
    since, until = moment_of("start", start), moment_of("end", end)
    if since is None and until is None:
        return None
    if until is None:
        until = (newest or now) + timedelta(hours=25)
    if since is None:
        since = until - timedelta(days=7)
    if since >= until:
        raise BadInputError(f"start {since:%Y-%m-%dT%H:%M}Z must lie before end {until:%Y-%m-%dT%H:%M}Z")
    hours = int((until - since).total_seconds() // 3600)
    if hours > max_hours:
        raise BadInputError(
            f"the range has {hours} hours, at most {max_hours} are answered; ask for parts of it"
        )
    if hours * horizons > max_hours:
        raise BadInputError(
            f"the range has {hours} hours at {horizons} horizons, {hours * horizons} forecasts; at most {max_hours} "
            "are answered; ask for parts of it, or for fewer horizons"
        )
    return since, until


# FastAPI would parse the body into dicts first and then look at each again; `own_bars` reads it in one go.
OWN_BARS_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/OwnBars"}}},
    }
}


async def read_own(request: Request) -> Read:
    """A caller's own bars, bounded in bytes and time before anything is parsed."""
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BYTES:
                    break
    except TimeoutError:
        raise HTTPException(408, f"the body did not come within {_BODY_S:g} s") from None
    try:
        return await apart_if_large(len(body), lambda: read(bytes(body)))
    except ValidationError as error:
        raise RequestValidationError(
            [{**item, "loc": ("body", *item["loc"])} for item in error.errors()]
        ) from None


async def apart_if_large(size: int, work: Callable[[], T]) -> T:
    """In a thread of its own where the event loop would stand still for long; it costs as much as a small forecast."""
    return work() if size < _LARGE else await run_in_threadpool(work)


def own_bars_schemas() -> dict[str, Any]:
    """JSON schemas of what is read past FastAPI."""
    whole = OwnBars.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**whole.pop("$defs"), "OwnBars": whole}


# FastAPI calls what is not async in a thread, and a thread costs more than this.
async def known_query(request: Request) -> None:
    """An argument that nobody reads is a typing error more often than not."""
    route = request.scope.get("route")
    dependant = getattr(route, "dependant", None)
    if dependant is None:
        return
    if getattr(route, "path", "") == "/{path:path}":
        return
    for name in request.query_params:
        if (times := len(request.query_params.getlist(name))) > 1:
            raise BadInputError(f"{name} is given {times} times; give it once")
    names = {param.alias for param in dependant.query_params}
    unknown = sorted(set(request.query_params) - names)
    if unknown:
        raise BadInputError(
            f"unknown argument {unknown[0]!r}; {request.url.path} takes {', '.join(sorted(names)) or 'none'}"
        )


async def served(request: Request) -> Serving:
    """What answers, once the server has started; not before, which its caller says."""
    serving: Serving = request.app.state.serving()
    return serving
