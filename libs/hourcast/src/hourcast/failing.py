"""Parts of one machine that cannot work: told by `hourcast up`, read by `hourcast status` and by serving."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

__all__ = ["Failing", "read_failing", "write_failing"]

_FILE = "failing.json"


@dataclass(frozen=True, slots=True)
class Failing:
    """A part that ends again and again: since when (aware), and the last line that it logged."""

    part: str
    since: datetime
    reason: str


def write_failing(state_dir: Path, failing: Sequence[Failing]) -> None:
    """Leave word in the state folder; with none the word is taken away."""
    file = state_dir / _FILE
    if not failing:
        file.unlink(missing_ok=True)
        return
    new = file.with_suffix(".new")
    new.write_text(
        json.dumps([{"part": f.part, "since": f.since.isoformat(), "reason": f.reason} for f in failing])
    )
    new.replace(file)


def read_failing(state_dir: Path) -> tuple[Failing, ...]:
    """What `hourcast up` has said last; nothing where it does not run, as on Kubernetes."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        rows = json.loads((state_dir / _FILE).read_text())
        return tuple(
            Failing(row["part"], datetime.fromisoformat(row["since"]), row["reason"]) for row in rows
        )
    return ()
