"""Processes that the node starts: a log of their own, and an end with it."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hourcast_local.processes import die_with_parent

__all__ = ["start", "stop"]

_STOP_PATIENCE_S = 8.0


async def start(command: Sequence[str], log: Path, extra: Mapping[str, str]) -> asyncio.subprocess.Process:
    """Start `command` with `extra` variables, in a session of its own.

    Raises:
        OSError: when it cannot be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=os.environ | dict(extra),
            start_new_session=True,
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        )


async def stop(process: asyncio.subprocess.Process) -> None:
    """End it: asked first, also when it is stopped (SIGSTOP), then killed with all that it started."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGCONT)
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_PATIENCE_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
