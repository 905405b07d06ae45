"""Children that are kept alive: started all at once, started again when they die, ended together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from hourcast.errors import HourcastError
from hourcast_local.processes import die_with_parent, end_all

__all__ = ["Component", "Supervisor"]

_QUICK_S = 10.0
_GIVE_UP_AFTER = 6


@dataclass(frozen=True, slots=True)
class Component:
    """One process: a name for people, its command, and what its environment holds beside ours."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Child:
    component: Component
    process: subprocess.Popen[bytes]
    started_at: float
    quick_deaths: int = 0
    again_at: float | None = None


class Supervisor:
    """Starts components and keeps them alive, after `pause_s` that doubles. Logs go to `<folder>/<name>.log`."""

    def __init__(self, folder: Path, say: Callable[[str], None], pause_s: float = 0.25) -> None:
        self._folder, self._say, self._pause_s = folder, say, pause_s
        self._children: list[_Child] = []
        self._ending = False

    def start(self, components: Sequence[Component]) -> None:
        """Start each; no order is promised."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._children += [_Child(c, self._spawn(c), time.monotonic()) for c in components]

    def _spawn(self, component: Component) -> subprocess.Popen[bytes]:
        with (self._folder / f"{component.name}.log").open("ab") as log:
            return subprocess.Popen(
                component.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | dict(component.environment),
                start_new_session=True,
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
            )

    def processes(self) -> dict[str, int]:
        """Process id by component."""
        return {c.component.name: c.process.pid for c in self._children if c.process.poll() is None}

    def tend(self) -> None:
        """Start again what has died, each time a little later.

        Raises:
            HourcastError: when a component dies again and again; names its log.
        """
        now = time.monotonic()
        for child in self._children:
            code = child.process.poll()
            if code is None or self._ending:
                continue
            if child.again_at is None:
                quick = now - child.started_at < _QUICK_S
                child.quick_deaths = child.quick_deaths + 1 if quick else 0
                if child.quick_deaths >= _GIVE_UP_AFTER:
                    log = self._folder / f"{child.component.name}.log"
                    raise HourcastError(
                        f"{child.component.name} ends again and again (last with {code}); its log says why: {log}"
                    )
                child.again_at = now + min(8.0, self._pause_s * 2**child.quick_deaths)
                self._say(f"{child.component.name} ended with {code} and is started again")
            elif now >= child.again_at:
                child.process = self._spawn(child.component)
                child.started_at, child.again_at = now, None

    def end(self, patience_s: float) -> None:
        """End every child and what they started; those that hang are killed."""
        self._ending = True
        found = []
        for child in self._children:
            try:
                found.append(psutil.Process(child.process.pid))
            except psutil.NoSuchProcess:
                continue
        end_all(found, patience_s, self._say)
        for child in self._children:
            child.process.poll()

    def kill(self) -> None:
        """Kill every child now."""
        self._ending = True
        for child in self._children:
            try:
                os.killpg(child.process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
