"""Trying again what may come up later, and stopping when told to."""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from hourcast.errors import UnavailableError

__all__ = ["Stopped", "keep_trying", "stopping"]

T = TypeVar("T")


class Stopped(SystemExit):
    """The process was told to stop; what it had begun is undone on the way out, as at any error."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


def stopping() -> threading.Event:
    """From now on SIGTERM ends the process as an error would: files are closed, locks and connections given back.

    The event is set first, so that threads which wait for something see it too.
    """
    stop = threading.Event()

    def end(number: int, _frame: FrameType | None) -> None:
        stop.set()
        raise Stopped(number)

    signal.signal(signal.SIGTERM, end)
    return stop


# Not stamina's: the pause is what an answer asks for, it ends at the limit, and `stop` ends it at once.
def keep_trying(
    attempt: Callable[[], T],
    limit_s: float,
    stop: threading.Event,
    pause_s: float,
    say: Callable[[str], None],
    *,
    now: Callable[[], float] = time.monotonic,
) -> T:
    """Call `attempt` until it no longer raises `UnavailableError`; each new reason is said once.

    The pause between two calls is what the error asks for (`retry_after_s`), but `pause_s` at most.

    Raises:
        UnavailableError: the last one, when `limit_s` have passed or `stop` was set.
    """
    end, told = now() + limit_s, ""
    while True:
        try:
            return attempt()
        except UnavailableError as error:
            left = end - now()
            if left <= 0 or stop.is_set():
                raise
            if str(error) != told:
                say(f"waiting up to {limit_s:g} s: {error}")
                told = str(error)
            if stop.wait(min(pause_s, error.retry_after_s or pause_s, left)):
                raise
