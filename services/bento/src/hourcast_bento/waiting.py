"""A server for the time before the first version: it lives, is not ready, and says why."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["app", "main"]

_DETAIL = "no model has passed its gate yet; the first training runs when bars are there"
_RETRY_AFTER_S = 30.0
_JSON = (b"content-type", b"application/json")


async def app(
    scope: dict[str, Any],
    _receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """200 at `/livez`, 503 with the reason everywhere else."""
    if scope["type"] != "http":
        return
    if scope["path"] == "/livez":
        status, headers, body = 200, [(b"content-type", b"text/plain")], b"\n"
    else:
        status = 503
        headers = [_JSON, (b"retry-after", f"{_RETRY_AFTER_S:.0f}".encode())]
        body = json.dumps({"detail": _DETAIL, "retry_after_s": _RETRY_AFTER_S}).encode()
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main(host: str, port: int) -> None:
    """Answer until SIGTERM."""
    from hourcast_bento.running import run

    run(app, host, port)
