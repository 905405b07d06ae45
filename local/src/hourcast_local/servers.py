"""One server of the node: what a pod is on a cluster."""

import asyncio
import logging
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import aiohttp
import psutil

from hourcast_local import children
from hourcast_local.processes import last_line
from hourcast_local.proxy import Upstream

__all__ = ["Server", "free_port", "is_free"]

_LOG = logging.getLogger("hourcast.node")
_PROBE_TIMEOUT_S = 5.0


@dataclass(slots=True)
class Server:
    """A process that serves one version at a port of its own."""

    version: int
    alias: str | None
    process: asyncio.subprocess.Process
    upstream: Upstream
    log: Path
    started_at: float
    ready: bool = False
    probes_failed: int = 0

    @classmethod
    async def start(
        cls, command: Sequence[str], version: int, alias: str | None, port: int, log: Path
    ) -> Self:
        """Start it.

        Raises:
            OSError: when the process cannot be started.
        """
        extra = {"HOURCAST_MODEL_VERSION": str(version)} | ({"HOURCAST_MODEL_ALIAS": alias} if alias else {})
        process = await children.start(command, log, extra)
        _LOG.info("version %d starts on port %d (pid %d)", version, port, process.pid)
        return cls(version, alias, process, Upstream(port), log, time.monotonic())

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.returncode is None

    async def wait_ready(self, session: aiohttp.ClientSession, timeout_s: float) -> str | None:
        """None once the server is ready, else why it will not be."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if not self.alive:
                return f"the server ended with {self.process.returncode}: {last_line(self.log)}"
            # Between its choice and the server's bind another process may have taken the port, and answer there.
            if await self.answers(session, "/readyz") and _listens(self.process.pid, self.upstream.port):
                return None
            await asyncio.sleep(0.05)
        return f"the server was not ready within {timeout_s:g} s: {last_line(self.log)}"

    async def answers(self, session: aiohttp.ClientSession, path: str) -> bool:
        """Whether it answers `path` with 200 within five seconds."""
        try:
            url = f"http://127.0.0.1:{self.upstream.port}{path}"
            async with session.get(url, timeout=aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S)) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether nobody listens at a port of 127.0.0.1."""
    with socket.socket() as probe:
        # Connections of a server that ended linger, and are in nobody's way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _listens(pid: int, port: int) -> bool:
    """Whether a process or one that it started listens at a port; where the system does not say, it does."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return any(
            c.laddr.port == port for p in family for c in p.net_connections("tcp") if c.status == "LISTEN"
        )
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
