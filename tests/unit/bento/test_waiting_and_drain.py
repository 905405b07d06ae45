"""Before the first model a server waits and says so; before its end it sends its clients elsewhere."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from hourcast_bento import waiting
from hourcast_bento.drain import DrainingApp, flag
from tests.servers import wait_for


def _client(app: Callable[..., Any]) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server")


async def _get(app: Callable[..., Any], path: str) -> httpx.Response:
    async with _client(app) as client:
        return await client.get(path)


def _ask(app: Callable[..., Any], path: str) -> httpx.Response:
    import asyncio

    return asyncio.run(_get(app, path))


@pytest.mark.parametrize("path", ["/readyz", "/predict", "/", "/metrics"])
def test_without_a_model_every_path_says_why(path: str) -> None:
    """503 in the form of every other problem, with Retry-After."""
    answer = _ask(waiting.app, path)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "30"
    assert answer.json() == {
        "detail": "no model has passed its gate yet; the first training runs when bars are there",
        "retry_after_s": 30.0,
    }


def test_a_server_that_waits_lives() -> None:
    """/livez is 200: nothing is gained by starting it again."""
    assert _ask(waiting.app, "/livez").status_code == 200


def test_waiting_loads_no_bentoml() -> None:
    """The waiting server costs next to nothing."""
    code = "import hourcast_bento.waiting, hourcast_bento.running, sys; print(len({'bentoml', 'numpy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_answers_close_their_connection_once_the_server_drains() -> None:
    """Until the flag is there answers are as they were; from then on each says `Connection: close`."""
    draining = False
    looks: list[bool] = []

    def look() -> bool:
        looks.append(draining)
        return draining

    app = DrainingApp(waiting.app, look)
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
    app = DrainingApp(waiting.app, lambda: bool(looks.append(1)))
    for _ in range(50):
        _ask(app, "/livez")
    assert len(looks) <= 10


def test_the_command_sets_the_flag_and_takes_its_time(tmp_path: Path) -> None:
    """`python -m hourcast_bento.drain 0.1` ends by itself and leaves the flag."""
    done = subprocess.run(
        [sys.executable, "-m", "hourcast_bento.drain", "0.1"],
        env={"TMPDIR": str(tmp_path), "PATH": ""}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / flag().name).exists()


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


def test_sigterm_waits_for_the_answer_that_is_under_way(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """A request that came before SIGTERM is answered whole, then the server ends with 0."""
    port = free_port()
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
    finally:
        server.kill()
        server.wait()
