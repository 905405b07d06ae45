"""Attempts with backoff and jitter."""

import logging
import random
import threading
from collections.abc import Callable
from typing import TypeVar

from hourcast_etl.sources._interface import SourceError

__all__ = ["Blocked", "Retryable", "attempt"]

_LOG = logging.getLogger("hourcast.etl")
T = TypeVar("T")


class Retryable(Exception):  # noqa: N818  # it is a state more than an error
    """Trying again may help, after `retry_after_s` when the source said so."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Blocked(Exception):  # noqa: N818  # as above
    """This source will not answer us (451 and its like): no second attempt."""


def attempt(
    work: Callable[[], T],
    name: str,
    *,
    attempts: int,
    backoff_s: float,
    longest_wait_s: float,
    stop: threading.Event,
) -> T:
    """Run `work` until it succeeds, is blocked, or `attempts` are used up.

    The pause doubles, with full jitter (Brooker, "Exponential Backoff And Jitter", 2015); a `Retry-After` is
    obeyed up to `longest_wait_s`, and beyond that the source is given up for now.

    Raises:
        SourceError: with the last reason.
    """
    # Not stamina's: a source may ask for a wait, and a collector that is told to stop does not sleep through it.
    reason = ""
    for number in range(1, attempts + 1):
        try:
            return work()
        except Blocked as error:
            raise SourceError(f"{name}: {error}") from error
        except Retryable as error:
            reason = str(error)
            pause = random.uniform(0.5, 1.0) * backoff_s * 2 ** (number - 1)
            if error.retry_after_s is not None:
                if error.retry_after_s > longest_wait_s:
                    raise SourceError(
                        f"{name}: {reason}, and asks to wait {error.retry_after_s:g} s"
                    ) from error
                pause = max(pause, error.retry_after_s)
            if number == attempts:
                break
            _LOG.info("%s: %s; attempt %d of %d in %.1f s", name, reason, number + 1, attempts, pause)
            if stop.wait(pause):
                raise SourceError(f"{name}: stopped") from error
    raise SourceError(f"{name}: {reason} ({attempts} attempts)")
