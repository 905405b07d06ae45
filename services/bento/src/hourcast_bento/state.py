"""Endpoints that tell what is served, how good it is and what it was made from."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from fastapi import Depends, FastAPI, Query
from fastapi.responses import HTMLResponse, JSONResponse

from hourcast.contracts import alias_kind
from hourcast.errors import UnavailableError
from hourcast.failing import read_failing
from hourcast.store import Hour
from hourcast_bento import answers
from hourcast_bento.asking import TIME, BadInputError, moment_of, served
from hourcast_bento.bodies import calibration_body, candle_rows, to_json
from hourcast_bento.models import NotFoundError
from hourcast_bento.problems import page_problems, problems, public
from hourcast_bento.serving import Serving

__all__ = ["add_to"]

Served = Annotated[Serving, Depends(served)]
_MAX_BARS = 10_000
# A year of weekly versions.
_MOST_ROLLS = 52
_NO_OTHER_HOST = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:"}


def health(s: Served) -> JSONResponse:
    """What is served, and whether its bars are fresh."""
    now: datetime | None = None
    newest: datetime | None = None
    hour: Hour | None = None
    try:
        now = s.clock.now()
        newest = s.market.newest_close(now)
        hour = s.market.newest_hour(now)
        reason = s.market.stale_reason(newest, now)
    except UnavailableError as error:
        reason = public(error)
    info = s.models.info
    failing = read_failing(s.settings.state_dir)
    body = {
        "status": "degraded" if reason or failing else "ok",
        "model": info.model, "symbol": s.settings.target.symbol, "version": info.version, "alias": s.models.alias,
        "kind": info.kind, "run_id": info.run_id, "data_fingerprint": info.data_fingerprint,
        "trained_through": info.trained_through.isoformat(), "decided_at": info.decided_at,
        "synthetic": info.synthetic, "now": now, "newest_bar_close": newest,
        "bar_age_s": (now - newest).total_seconds() if now and newest else None,
        "stale": reason is not None, "reason": reason,
        "hour": {"hour": hour.hour, "closed_at": hour.closed_at, "given_up": list(hour.given_up)} if hour else None,
        "failing": [{"part": f.part, "since": f.since, "reason": f.reason} for f in failing],
    }  # fmt: skip
    return JSONResponse(to_json(body))


def aliases(s: Served) -> JSONResponse:
    """Every alias that the registry had, the newest first, and whether its package is there."""
    index, packaged = s.models.index(), s.models.packaged() | {s.models.info.version}
    rows = [
        record.model_dump(mode="json")
        | {"available": record.version in packaged, "alias_kind": alias_kind(record.alias)}
        for record in index.aliases
    ]
    served = {
        "alias": s.models.alias, "version": s.models.info.version, "run_id": s.models.info.run_id, "kind": s.models.info.kind,
        "trained_through": s.models.info.trained_through.isoformat(), "decided_at": s.models.info.decided_at,
    }  # fmt: skip
    body = {
        "model": s.models.info.model, "synthetic": s.models.info.synthetic, "served": served, "aliases": rows,
        "generated_at": index.generated_at,
    }  # fmt: skip
    return JSONResponse(to_json(body))


def freshness(s: Served) -> JSONResponse:
    """How fresh each series is, and which hours of the target are missing."""
    now = s.clock.now()
    return JSONResponse(
        to_json({"now": now, "synthetic": s.models.info.synthetic, "series": s.market.freshness(now)})
    )


def history(s: Served, limit: Annotated[int, Query(ge=1, le=5000)] = 200) -> JSONResponse:
    """What was done and why, the newest first, what the newest 52 rolls brought into production, and what stands in a version's way."""
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
        to_json(
            {
                "synthetic": s.models.info.synthetic,
                "events": shown,
                "in_production": production,
                "blocked": asdict(blocked) if blocked else None,
            }
        )
    )


def skill(s: Served) -> JSONResponse:
    """Errors of each alias beside "the price stays" on the same hours, and live coverage and skill over 7 and 30 days."""
    body = {
        "naive": "last close", "synthetic": s.models.info.synthetic, "rows": [row.as_json() for row in s.measures.skill()],
        "live": [window.as_json() for window in s.measures.windows()],
    }  # fmt: skip
    return JSONResponse(to_json(body))


def calibration(s: Served) -> JSONResponse:
    """How far the closes that came have stretched the served version's intervals since its training."""
    return JSONResponse(to_json(calibration_body(s, s.measures.calibration())))


def report(s: Served) -> HTMLResponse:
    """The newest back-test report: one page that needs no other host."""
    found = s.store.newest_report(s.settings.model_name)
    if found is None:
        raise NotFoundError(
            f"there is no back-test report of {s.settings.model_name} yet; `hourcast report` writes one"
        )
    made_at, page = found
    return HTMLResponse(page, headers={"X-Hourcast-Made-At": to_json(made_at), **_NO_OTHER_HOST})


def btc_info(
    s: Served,
    symbol: Annotated[str | None, Query(description="default: the forecast series")] = None,
    start: Annotated[str | None, Query(description="first open time", **TIME)] = None,
    end: Annotated[str | None, Query(description="open times before this", **TIME)] = None,
    limit: Annotated[int, Query(ge=1, le=_MAX_BARS)] = 1000,
) -> JSONResponse:
    """Candles: the newest `limit`, or the first `limit` from `start`."""
    known = [series.symbol for series in s.settings.series]
    name = symbol or s.settings.target.symbol
    if name not in known:
        raise NotFoundError(f"there is no symbol {name!r}; there are {', '.join(known)}")
    since, until = moment_of("start", start), moment_of("end", end)
    if since is not None and until is not None and since >= until:
        raise BadInputError(f"start {since:%Y-%m-%dT%H:%M}Z must lie before end {until:%Y-%m-%dT%H:%M}Z")
    now = s.clock.now()
    if since is None:
        bars = s.store.read_bars(name, end=until, known_at=now, last=limit)
        truncated = False
    else:
        bars = s.store.read_bars(name, start=since, end=until, known_at=now, first=limit + 1)
        truncated = len(bars) > limit
        bars = bars.take(slice(0, limit))
    return JSONResponse(
        {
            "symbol": name,
            "synthetic": s.models.info.synthetic,
            "now": to_json(now),
            "bars": candle_rows(bars),
            "truncated": truncated,
        }
    )


def add_to(app: FastAPI) -> None:
    """Register the endpoints of this module."""
    app.get("/health", tags=["state"], response_model=answers.Health, responses=problems())(health)
    app.get("/aliases", tags=["state"], response_model=answers.Aliases, responses=problems())(aliases)
    app.get("/freshness", tags=["state"], response_model=answers.Fresh, responses=problems())(freshness)
    app.get("/history", tags=["state"], response_model=answers.History, responses=problems())(history)
    app.get("/skill", tags=["state"], response_model=answers.Skill, responses=problems())(skill)
    app.get("/calibration", tags=["state"], response_model=answers.Calibrated, responses=problems())(
        calibration
    )
    app.get("/report", tags=["state"], response_class=HTMLResponse, responses=page_problems(404))(report)
    app.get("/btc-info", tags=["bars"], response_model=answers.Candles, responses=problems(404))(btc_info)
