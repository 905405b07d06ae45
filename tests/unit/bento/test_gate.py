"""More requests than can be answered: what fits is answered, the rest is told at once, and probes always pass."""

import asyncio
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hourcast.slots import Slots
from hourcast_bento.gate import FULL, LATE, Gate


class _Work:
    """An application whose requests end when told, and that counts how many run."""

    def __init__(self) -> None:
        self.running, self.most, self.go = 0, 0, asyncio.Event()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        probe = scope["path"] != "/predict"
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if not probe:
                await self.go.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self.running -= 1


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


@pytest.mark.parametrize("times", [3, 10])
def test_of_too_many_requests_all_are_answered_and_probes_pass(times: int) -> None:
    """As many as fit get 200, the others 503 with Retry-After and a true sentence, before anything has ended."""

    async def work() -> None:
        app = _Work()
        gate = Gate(app, Slots(4, 6, 60))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://pod") as client:
            asked = [asyncio.ensure_future(client.get("/predict")) for _ in range(10 * times)]
            await _until(lambda: sum(task.done() for task in asked) == 10 * (times - 1))
            await _until(lambda: app.running == 4)
            for probe in ("/livez", "/readyz", "/startedz", "/metrics"):
                assert (await client.get(probe)).status_code == 200
            assert app.running == 4
            app.go.set()
            answers = await asyncio.gather(*asked)
            assert (await client.get("/predict")).status_code == 200
        assert Counter(a.status_code for a in answers) == {200: 10, 503: 10 * (times - 1)}
        refused = next(a for a in answers if a.status_code == 503)
        assert refused.json() == {"detail": FULL, "retry_after_s": 1.0}
        assert refused.headers["Retry-After"] == "1"
        assert app.most <= 4 + 1

    asyncio.run(work())


def test_own_bars_pass_while_the_others_hang() -> None:
    """A database that hangs leaves forecasts of own bars alone."""

    async def work() -> None:
        app = _Work()
        gate = Gate(app, Slots(1, 0))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://pod") as client:
            hangs = asyncio.ensure_future(client.get("/predict"))
            await _until(lambda: app.running == 1)
            assert (await client.get("/predict")).status_code == 503
            assert (await client.post("/predict_bars")).status_code == 200
            hangs.cancel()

    asyncio.run(work())


def test_one_that_takes_too_long_is_told_and_keeps_its_slot_until_it_ends() -> None:
    """Its caller gets 503 and a sentence; what it says afterwards goes nowhere, and only then another may begin."""

    async def work() -> None:
        app, slots = _Work(), Slots(1, 0)
        gate = Gate(app, slots, answer_s=0.01)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://pod") as client:
            late = await client.get("/predict")
            assert (late.status_code, late.json()["detail"]) == (503, LATE.format(0.01))
            assert app.running == 1
            assert (await client.get("/predict")).json()["detail"] == FULL
            app.go.set()
            await _until(lambda: not slots.full)
            assert app.running == 0
            assert (await client.get("/predict")).status_code == 200

    asyncio.run(work())


def test_nobody_waits_longer_than_patience() -> None:
    """One that stands in line while what runs hangs is told in the end."""

    async def work() -> None:
        slots = Slots(1, 5, 0.01)
        assert await slots.enter()
        assert await asyncio.gather(*(slots.enter() for _ in range(5))) == [False] * 5
        slots.leave()
        assert await slots.enter()

    asyncio.run(work())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["enter", "leave", "cancel", "turn"]), max_size=40), st.integers(1, 3))
def test_slots_are_never_lost_nor_given_twice(steps: list[str], most: int) -> None:
    """Whatever comes, ends and goes away while it waits: no more run than may, and in the end all slots are free."""

    async def work() -> None:
        slots, running, lines = Slots(most, 5, 60), 0, list[asyncio.Task[bool]]()

        async def settle() -> None:
            nonlocal running
            for _ in range(3):
                await asyncio.sleep(0)
            for task in [t for t in lines if t.done()]:
                lines.remove(task)
                running += not task.cancelled() and task.result()

        for step in steps:
            if step == "enter":
                lines.append(asyncio.ensure_future(slots.enter()))
            elif step == "leave" and running:
                running -= 1
                slots.leave()
            elif step == "cancel" and lines:
                lines[-1].cancel()
            elif step == "turn":
                await settle()
            assert running <= most
        while running or lines:
            await settle()
            if running:
                running -= 1
                slots.leave()
        assert [await slots.enter() for _ in range(most)] == [True] * most

    asyncio.run(work())


def test_the_limit_of_files_is_raised_to_the_hard_one() -> None:
    """A shell gives 1,024 where the system allows more."""
    code = "import resource\nfrom hourcast.slots import raise_file_limit\nprint(raise_file_limit())"
    hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 4096)
    done = subprocess.run(
        [sys.executable, "-c", f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))\n{code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == str(hard)
