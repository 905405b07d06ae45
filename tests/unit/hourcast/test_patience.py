"""Trying again: how long, how often, and what is said."""

import logging
import threading

import pytest

from hourcast.errors import DataError, UnavailableError
from hourcast.patience import Stopped, keep_trying, try_again


class _Event(threading.Event):
    """Passes time instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        self.time += timeout
        return self.is_set()


def test_it_tries_until_it_works_and_says_each_reason_once() -> None:
    """Two reasons over four failures are two lines; then the value."""
    reasons, said, stop = ["a", "a", "b", "b"], [], _Event()

    def attempt() -> int:
        if reasons:
            raise UnavailableError(reasons.pop(0))
        return 7

    assert keep_trying(attempt, 60, stop, 5, said.append, now=lambda: stop.time) == 7
    assert said == ["waiting up to 60 s: a", "waiting up to 60 s: b"]
    assert stop.waits == [5, 5, 5, 5]


def test_it_pauses_as_the_error_asks_and_ends_at_the_limit() -> None:
    """Never longer than our own pause nor past the limit; then the last error comes through."""
    stop, pauses = _Event(), iter([1.0, 30.0, None, None, None])

    def attempt() -> None:
        raise UnavailableError("away", next(pauses))

    with pytest.raises(UnavailableError, match="^away$"):
        keep_trying(attempt, 13, stop, 5, lambda _: None, now=lambda: stop.time)
    assert stop.waits == [1, 5, 5, 2]


def test_without_patience_it_tries_once_and_says_nothing() -> None:
    """A limit of 0 is no waiting."""
    said: list[str] = []

    def attempt() -> None:
        raise UnavailableError("away")

    with pytest.raises(UnavailableError):
        keep_trying(attempt, 0, threading.Event(), 5, said.append)
    assert said == []


def test_another_error_is_not_tried_again() -> None:
    """What trying cannot help comes through at once."""
    calls = []

    def attempt() -> None:
        calls.append(1)
        raise DataError("broken")

    with pytest.raises(DataError):
        keep_trying(attempt, 60, threading.Event(), 5, lambda _: None)
    assert len(calls) == 1


def test_who_is_told_to_stop_tries_no_more() -> None:
    """Once the event is set the error comes through."""
    stop = threading.Event()

    def attempt() -> None:
        stop.set()
        raise UnavailableError("away")

    with pytest.raises(UnavailableError):
        keep_trying(attempt, 60, stop, 5, lambda _: None)


def test_pauses_between_attempts_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt that is left is made, with a longer pause before it; the last error comes through as it is."""
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    errors = [DataError(str(number)) for number in range(4)]
    left = iter(errors)

    def work() -> None:
        raise next(left)

    with pytest.raises(DataError) as caught:
        try_again(work, DataError, attempts=4, first_s=1, jitter_s=0.5)
    assert caught.value is errors[-1]
    assert [int(pause) for pause in pauses] == [1, 2, 4]
    assert all(0 <= pause % 1 <= 0.5 for pause in pauses)


def test_attempts_are_told_by_who_makes_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What works at the second attempt writes no line of stamina's."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    caplog.set_level(logging.DEBUG)
    failing = [DataError("away")]

    def work() -> int:
        if failing:
            raise failing.pop()
        return 7

    assert try_again(work, DataError, attempts=2, first_s=1, jitter_s=0) == 7
    assert caplog.messages == []


@pytest.mark.parametrize("error", [DataError("broken"), Stopped(15), KeyboardInterrupt()])
def test_what_another_attempt_cannot_help_is_not_tried_again(error: BaseException) -> None:
    """Another error, and whoever tells the process to stop, come through at once."""
    calls = []

    def work() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        try_again(work, lambda e: isinstance(e, UnavailableError), attempts=3, first_s=60, jitter_s=0)
    assert len(calls) == 1
