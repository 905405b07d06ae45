"""The node's servers and jobs, started by commands of the test's own."""

import asyncio
import contextlib
import logging
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hourcast_local.node import Commands, Node

_SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
HTTPServer(("127.0.0.1", int(sys.argv[1])), Answers).serve_forever()
"""
_LIMIT_S = 20.0


class _Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # the name that http.server calls
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
        """Requests are not worth a line each."""


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _with_node(
    folder: Path, commands: Commands, work: Callable[[aiohttp.ClientSession, str], Coroutine[Any, Any, None]]
) -> None:
    """Run a node while `work`, which gets a session and the address of the control interface, does something with it."""

    async def run() -> None:
        control = _port()
        node = Node(folder, _port(), control, commands=commands, ready_timeout_s=10)
        running = asyncio.create_task(node.run())
        async with aiohttp.ClientSession(trust_env=False) as session, asyncio.timeout(_LIMIT_S):
            url = f"http://127.0.0.1:{control}"
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{url}/v1/jobs"):
                        break
                await asyncio.sleep(0.01)
            await work(session, url)
        node.end()
        await running

    asyncio.run(run())


def test_a_job_that_cannot_be_started_has_failed(tmp_path: Path) -> None:
    """It says why and speaks against nobody, and the same job can be asked for again."""

    async def work(session: aiohttp.ClientSession, url: str) -> None:
        for _ in range(2):
            async with session.post(
                f"{url}/v1/jobs", json={"name": "package-1", "args": ["package", "1"]}
            ) as answer:
                assert answer.status == 201
            while True:
                async with session.get(f"{url}/v1/jobs") as answer:
                    (job,) = await answer.json()
                if job["state"] != "running":
                    break
                await asyncio.sleep(0.01)
            assert (job["state"], job["exit_code"]) == ("failed", None)
            assert (
                job["message"]
                == "it could not be started: [Errno 2] No such file or directory: '/nonexistent/python'"
            )

    _with_node(tmp_path, Commands(job=lambda _args: ["/nonexistent/python"]), work)


def test_a_port_that_another_takes_first_speaks_against_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever answers there is not taken for the server, which is started again at another port and then served."""
    others: list[ThreadingHTTPServer] = []

    def serve(_version: int, port: int) -> Sequence[str]:
        if not others:
            # The race: between the choice of the port and the server's bind.
            others.append(ThreadingHTTPServer(("127.0.0.1", port), _Ready))
            threading.Thread(
                target=others[0].serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
            ).start()
        return [sys.executable, "-c", _SERVER, str(port)]

    async def work(session: aiohttp.ClientSession, url: str) -> None:
        body = {"pod_template": {"annotations": {"hourcast.io/model-version": "1"}}}
        async with session.patch(f"{url}/v1/deployment", json=body) as answer:
            assert answer.status == 200
        while True:
            async with session.get(f"{url}/v1/deployment") as answer:
                status = (await answer.json())["status"]
            if status["serving_version"] == 1:
                break
            assert status["failure"] is None
            await asyncio.sleep(0.02)
        assert status["replicas"][0]["port"] != others[0].server_address[1]

    with caplog.at_level(logging.WARNING, "hourcast.node"):
        _with_node(tmp_path, Commands(serve=serve), work)
    others[0].shutdown()
    others[0].server_close()
    taken = others[0].server_address[1]
    assert f"version 1 found port {taken} taken before it was ready and is started again" in caplog.messages
