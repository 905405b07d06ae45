"""The HTTP endpoints. `Serving` does the work; here are only forms of questions and answers."""

import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Annotated, Any, NotRequired

import numpy as np
import numpy.typing as npt
from fastapi import BackgroundTasks, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, with_config
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import TypedDict  # pydantic refuses typing's own before Python 3.12

from hourcast import __version__
from hourcast.contracts import HOUR_S, Bars, alias_kind, parse_hour
from hourcast.errors import ConfigurationError, DataError, HourcastError, RefusedError, UnavailableError
from hourcast_bento import callback
from hourcast_bento.docs_page import DOCS_PAGE
from hourcast_bento.serving import Made, NotFoundError, Serving

__all__ = ["build_app"]

_LOG = logging.getLogger(__name__)
_MAX_BARS = 10_000
_PRICES = itemgetter("open", "high", "low", "close")
_FAILED = "the server failed at this request; the operator finds the reason in its log"


class _BadInputError(HourcastError):
    """A request that cannot be answered as it is; the message says what would be right."""


_Price = Annotated[float, Field(gt=0)]


# A dict, since thousands come at once and a model each would cost more than the forecast.
@with_config(ConfigDict(extra="forbid"))
class OwnBar(TypedDict):
    """One bar of the caller. `close_time` defaults to an hour after `open_time`."""

    open_time: datetime
    close_time: NotRequired[datetime | None]
    open: _Price
    high: _Price
    low: _Price
    close: _Price
    volume: NotRequired[Annotated[float, Field(ge=0)]]


class OwnBars(BaseModel):
    """A caller's own bars by symbol, in order of time."""

    model_config = ConfigDict(extra="forbid")

    bars: Annotated[dict[str, Annotated[list[OwnBar], Field(max_length=20_000)]], Field(max_length=16)]
    horizons: Annotated[list[int], Field(max_length=24)] | None = None


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
        return parse_hour(text)
    except ValueError as error:
        raise _BadInputError(f"{name}: {error}") from None


def _span(
    start: str | None, end: str | None, now: datetime, newest: datetime | None, max_hours: int
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
    return since, until


# FastAPI would parse the body into dicts first and then look at each again; pydantic reads JSON in one go.
_OWN_BARS_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/OwnBars"}}},
    }
}


async def _read_own(request: Request) -> OwnBars:
    try:
        return OwnBars.model_validate_json(await request.body())
    except ValidationError as error:
        raise RequestValidationError(
            [{**item, "loc": ("body", *item["loc"])} for item in error.errors()]
        ) from None


def _schemas() -> dict[str, Any]:
    """JSON schemas of what is read past FastAPI."""
    whole = OwnBars.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**whole.pop("$defs"), "OwnBars": whole}


def _own(payload: OwnBars) -> dict[str, Bars]:
    out = {}
    for symbol, rows in payload.bars.items():
        opens = np.array([_epoch(r["open_time"]) for r in rows], np.int64)
        ends = [r.get("close_time") for r in rows]
        closes = np.array(
            [_epoch(end) if end else o + HOUR_S for end, o in zip(ends, opens.tolist(), strict=True)],
            np.int64,
        )
        prices = np.array([(*_PRICES(r), r.get("volume", 0.0)) for r in rows], np.float64).reshape(
            len(rows), 5
        )
        first, high, low, close = (prices[:, i] for i in range(4))
        checks: tuple[tuple[npt.NDArray[np.bool_], Callable[[OwnBar], str]], ...] = (
            (
                (low > np.minimum(first, close)) | (high < np.maximum(first, close)),
                lambda r: (
                    f"low {r['low']:g} and high {r['high']:g} must enclose open {r['open']:g} and close {r['close']:g}"
                ),
            ),
            (closes <= opens, lambda _: "close_time must lie after open_time"),
            (
                np.diff(opens, prepend=opens[:1] - 1) <= 0,
                lambda _: "open_time must be later than that of the bar before it",
            ),
        )
        for wrong, told in checks:
            if wrong.any():
                i = int(np.argmax(wrong))
                raise _BadInputError(f"bars[{symbol!r}][{i}]: {told(rows[i])}")
        out[symbol] = Bars.of(symbol, opens, prices, closes)
    return out


def _epoch(moment: datetime) -> int:
    """Whole seconds; a time without a zone is UTC, as everywhere in this API."""
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _body(serving: Serving, made: Made) -> dict[str, Any]:
    forecasts = made.forecasts
    scale = float(np.median(forecasts.last_close)) if len(forecasts.last_close) else 1.0
    # Ten significant digits: cents of a bitcoin and fractions of a cheap coin alike.
    digits = max(2, 9 - math.floor(math.log10(max(scale, 1e-12))))
    quantiles = np.round(forecasts.quantiles, digits).tolist()
    point = np.round(forecasts.point, digits).tolist()
    target, origin = forecasts.target_time, _text(forecasts.origin)
    target_text = [_text(row) for row in target] if len(origin) else []
    info = made.info
    rows = []
    for i, begun in enumerate(origin):
        for j, horizon in enumerate(forecasts.horizons):
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
                row |= {"alias": made.aliases[i], "version": made.versions[i]}
            rows.append(row)
    age = (made.now - made.newest_close).total_seconds() if made.newest_close else None
    return {
        "model": serving.settings.model_name,
        "symbol": serving.settings.target.symbol,
        "alias": made.alias,
        "version": info.version if info else None,
        "run_id": info.run_id if info else None,
        "kind": info.kind if info else None,
        "data_fingerprint": info.data_fingerprint if info else None,
        "synthetic": serving.info.synthetic,
        "now": _json(made.now),
        "newest_bar_close": _json(made.newest_close),
        "bar_age_s": age,
        "levels": list(forecasts.levels),
        "forecasts": rows,
    }


def _headers(body: dict[str, Any]) -> dict[str, str]:
    named = {
        "X-Hourcast-Model-Version": body["version"],
        "X-Hourcast-Model-Alias": body["alias"],
        "X-Hourcast-Run-Id": body["run_id"],
        "X-Hourcast-Data-Fingerprint": body["data_fingerprint"],
        "X-Hourcast-Bar-Age-S": body["bar_age_s"],
        "X-Hourcast-Synthetic": str(body["synthetic"]).lower(),
    }
    if len(body["forecasts"]) > 0:
        named["X-Hourcast-Target-Time"] = body["forecasts"][0]["target_time"]
    return {name: str(value) for name, value in named.items() if value is not None}


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

    @app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    def nothing(path: str) -> None:
        """Any other path, or a known one with another method."""
        others = {
            route.path: route.methods or set()
            for route in app.routes
            if isinstance(route, Route) and "{" not in route.path
        }
        if f"/{path}" in others:
            raise HTTPException(405)
        raise HTTPException(404)

    return app


def _known_query(request: Request) -> None:
    """An argument that nobody reads is a typing error more often than not."""
    route = request.scope.get("route")
    dependant = getattr(route, "dependant", None)
    if dependant is None:
        return
    if getattr(route, "path", "") == "/{path:path}":
        return
    names = {param.alias for param in dependant.query_params}
    unknown = sorted(set(request.query_params) - names)
    if unknown:
        raise _BadInputError(
            f"unknown argument {unknown[0]!r}; {request.url.path} takes {', '.join(sorted(names)) or 'none'}"
        )


def _add_state(app: FastAPI, serving: Callable[[], Serving]) -> None:
    @app.get("/health", tags=["state"])
    def health() -> JSONResponse:
        """What is served, and whether its bars are fresh."""
        s = serving()
        now: datetime | None = None
        newest: datetime | None = None
        try:
            now = s.clock.now()
            newest = s.newest_close(now)
            reason = s.stale_reason(newest, now)
        except UnavailableError as error:
            reason = _public(error)
        info = s.info
        body = {
            "status": "degraded" if reason else "ok",
            "model": info.model, "symbol": s.settings.target.symbol, "version": info.version, "alias": s.alias,
            "kind": info.kind, "run_id": info.run_id, "data_fingerprint": info.data_fingerprint,
            "trained_through": info.trained_through.isoformat(), "decided_at": info.decided_at,
            "synthetic": info.synthetic, "now": now, "newest_bar_close": newest,
            "bar_age_s": (now - newest).total_seconds() if now and newest else None,
            "stale": reason is not None, "reason": reason,
        }  # fmt: skip
        return JSONResponse(_json(body))

    @app.get("/aliases", tags=["state"])
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

    @app.get("/freshness", tags=["state"])
    def freshness() -> JSONResponse:
        """How fresh each series is, and which hours of the target are missing."""
        return JSONResponse(_json(serving().freshness()))

    @app.get("/history", tags=["state"])
    def history(limit: Annotated[int, Query(ge=1, le=5000)] = 200) -> JSONResponse:
        """What was done and why, the newest first, and what was in production when."""
        s = serving()
        events = s.store.events(s.settings.model_name, limit=limit)
        rolled = list(reversed(s.store.events(s.settings.model_name, kind="rolled", limit=5000)))
        kinds = {e.version: e.kind for e in s.store.evaluations(s.settings.model_name)}
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
            _json({"synthetic": s.info.synthetic, "events": shown, "in_production": production})
        )

    @app.get("/skill", tags=["state"])
    def skill() -> JSONResponse:
        """Errors of each alias beside "the price stays", on the same hours."""
        s = serving()
        rows = [row.as_json() for row in s.skill()]
        return JSONResponse(_json({"naive": "last close", "synthetic": s.info.synthetic, "rows": rows}))

    @app.get("/btc-info", tags=["bars"])
    def btc_info(
        symbol: Annotated[str | None, Query(description="default: the forecast series")] = None,
        start: Annotated[str | None, Query(description="first open time")] = None,
        end: Annotated[str | None, Query(description="open times before this")] = None,
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
            bars = s.store.read_bars(name, start=since, end=until, known_at=now)
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


def _add_forecasts(app: FastAPI, serving: Callable[[], Serving]) -> None:
    start_query = Query(description="first hour that is forecast, e.g. 2025-06-26T05:00Z")
    end_query = Query(description="forecasts for closes before this")
    callback_query = Query(description="where to post the answer as well; its host must be on the allow-list")

    def answer(made: Made, url: str | None, tasks: BackgroundTasks) -> Response:
        s = serving()
        body = _body(s, made)
        if url is not None:
            destination = callback.check(url, s.settings.callback_hosts, s.settings.callback_private)
            tasks.add_task(callback.post, destination, body, s.settings.callback_timeout_s)
        return JSONResponse(body, headers=_headers(body), background=tasks)

    @app.get("/predict", tags=["forecasts"])
    def predict(
        tasks: BackgroundTasks,
        alias: Annotated[str | None, Query(description="default: the served one")] = None,
        start: Annotated[str | None, start_query] = None,
        end: Annotated[str | None, end_query] = None,
        horizon: Annotated[int | None, Query(ge=1, le=24, description="hours ahead")] = None,
        callback_url: Annotated[str | None, callback_query] = None,
    ) -> Response:
        """The present forecast for the coming hours, or with `start` and `end` those of a range."""
        s = serving()
        span = _span(start, end, s.clock.now(), None, s.settings.predict_max_hours)
        if span is None:
            made = s.present(alias, None if horizon is None else (horizon,))
        else:
            made = s.over(alias, *span, horizon or 1)
        return answer(made, callback_url, tasks)

    @app.get("/predict-champion", tags=["forecasts"])
    def predict_champion(
        tasks: BackgroundTasks,
        start: Annotated[str | None, start_query] = None,
        end: Annotated[str | None, end_query] = None,
        horizon: Annotated[int, Query(ge=1, le=24, description="hours ahead")] = 1,
        callback_url: Annotated[str | None, callback_query] = None,
    ) -> Response:
        """Forecasts of whichever version reigned at each hour, from the recorded lineage."""
        s = serving()
        now = s.clock.now()
        span = _span(start, end, now, None, s.settings.predict_max_hours)
        if span is None:
            span = (now - timedelta(days=7), now + timedelta(hours=25))
        return answer(s.stitched(*span, horizon), callback_url, tasks)

    @app.post("/predict_bars", tags=["forecasts"], openapi_extra=_OWN_BARS_BODY)
    def predict_bars(payload: Annotated[OwnBars, Depends(_read_own)]) -> Response:
        """A forecast by the served version from the caller's own bars."""
        s = serving()
        try:
            made = s.over_bars(_own(payload), tuple(payload.horizons) if payload.horizons else None)
        except DataError as error:
            raise _BadInputError(
                str(error).replace("; run `hourcast etl gaps`", "").replace("; run `hourcast etl run`", "")
            ) from None
        body = _body(s, made)
        return JSONResponse(body, headers=_headers(body))


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
    def problem(status: int, detail: str, retry_after_s: float | None = None) -> JSONResponse:
        headers = {} if retry_after_s is None else {"Retry-After": str(max(1, round(retry_after_s)))}
        return JSONResponse({"detail": detail, "retry_after_s": retry_after_s}, status, headers)

    app.add_middleware(_Guard, answer=problem(500, _FAILED))

    @app.exception_handler(HourcastError)
    async def ours(request: Request, error: HourcastError) -> JSONResponse:
        if isinstance(error, NotFoundError):
            return problem(404, str(error))
        if isinstance(error, RefusedError):
            return problem(403, str(error))
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
            return problem(405, f"{request.url.path} does not take {request.method}")
        return problem(error.status_code, str(error.detail))

    app.router.dependencies.append(Depends(_known_query))
