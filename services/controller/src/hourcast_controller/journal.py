"""Where what is decided goes: into the store, before anyone acts on it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from hourcast.clock import Clock
from hourcast.decisions import Decision, DecisionKind
from hourcast.errors import UnavailableError
from hourcast.store import Store

__all__ = ["Journal"]


class Journal:
    """The decisions of one actor about one model."""

    def __init__(self, store: Store, clock: Clock, model: str, actor: str) -> None:
        self._store, self._clock, self._model, self._actor = store, clock, model, actor

    def decide(
        self,
        kind: DecisionKind,
        version: int | None,
        alias: str | None,
        reason: str,
        evidence: Mapping[str, Any] | None = None,
        *,
        seen: int | None = None,
    ) -> Decision:
        """Store a decision; with `seen` only if none came after that one.

        Raises:
            UnavailableError: when it is not stored; then nothing may be done for it.
        """
        wall = datetime.now(UTC)
        try:
            at = self._clock.now()
        except UnavailableError:
            at = wall
        made = Decision(
            at, self._actor, kind, self._model, version, alias, reason, wall, dict(evidence or {})
        )
        return self._store.decide(made, seen=seen)
