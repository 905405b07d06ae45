"""A server that starts listens at once, says what it waits for, and lets its application answer when that can."""

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from hourcast.errors import DataError
from hourcast_bento import starting
from hourcast_bento.starting import App, Starting


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is kept for three seconds here."""
    monkeypatch.setattr(starting, "_HOLD_S", 0.01)


class _Application:
    """An application that says what it was asked, and that it was started and ended."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure, self.lived = failure, list[str]()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for name in ("startup", "shutdown"):
                assert (await receive())["type"] == f"lifespan.{name}"
                if self.failure is not None:
                    await send({"type": f"lifespan.{name}.failed", "message": "a trace"})
                    raise self.failure
                self.lived.append(name)
                await send({"type": f"lifespan.{name}.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})


class _Gate:
    """What a server's preparation waits for, and what it gives."""

    def __init__(self, app: App | None = None, failure: Exception | None = None) -> None:
        self.open = threading.Event()
        self.app, self.failure = app, failure

    def prepare(self, its: Starting) -> App | None:
        its.say("a package is being fetched")
        assert self.open.wait(10)
        if self.failure is not None:
            raise self.failure
        its.started()
        its.say("a model is being loaded")
        return self.app


@contextlib.asynccontextmanager
async def _running(its: Starting) -> AsyncIterator[Callable[[str], Awaitable[httpx.Response]]]:
    """A server's life around requests: started before them, ended after them."""
    to: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    life = asyncio.ensure_future(its({"type": "lifespan"}, to.get, told.put))
    await to.put({"type": "lifespan.startup"})
    assert await told.get() == {"type": "lifespan.startup.complete"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(its), base_url="http://server") as client:
        yield client.get
    await to.put({"type": "lifespan.shutdown"})
    assert await told.get() == {"type": "lifespan.shutdown.complete"}
    await life


async def _until(get: Callable[[str], Awaitable[httpx.Response]], path: str, status: int) -> httpx.Response:
    async with asyncio.timeout(10):
        while (answer := await get(path)).status_code != status:
            pass
        return answer


def test_until_it_can_serve_every_path_says_what_is_waited_for() -> None:
    """It lives from the first moment; all else is 503 in the form of every other problem, with Retry-After."""

    async def ask() -> None:
        gate = _Gate()
        async with _running(Starting(gate.prepare)) as get:
            assert (await get("/livez")).status_code == 200
            for path in ("/readyz", "/startedz", "/predict", "/", "/metrics"):
                answer = await get(path)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert answer.json() == {"detail": "a package is being fetched", "retry_after_s": 1.0}
            gate.open.set()

    asyncio.run(ask())


def test_it_has_started_when_nothing_outside_is_waited_for_and_is_ready_when_it_answers() -> None:
    """A server that has its package and never becomes ready can be told from one that has no package."""

    async def ask() -> None:
        gate = _Gate()
        its = Starting(gate.prepare)
        async with _running(its) as get:
            assert its.waits
            gate.open.set()
            await _until(get, "/startedz", 200)
            assert not its.waits
            assert (await get("/readyz")).json()["detail"] == "a model is being loaded"

    asyncio.run(ask())


def test_the_application_answers_as_soon_as_it_is_there_and_is_ended_with_the_server() -> None:
    """Every path is its own then, but for `/startedz`; it is started once, and ended once."""
    application = _Application()

    async def ask() -> None:
        gate = _Gate(application)
        async with _running(Starting(gate.prepare)) as get:
            gate.open.set()
            assert (await _until(get, "/readyz", 200)).text == "/readyz"
            assert (await get("/predict")).text == "/predict"
            assert (await get("/startedz")).text == "\n"
            assert application.lived == ["startup"]

    asyncio.run(ask())
    assert application.lived == ["startup", "shutdown"]


def test_a_probe_hears_that_it_is_ready_at_the_moment_at_which_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks is kept until it is so, and is not sent away to look again."""
    monkeypatch.setattr(starting, "_HOLD_S", 10.0)

    async def ask() -> None:
        gate = _Gate(_Application())
        async with _running(Starting(gate.prepare)) as get:
            probes = [asyncio.ensure_future(get(path)) for path in ("/startedz", "/readyz")]
            # An answer to a third request shows that the first two are being kept.
            assert (await get("/livez")).status_code == 200
            assert not any(probe.done() for probe in probes)
            gate.open.set()
            assert [(await probe).status_code for probe in probes] == [200, 200]

    asyncio.run(ask())


@pytest.mark.parametrize("at", ["preparation", "startup"])
def test_what_keeps_it_from_serving_ends_it(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very error is kept, whoever is kept hears of it, and the server is told to stop."""
    monkeypatch.setattr(starting, "_HOLD_S", 10.0)
    failure = DataError("the package is corrupt")
    gate = _Gate(failure=failure) if at == "preparation" else _Gate(_Application(failure))
    stopped: list[bool] = []
    its = Starting(gate.prepare, lambda: stopped.append(True))

    async def ask() -> None:
        async with _running(its) as get:
            probe = asyncio.ensure_future(get("/readyz"))
            assert (await get("/livez")).status_code == 200
            gate.open.set()
            answer = await probe
            assert (answer.status_code, answer.json()["detail"]) == (503, "the package is corrupt")

    asyncio.run(ask())
    assert (its.error, stopped) == (failure, [True])


def test_a_server_that_waits_has_loaded_next_to_nothing() -> None:
    """It listens before BentoML, numpy and pydantic are imported."""
    code = "import hourcast_bento.server, hourcast_bento.running, sys; print(len({'bentoml', 'numpy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
