"""Trying again a number of times: which errors, after which pauses, and without a word."""

import logging

import pytest

from hourcast.attempts import try_again
from hourcast.errors import DataError, UnavailableError
from hourcast.patience import Stopped


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
