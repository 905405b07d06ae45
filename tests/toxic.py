"""Toxiproxy between a service and its database, bucket or registry: what is slow, cut or hanging is tried for real."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.ports import find_port
from tests.servers import Process, answers


@dataclass(frozen=True)
class Link:
    """One way through the proxy; `port` of 127.0.0.1 leads to the server behind it."""

    control: str
    name: str
    port: int

    def _send(self, method: str, path: str, body: Any = None) -> None:
        httpx.request(
            method, f"{self.control}/{path}", json=body, timeout=10, trust_env=False
        ).raise_for_status()

    def hang(self) -> None:
        """Take everything, and pass on nothing more, in either direction."""
        for stream in ("upstream", "downstream"):
            toxic = {"name": stream, "type": "timeout", "stream": stream, "attributes": {"timeout": 0}}
            self._send("POST", f"proxies/{self.name}/toxics", toxic)

    def slow(self, ms: int) -> None:
        """Let each answer be late."""
        toxic = {"name": "late", "type": "latency", "stream": "downstream", "attributes": {"latency": ms}}
        self._send("POST", f"proxies/{self.name}/toxics", toxic)

    def cut(self) -> None:
        """End every connection and take no more."""
        self._send("POST", f"proxies/{self.name}", {"enabled": False})

    def mend(self) -> None:
        """Pass on everything again."""
        self._send("POST", "reset")


class Toxiproxy:
    """A proxy that can be made to misbehave."""

    def __init__(self, control: str) -> None:
        self._control = control
        self._count = 0

    def link(self, url: str) -> Link:
        """A new way to the server at `url`."""
        parts, here = urlsplit(url), find_port()
        self._count += 1
        name = f"link-{self._count}"
        body = {
            "name": name,
            "listen": f"127.0.0.1:{here}",
            "upstream": f"{parts.hostname}:{parts.port}",
            "enabled": True,
        }
        httpx.post(f"{self._control}/proxies", json=body, timeout=10, trust_env=False).raise_for_status()
        return Link(self._control, name, here)


@pytest.fixture(scope="session")
def toxiproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toxiproxy]:
    """Toxiproxy; HOURCAST_TEST_TOXIPROXY names the program where it is not on the PATH."""
    program = os.environ.get("HOURCAST_TEST_TOXIPROXY") or shutil.which("toxiproxy-server")
    if not program or not Path(program).exists():
        pytest.fail("toxiproxy-server is not on the PATH; set HOURCAST_TEST_TOXIPROXY to where it is")
    port = find_port()
    process = Process.start(
        "toxiproxy",
        [program, "-host", "127.0.0.1", "-port", str(port)],
        tmp_path_factory.mktemp("toxiproxy"),
        {},
    )
    try:
        process.wait_until(lambda: answers(f"http://127.0.0.1:{port}/version"), 30, "answer of Toxiproxy")
        yield Toxiproxy(f"http://127.0.0.1:{port}")
    finally:
        process.end()
