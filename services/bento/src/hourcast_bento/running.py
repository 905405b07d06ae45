"""uvicorn as we run it: one process, an answer to every request that came before SIGTERM, and then exit code 0."""

import contextlib
import logging
import secrets
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["run"]

_LOG = logging.getLogger(__name__)


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def run(app: Any, host: str, port: int, on_server: Callable[[Any], None] = lambda _server: None) -> None:
    """Serve an ASGI application until SIGTERM or SIGINT; `on_server` is given uvicorn's server before it runs.

    Each answer says in `X-Hourcast-Server` which run of a server gave it, by a name that is drawn at its start and logged.
    """
    import uvicorn

    from hourcast.slots import raise_file_limit
    from hourcast_bento.connections import bounded
    from hourcast_bento.drain import DrainingApp, forget
    from hourcast_bento.gate import Gate

    forget()
    files, gate = raise_file_limit(), Gate(app)
    name = secrets.token_hex(4)
    _LOG.info("server %s starts on port %d", name, port)
    # uvicorn raises the signal again when it has ended well; by default that would end us as if killed.
    signal.signal(signal.SIGTERM, _end)
    server = uvicorn.Server(
        uvicorn.Config(
            DrainingApp(gate), http=bounded(files, gate.refuses),
            host=host, port=port, log_level="warning", access_log=False,
            timeout_keep_alive=75, timeout_graceful_shutdown=20, headers=[("X-Hourcast-Server", name)],
        )
    )  # fmt: skip
    on_server(server)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
