"""How many connections a server holds: below its limit of files, since accepting one too many stops all of them."""

import asyncio
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from hourcast_bento.gate import FULL

__all__ = ["bounded"]

# A model, the database, the bucket and callbacks need some.
_OTHER_FILES, _MOST = 256, 8192


def bounded(files: int, refuses: Callable[[bytes], bool] = lambda _head: False) -> type[asyncio.Protocol]:
    """Uvicorn's protocol, which of more connections than `files` allow tells the callers and closes them.

    What `refuses` says of a whole request without a body is answered before it is parsed: parsing ten times what can be
    answered would leave no time for answers.
    """
    most = max(64, min(_MOST, files - _OTHER_FILES))
    body = f'{{"detail": "{FULL}", "retry_after_s": 1.0}}'.encode()
    head = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    rest = b"content-length: %d\r\n\r\n%s" % (len(body), body)

    class Bounded(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # uvicorn chooses it when it is imported
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > most:
                transport.write(head + b"connection: close\r\n" + rest)
                transport.close()

        def data_received(self, data: bytes) -> None:
            whole = data.find(b"\r\n\r\n") == len(data) - 4
            if whole and refuses(data) and _is_idle(self):
                self.transport.write(head + rest)
            else:
                super().data_received(data)

    return Bounded


def _is_idle(protocol: Any) -> bool:
    """Whether nothing of a request has come yet; httptools' protocol does not say so."""
    connection = getattr(protocol, "conn", None)
    return connection is not None and connection.their_state is h11.IDLE and not connection.trailing_data[0]
