"""`hourcast up`: every service as a process of this machine."""

import contextlib
import fcntl
import os
import shlex
import signal
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from hourcast.errors import ConfigurationError, HourcastError, RefusedError
from hourcast.failing import Failing, write_failing
from hourcast.settings import RUNNING_ENV
from hourcast.store import Event, open_store
from hourcast_local.choices import Options, clock_of, free_ports, reachable, same_source, shown, source_of
from hourcast_local.components import components_of, environment_of
from hourcast_local.preflight import Preflight
from hourcast_local.processes import end_all, leftovers
from hourcast_local.replay import span_of
from hourcast_local.settings import LocalSettings
from hourcast_local.supervisor import Supervisor
from hourcast_local.watch import STEPS, Durations, Watch

__all__ = ["run"]

_PATIENCE_S = 12.0


class _Stop:
    """Ctrl-C once: stop in order. Twice: kill."""

    def __init__(self) -> None:
        self.asked = False
        self.kill: Supervisor | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._hear)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked and self.kill is not None:
            self.kill.kill()
        self.asked = True


def run(settings: LocalSettings, options: Options, console: Console) -> None:
    """Run everything until told to stop.

    Raises:
        ConfigurationError: when a port that was asked for is taken, an option is wrong, or a library of the system is missing.
        HourcastError: when a part without which nothing can be served ends again and again.
        RefusedError: when another run uses the same state folder, or its bars come from elsewhere.
        UnavailableError: when SOURCE=live cannot be reached and there are no bars yet.
    """
    stop = _Stop()
    state = settings.state_dir.resolve()
    source = source_of(options.source or "live")
    span = span_of(options.replay) if options.replay else None
    if span is not None and options.as_of:
        raise ConfigurationError("--as-of and --replay exclude each other: a replay moves the clock itself")
    preflight = Preflight()
    try:
        state, source = reachable(settings, state, source, options, console)
        state.mkdir(parents=True, exist_ok=True)
        with _alone(state):
            old = leftovers(str(state))
            if old:
                console.print(f"ending {len(old)} processes that an earlier run has left")
                end_all(old, 5.0)
            settings, moved = free_ports(settings, options)
            clock, replayed = clock_of(settings, source, options)
            preflight.check()
            same_source(state, source)
            _run(settings, state, source, clock, replayed, options, moved, stop, console)
    finally:
        preflight.end()


def _run(
    settings: LocalSettings,
    state: Path,
    source: str,
    clock: str,
    replayed: tuple[datetime, datetime] | None,
    options: Options,
    moved: Mapping[str, str],
    stop: _Stop,
    console: Console,
) -> None:
    environment = environment_of(settings, state, source, clock, options)
    os.environ.update(environment)
    # Packages that a user's shell offers to every Python are not ours.
    for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"):
        os.environ.pop(name, None)
    # Commands in other terminals need the same clock and addresses; they read them here.
    running = state / RUNNING_ENV
    running.write_text("".join(f"{name}='{value}'\n" for name, value in environment.items()))
    write_failing(state, ())
    supervisor = Supervisor(
        state / "logs", lambda line: console.print(f"[yellow]{escape(line)}[/]", highlight=False)
    )
    stop.kill = supervisor
    try:
        supervisor.start(components_of(settings, state, options, replayed))
        _until_ready(settings, state, options, supervisor, stop, console, source, moved)
        if not options.exit_when_ready:
            _stay(settings, state, supervisor, stop, console, replayed is not None)
    finally:
        console.print("stopping")
        running.unlink(missing_ok=True)
        write_failing(state, ())
        supervisor.end(_PATIENCE_S)
        end_all(leftovers(str(state)), 3.0)


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    with (state / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RefusedError(
                f"`hourcast up` runs already on {state} (process {file.read().strip() or 'unknown'}); "
                "stop it with Ctrl-C, or use another folder with HOURCAST_STATE_DIR"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _until_ready(
    settings: LocalSettings,
    state: Path,
    options: Options,
    supervisor: Supervisor,
    stop: _Stop,
    console: Console,
    source: str,
    moved: Mapping[str, str],
) -> None:
    api, viz = f"http://127.0.0.1:{settings.api_port}", f"http://127.0.0.1:{settings.viz_port}"
    current = LocalSettings.load()
    watch = Watch(current, api, viz if options.dashboard else None)
    durations = Durations(state / "durations.json")
    began = time.monotonic()
    done: dict[str, float] = {}
    columns = (
        SpinnerColumn(finished_text="[green]✓[/]"), TextColumn("{task.description}"), BarColumn(bar_width=24),
        TextColumn("{task.fields[note]}"), TimeElapsedColumn(),
    )  # fmt: skip
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
            tasks = {s.key: bars.add_task(s.told, total=durations.of(s), note="") for s in STEPS}
            while len(done) < len(STEPS) and not stop.asked:
                supervisor.tend()
                _hopeless(supervisor, done)
                elapsed = time.monotonic() - began
                for step in STEPS:
                    if step.key in done:
                        continue
                    ready, note = watch.look(step.key)
                    usual = durations.of(step)
                    if ready:
                        done[step.key] = elapsed
                        bars.update(tasks[step.key], total=1, completed=1, note=note)
                        bars.stop_task(tasks[step.key])
                        if not console.is_terminal:
                            console.print(f"{elapsed:5.1f} s  {step.told}: done {note}", highlight=False)
                    else:
                        left = max(0.0, usual - elapsed)
                        note = note or (f"about {left:.0f} s yet" if left else "longer than usual")
                        bars.update(tasks[step.key], completed=min(elapsed, 0.97 * usual), note=note)
                time.sleep(0.15)
        if stop.asked:
            return
        durations.save(done)
        _welcome(settings, state, options, console, source, moved, time.monotonic() - began)
    finally:
        watch.close()


def _hopeless(supervisor: Supervisor, done: Mapping[str, float]) -> None:
    """Stop when a part is failing whose step is not done: nothing would ever be served."""
    for failing in supervisor.failing():
        if any(step.part == failing.part and step.key not in done for step in STEPS):
            raise HourcastError(
                f"{failing.part} ends again and again: {failing.reason}; its log: {supervisor.log_of(failing.part)}"
            )


def _welcome(
    settings: LocalSettings,
    state: Path,
    options: Options,
    console: Console,
    source: str,
    moved: Mapping[str, str],
    took_s: float,
) -> None:
    rows = [("API", "api_port", "/docs"), ("MLflow", "mlflow_port", "")]
    if options.dashboard:
        rows.insert(0, ("dashboard", "viz_port", ""))
    lines = []
    for name, field, path in rows:
        why = f"   [yellow]{escape(moved[field])}[/]" if field in moved else ""
        lines.append(f"{name:<10} http://127.0.0.1:{getattr(settings, field)}{path}{why}")
    usual = Path(LocalSettings.model_fields["state_dir"].default).resolve()
    where = "" if state == usual else f"HOURCAST_STATE_DIR={shlex.quote(shown(state))} "
    lines += [
        "",
        f"[dim]what is served, and why   {escape(where)}.venv/bin/hourcast status · history[/]",
        "[dim]stop everything           Ctrl-C[/]",
    ]
    if source == "sample":
        lines.insert(0, "[bold yellow]SYNTHETIC BARS[/]: a seeded sample, no market data\n")
    console.print(
        Panel(
            "\n".join(lines), title=f"Hourcast is up after {took_s:.0f} s", title_align="left", expand=False
        )
    )


def _stay(
    settings: LocalSettings,
    state: Path,
    supervisor: Supervisor,
    stop: _Stop,
    console: Console,
    replayed: bool,
) -> None:
    """Tell what happens, until told to stop."""
    store = open_store(LocalSettings.load().resolved_database_url)
    told = 0
    with contextlib.suppress(HourcastError):
        told = max((e.id or 0 for e in store.events(settings.model_name, limit=1)), default=0)
    replay_log = state / "logs" / "replay.log"
    at = replay_log.stat().st_size if replay_log.exists() else 0
    failing: tuple[Failing, ...] = ()
    try:
        while not stop.asked:
            supervisor.tend()
            if failing != (failing := supervisor.failing()):
                with contextlib.suppress(OSError):
                    write_failing(state, failing)
            with contextlib.suppress(HourcastError):
                new = [e for e in store.events(settings.model_name, limit=50) if (e.id or 0) > told]
                for event in reversed(new):
                    told = event.id or told
                    _tell(event, console)
            if replayed and replay_log.exists() and replay_log.stat().st_size > at:
                with replay_log.open(encoding="utf-8", errors="replace") as file:
                    file.seek(at)
                    text = file.read()
                    at = file.tell()
                for line in text.splitlines():
                    console.print(f"[bold]{line}[/]", highlight=False)
            time.sleep(0.25)
    finally:
        store.close()


def _tell(event: Event, console: Console) -> None:
    if event.kind in ("roll_started", "packaged"):
        return
    who = "" if event.actor == "controller" else f" by {event.actor}"
    what = event.kind.replace("_", " ")
    version = "" if event.version is None else f" version {event.version}"
    alias = f" (alias {event.alias})" if event.alias else ""
    line = f"{event.at:%Y-%m-%d %H:%M}  {what}{version}{alias}{who}: {event.reason}"
    console.print(line, highlight=False, soft_wrap=True)
