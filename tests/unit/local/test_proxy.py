"""The way in passes on no more than its server can answer in time, and tells the rest."""

import asyncio
from collections import Counter

import aiohttp
from aiohttp import web

from hourcast_local.proxy import Proxy, Upstream
from tests.ports import find_port

_FULL = "the server has as many requests under way as it can answer in time; try again in a second"


async def _start(app: web.Application) -> tuple[web.AppRunner, int]:
    runner, port = web.AppRunner(app), find_port()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, port


def test_what_is_too_much_is_told_at_once_and_probes_pass() -> None:
    """Sixty-four are under way, the others get 503 with Retry-After before any of them ends; afterwards all are answered."""

    async def work() -> None:
        go = asyncio.Event()

        async def answer(request: web.Request) -> web.Response:
            if request.path == "/predict":
                await go.wait()
            return web.json_response({"path": request.path})

        behind = web.Application()
        behind.router.add_get("/{path:.*}", answer)
        server, port = await _start(behind)
        proxy = Proxy(lambda: "nobody")
        proxy.active = Upstream(port)
        await proxy.open()
        front = web.Application()
        front.router.add_route("*", "/{path:.*}", proxy.handle)
        way_in, here = await _start(front)

        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{here}", connector=aiohttp.TCPConnector(limit=0)
        ) as client:

            async def ask(path: str) -> tuple[int, str | None, str]:
                async with client.get(path) as got:
                    return got.status, got.headers.get("Retry-After"), await got.text()

            try:
                asked = [asyncio.ensure_future(ask("/predict")) for _ in range(100)]
                done, waiting = set(), set(asked)
                while len(done) < 36:
                    some, waiting = await asyncio.wait(
                        waiting, timeout=30, return_when=asyncio.FIRST_COMPLETED
                    )
                    assert some, "nothing was told"
                    done |= some
                told = {task.result() for task in done}
                assert told == {(503, "1", f'{{"detail": "{_FULL}", "retry_after_s": 1}}')}
                for probe in ("/livez", "/readyz", "/startedz", "/metrics"):
                    assert (await ask(probe))[0] == 200
                go.set()
                assert Counter(status for status, *_ in await asyncio.gather(*asked)) == {200: 64, 503: 36}
                assert (await ask("/predict"))[0] == 200
            finally:
                go.set()
                await way_in.cleanup()
                await proxy.close()
                await server.cleanup()

    asyncio.run(work())
