"""Trying again: how long, how often, and what is said."""

import threading

import pytest

from hourcast.errors import DataError, UnavailableError
from hourcast.patience import keep_trying


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
