"""`hourcast up`: every service as a process of this machine."""

import contextlib
import fcntl
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from hourcast.contracts import parse_hour
from hourcast.errors import ConfigurationError, HourcastError, RefusedError, UnavailableError
from hourcast.failing import Failing, write_failing
from hourcast.settings import RUNNING_ENV
from hourcast.store import Event, open_store
from hourcast_local.ports import Chosen, Port, choose
from hourcast_local.preflight import Preflight
from hourcast_local.processes import MARK, end_all, leftovers
from hourcast_local.replay import span_of
from hourcast_local.settings import LocalSettings
from hourcast_local.supervisor import Component, Supervisor
from hourcast_local.watch import STEPS, Durations, Watch

__all__ = ["Options", "run"]

_PATIENCE_S = 12.0


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line; without a source it is `live`, or `sample` where nothing can be reached."""

    source: str | None = None
    as_of: str | None = None
    replay: str | None = None
    dashboard: bool = True
    exit_when_ready: bool = False


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
    source = _source(options.source or "live")
    span = span_of(options.replay) if options.replay else None
    if span is not None and options.as_of:
        raise ConfigurationError("--as-of and --replay exclude each other: a replay moves the clock itself")
    preflight = Preflight()
    try:
        state, source = _reachable(settings, state, source, options, console)
        state.mkdir(parents=True, exist_ok=True)
        with _alone(state):
            old = leftovers(str(state))
            if old:
                console.print(f"ending {len(old)} processes that an earlier run has left")
                end_all(old, 5.0)
            settings, moved = _ports(settings, options)
            clock, replayed = _clock(settings, source, options)
            preflight.check()
            _same_source(state, source)
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
    environment = _environment(settings, state, source, clock, options)
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
        supervisor.start(_components(settings, state, options, replayed))
        _until_ready(settings, state, options, supervisor, stop, console, source, moved)
        if not options.exit_when_ready:
            _stay(settings, state, supervisor, stop, console, replayed is not None)
    finally:
        console.print("stopping")
        running.unlink(missing_ok=True)
        write_failing(state, ())
        supervisor.end(_PATIENCE_S)
        end_all(leftovers(str(state)), 3.0)


def _source(text: str) -> str:
    """The setting, with a folder made absolute: children run elsewhere."""
    if text.startswith("files:"):
        folder = Path(text.removeprefix("files:")).expanduser().resolve()
        if not folder.is_dir():
            raise ConfigurationError(f"SOURCE={text}: there is no folder {folder}")
        return f"files:{folder}"
    if text not in ("live", "sample"):
        raise ConfigurationError(f"SOURCE={text} is unknown; use live, files:DIR or sample")
    return text


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


def _ports(settings: LocalSettings, options: Options) -> tuple[LocalSettings, dict[str, str]]:
    """Settings with the ports that are free, and for each that is another than usual why, by field."""
    parts = {
        "viz_port": "the dashboard",
        "api_port": "the API",
        "node_port": "the node",
        "mlflow_port": "MLflow",
    }
    if not options.dashboard:
        del parts["viz_port"]
    fields = type(settings).model_fields
    wanted = []
    for field, what in parts.items():
        name = f"HOURCAST_{field.upper()}"
        # What a run that was killed has left in its state folder nobody has asked for.
        asked = bool(os.environ.get(name))
        wanted.append(Port(name, what, getattr(settings, field) if asked else fields[field].default, asked))
    chosen: dict[str, Chosen] = choose(wanted)
    numbers = {field: chosen[f"HOURCAST_{field.upper()}"] for field in parts}
    return (
        settings.model_copy(update={field: c.number for field, c in numbers.items()}),
        {field: c.moved for field, c in numbers.items() if c.moved},
    )


def _same_source(state: Path, source: str) -> None:
    """Bars of different kinds must not mix in one folder."""
    kind = source.split(":")[0]
    file = state / "source.json"
    with contextlib.suppress(OSError, ValueError):
        before = json.loads(file.read_text())["kind"]
        if before != kind:
            raise RefusedError(
                f"{state} holds bars of SOURCE={before}, and SOURCE={kind} would mix others among them; "
                "run `make clean-state`, or use another folder with STATE=…"
            )
    file.write_text(json.dumps({"kind": kind}))


def _reachable(
    settings: LocalSettings, state: Path, source: str, options: Options, console: Console
) -> tuple[Path, str]:
    """The state folder and the source: where no exchange answers, bars of before, or the sample if none was asked for.

    Raises:
        UnavailableError: when SOURCE=live was asked for, cannot be reached, and there are no bars yet.
    """
    # A replay has models of its own: those of the present know its future.
    folder = state / "replay" if options.replay else state
    if source != "live":
        return folder, source
    from hourcast_etl.settings import EtlSettings
    from hourcast_etl.sources import probe

    console.print("asking the exchanges")
    try:
        probe(EtlSettings.load(source="live"), settings.target)
    except UnavailableError as error:
        if (folder / "hourcast.db").exists():
            console.print(f"[yellow]{escape(str(error))}; what was collected before is shown meanwhile[/]")
        elif (
            options.source is not None or settings.database_url is not None or settings.bucket_url is not None
        ):
            # A database or bucket of a person's own is no place for bars that nobody asked for.
            raise
        else:
            sample = state / "sample"
            console.print(
                f"[yellow]{escape(str(error))}\nGoing on with SYNTHETIC BARS in {escape(_shown(sample))}. The next `make up` with a "
                "network starts live; `make up SOURCE=live` starts no other way.[/]"
            )
            return (sample / "replay" if options.replay else sample), "sample"
    return folder, source


def _shown(folder: Path) -> str:
    """A folder as one would type it here."""
    return str(folder.relative_to(Path.cwd())) if folder.is_relative_to(Path.cwd()) else str(folder)


def _clock(
    settings: LocalSettings, source: str, options: Options
) -> tuple[str, tuple[datetime, datetime] | None]:
    """HOURCAST_CLOCK, and the replay's span if there is one."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    if source.startswith("files:"):
        from hourcast_etl.sources.files import last_close

        now = last_close(Path(source.removeprefix("files:")), settings.target)
    if options.replay:
        start = (now - span_of(options.replay)).replace(hour=0)
        return "store", (start, now)
    if options.as_of:
        try:
            return f"{parse_hour(options.as_of):%Y-%m-%dT%H:%M}Z", None
        except ValueError as error:
            raise ConfigurationError(f"--as-of: {error}") from None
    return (f"{now:%Y-%m-%dT%H:%M}Z" if source.startswith("files:") else "wall"), None


def _environment(
    settings: LocalSettings, state: Path, source: str, clock: str, options: Options
) -> dict[str, str]:
    def address(port: int) -> str:
        return f"http://127.0.0.1:{port}"

    values = {
        MARK: str(state),
        "HOURCAST_STATE_DIR": str(state),
        "HOURCAST_SOURCE": source,
        "HOURCAST_SYNTHETIC": "true" if source == "sample" else "false",
        "HOURCAST_CLOCK": clock,
        "HOURCAST_MLFLOW_URL": address(settings.mlflow_port),
        "HOURCAST_NODE_URL": address(settings.node_port),
        "HOURCAST_API_URL": address(settings.api_port),
        "HOURCAST_API_PORT": str(settings.api_port),
        "HOURCAST_NODE_PORT": str(settings.node_port),
        "HOURCAST_MLFLOW_PORT": str(settings.mlflow_port),
        "HOURCAST_VIZ_PORT": str(settings.viz_port),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
    }
    if options.replay:
        values |= {
            "HOURCAST_TRAIN_POLL_S": "0.1",
            "HOURCAST_ETL_POLL_S": "0.05",
            "HOURCAST_RECORD_POLL_S": "0.05",
            "HOURCAST_CONTROLLER_INTERVAL_S": "0.3",
        }
    return values


def _components(
    settings: LocalSettings, state: Path, options: Options, replayed: tuple[datetime, datetime] | None
) -> list[Component]:
    python = sys.executable
    mlflow = state / "mlflow"
    mlflow.mkdir(exist_ok=True)
    out = [
        Component(
            "mlflow",
            [
                python, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{mlflow / 'mlflow.db'}",
                "--artifacts-destination", (mlflow / "artifacts").as_uri(), "--serve-artifacts",
                "--host", "127.0.0.1", "--port", str(settings.mlflow_port), "--workers", "1",
            ],
            # Nothing here uses MLflow's own job runner, which would start further processes.
            {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        ),
        Component("etl", [python, "-m", "hourcast.cli", "etl", "run", "--watch"]),
        Component("trainer", [python, "-m", "hourcast.cli", "train", "--watch"]),
        Component("node", [python, "-m", "hourcast_local.node"]),
        Component("controller", [python, "-m", "hourcast.cli", "controller"]),
        Component("tidy", [python, "-m", "hourcast.cli", "tidy", "--watch"]),
    ]  # fmt: skip
    if options.dashboard:
        out.append(Component("dashboard", [python, "-m", "hourcast_viz", "--port", str(settings.viz_port)]))
    if replayed is not None:
        times = [f"{t:%Y-%m-%dT%H:%M}Z" for t in replayed]
        out.append(Component("replay", [python, "-m", "hourcast_local.replay", *times]))
    return out


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
    where = "" if state == usual else f"HOURCAST_STATE_DIR={shlex.quote(_shown(state))} "
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
