"""More requests than can be answered: those that fit run, a few wait, the rest are told at once. Probes always pass."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from hourcast.slots import Slots

__all__ = ["FULL", "Gate"]

FULL = "the server has as many requests under way as it can answer in time; try again in a second"
_BODY = json.dumps({"detail": FULL, "retry_after_s": 1.0}).encode()
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_BODY)).encode()),
    (b"retry-after", b"1"),
]
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

    def __init__(self, app: _App, slots: Slots | None = None, own_bars: Slots | None = None) -> None:
        self._app = app
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
            await send({"type": "http.response.start", "status": 503, "headers": list(_HEADERS)})
            await send({"type": "http.response.body", "body": _BODY})
            return
        try:
            await self._app(scope, receive, send)
        finally:
            slots.leave()
