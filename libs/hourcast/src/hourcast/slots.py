"""How much is under way at a time: the rest waits for a moment, in a queue with an end, or is told at once."""

import asyncio
import contextlib
import resource
from collections import deque

__all__ = ["Slots", "raise_file_limit"]


class Slots:
    """`running` at a time; `waiting` more wait in line for at most `patience_s`. For one event loop.

    So an answer takes no longer than patience and the work itself, whatever comes, and what runs does not fight for the
    processor with hundreds of others.
    """

    def __init__(self, running: int, waiting: int = 0, patience_s: float = 1.0) -> None:
        self._most_running, self._most_waiting, self._patience_s = running, waiting, patience_s
        self._running = 0
        self._line: deque[asyncio.Future[bool]] = deque()

    @property
    def full(self) -> bool:
        """Whether who enters now is refused."""
        return self._running >= self._most_running and len(self._line) >= self._most_waiting

    async def enter(self) -> bool:
        """Whether it may begin; then `leave` must be called when it has ended."""
        if self._running < self._most_running:
            self._running += 1
            return True
        if len(self._line) >= self._most_waiting:
            return False
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._line.append(turn)
        expiry = loop.call_later(self._patience_s, self._expire, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            # Its turn may have come in the very round of the loop in which it was cancelled.
            if turn.done() and not turn.cancelled():
                if turn.result():
                    self.leave()
            else:
                self._forget(turn)
            raise
        finally:
            expiry.cancel()

    def leave(self) -> None:
        """One has ended; the first in line takes its place."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(True)
                return
        self._running -= 1

    def _expire(self, turn: asyncio.Future[bool]) -> None:
        self._forget(turn)
        if not turn.done():
            turn.set_result(False)

    def _forget(self, turn: asyncio.Future[bool]) -> None:
        with contextlib.suppress(ValueError):
            self._line.remove(turn)


def raise_file_limit() -> int:
    """Let this process open as many files and connections as its hard limit says; how many that is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS says "unlimited" and takes less.
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    if wanted > soft:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
