"""Endpoints that answer forecasts."""

from datetime import timedelta
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, Query
from fastapi.responses import JSONResponse, Response

from hourcast.errors import DataError
from hourcast_bento import answers, callback
from hourcast_bento.asking import (
    OWN_BARS_BODY,
    TIME,
    BadInputError,
    apart_if_large,
    horizons_of,
    read_own,
    served,
    span_of,
)  # fmt: skip
from hourcast_bento.bodies import forecast_body, forecast_headers
from hourcast_bento.forecasting import Made
from hourcast_bento.horizons import FORMS
from hourcast_bento.own_bars import Read, check
from hourcast_bento.problems import problems
from hourcast_bento.serving import Serving

__all__ = ["add_to"]

Served = Annotated[Serving, Depends(served)]
_START = Query(description="first hour that is forecast, e.g. 2025-06-26T05:00Z", **TIME)
_END = Query(description="forecasts for closes before this", **TIME)
_HOURS = Query(
    description="hours ahead, 1 to 24: a number, a range or a list", examples=list(FORMS), max_length=200
)
_CALLBACK = Query(description="where to post the answer as well; its host must be on the allow-list")


def _answer(s: Serving, made: Made, url: str | None, tasks: BackgroundTasks) -> Response:
    body = forecast_body(s, made)
    if url is not None:
        destination = callback.check(url, s.settings.callback_hosts, s.settings.callback_private)
        tasks.add_task(callback.post, destination, body, s.settings.callback_timeout_s)
    return JSONResponse(body, headers=forecast_headers(s, made, body), background=tasks)


def predict(
    s: Served,
    tasks: BackgroundTasks,
    alias: Annotated[str | None, Query(description="default: the served one")] = None,
    start: Annotated[str | None, _START] = None,
    end: Annotated[str | None, _END] = None,
    horizon: Annotated[str | None, _HOURS] = None,
    callback_url: Annotated[str | None, _CALLBACK] = None,
) -> Response:
    """The present forecast as it was issued (default: all 24 hours ahead), or with `start` and `end` what one version says of a range (default: 1 hour ahead).

    `horizon` is a number of hours (6), a range (1..24) or a list (1,6,24). A range of several horizons answers each
    close at each of them.
    """
    hours = None if horizon is None else horizons_of(horizon)
    ahead = hours or (1,)
    span = span_of(start, end, s.clock.now(), None, s.settings.predict_max_hours, len(ahead))
    made = s.forecasting.present(alias, hours) if span is None else s.forecasting.over(alias, *span, ahead)
    return _answer(s, made, callback_url, tasks)


def predict_production(
    s: Served,
    tasks: BackgroundTasks,
    start: Annotated[str | None, _START] = None,
    end: Annotated[str | None, _END] = None,
    horizon: Annotated[str, _HOURS] = "1",
    callback_url: Annotated[str | None, _CALLBACK] = None,
) -> Response:
    """What users got at each hour; `source` says where a row had to be reconstructed because nothing was issued."""
    now, hours = s.clock.now(), horizons_of(horizon)
    span = span_of(start, end, now, None, s.settings.predict_max_hours, len(hours))
    if span is None:
        span = (now - timedelta(days=7), now + timedelta(hours=25))
    return _answer(s, s.forecasting.produced(*span, hours), callback_url, tasks)


# async, so on the event loop, where the body is read already: a thread of its own costs as much as the forecast.
# What a forecast of given bars needs is in memory; nothing that asks a database belongs here.
async def predict_bars(s: Served, given: Annotated[Read, Depends(read_own)]) -> Response:
    """A forecast by the served version from the caller's own bars."""
    size = sum(part.prices.nbytes for part in given.bars.values())
    try:
        made = await apart_if_large(size, lambda: s.forecasting.over_bars(check(given.bars), given.horizons))
    except DataError as error:
        raise BadInputError(
            str(error).replace("; run `hourcast etl gaps`", "").replace("; run `hourcast etl run`", "")
        ) from None
    body = forecast_body(s, made)
    return JSONResponse(body, headers=forecast_headers(s, made, body))


def add_to(app: FastAPI) -> None:
    """Register the endpoints of this module."""
    app.get("/predict", tags=["forecasts"], response_model=answers.Predicted, responses=problems(403, 404))(
        predict
    )
    app.get(
        "/predict-production",
        tags=["forecasts"],
        response_model=answers.Predicted,
        responses=problems(403, 404),
    )(predict_production)
    # Its name up to release 0.1.0. It was never of the alias `champion`, but of whatever served.
    app.get(
        "/predict-champion",
        tags=["forecasts"],
        response_model=answers.Predicted,
        responses=problems(403, 404),
        deprecated=True,
    )(predict_production)
    app.post(
        "/predict_bars",
        tags=["forecasts"],
        openapi_extra=OWN_BARS_BODY,
        response_model=answers.Predicted,
        responses=problems(408, 413),
    )(predict_bars)
