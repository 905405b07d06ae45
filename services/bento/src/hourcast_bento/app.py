"""The HTTP application: its endpoints, its documentation, and what bounds it."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route

from hourcast import __version__
from hourcast_bento import forecasts, state
from hourcast_bento.asking import own_bars_schemas
from hourcast_bento.docs_page import DOCS_PAGE
from hourcast_bento.gate import Gate
from hourcast_bento.problems import add_errors
from hourcast_bento.serving import Serving

__all__ = ["build_app"]

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


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
    app.state.serving = serving
    add_errors(app)
    # Under `bentoml serve` nobody else does; our server's own gate lies before BentoML and lets no more than these through.
    app.add_middleware(Gate)
    # Not as routers: FastAPI would build those at the first request, and in the time of that.
    state.add_to(app)
    forecasts.add_to(app)

    made = app.openapi

    def openapi() -> dict[str, Any]:
        whole = made()
        whole.setdefault("components", {}).setdefault("schemas", {}).update(own_bars_schemas())
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
