"""Whatever is asked, it is answered in bounds: of size, of time, and of what is read for it."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hourcast.errors import UnavailableError
from hourcast_bento.kept import Kept
from tests.asked import NOW, TARGET, Asked, asked
from tests.servers import wait_for


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Asked]:
    """A server on a small store."""
    with asked(tmp_path) as made:
        yield made


def _detail(pod: Asked, method: str, path: str, **more: Any) -> tuple[int, Any]:
    answer = pod.ask(method, path, **more)
    return answer.status_code, answer.json()["detail"]


def _rows(n: int, **more: Any) -> list[dict[str, Any]]:
    first = datetime(2024, 1, 1, tzinfo=UTC)
    return [
        {
            "open_time": (first + timedelta(hours=i)).isoformat(),
            "open": 10, "high": 12, "low": 9, "close": 11, "volume": 1,
        }
        | more
        for i in range(n)
    ]  # fmt: skip


def test_a_body_that_is_too_long_is_not_read_to_its_end(pod: Asked) -> None:
    """413 with a sentence, and no more of the body is taken than its bound and a part."""
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while sent < 2**30:
            sent += 2**16
            yield b" " * 2**16

    told = _detail(pod, "POST", "/predict_bars", content=endless())
    assert told == (413, "the body is larger than 8 MiB; send the newest bars alone")
    assert sent < 9 * 2**20


def test_more_bars_than_are_taken_are_not_parsed(pod: Asked) -> None:
    """413 says how many there are and how many may be, whatever else is wrong with the body."""
    body = b'{"bars": {"A": [' + b",".join([b"{}"] * 40_001) + b"] this is no JSON"
    assert _detail(pod, "POST", "/predict_bars", content=body) == (
        413,
        "the body has 40001 bars, at most 40000 are taken; send the newest bars alone",
    )


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"close_time": "2024-01-01T05:00:00Z"}, f"bars['{TARGET}'][1]: close_time must be later than that of the bar before it"),
        ({"open_time": "0001-01-01T00:00:00Z"}, f"bars['{TARGET}'][0]: open_time and close_time must lie within 1970 to 2199"),
        ({"open_time": "9999-12-31T23:00:00Z"}, f"bars['{TARGET}'][0]: open_time and close_time must lie within 1970 to 2199"),
        ({"close_time": "9999-12-31T23:00:00Z"}, f"bars['{TARGET}'][0]: open_time and close_time must lie within 1970 to 2199"),
        ({"high": 1e300}, f"bars.{TARGET}.0.high: Input should be less than or equal to 1000000000000000 (given: '1e+300')"),
        ({"low": 1e-300}, f"bars.{TARGET}.0.low: Input should be greater than or equal to 0.000000000001 (given: '1e-300')"),
    ],
)  # fmt: skip
def test_bars_that_nobody_can_have_are_refused(pod: Asked, row: dict[str, Any], told: str) -> None:
    """Closes out of order, years without markets, prices whose ratio is no number: 422 names the first."""
    body = {"bars": {TARGET: _rows(3, **row)}}
    status, detail = _detail(pod, "POST", "/predict_bars", json=body)
    assert (status, detail.split("; ")[0]) == (422, told)


def test_an_infinite_price_is_refused(pod: Asked) -> None:
    """Python's JSON reads Infinity and NaN; prices are neither."""
    for word in ("Infinity", "NaN", "1e999"):
        body = json.dumps({"bars": {TARGET: _rows(3)}}).replace('"high": 12', f'"high": {word}')
        assert pod.ask("POST", "/predict_bars", content=body).status_code == 422


_WHEN = st.one_of(
    st.datetimes().map(lambda t: t.isoformat() + "Z"),
    st.datetimes(datetime(2024, 5, 1), datetime(2024, 7, 1)).map(datetime.isoformat),  # noqa: DTZ001  # of no zone
    st.sampled_from(
        [
            "0001-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31", "1970-01-01", "2199-12-31",
            "1969-12-31T23:59:59Z",
        ]
    ),
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["/predict", "/predict-production", "/btc-info"]), st.none() | _WHEN, st.none() | _WHEN
)
def test_every_time_is_answered(pod: Asked, path: str, start: str | None, end: str | None) -> None:
    """From the year 1 to 9999 and in any zone: a forecast, or a sentence that says what would be right."""
    query = {name: text for name, text in (("start", start), ("end", end)) if text is not None}
    answer = pod.ask("GET", path, params=query)
    assert answer.status_code in (200, 422), answer.text


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31", "1969-12-31T23:00Z"])
def test_years_without_bars_are_told(pod: Asked, text: str) -> None:
    """422 names the argument, what was given, and the years that may be."""
    assert _detail(pod, "GET", f"/btc-info?start={text}") == (
        422,
        f"start: {text!r} does not lie within 1970 to 2199",
    )


@pytest.mark.parametrize("path", ["/predict", "/predict-production"])
def test_a_range_without_bars_is_empty(pod: Asked, path: str) -> None:
    """A year before the first bar, and one that is yet to come: no rows, and no fault of the server's."""
    for year in (2001, 2101):
        answer = pod.get(f"{path}?start={year}-01-01&end={year}-01-05")
        assert (answer.status_code, answer.json()["forecasts"]) == (200, [])


def test_the_first_bars_of_a_range_are_all_that_is_read(pod: Asked) -> None:
    """`limit` bars of a long range cost `limit` and one rows of the database."""
    asked_for: list[str] = []
    sa.event.listen(
        pod.serving.store.engine, "before_cursor_execute",
        lambda _c, _cursor, statement, given, *_: asked_for.append(f"{statement} {given}"),
    )  # fmt: skip
    body = pod.get("/btc-info?start=1970-01-01&limit=3").json()
    assert (len(body["bars"]), body["truncated"]) == (3, True)
    assert body["bars"][0]["open_time"] == (NOW - timedelta(hours=1000)).isoformat().replace("+00:00", "Z")
    (about_bars,) = [statement for statement in asked_for if "FROM bars" in statement]
    assert "LIMIT" in about_bars
    assert ", 4, " in about_bars
    assert pod.get("/btc-info?start=2024-06-12T22:00&limit=2").json()["truncated"] is False


class _Slow:
    """A bucket whose next listings hang until `go` is set."""

    def __init__(self) -> None:
        self.calls, self.go = 0, threading.Event()

    def __call__(self) -> int:
        self.calls += 1
        assert self.go.wait(60)
        return self.calls


def test_what_hangs_is_read_once_and_holds_nobody() -> None:
    """Thirty who ask share one read; when it takes too long they are told, and those who come later are told at once."""
    slow = _Slow()
    kept = Kept(slow, 60, 0.2, "the list of packages")

    def ask() -> str:
        try:
            return str(kept.get())
        except UnavailableError as error:
            return str(error)

    told = "the list of packages is still being read after 0.2 s; try again soon"
    with ThreadPoolExecutor(30) as pool:
        assert set(pool.map(lambda _: ask(), range(30))) == {told}
    assert (ask(), slow.calls) == (told, 1)
    slow.go.set()
    with ThreadPoolExecutor(30) as pool:
        assert set(pool.map(lambda _: ask(), range(30))) <= {told, "1"}
    assert (kept.get(), slow.calls) == (1, 1)


def test_only_a_few_wait_for_the_bucket() -> None:
    """Two wait, the others are told before those two are; who is given an old value waits for nothing."""
    slow, room = _Slow(), threading.Semaphore(2)
    kept = Kept(slow, 60, 0.5, "the list of packages", room)
    told: list[str] = []

    def ask(_: int) -> None:
        try:
            told.append(str(kept.get()))
        except UnavailableError as error:
            told.append(str(error))

    with ThreadPoolExecutor(30) as pool:
        list(pool.map(ask, range(30)))
    enough = "the list of packages is being read, and many wait for the bucket; try again soon"
    late = "the list of packages is still being read after 0.5 s; try again soon"
    assert told[:28] == [enough] * 28
    assert told[28:] == [late] * 2
    slow.go.set()
    wait_for(lambda: ask(0) or told[-1] == "1", 30, "list")
    assert [room.acquire(blocking=False) for _ in range(3)] == [True, True, False]


def test_an_old_value_does_while_reading_fails_or_hangs() -> None:
    """What was read last is given until something newer comes; an error that is no outage is raised."""
    answers: list[Any] = ["one", UnavailableError("away"), "two", ValueError("wrong")]

    def read() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    kept = Kept(read, -1, 5, "it")
    assert [kept.get() for _ in range(3)] == ["one", "one", "two"]
    with pytest.raises(ValueError, match="wrong"):
        kept.get()


def test_the_bucket_is_listed_once_for_many_who_ask_for_aliases(pod: Asked) -> None:
    """/aliases does not list the bucket at each call."""
    listed: list[str] = []
    keys = pod.serving.bucket.keys
    pod.serving.bucket.keys = lambda prefix: listed.append(prefix) or keys(prefix)  # type: ignore[method-assign,func-returns-value]
    for _ in range(5):
        assert pod.get("/aliases").status_code == 200
    assert len(listed) == 1
