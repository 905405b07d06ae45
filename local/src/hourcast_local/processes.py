"""Child processes that never outlive their parent: started in a session of their own, found again by a mark."""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

__all__ = ["MARK", "die_with_parent", "end_all", "last_line", "leftovers", "wait_until"]

MARK = "HOURCAST_UP_STATE"
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """For a child, between fork and exec: be told to end when the parent dies, also by `kill -9` (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def last_line(log: Path, since: int = 0) -> str:
    """The last line that says something, of what was logged after the first `since` bytes."""
    try:
        with log.open("rb") as file:
            # The end is enough, and a log may be long.
            file.seek(max(since, log.stat().st_size - 65536))
            lines = [
                line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()
            ]
    except OSError:
        return "no log was written"
    return lines[-1].removeprefix("hourcast: ")[:300] if lines else "nothing was logged"


def leftovers(state: str) -> list[psutil.Process]:
    """Processes of other runs on the same state folder, told by their environment."""
    found = []
    mine = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid not in mine and process.environ().get(MARK) == state:
                found.append(process)
    return found


def end_all(
    processes: Iterable[psutil.Process], patience_s: float, say: Callable[[str], None] | None = None
) -> None:
    """Ask each to end, and kill those that have not after `patience_s`, with their children."""
    family: dict[int, psutil.Process] = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            family |= {p.pid: p for p in (process, *process.children(recursive=True))}
            # A stopped process cannot hear that it should end.
            process.send_signal(signal.SIGCONT)
            process.terminate()
    _, alive = psutil.wait_procs(family.values(), timeout=patience_s)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            if say is not None:
                say(f"killing {process.name()} ({process.pid}), which did not end within {patience_s:g} s")
            process.kill()
    psutil.wait_procs(alive, timeout=5)


def wait_until(condition: Callable[[], bool], limit_s: float, every_s: float = 0.1) -> bool:
    """Whether `condition` became true within `limit_s`."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every_s)
    return True
