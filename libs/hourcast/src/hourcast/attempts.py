"""Trying again a number of times.

Apart from `hourcast.patience`, which every command imports: with stamina come asyncio and, where it is installed, tornado.
"""

from collections.abc import Callable
from typing import TypeVar

import stamina
from stamina.instrumentation import set_on_retry_hooks

__all__ = ["try_again"]

T = TypeVar("T")

# Its own hooks would write a line for each attempt and, where there is prometheus-client, count in our `/metrics`.
set_on_retry_hooks([])


def try_again(
    work: Callable[[], T],
    on: type[Exception] | Callable[[Exception], bool],
    *,
    attempts: int,
    first_s: float,
    jitter_s: float,
) -> T:
    """Call `work` up to `attempts` times, again after an error that is `on` or that `on` says yes to.

    The pause is `first_s`, doubled each time, with up to `jitter_s` on top. The last error comes through as it is.
    """
    # Only attempts are counted: stamina would end after 45 seconds otherwise, and one attempt may take longer.
    patient = stamina.RetryingCaller(
        attempts=attempts, timeout=None, wait_initial=first_s, wait_jitter=jitter_s
    )
    return patient(on, work)
