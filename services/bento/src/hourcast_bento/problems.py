"""What is answered where a request fails, and what OpenAPI says of it."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hourcast.errors import ConfigurationError, DataError, HourcastError, RefusedError, UnavailableError
from hourcast_bento import answers
from hourcast_bento.asking import BadInputError, known_query
from hourcast_bento.models import NotFoundError
from hourcast_bento.own_bars import TooLargeError

__all__ = ["add_errors", "page_problems", "problems", "public"]

_LOG = logging.getLogger(__name__)
_FAILED = "the server failed at this request; the operator finds the reason in its log"


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Those of an endpoint, for OpenAPI: `statuses`, and what any may answer."""
    return {status: answers.PROBLEMS[status] for status in (*statuses, 422, 500, 503)}


def page_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The same for an endpoint that answers a page: FastAPI would take its problems for pages too."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": told["description"], "content": content}
        for status, told in problems(*statuses).items()
    }


def public(error: HourcastError) -> str:
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


def _problem(
    status: int, detail: str, retry_after_s: float | None = None, more: Mapping[str, str] | None = None
) -> JSONResponse:
    headers = (
        dict(more or {}) if retry_after_s is None else {"Retry-After": str(max(1, round(retry_after_s)))}
    )
    return JSONResponse({"detail": detail, "retry_after_s": retry_after_s}, status, headers)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, NotFoundError):
        return _problem(404, str(error))
    if isinstance(error, RefusedError):
        return _problem(403, str(error))
    if isinstance(error, TooLargeError):
        return _problem(413, str(error))
    if isinstance(error, BadInputError):
        return _problem(422, str(error))
    if isinstance(error, UnavailableError):
        return _problem(503, public(error), error.retry_after_s or 5)
    if isinstance(error, DataError | ConfigurationError):
        _LOG.error("%s %s: %s", request.method, request.url.path, error)
        return _problem(
            503, str(error) if isinstance(error, DataError) else "the server is set up wrongly", 60
        )
    return _problem(500, _FAILED)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    told = []
    for item in error.errors()[:3]:
        where = ".".join(str(part) for part in item["loc"][1:]) or "body"
        given = (
            "" if isinstance(item.get("input"), dict | list) else f" (given: {str(item.get('input'))[:60]!r})"
        )
        told.append(f"{where}: {item['msg']}{given}")
    return _problem(422, "; ".join(told))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _problem(404, f"there is no {request.url.path}; /docs lists what there is")
    if error.status_code == 405:
        return _problem(405, f"{request.url.path} does not take {request.method}", more=error.headers)
    return _problem(error.status_code, str(error.detail))


def add_errors(app: FastAPI) -> None:
    """Answer whatever fails with a sentence, and refuse arguments that nobody reads."""
    app.add_middleware(_Guard, answer=_problem(500, _FAILED))
    app.add_exception_handler(HourcastError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.router.dependencies.append(Depends(known_query))
