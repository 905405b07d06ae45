"""More requests than can be answered: those that fit run, a few wait, the rest are told at once. Probes always pass.

Nobody waits for ever either: one whose answer does not begin within a minute is told, while what works for it ends by itself.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from hourcast.slots import Slots

__all__ = ["FULL", "LATE", "Gate"]

_LOG = logging.getLogger(__name__)
FULL = "the server has as many requests under way as it can answer in time; try again in a second"
LATE = "this took longer than {:g} s and is not waited for; ask for a smaller part, or try again soon"
_ALWAYS = frozenset({"/livez", "/readyz", "/startedz", "/healthz", "/metrics"})
_OWN_BARS = "/predict_bars"

_App = Callable[
    [dict[str, Any], Callable[[], Awaitable[Any]], Callable[[dict[str, Any]], Any]], Awaitable[None]
]


class Gate:
    """An ASGI application that passes on no more requests at a time than can be answered in time.

    Own bars are forecast from without a database: they have slots of their own, so that a database that hangs leaves
    them alone.
    """

    def __init__(
        self,
        app: _App,
        slots: Slots | None = None,
        own_bars: Slots | None = None,
        answer_s: float = 60.0,
    ) -> None:
        self._app, self._answer_s = app, answer_s
        self._slots = slots or Slots(16, 64)
        self._own_bars = own_bars or Slots(4, 32)

    def refuses(self, head: bytes) -> bool:
        """Whether a request of this head is refused now; those that announce a body are left to who reads it."""
        if not self._slots.full or b"\r\ncontent-length:" in (low := head.lower()) or b"\r\ntransfer-" in low:
            return False
        path = head[4:].partition(b" ")[0].partition(b"?")[0]
        return head.startswith(b"GET ") and path.decode("latin-1") not in _ALWAYS

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[dict[str, Any]], Any],
    ) -> None:
        """Answer as the application does, or say that there is too much to do."""
        if scope["type"] != "http" or scope["path"] in _ALWAYS:
            await self._app(scope, receive, send)
            return
        slots = self._own_bars if scope["path"] == _OWN_BARS else self._slots
        if not await slots.enter():
            await _say(send, FULL)
            return
        begun = late = False

        async def sending(message: dict[str, Any]) -> None:
            nonlocal begun
            # What comes after its caller was told goes nowhere.
            if not late:
                begun = True
                await send(message)

        work = asyncio.ensure_future(self._app(scope, receive, sending))
        try:
            await asyncio.wait({work}, timeout=self._answer_s)
            late = not work.done() and not begun
            if not late:
                await work
                return
        finally:
            if late:
                # Not when its caller is told: a thread that still works takes its share.
                work.add_done_callback(lambda ended: self._ended(ended, slots))
            else:
                work.cancel()
                slots.leave()
        _LOG.warning("%s %s took longer than %g s", scope["method"], scope["path"], self._answer_s)
        await _say(send, LATE.format(self._answer_s))

    @staticmethod
    def _ended(work: "asyncio.Future[None]", slots: Slots) -> None:
        slots.leave()
        if not work.cancelled() and (error := work.exception()) is not None:
            _LOG.warning("a request that was given up failed in the end: %r", error)


async def _say(send: Callable[[dict[str, Any]], Any], sentence: str) -> None:
    body = json.dumps({"detail": sentence, "retry_after_s": 1.0}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", b"1"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
