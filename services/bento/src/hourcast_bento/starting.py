"""A server from its first moment on: it listens at once, says what it waits for, and passes requests on when it can serve.

`/livez` is 200 all along. `/startedz` is 200 once the package is there and `/readyz` once the application answers; until
then both are 503 with the reason. They keep a caller for up to three seconds, so that a probe hears of it at the moment at
which it is so, and not at its next look.
"""

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["App", "Starting"]

_LOG = logging.getLogger(__name__)
_HOLD_S = 3.0
_JSON = (b"content-type", b"application/json")
_LIVE, _STARTED, _READY = "/livez", "/startedz", "/readyz"

App = Callable[
    [dict[str, Any], Callable[[], Awaitable[Any]], Callable[[dict[str, Any]], Awaitable[None]]],
    Awaitable[None],
]


class Starting:
    """An ASGI application that answers for itself until the one that `prepare` gives is there.

    Args:
        prepare: makes the application, in a thread of its own; it may call `say` and `started`. What it raises ends
            the server and is then in `error`.
        stop: ends the server; called in its event loop.
        retry_after_s: when a caller who is refused may try again.
    """

    def __init__(
        self,
        prepare: Callable[["Starting"], App | None],
        stop: Callable[[], None] = lambda: None,
        retry_after_s: float = 1.0,
    ) -> None:
        self._prepare, self._stop, self._retry_after_s = prepare, stop, retry_after_s
        self._reason = "the server starts"
        self._app: App | None = None
        self._lifespan: _Lifespan | None = None
        self._has_started, self._is_ready, self._ends = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.error: BaseException | None = None

    # -- told by `prepare`, from its thread ---------------------------------------------------------

    def say(self, reason: str) -> None:
        """What is waited for now."""
        self._reason = reason

    def started(self) -> None:
        """Nothing outside is waited for any more: what is needed is there."""
        self._call(self._has_started.set)

    # -- the server ---------------------------------------------------------------------------------

    @property
    def reason(self) -> str:
        """What is waited for."""
        return self._reason

    @property
    def waits(self) -> bool:
        """Whether something outside is still waited for."""
        return not self._has_started.is_set()

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer, or let the application answer."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path = scope.get("path")
        if scope["type"] == "http" and path == _STARTED:
            await self._kept(self._has_started)
            await self._answer(send, self._has_started.is_set())
            return
        if self._app is None and scope["type"] == "http" and path == _READY:
            await self._kept(self._is_ready)
        if self._app is not None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(send, path == _LIVE)

    async def _kept(self, event: asyncio.Event) -> None:
        """Wait a while for an event, or for the end."""
        if event.is_set() or self._ends.is_set():
            return
        waits = [asyncio.ensure_future(e.wait()) for e in (event, self._ends)]
        await asyncio.wait(waits, timeout=_HOLD_S, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _answer(self, send: Callable[[dict[str, Any]], Awaitable[None]], well: bool) -> None:
        if well:
            status, headers, body = 200, [(b"content-type", b"text/plain")], b"\n"
        else:
            status = 503
            headers = [_JSON, (b"retry-after", f"{self._retry_after_s:.0f}".encode())]
            body = json.dumps({"detail": self._reason, "retry_after_s": self._retry_after_s}).encode()
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _live(
        self, receive: Callable[[], Awaitable[Any]], send: Callable[[dict[str, Any]], Awaitable[None]]
    ) -> None:
        await receive()
        self._loop = asyncio.get_running_loop()
        # Not waited for at the end: it may sit in a request to a bucket that does not answer.
        threading.Thread(target=self._work, name="starting", daemon=True).start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._ends.set()
        if self._lifespan is not None:
            await self._lifespan.end()
        await send({"type": "lifespan.shutdown.complete"})

    def _work(self) -> None:
        try:
            app = self._prepare(self)
        except BaseException as error:  # whatever it is, a server without a model must end
            self._call(self._fail, error)
        else:
            if app is not None and self._loop is not None:
                self._call(lambda: self._enter_soon(app))

    def _call(self, what: Callable[..., object], *given: object) -> None:
        if self._loop is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(what, *given)

    def _enter_soon(self, app: App) -> None:
        # Kept, since a task that nobody holds may be collected.
        self._entering = asyncio.get_running_loop().create_task(self._enter(app))

    async def _enter(self, app: App) -> None:
        lifespan = _Lifespan(app)
        try:
            await lifespan.begin()
        except Exception as error:  # as above
            self._fail(error)
            return
        self._lifespan, self._app = lifespan, app
        self._has_started.set()
        self._is_ready.set()

    def _fail(self, error: BaseException) -> None:
        self.error = error
        self._reason = str(error)
        self._ends.set()
        self._stop()


class _Lifespan:
    """Start and end of an ASGI application whose server has started long ago."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._to: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Start it; raises what kept it from starting."""
        self._task = asyncio.ensure_future(self._run())
        await self._phase("startup")

    async def end(self) -> None:
        """End it; what goes wrong then is logged."""
        try:
            await self._phase("shutdown")
        except Exception:  # it ends all the same
            _LOG.exception("the application failed at its end")

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        await self._app(scope, self._to.get, self._from.put)

    async def _phase(self, name: str) -> None:
        assert self._task is not None
        await self._to.put({"type": f"lifespan.{name}"})
        told = asyncio.ensure_future(self._from.get())
        await asyncio.wait({told, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if told.done() and told.result()["type"] == f"lifespan.{name}.complete":
            return
        told.cancel()
        # Starlette tells that it failed, and then raises the very error.
        await self._task
        raise RuntimeError(f"the application did not tell that its {name} is complete")
