"""A server at an address of its own that answers in JSON, for as long as a test asks it."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

__all__ = ["Answer", "Asked", "answering"]


class Asked(NamedTuple):
    """A request: its method, path, query and what its body holds, None where it has none."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    body: Any


class Answer(NamedTuple):
    """What is sent back, as JSON."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = {}


@contextmanager
def answering(answer: Callable[[Asked], Answer]) -> Iterator[str]:
    """The URL of a server that tells each GET, PATCH and POST what `answer` says."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            parts = urlsplit(self.path)
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(self.command, parts.path, parse_qs(parts.query), json.loads(sent) if sent else None)
            said = answer(asked)
            told = json.dumps(said.body).encode()
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        do_PATCH = do_POST = do_GET  # noqa: N815  # as above

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
            """Requests are not worth a line each."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
