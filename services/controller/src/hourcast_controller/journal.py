"""Events: what was done, why, on what evidence; and what they say about quarantine."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hourcast.clock import Clock
from hourcast.errors import UnavailableError
from hourcast.store import Event, Store

__all__ = ["Journal", "noted", "quarantine_of", "released_of"]

_BUFFER = 1000


def quarantine_of(events: Sequence[Event]) -> dict[int, tuple[str, str]]:
    """Version to (run id, reason) of those in quarantine; `events` are the newest first."""
    found: dict[int, tuple[str, str] | None] = {}
    for event in events:
        if event.version is None or event.version in found:
            continue
        if event.kind in ("quarantined", "undone"):
            found[event.version] = (str(event.evidence.get("run_id", "")), event.reason)
        elif event.kind == "unquarantined":
            found[event.version] = None
    return {version: value for version, value in found.items() if value is not None}


def released_of(events: Sequence[Event]) -> dict[int, datetime]:
    """Version to the moment (by the wall) when it last left quarantine; `events` are the newest first."""
    found: dict[int, datetime] = {}
    for event in events:
        if event.kind == "unquarantined" and event.version is not None:
            found.setdefault(event.version, event.wall_at)
    return found


def noted(events: Sequence[Event]) -> tuple[int | None, bool]:
    """Pin and hold as they were last written down; `events` are the newest first."""
    pin = next((e for e in events if e.kind in ("pinned", "unpinned")), None)
    hold = next((e for e in events if e.kind in ("held", "released")), None)
    return (
        pin.version if pin is not None and pin.kind == "pinned" else None,
        hold is not None and hold.kind == "held",
    )


class Journal:
    """Writes events in order; while the store is away they wait, the newest thousand of them."""

    def __init__(self, store: Store, clock: Clock, model: str, actor: str) -> None:
        self._store, self._clock, self._model, self._actor = store, clock, model, actor
        self._waiting: list[Event] = []

    def write(
        self,
        kind: str,
        version: int | None,
        alias: str | None,
        reason: str,
        evidence: Mapping[str, Any] | None = None,
    ) -> None:
        """Append an event."""
        wall = datetime.now(UTC)
        try:
            at = self._clock.now()
        except UnavailableError:
            at = wall
        self._waiting.append(
            Event(at, self._actor, kind, self._model, version, alias, reason, wall, dict(evidence or {}))
        )
        del self._waiting[:-_BUFFER]
        self.flush()

    def flush(self) -> None:
        """Write what waits, in order; what cannot be written goes on waiting."""
        while self._waiting:
            try:
                self._store.add_event(self._waiting[0])
            except UnavailableError:
                return
            self._waiting.pop(0)

    @property
    def settled(self) -> bool:
        """Whether nothing waits to be written."""
        return not self._waiting
