"""With what `hourcast up` runs: source, state folder, ports and clock, from what was asked for and what is there."""

import contextlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from hourcast.contracts import parse_hour
from hourcast.errors import ConfigurationError, RefusedError, UnavailableError
from hourcast_local.ports import Chosen, Port, choose
from hourcast_local.replay import span_of
from hourcast_local.settings import LocalSettings

__all__ = ["Options", "clock_of", "free_ports", "reachable", "same_source", "shown", "source_of"]


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line; without a source it is `live`, or `sample` where nothing can be reached."""

    source: str | None = None
    as_of: str | None = None
    replay: str | None = None
    dashboard: bool = True
    exit_when_ready: bool = False


def source_of(text: str) -> str:
    """SOURCE with a folder made absolute, since children run elsewhere.

    Raises:
        ConfigurationError: when there is no such source or folder.
    """
    if text.startswith("files:"):
        folder = Path(text.removeprefix("files:")).expanduser().resolve()
        if not folder.is_dir():
            raise ConfigurationError(f"SOURCE={text}: there is no folder {folder}")
        return f"files:{folder}"
    if text not in ("live", "sample"):
        raise ConfigurationError(f"SOURCE={text} is unknown; use live, files:DIR or sample")
    return text


def free_ports(settings: LocalSettings, options: Options) -> tuple[LocalSettings, dict[str, str]]:
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


def same_source(state: Path, source: str) -> None:
    """Note the kind of bars of a state folder.

    Raises:
        RefusedError: when it holds bars of another kind, which must not mix.
    """
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


def reachable(
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
                f"[yellow]{escape(str(error))}\nGoing on with SYNTHETIC BARS in {escape(shown(sample))}. The next `make up` with a "
                "network starts live; `make up SOURCE=live` starts no other way.[/]"
            )
            return (sample / "replay" if options.replay else sample), "sample"
    return folder, source


def shown(folder: Path) -> str:
    """A folder as one would type it here."""
    return str(folder.relative_to(Path.cwd())) if folder.is_relative_to(Path.cwd()) else str(folder)


def clock_of(
    settings: LocalSettings, source: str, options: Options
) -> tuple[str, tuple[datetime, datetime] | None]:
    """HOURCAST_CLOCK, and the replay's span if there is one.

    Raises:
        ConfigurationError: when `--as-of` is no hour.
    """
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
