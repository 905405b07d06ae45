"""What the plan may ask for. Each may be done again without harm."""

from dataclasses import dataclass

from hourcast.decisions import Blocked

__all__ = [
    "Absolve", "Action", "Block", "Mirror", "NoteChampion", "NoteHold", "NotePin", "NoteRolled", "Package",
    "Quarantine", "RefreshIndex", "Roll", "Unblock", "Wait",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Package:
    """Start packaging a version."""

    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class RefreshIndex:
    """Write the alias index again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Roll:
    """Serve another version."""

    version: int
    alias: str
    reason: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Never try a version again until it changes."""

    version: int
    run_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Absolve:
    """Take a version out of quarantine: another failed alike, so it was not the version."""

    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class Block:
    """A version cannot be served, and it is not to blame: write it down."""

    blocked: Blocked


@dataclass(frozen=True, slots=True)
class Unblock:
    """What stood in the way of a version does so no longer: write it down."""

    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class NoteRolled:
    """A roll has ended: write it down."""

    version: int
    alias: str | None


@dataclass(frozen=True, slots=True)
class Mirror:
    """Annotate the Deployment with pin and hold as they were decided by the decision `decided`."""

    pin: int | None
    hold: bool
    decided: int


@dataclass(frozen=True, slots=True)
class NotePin:
    """Someone has set (or, with None, removed) the pin on the Deployment itself: write it down."""

    pin: int | None
    before: int | None


@dataclass(frozen=True, slots=True)
class NoteHold:
    """Someone has set or removed the hold on the Deployment itself: write it down."""

    hold: bool


@dataclass(frozen=True, slots=True)
class NoteChampion:
    """The alias `champion` has moved (or, with None, is gone) since that was last written down: write it down."""

    version: int | None
    before: int | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done now, and why."""

    reason: str


Action = (
    Package | RefreshIndex | Roll | Quarantine | Absolve | Block | Unblock
    | NoteRolled | Mirror | NotePin | NoteHold | NoteChampion | Wait
)  # fmt: skip
