"""Waiting for a server that may come up later than we do."""

import threading
from collections.abc import Callable
from typing import TypeVar

from hourcast.errors import UnavailableError
from hourcast.patience import keep_trying

__all__ = ["until_it_answers"]

T = TypeVar("T")


def until_it_answers(what: str, attempt: Callable[[], T], limit_s: float, say: Callable[[str], None]) -> T:
    """Call `attempt` until it no longer raises `UnavailableError`; each new reason is said once, with `what` it is of.

    Raises:
        UnavailableError: the last one, when `limit_s` have passed.
    """

    def named() -> T:
        try:
            return attempt()
        except UnavailableError as error:
            raise UnavailableError(f"{what}: {error}") from error

    return keep_trying(named, limit_s, threading.Event(), 1.0, say)
