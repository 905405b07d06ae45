"""The way in: one address in front of whichever server is active.

A roll moves traffic by changing `active`; requests that are under way stay with their server until they end.
"""

import asyncio
import time
from collections.abc import Callable

import aiohttp
from aiohttp import web

from hourcast.slots import Slots

__all__ = ["Proxy", "Upstream"]

_HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
    "transfer-encoding", "upgrade", "host", "content-length",
}  # fmt: skip
_MAX_BODY = 64 * 2**20
# As many as a server runs and keeps waiting: the rest is told here, where it costs least.
_AT_A_TIME = 64
_PROBES = frozenset({"/livez", "/readyz", "/startedz", "/metrics"})
_FULL = "the server has as many requests under way as it can answer in time; try again in a second"


class Upstream:
    """One server, and how many requests it has under way."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.in_flight = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def enter(self) -> None:
        """A request begins."""
        self.in_flight += 1
        self.idle.clear()

    def leave(self) -> None:
        """A request has ended."""
        self.in_flight -= 1
        if self.in_flight == 0:
            self.idle.set()


class Proxy:
    """Forwards to `active`; while there is none, requests wait a moment and are then told why."""

    def __init__(self, why_none: Callable[[], str], patience_s: float = 8.0) -> None:
        self.active: Upstream | None = None
        self._why_none, self._patience_s = why_none, patience_s
        self._slots = Slots(_AT_A_TIME)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool of connections."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=20),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=180),
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Give connections back."""
        if self._session is not None:
            await self._session.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Forward one request."""
        if request.path in _PROBES:
            return await self._forward(request)
        if not await self._slots.enter():
            return web.json_response(
                {"detail": _FULL, "retry_after_s": 1}, status=503, headers={"Retry-After": "1"}
            )
        try:
            return await self._forward(request)
        finally:
            self._slots.leave()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        body = await request.content.read() if request.can_read_body else None
        if body is not None and len(body) > _MAX_BODY:
            return web.json_response(
                {"detail": "the body is larger than 64 MiB", "retry_after_s": None}, status=413
            )
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP]
        end = time.monotonic() + self._patience_s
        seen_any = self.active is not None
        while True:
            upstream = self.active
            if upstream is None:
                if not seen_any or time.monotonic() > end:
                    return self._nobody()
                await asyncio.sleep(0.02)
                continue
            seen_any = True
            upstream.enter()
            try:
                url = f"http://127.0.0.1:{upstream.port}{request.raw_path}"
                started = False
                try:
                    async with self._session.request(
                        request.method, url, headers=headers, data=body, allow_redirects=False
                    ) as answer:
                        out = web.StreamResponse(status=answer.status, reason=answer.reason)
                        for name, value in answer.headers.items():
                            if name.lower() not in _HOP_BY_HOP:
                                out.headers.add(name, value)
                        if answer.content_length is not None:
                            out.content_length = answer.content_length
                        first = await answer.content.readany()
                        await out.prepare(request)
                        started = True
                        while first:
                            await out.write(first)
                            first = await answer.content.readany()
                        await out.write_eof()
                        return out
                except (aiohttp.ClientError, TimeoutError) as error:
                    # Nothing has reached the caller yet, so a safe request may go to the server that comes next.
                    refused = isinstance(error, aiohttp.ClientConnectorError)
                    safe = request.method in ("GET", "HEAD", "OPTIONS")
                    if started or not (refused or safe) or time.monotonic() > end:
                        if started:
                            raise
                        return self._nobody()
            finally:
                upstream.leave()
            await asyncio.sleep(0.05)

    def _nobody(self) -> web.Response:
        return web.json_response(
            {"detail": self._why_none(), "retry_after_s": 2}, status=503, headers={"Retry-After": "2"}
        )
