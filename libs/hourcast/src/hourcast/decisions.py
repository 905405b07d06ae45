"""What is decided about a model, and how things stand after it. Pure.

A decision is stored before anyone acts on it or says that it was done. `Standing.after` folds decisions in the order in
which they were stored, so that nobody has to read them all again: the store keeps the standing beside them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, get_args

__all__ = [
    "KINDS",
    "Asked",
    "Barred",
    "Blocked",
    "Decision",
    "DecisionKind",
    "Served",
    "Standing",
    "Undo",
]

DecisionKind = Literal[
    "pinned", "unpinned", "held", "released", "undone", "quarantined", "unquarantined",
    "roll_started", "rolled", "champion_moved", "blocked", "unblocked",
]  # fmt: skip
KINDS: tuple[DecisionKind, ...] = get_args(DecisionKind)
"""Every kind of decision, and of the events that tell of them."""

_REMEMBERED = 50


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person or the controller decided. `at` is by the clock setting, `wall_at` by the wall; ids go up in the order of commit."""

    at: datetime
    actor: str
    kind: DecisionKind
    model: str
    version: int | None
    alias: str | None
    reason: str
    wall_at: datetime
    evidence: Mapping[str, Any] = field(default_factory=dict)
    id: int = 0


@dataclass(frozen=True, slots=True)
class Barred:
    """A version in quarantine: the run that was (empty: any run under that number), and why."""

    run_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Served:
    """A version that has served: under which alias, why, and since when (by the wall) the last time."""

    version: int
    alias: str | None
    reason: str
    wall_at: datetime


@dataclass(frozen=True, slots=True)
class Asked:
    """A version that the Deployment was last asked for, and why."""

    version: int
    alias: str | None
    reason: str
    wall_at: datetime


@dataclass(frozen=True, slots=True)
class Undo:
    """A person has taken `version` back; `to` is to serve instead."""

    version: int
    alias: str | None
    to: int
    to_alias: str | None


@dataclass(frozen=True, slots=True)
class Blocked:
    """What stands in the way of a version that is not to blame for it; `of` says where: its rollout or its packaging."""

    version: int
    fault: Literal["version", "place", "setting"]
    reason: str
    of: Literal["rollout", "package"] = "rollout"


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand after the decision `id`; before the first one it is 0.

    `minded` is the id of the last decision about pin or hold. `served` has the versions that have served, the newest
    first, each once, and `quarantine` those that are not to. `released` says when a version last left quarantine,
    `blamed` which was quarantined last and why, unless another has served since.
    """

    id: int = 0
    pin: int | None = None
    hold: bool = False
    minded: int = 0
    quarantine: Mapping[int, Barred] = field(default_factory=dict)
    released: Mapping[int, datetime] = field(default_factory=dict)
    served: tuple[Served, ...] = ()
    asked: Asked | None = None
    undo: Undo | None = None
    blamed: tuple[int, str] | None = None
    blocked: Blocked | None = None
    champion: int | None = None

    @property
    def last(self) -> Served | None:
        """What served last."""
        return self.served[0] if self.served else None

    @property
    def proven(self) -> frozenset[int]:
        """Versions that have served."""
        return frozenset(served.version for served in self.served)

    def blocks(self, version: int | None) -> bool:
        """Whether something stands in the way of this version's rollout."""
        return self.blocked is not None and self.blocked.of == "rollout" and self.blocked.version == version

    def after(self, decision: Decision) -> "Standing":
        """How things stand after one more decision."""
        now = replace(self, id=decision.id)
        version, told = decision.version, decision.evidence
        match decision.kind:
            case "pinned" | "unpinned":
                return replace(now, pin=version if decision.kind == "pinned" else None, minded=decision.id)
            case "held" | "released":
                return replace(now, hold=decision.kind == "held", minded=decision.id)
            case "champion_moved":
                return replace(now, champion=version)
            case "unblocked":
                return replace(now, blocked=None)
        if version is None:
            return now
        match decision.kind:
            case "undone":
                undo = (
                    Undo(version, decision.alias, told["to"], told.get("to_alias")) if "to" in told else None
                )
                return replace(now, quarantine=self._barring(decision, version), undo=undo)
            case "quarantined":
                return replace(
                    now, quarantine=self._barring(decision, version), blamed=(version, decision.reason)
                )
            case "unquarantined":
                left = {v: barred for v, barred in self.quarantine.items() if v != version}
                others = [(v, when) for v, when in self.released.items() if v != version]
                released = dict([*others, (version, decision.wall_at)][-_REMEMBERED:])
                undo = None if self.undo is not None and self.undo.version == version else self.undo
                return replace(now, quarantine=left, released=released, undo=undo)
            case "roll_started":
                asked = Asked(version, decision.alias, decision.reason, decision.wall_at)
                return replace(now, asked=asked)
            case "rolled":
                newest = Served(version, decision.alias, decision.reason, decision.wall_at)
                served = (newest, *(s for s in self.served if s.version != version))[:_REMEMBERED]
                undo = self.undo
                if undo is not None and version not in (undo.version, undo.to):
                    undo = None
                return replace(now, served=served, asked=None, blamed=None, undo=undo)
            case "blocked":
                blocked = Blocked(version, told["fault"], decision.reason, told["of"])
                return replace(now, blocked=blocked)
        return now

    def _barring(self, decision: Decision, version: int) -> dict[int, Barred]:
        barred = Barred(str(decision.evidence.get("run_id", "")), decision.reason)
        return {**self.quarantine, version: barred}
