"""Children that are kept alive: started all at once, started again when they die, ended together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

from hourcast.failing import Failing
from hourcast_local.processes import die_with_parent, end_all, last_line

__all__ = ["Component", "Supervisor"]

_QUICK_S = 10.0
_FAILING_AFTER = 6
_FAILING_PAUSE_S = 60.0


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
    logged_before: int = 0
    failing: Failing | None = None


class Supervisor:
    """Starts components and keeps them alive, after `pause_s` that doubles. Logs go to `<folder>/<name>.log`.

    One that ends again and again is *failing*: it is tried once a minute from then on, and the others go on.
    """

    def __init__(self, folder: Path, say: Callable[[str], None], pause_s: float = 0.25) -> None:
        self._folder, self._say, self._pause_s = folder, say, pause_s
        self._children: list[_Child] = []
        self._ending = False

    def start(self, components: Sequence[Component]) -> None:
        """Start each; no order is promised."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for component in components:
            before = self._logged(component)
            self._children.append(
                _Child(component, self._spawn(component), time.monotonic(), logged_before=before)
            )

    def _logged(self, component: Component) -> int:
        log = self.log_of(component.name)
        return log.stat().st_size if log.exists() else 0

    def _spawn(self, component: Component) -> subprocess.Popen[bytes]:
        with self.log_of(component.name).open("ab") as log:
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

    def failing(self) -> tuple[Failing, ...]:
        """The components that end again and again."""
        return tuple(c.failing for c in self._children if c.failing is not None)

    def log_of(self, name: str) -> Path:
        """Where a component logs."""
        return self._folder / f"{name}.log"

    def tend(self) -> None:
        """Start again what has died, each time a little later."""
        now = time.monotonic()
        for child in self._children:
            code = child.process.poll()
            if self._ending:
                continue
            if code is None:
                if child.failing is not None and now - child.started_at > _QUICK_S:
                    child.failing, child.quick_deaths = None, 0
                    self._say(f"{child.component.name} works again")
            elif child.again_at is None:
                self._died(child, code, now)
            elif now >= child.again_at:
                child.logged_before = self._logged(child.component)
                child.process = self._spawn(child.component)
                child.started_at, child.again_at = now, None

    def _died(self, child: _Child, code: int, now: float) -> None:
        name = child.component.name
        # A process that was killed has not said why.
        why = last_line(self.log_of(child.component.name), child.logged_before) if code > 0 else ""
        child.quick_deaths = child.quick_deaths + 1 if now - child.started_at < _QUICK_S else 0
        if child.quick_deaths < _FAILING_AFTER:
            child.again_at = now + min(8.0, self._pause_s * 2**child.quick_deaths)
            self._say(f"{name} ended with {code} and is started again" + (f": {why}" if why else ""))
            return
        child.again_at = now + _FAILING_PAUSE_S
        before = child.failing
        child.failing = Failing(
            name, before.since if before else datetime.now(UTC), why or f"it ended with {code}"
        )
        if before is None or before.reason != child.failing.reason:
            self._say(
                f"{name} ends again and again and is tried once a minute from now on; all else goes on: "
                f"{child.failing.reason} ({self.log_of(child.component.name)})"
            )

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
