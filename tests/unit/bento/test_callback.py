"""callback_url reaches hosts on the allow-list, at the address that was checked, and no other."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hourcast.errors import RefusedError
from hourcast_bento import callback


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://a/b", "callback_url must be http:// or https:// with a host and no credentials"),
        ("http://user:secret@a/b", "callback_url must be http:// or https:// with a host and no credentials"),
        ("http://a:99999/", "callback_url is not a URL; write it as https://host/path"),
        ("http://evil.example/", "callback_url: host 'evil.example' is not on the allow-list; an operator adds it to HOURCAST_CALLBACK_HOSTS"),
        ("http://good.example.evil.example/", "callback_url: host 'good.example.evil.example' is not on the allow-list; an operator adds it to HOURCAST_CALLBACK_HOSTS"),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_refused_with_its_reason(url: str, message: str) -> None:
    """Forms, credentials and hosts."""
    with pytest.raises(RefusedError) as caught:
        callback.check(url, ["good.example"], allow_private=False)
    assert str(caught.value) == message


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.8", "169.254.169.254", "::1", "100.64.0.1"])
def test_an_allowed_name_that_resolves_inward_is_refused(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """A name on the list does not open the inside of a network."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: [(0, 0, 0, "", (address, 80))])
    with pytest.raises(RefusedError) as caught:
        callback.check("http://good.example/x", ["good.example"], allow_private=False)
    assert str(caught.value) == "callback_url: host 'good.example' resolves to an address that is not public"


def test_a_port_narrows_the_list() -> None:
    """`host:port` allows that port alone."""
    allowed = ["127.0.0.1:8080"]
    assert callback.check("http://127.0.0.1:8080/x", allowed, allow_private=True).port == 8080
    with pytest.raises(RefusedError):
        callback.check("http://127.0.0.1:9090/x", allowed, allow_private=True)


@pytest.fixture
def receiver() -> Iterator[tuple[int, list[tuple[str, str, Any]]]]:
    """A server that keeps what is posted, and redirects when asked for /away."""
    got: list[tuple[str, str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((self.path, self.headers["Host"], body))
            self.send_response(302 if self.path == "/away" else 204)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name that http.server uses
            """Silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], got
    server.shutdown()
    server.server_close()


def test_a_result_is_posted_to_the_checked_address(
    receiver: tuple[int, list[tuple[str, str, Any]]],
) -> None:
    """The body arrives, under the name that was asked for."""
    port, got = receiver
    destination = callback.check(f"http://localhost:{port}/here", ["localhost"], allow_private=True)
    callback.post(callback.Destination(destination.url, "localhost", port, "127.0.0.1"), {"a": 1}, 5)
    assert got == [("/here", f"localhost:{port}", {"a": 1})]


def test_redirects_are_not_followed(receiver: tuple[int, list[tuple[str, str, Any]]]) -> None:
    """A receiver cannot send us elsewhere."""
    port, got = receiver
    callback.post(
        callback.Destination(f"http://127.0.0.1:{port}/away", "127.0.0.1", port, "127.0.0.1"), {"a": 1}, 5
    )
    assert [path for path, *_ in got] == ["/away"]
