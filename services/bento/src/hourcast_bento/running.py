"""uvicorn as we run it: one process, an answer to every request that came before SIGTERM, and then exit code 0."""

import signal
import sys
from types import FrameType
from typing import Any

__all__ = ["run"]


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def run(app: Any, host: str, port: int) -> None:
    """Serve an ASGI application until SIGTERM or SIGINT."""
    import uvicorn

    from hourcast_bento.drain import DrainingApp, forget

    forget()
    # uvicorn raises the signal again when it has ended well; by default that would end us as if killed.
    signal.signal(signal.SIGTERM, _end)
    uvicorn.run(
        DrainingApp(app),
        host=host, port=port, log_level="warning", access_log=False,
        timeout_keep_alive=75, timeout_graceful_shutdown=20,
    )  # fmt: skip
