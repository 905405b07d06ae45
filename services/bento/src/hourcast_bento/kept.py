"""Values of the outside that are read once for all who ask, and that nobody waits for longer than a moment."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from hourcast.errors import UnavailableError

__all__ = ["Kept"]

T = TypeVar("T")


class Kept(Generic[T]):
    """A value that is read again when it is older than `ttl_s`; the old one does while reading fails or hangs. Thread-safe.

    One thread of its own reads, so that a bucket that hangs holds neither a lock nor the threads of those who ask.

    Args:
        read: reads the value.
        ttl_s: how old it may be.
        wait_s: how long reading may take until those who ask are told that it does.
        what: what is read, for that sentence.
        room: how many may wait at a time; whoever finds none is told at once, so that those who wait for a bucket leave
            threads to those who need none. Default: all may.
    """

    def __init__(
        self,
        read: Callable[[], T],
        ttl_s: float,
        wait_s: float,
        what: str,
        room: threading.Semaphore | None = None,
    ) -> None:
        self._read, self._ttl_s, self._wait_s, self._what, self._room = read, ttl_s, wait_s, what, room
        self._changed = threading.Condition()
        self._values: list[T] = []
        self._at = -1e9
        self._error: BaseException | None = None
        self._reads = 0
        self._reading_since: float | None = None

    def get(self) -> T:
        """The value.

        Raises:
            UnavailableError: when there is none yet, and reading fails or takes longer than `wait_s`, or others wait enough.
        """
        with self._changed:
            now = time.monotonic()
            if self._values and now - self._at <= self._ttl_s:
                return self._values[0]
            if self._reading_since is None:
                self._reading_since = now
                threading.Thread(target=self._work, name=f"reads {self._what}", daemon=True).start()
            if self._room is not None and not self._room.acquire(blocking=False):
                if self._values:
                    return self._values[0]
                raise UnavailableError(
                    f"{self._what} is being read, and many wait for the bucket; try again soon",
                    retry_after_s=1,
                )
            try:
                return self._wait(self._reading_since)
            finally:
                if self._room is not None:
                    self._room.release()

    def _wait(self, since: float) -> T:
        mine = self._reads
        # By when reading began, so that of a thousand who ask while it hangs only the first ones wait.
        left = since + self._wait_s - time.monotonic()
        ended = self._changed.wait_for(lambda: self._reads > mine, max(0.0, left))
        if (
            ended
            and self._error is not None
            and not (self._values and isinstance(self._error, UnavailableError))
        ):
            raise self._error
        if self._values:
            return self._values[0]
        raise UnavailableError(
            f"{self._what} is still being read after {self._wait_s:g} s; try again soon", retry_after_s=5
        )

    def _work(self) -> None:
        found: list[T] = []
        error: BaseException | None = None
        try:
            found.append(self._read())
        except BaseException as raised:  # raised again for those who wait
            error = raised
        with self._changed:
            self._error, self._reading_since = error, None
            if found:
                self._values, self._at = found, time.monotonic()
            self._reads += 1
            self._changed.notify_all()
