"""The HTTP endpoints. `Serving` does the work; here are only forms of questions and answers."""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import BackgroundTasks, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hourcast import __version__
from hourcast.contracts import alias_kind
from hourcast.errors import ConfigurationError, DataError, HourcastError, RefusedError, UnavailableError
from hourcast.failing import read_failing
from hourcast.store import Hour
from hourcast_bento import answers, callback
from hourcast_bento.docs_page import DOCS_PAGE
from hourcast_bento.gate import Gate
from hourcast_bento.horizons import FORMS, parse_horizons
from hourcast_bento.moments import parse_moment
from hourcast_bento.own_bars import MAX_BYTES, OwnBars, Read, TooLargeError, check, read
from hourcast_bento.serving import Calibration, Made, NotFoundError, Serving

__all__ = ["build_app"]

_LOG = logging.getLogger(__name__)
_MAX_BARS = 10_000
# A year of weekly versions.
_MOST_ROLLS = 52
_LARGE, _BODY_S = 2**19, 10.0
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
T = TypeVar("T")
_TIME: dict[str, Any] = {"json_schema_extra": {"format": "date-time"}}
_NO_OTHER_HOST = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:"}
_FAILED = "the server failed at this request; the operator finds the reason in its log"


class _BadInputError(HourcastError):
    """A request that cannot be answered as it is; the message says what would be right."""


def _json(value: Any) -> Any:
    """Times as ISO with Z, numbers as JSON has them."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, dict):
        return {key: _json(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_json(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _text(epoch_s: Any) -> list[str]:
    """ISO texts with Z of epoch seconds (n,)."""
    return [f"{t}Z" for t in np.datetime_as_string(np.asarray(epoch_s).astype("datetime64[s]"), unit="s")]


def _moment(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_moment(text)
    except ValueError as error:
        raise _BadInputError(f"{name}: {error}") from None


def _horizons(text: str) -> tuple[int, ...]:
    try:
        return parse_horizons(text)
    except ValueError as error:
        raise _BadInputError(f"horizon: {error}") from None


def _span(
    start: str | None, end: str | None, now: datetime, newest: datetime | None, max_hours: int, horizons: int
) -> tuple[datetime, datetime] | None:
    since, until = _moment("start", start), _moment("end", end)
    if since is None and until is None:
        return None
    if until is None:
        until = (newest or now) + timedelta(hours=25)
    if since is None:
        since = until - timedelta(days=7)
    if since >= until:
        raise _BadInputError(f"start {since:%Y-%m-%dT%H:%M}Z must lie before end {until:%Y-%m-%dT%H:%M}Z")
    hours = int((until - since).total_seconds() // 3600)
    if hours > max_hours:
        raise _BadInputError(
            f"the range has {hours} hours, at most {max_hours} are answered; ask for parts of it"
        )
    if hours * horizons > max_hours:
        raise _BadInputError(
            f"the range has {hours} hours at {horizons} horizons, {hours * horizons} forecasts; at most {max_hours} "
            "are answered; ask for parts of it, or for fewer horizons"
        )
    return since, until


# FastAPI would parse the body into dicts first and then look at each again; `own_bars` reads it in one go.
_OWN_BARS_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/OwnBars"}}},
    }
}


async def _read_own(request: Request) -> Read:
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
        return await _apart_if_large(len(body), lambda: read(bytes(body)))
    except ValidationError as error:
        raise RequestValidationError(
            [{**item, "loc": ("body", *item["loc"])} for item in error.errors()]
        ) from None


async def _apart_if_large(size: int, work: Callable[[], T]) -> T:
    """In a thread of its own where the event loop would stand still for long; it costs as much as a small forecast."""
    return work() if size < _LARGE else await run_in_threadpool(work)


def _schemas() -> dict[str, Any]:
    """JSON schemas of what is read past FastAPI."""
    whole = OwnBars.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**whole.pop("$defs"), "OwnBars": whole}


def _body(serving: Serving, made: Made) -> dict[str, Any]:
    forecasts = made.forecasts
    scale = float(np.median(forecasts.last_close)) if len(forecasts.last_close) else 1.0
    # Ten significant digits: cents of a bitcoin and fractions of a cheap coin alike.
    digits = max(2, 9 - math.floor(math.log10(max(scale, 1e-12))))
    quantiles = np.round(forecasts.quantiles, digits).tolist()
    point = np.round(forecasts.point, digits).tolist()
    target, origin = forecasts.target_time, _text(forecasts.origin)
    target_text = [_text(row) for row in target] if len(origin) else []
    asked = made.asked
    rows = []
    for i, begun in enumerate(origin):
        for j, horizon in enumerate(forecasts.horizons):
            if asked is not None and not asked[i, j]:
                continue
            actual = float(made.actual[i, j])
            row = {
                "origin": begun,
                "target_time": target_text[i][j],
                "horizon": horizon,
                "last_close": float(forecasts.last_close[i]),
                "point": point[i][j],
                "quantiles": quantiles[i][j],
                "actual": actual if math.isfinite(actual) else None,
            }
            if made.aliases:
                at = made.issued_at[i]
                row |= {"alias": made.aliases[i], "version": made.versions[i], "issued_at": _json(at)}
            row["source"] = made.source if not made.aliases else "issued" if at else "reconstructed"
            rows.append(row)
    fan = made.fan
    # What was issued is told as it was then: every server gives the same bytes, at whatever moment of the hour.
    now, newest = (made.now, made.newest_close) if fan is None else (fan.issued_at, fan.origin)
    of = fan or made.info
    return {
        "model": serving.settings.model_name,
        "symbol": serving.settings.target.symbol,
        "alias": made.alias,
        "version": of.version if of else None,
        "run_id": of.run_id if of else None,
        "kind": of.kind if of else None,
        "data_fingerprint": of.data_fingerprint if of else None,
        "synthetic": serving.info.synthetic,
        "source": made.source,
        "issued_at": _json(fan.issued_at) if fan and fan.source == "issued" else None,
        "fingerprint": fan.fingerprint if fan else None,
        "calibration": dict(sorted(fan.calibration.items())) if fan and fan.calibration else None,
        "note": made.note,
        "now": _json(now),
        "newest_bar_close": _json(newest),
        "bar_age_s": (now - newest).total_seconds() if newest else None,
        "levels": list(forecasts.levels),
        "forecasts": rows,
    }


def _headers(serving: Serving, made: Made, body: dict[str, Any]) -> dict[str, str]:
    """Who made the forecast and who answers; the age is that of the moment of the answer."""
    age = (made.now - made.newest_close).total_seconds() if made.newest_close else None
    named = {
        "X-Hourcast-Served-Version": serving.info.version,
        "X-Hourcast-Model-Version": body["version"],
        "X-Hourcast-Model-Alias": body["alias"],
        "X-Hourcast-Run-Id": body["run_id"],
        "X-Hourcast-Data-Fingerprint": body["data_fingerprint"],
        "X-Hourcast-Bar-Age-S": age,
        "X-Hourcast-Synthetic": str(body["synthetic"]).lower(),
    }
    if len(body["forecasts"]) > 0:
        named["X-Hourcast-Target-Time"] = body["forecasts"][0]["target_time"]
    return {name: str(value) for name, value in named.items() if value is not None}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: answers.PROBLEMS[status] for status in (*statuses, 422, 500, 503)}


def _page_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The same for an endpoint that answers a page: FastAPI would take its problems for pages too."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": told["description"], "content": content}
        for status, told in _problems(*statuses).items()
    }


def build_app(serving: Callable[[], Serving]) -> FastAPI:
    """The application; `serving` gives what answers, once the server has started."""
    app = FastAPI(
        title="Hourcast",
        version=__version__,
        description="Hourly price forecasts with honest intervals, and how good they were. Times are UTC.",
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    _add_errors(app)
    # Under `bentoml serve` nobody else does; our server's own gate lies before BentoML and lets no more than these through.
    app.add_middleware(Gate)
    _add_state(app, serving)
    _add_forecasts(app, serving)

    made = app.openapi

    def openapi() -> dict[str, Any]:
        whole = made()
        whole.setdefault("components", {}).setdefault("schemas", {}).update(_schemas())
        return whole

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        """The documentation page; it needs no other host."""
        return HTMLResponse(DOCS_PAGE)

    @app.get("/", include_in_schema=False)
    def home() -> RedirectResponse:
        """The documentation is the way in."""
        return RedirectResponse("/docs")

    @app.api_route("/{path:path}", methods=_METHODS, include_in_schema=False)
    def nothing(path: str) -> None:
        """Any other path, or a known one with another method."""
        others = {
            route.path: route.methods or set()
            for route in app.routes
            if isinstance(route, Route) and "{" not in route.path
        }
        if f"/{path}" in others:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(others[f"/{path}"]))})
        raise HTTPException(404)

    return app


# FastAPI calls what is not async in a thread, and a thread costs more than this.
async def _known_query(request: Request) -> None:
    """An argument that nobody reads is a typing error more often than not."""
    route = request.scope.get("route")
    dependant = getattr(route, "dependant", None)
    if dependant is None:
        return
    if getattr(route, "path", "") == "/{path:path}":
        return
    for name in request.query_params:
        if (times := len(request.query_params.getlist(name))) > 1:
            raise _BadInputError(f"{name} is given {times} times; give it once")
    names = {param.alias for param in dependant.query_params}
    unknown = sorted(set(request.query_params) - names)
    if unknown:
        raise _BadInputError(
            f"unknown argument {unknown[0]!r}; {request.url.path} takes {', '.join(sorted(names)) or 'none'}"
        )


def _add_state(app: FastAPI, serving: Callable[[], Serving]) -> None:
    @app.get("/health", tags=["state"], response_model=answers.Health, responses=_problems())
    def health() -> JSONResponse:
        """What is served, and whether its bars are fresh."""
        s = serving()
        now: datetime | None = None
        newest: datetime | None = None
        hour: Hour | None = None
        try:
            now = s.clock.now()
            newest = s.newest_close(now)
            hour = s.newest_hour(now)
            reason = s.stale_reason(newest, now)
        except UnavailableError as error:
            reason = _public(error)
        info = s.info
        failing = read_failing(s.settings.state_dir)
        body = {
            "status": "degraded" if reason or failing else "ok",
            "model": info.model, "symbol": s.settings.target.symbol, "version": info.version, "alias": s.alias,
            "kind": info.kind, "run_id": info.run_id, "data_fingerprint": info.data_fingerprint,
            "trained_through": info.trained_through.isoformat(), "decided_at": info.decided_at,
            "synthetic": info.synthetic, "now": now, "newest_bar_close": newest,
            "bar_age_s": (now - newest).total_seconds() if now and newest else None,
            "stale": reason is not None, "reason": reason,
            "hour": {"hour": hour.hour, "closed_at": hour.closed_at, "given_up": list(hour.given_up)} if hour else None,
            "failing": [{"part": f.part, "since": f.since, "reason": f.reason} for f in failing],
        }  # fmt: skip
        return JSONResponse(_json(body))

    @app.get("/aliases", tags=["state"], response_model=answers.Aliases, responses=_problems())
    def aliases() -> JSONResponse:
        """Every alias that the registry had, the newest first, and whether its package is there."""
        s = serving()
        index, packaged = s.index(), s.packaged() | {s.info.version}
        rows = [
            record.model_dump(mode="json")
            | {"available": record.version in packaged, "alias_kind": alias_kind(record.alias)}
            for record in index.aliases
        ]
        served = {
            "alias": s.alias, "version": s.info.version, "run_id": s.info.run_id, "kind": s.info.kind,
            "trained_through": s.info.trained_through.isoformat(), "decided_at": s.info.decided_at,
        }  # fmt: skip
        body = {
            "model": s.info.model, "synthetic": s.info.synthetic, "served": served, "aliases": rows,
            "generated_at": index.generated_at,
        }  # fmt: skip
        return JSONResponse(_json(body))

    @app.get("/freshness", tags=["state"], response_model=answers.Fresh, responses=_problems())
    def freshness() -> JSONResponse:
        """How fresh each series is, and which hours of the target are missing."""
        return JSONResponse(_json(serving().freshness()))

    @app.get("/history", tags=["state"], response_model=answers.History, responses=_problems())
    def history(limit: Annotated[int, Query(ge=1, le=5000)] = 200) -> JSONResponse:
        """What was done and why, the newest first, what the newest 52 rolls brought into production, and what stands in a version's way."""
        s = serving()
        blocked = s.store.standing(s.settings.model_name).blocked
        events = s.store.events(s.settings.model_name, limit=limit)
        rolled = list(
            reversed(s.store.events(s.settings.model_name, kind="rolled", limit=min(limit, _MOST_ROLLS)))
        )
        versions = {e.version for e in rolled if e.version is not None}
        kinds = s.store.kinds(s.settings.model_name, versions)
        production = [
            {
                "version": e.version, "alias": e.alias, "kind": kinds.get(e.version or 0, "unknown"), "from": e.at,
                "to": rolled[i + 1].at if i + 1 < len(rolled) else None, "reason": e.reason,
            }
            for i, e in enumerate(rolled)
        ]  # fmt: skip
        shown = [
            {
                "at": e.at, "actor": e.actor, "kind": e.kind, "version": e.version, "alias": e.alias,
                "reason": e.reason, "evidence": dict(e.evidence),
            }
            for e in events
        ]  # fmt: skip
        return JSONResponse(
            _json(
                {
                    "synthetic": s.info.synthetic,
                    "events": shown,
                    "in_production": production,
                    "blocked": asdict(blocked) if blocked else None,
                }
            )
        )

    @app.get("/skill", tags=["state"], response_model=answers.Skill, responses=_problems())
    def skill() -> JSONResponse:
        """Errors of each alias beside "the price stays" on the same hours, and live coverage and skill over 7 and 30 days."""
        s = serving()
        body = {
            "naive": "last close", "synthetic": s.info.synthetic, "rows": [row.as_json() for row in s.skill()],
            "live": [window.as_json() for window in s.windows()],
        }  # fmt: skip
        return JSONResponse(_json(body))

    @app.get("/calibration", tags=["state"], response_model=answers.Calibrated, responses=_problems())
    def calibration() -> JSONResponse:
        """How far the closes that came have stretched the served version's intervals since its training."""
        return JSONResponse(_json(_calibration(serving(), serving().calibration())))

    @app.get(
        "/report",
        tags=["state"],
        response_class=HTMLResponse,
        responses=_page_problems(404),
    )
    def report() -> HTMLResponse:
        """The newest back-test report: one page that needs no other host."""
        s = serving()
        found = s.store.newest_report(s.settings.model_name)
        if found is None:
            raise NotFoundError(
                f"there is no back-test report of {s.settings.model_name} yet; `hourcast report` writes one"
            )
        made_at, page = found
        return HTMLResponse(page, headers={"X-Hourcast-Made-At": _json(made_at), **_NO_OTHER_HOST})

    @app.get("/btc-info", tags=["bars"], response_model=answers.Candles, responses=_problems(404))
    def btc_info(
        symbol: Annotated[str | None, Query(description="default: the forecast series")] = None,
        start: Annotated[str | None, Query(description="first open time", **_TIME)] = None,
        end: Annotated[str | None, Query(description="open times before this", **_TIME)] = None,
        limit: Annotated[int, Query(ge=1, le=_MAX_BARS)] = 1000,
    ) -> JSONResponse:
        """Candles: the newest `limit`, or the first `limit` from `start`."""
        s = serving()
        known = [series.symbol for series in s.settings.series]
        name = symbol or s.settings.target.symbol
        if name not in known:
            raise NotFoundError(f"there is no symbol {name!r}; there are {', '.join(known)}")
        since, until = _moment("start", start), _moment("end", end)
        if since is not None and until is not None and since >= until:
            raise _BadInputError(f"start {since:%Y-%m-%dT%H:%M}Z must lie before end {until:%Y-%m-%dT%H:%M}Z")
        now = s.clock.now()
        if since is None:
            bars = s.store.read_bars(name, end=until, known_at=now, last=limit)
            truncated = False
        else:
            bars = s.store.read_bars(name, start=since, end=until, known_at=now, first=limit + 1)
            truncated = len(bars) > limit
            bars = bars.take(slice(0, limit))
        opened, closed = _text(bars.open_time), _text(bars.close_time)
        columns = [getattr(bars, c).tolist() for c in ("open", "high", "low", "close", "volume")]
        rows = [
            {"open_time": o, "close_time": c, "open": a, "high": b, "low": d, "close": e, "volume": f}
            for o, c, a, b, d, e, f in zip(opened, closed, *columns, strict=True)
        ]
        return JSONResponse(
            {
                "symbol": name,
                "synthetic": s.info.synthetic,
                "now": _json(now),
                "bars": rows,
                "truncated": truncated,
            }
        )


def _calibration(serving: Serving, now: Calibration | None) -> dict[str, Any]:
    info = serving.info
    body: dict[str, Any] = {
        "model": info.model, "symbol": serving.settings.target.symbol, "version": info.version, "alias": serving.alias,
        "kind": info.kind, "synthetic": info.synthetic, "adaptive": now is not None, "outcomes": 0, "since": None,
        "as_of": None, "stretch_90": None, "trained_stretch_90": None, "horizons": [],
    }  # fmt: skip
    if now is None:
        return body
    ends = np.exp(now.state.table[:, [now.state.levels.index(level) for level in (0.05, 0.95)]])
    return body | {
        "outcomes": now.outcomes, "since": now.trained.as_of, "as_of": now.state.as_of,
        "stretch_90": now.stretch_90, "trained_stretch_90": now.trained_stretch_90,
        "horizons": [
            {"horizon": h, "stretch_05": a, "stretch_95": b}
            for h, (a, b) in zip(now.state.horizons, ends.tolist(), strict=True)
        ],
    }  # fmt: skip


def _add_forecasts(app: FastAPI, serving: Callable[[], Serving]) -> None:
    start_query = Query(description="first hour that is forecast, e.g. 2025-06-26T05:00Z", **_TIME)
    end_query = Query(description="forecasts for closes before this", **_TIME)
    hours_query = Query(
        description="hours ahead, 1 to 24: a number, a range or a list", examples=list(FORMS), max_length=200
    )
    callback_query = Query(description="where to post the answer as well; its host must be on the allow-list")

    def answer(made: Made, url: str | None, tasks: BackgroundTasks) -> Response:
        s = serving()
        body = _body(s, made)
        if url is not None:
            destination = callback.check(url, s.settings.callback_hosts, s.settings.callback_private)
            tasks.add_task(callback.post, destination, body, s.settings.callback_timeout_s)
        return JSONResponse(body, headers=_headers(s, made, body), background=tasks)

    @app.get("/predict", tags=["forecasts"], response_model=answers.Predicted, responses=_problems(403, 404))
    def predict(
        tasks: BackgroundTasks,
        alias: Annotated[str | None, Query(description="default: the served one")] = None,
        start: Annotated[str | None, start_query] = None,
        end: Annotated[str | None, end_query] = None,
        horizon: Annotated[str | None, hours_query] = None,
        callback_url: Annotated[str | None, callback_query] = None,
    ) -> Response:
        """The present forecast as it was issued (default: all 24 hours ahead), or with `start` and `end` what one version says of a range (default: 1 hour ahead).

        `horizon` is a number of hours (6), a range (1..24) or a list (1,6,24). A range of several horizons answers each
        close at each of them.
        """
        s = serving()
        hours = None if horizon is None else _horizons(horizon)
        ahead = hours or (1,)
        span = _span(start, end, s.clock.now(), None, s.settings.predict_max_hours, len(ahead))
        made = s.present(alias, hours) if span is None else s.over(alias, *span, ahead)
        return answer(made, callback_url, tasks)

    @app.get(
        "/predict-champion",
        tags=["forecasts"],
        response_model=answers.Predicted,
        responses=_problems(403, 404),
    )
    def predict_champion(
        tasks: BackgroundTasks,
        start: Annotated[str | None, start_query] = None,
        end: Annotated[str | None, end_query] = None,
        horizon: Annotated[str, hours_query] = "1",
        callback_url: Annotated[str | None, callback_query] = None,
    ) -> Response:
        """What users got at each hour; `source` says where a row had to be reconstructed because nothing was issued."""
        s = serving()
        now, hours = s.clock.now(), _horizons(horizon)
        span = _span(start, end, now, None, s.settings.predict_max_hours, len(hours))
        if span is None:
            span = (now - timedelta(days=7), now + timedelta(hours=25))
        return answer(s.stitched(*span, hours), callback_url, tasks)

    @app.post(
        "/predict_bars",
        tags=["forecasts"],
        openapi_extra=_OWN_BARS_BODY,
        response_model=answers.Predicted,
        responses=_problems(408, 413),
    )
    # async, so on the event loop, where the body is read already: a thread of its own costs as much as the forecast.
    # What a forecast of given bars needs is in memory; nothing that asks a database belongs here.
    async def predict_bars(given: Annotated[Read, Depends(_read_own)]) -> Response:
        """A forecast by the served version from the caller's own bars."""
        s = serving()
        size = sum(part.prices.nbytes for part in given.bars.values())
        try:
            made = await _apart_if_large(size, lambda: s.over_bars(check(given.bars), given.horizons))
        except DataError as error:
            raise _BadInputError(
                str(error).replace("; run `hourcast etl gaps`", "").replace("; run `hourcast etl run`", "")
            ) from None
        body = _body(s, made)
        return JSONResponse(body, headers=_headers(s, made, body))


def _public(error: HourcastError) -> str:
    """A message without what only an operator should see."""
    if isinstance(error.__cause__, Exception):
        _LOG.warning("%s", error)
        return "the database or the bucket does not answer; nothing is lost, try again soon"
    return str(error)


class _Guard:
    """Answers what nobody foresaw without a stack trace; the trace goes to the log."""

    def __init__(self, app: ASGIApp, answer: Response) -> None:
        self._app, self._answer = app, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            if scope["type"] != "http" or begun:
                raise
            _LOG.exception("%s %s failed", scope["method"], scope["path"])
            await self._answer(scope, receive, send)


def _add_errors(app: FastAPI) -> None:
    def problem(
        status: int, detail: str, retry_after_s: float | None = None, more: Mapping[str, str] | None = None
    ) -> JSONResponse:
        headers = (
            dict(more or {}) if retry_after_s is None else {"Retry-After": str(max(1, round(retry_after_s)))}
        )
        return JSONResponse({"detail": detail, "retry_after_s": retry_after_s}, status, headers)

    app.add_middleware(_Guard, answer=problem(500, _FAILED))

    @app.exception_handler(HourcastError)
    async def ours(request: Request, error: HourcastError) -> JSONResponse:
        if isinstance(error, NotFoundError):
            return problem(404, str(error))
        if isinstance(error, RefusedError):
            return problem(403, str(error))
        if isinstance(error, TooLargeError):
            return problem(413, str(error))
        if isinstance(error, _BadInputError):
            return problem(422, str(error))
        if isinstance(error, UnavailableError):
            return problem(503, _public(error), error.retry_after_s or 5)
        if isinstance(error, DataError | ConfigurationError):
            _LOG.error("%s %s: %s", request.method, request.url.path, error)
            return problem(
                503, str(error) if isinstance(error, DataError) else "the server is set up wrongly", 60
            )
        return problem(500, _FAILED)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        told = []
        for item in error.errors()[:3]:
            where = ".".join(str(part) for part in item["loc"][1:]) or "body"
            given = (
                ""
                if isinstance(item.get("input"), dict | list)
                else f" (given: {str(item.get('input'))[:60]!r})"
            )
            told.append(f"{where}: {item['msg']}{given}")
        return problem(422, "; ".join(told))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 404:
            return problem(404, f"there is no {request.url.path}; /docs lists what there is")
        if error.status_code == 405:
            return problem(405, f"{request.url.path} does not take {request.method}", more=error.headers)
        return problem(error.status_code, str(error.detail))

    app.router.dependencies.append(Depends(_known_query))
