"""Draining: a server that is about to end asks its clients to come back on a new connection, elsewhere.

The preStop command of a pod lays down the flag and waits, while the pod is taken out of its Service. Clients that keep their connections would notice only when the server closes them, at the moment at which they may be
sending; told before, with `Connection: close`, they open the next one to another pod.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["DrainingApp", "flag", "forget"]

_LOOK_S = 0.1

_Send = Callable[[dict[str, Any]], Any]


def flag() -> Path:
    """The file whose presence says that this machine's (or pod's) server drains."""
    return Path(tempfile.gettempdir()) / "hourcast-draining"


def forget() -> None:
    """A server that starts does not drain, whatever the one before it was told."""
    flag().unlink(missing_ok=True)


class DrainingApp:
    """An ASGI application that adds `Connection: close` to each answer once the flag is there.

    The flag is looked for ten times a second at most, not once a request.
    """

    def __init__(self, app: Callable[..., Any], draining: Callable[[], bool] | None = None) -> None:
        self._app = app
        self._flag = flag()
        self._look = draining or self._flag.exists
        self._draining = False
        self._next_look = 0.0

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: _Send) -> None:
        """Answer as the application does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def closing(message: dict[str, Any]) -> None:
            # Looked at when the answer begins: one that took long may end in a server that drains.
            if message["type"] == "http.response.start" and self._drains():
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, closing)

    def _drains(self) -> bool:
        now = time.monotonic()
        if not self._draining and now >= self._next_look:
            self._next_look = now + _LOOK_S
            self._draining = self._look()
        return self._draining
