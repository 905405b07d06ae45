"""What a server tells before it parses: callers beyond what it can answer, and connections beyond its limit of files."""

import asyncio
from typing import Any

import httpx
import uvicorn
from uvicorn.server import ServerState

from hourcast.slots import Slots
from hourcast_bento.connections import bounded
from hourcast_bento.gate import FULL, Gate


async def _app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def test_what_is_refused_is_told_on_a_connection_that_goes_on() -> None:
    """Full: 503 with a true sentence, and probes pass, all on one connection; then 200 on the same one."""

    async def work() -> None:
        slots = Slots(1)
        gate = Gate(_app, slots)
        config, state = uvicorn.Config(gate, log_level="warning"), ServerState()
        config.load()
        made = bounded(1024, gate.refuses)
        server = await asyncio.get_running_loop().create_server(
            lambda: made(config=config, server_state=state, app_state={}),  # type: ignore[call-arg]
            "127.0.0.1", 0,
        )  # fmt: skip
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            assert await slots.enter()
            for _ in range(3):
                refused = await client.get("/predict?horizon=1")
                assert (refused.status_code, refused.json()["detail"]) == (503, FULL)
                assert refused.headers["Retry-After"] == "1"
                assert (await client.get("/livez")).status_code == 200
            assert not gate.refuses(b"GET /predict HTTP/1.1\r\nContent-Length: 3\r\n\r\n")
            slots.leave()
            assert (await client.get("/predict")).status_code == 200
            assert len(state.connections) == 1
        server.close()

    asyncio.run(work())
