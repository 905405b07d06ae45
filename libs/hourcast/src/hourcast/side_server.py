"""A small HTTP server beside a process' own work: probes, figures, hints."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["SideHandler", "SideServer"]


class SideHandler(BaseHTTPRequestHandler):
    """A request: one that stalls is given up after ten seconds."""

    timeout = 10

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
        """Probes and hints are not worth a line each."""


class SideServer:
    """Answers on one port, in threads that keep no process from ending. `start` it, `stop` it."""

    def __init__(self, host: str, port: int, handler: type[SideHandler], name: str) -> None:
        self._server = ThreadingHTTPServer((host, port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name=name, daemon=True
        )

    @property
    def port(self) -> int:
        """The port that is heard."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
