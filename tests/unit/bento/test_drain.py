"""Before its end a server sends its clients elsewhere."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from hourcast_bento.drain import DrainingApp
from tests.ports import find_port
from tests.servers import wait_for


async def _plain(_scope: dict[str, Any], _receive: Any, send: Callable[[dict[str, Any]], Any]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"\n"})


def _client(app: Callable[..., Any]) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server")


async def _get(app: Callable[..., Any], path: str) -> httpx.Response:
    async with _client(app) as client:
        return await client.get(path)


def _ask(app: Callable[..., Any], path: str) -> httpx.Response:
    import asyncio

    return asyncio.run(_get(app, path))


def test_answers_close_their_connection_once_the_server_drains() -> None:
    """Until the flag is there answers are as they were; from then on each says `Connection: close`."""
    draining = False
    looks: list[bool] = []

    def look() -> bool:
        looks.append(draining)
        return draining

    app = DrainingApp(_plain, look)
    assert "connection" not in _ask(app, "/livez").headers
    draining = True
    app._next_look = 0.0
    for _ in range(3):
        answer = _ask(app, "/livez")
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert looks == [False, True]


def test_the_flag_is_not_looked_for_at_each_request() -> None:
    """A thousand requests in a moment cost a look or two."""
    looks: list[int] = []
    app = DrainingApp(_plain, lambda: bool(looks.append(1)))
    for _ in range(50):
        _ask(app, "/livez")
    assert len(looks) <= 10


_SLOW = """
import asyncio, pathlib, sys
from hourcast_bento.running import run
folder = pathlib.Path(sys.argv[1])
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    (folder / "begun").touch()
    while not (folder / "finish").exists():
        await asyncio.sleep(0.01)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"whole"})
run(app, "127.0.0.1", int(sys.argv[2]))
"""


def test_sigterm_waits_for_the_answer_that_is_under_way(tmp_path: Path) -> None:
    """A request that came before SIGTERM is answered whole and says which server answered, which then ends with 0."""
    port = find_port()
    server = subprocess.Popen([sys.executable, "-c", _SLOW, str(tmp_path), str(port)])
    got: list[httpx.Response] = []

    def ask() -> None:
        # The transport tries again until the server listens.
        transport = httpx.HTTPTransport(retries=10)
        with httpx.Client(transport=transport, timeout=60, trust_env=False) as client:
            got.append(client.get(f"http://127.0.0.1:{port}/"))

    asked = threading.Thread(target=ask)
    try:
        asked.start()
        wait_for((tmp_path / "begun").exists, 30, "the request")
        server.send_signal(signal.SIGTERM)
        (tmp_path / "finish").touch()
        assert server.wait(30) == 0
        asked.join(30)
        assert [(a.status_code, a.text) for a in got] == [(200, "whole")]
        assert re.fullmatch("[0-9a-f]{8}", got[0].headers["x-hourcast-server"])
    finally:
        server.kill()
        server.wait()
