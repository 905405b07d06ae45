"""The record of events."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hourcast.decisions import KINDS
from hourcast.store import _schema as t
from hourcast.store._base import Connected, newest_first
from hourcast.store._engine import run_transaction
from hourcast.store._rows import Event

__all__ = ["EventRecord"]

_TOLD = (*KINDS, "tidied")


class EventRecord(Connected):
    """What the controller, people and the daily tidying did."""

    def add_event(self, event: Event) -> int:
        """Append an event that no decision of ours tells of; returns its id.

        Raises:
            ValueError: when its kind is neither one of `hourcast.decisions.KINDS` nor `tidied`.
        """
        if event.kind not in _TOLD:
            raise ValueError(f"{event.kind!r} is no kind of event; there are {', '.join(_TOLD)}")

        def work(connection: Connection) -> int:
            result = connection.execute(
                sa.insert(t.events).values(
                    at=event.at,
                    actor=event.actor,
                    kind=event.kind,
                    model=event.model,
                    version=event.version,
                    alias=event.alias,
                    reason=event.reason,
                    evidence=dict(event.evidence),
                    wall_at=event.wall_at,
                )
            )
            key = result.inserted_primary_key
            assert key is not None
            return int(key[0])

        return run_transaction(self._engine, work, writes=True)

    def events(self, model: str, *, kind: str | None = None, limit: int | None = None) -> list[Event]:
        """Events of a model, the newest first."""
        statement, index = sa.select(t.events).where(t.events.c.model == model), "ix_events_model"
        if kind is not None:
            statement, index = statement.where(t.events.c.kind == kind), "ix_events_kind"
        rows = self._read(newest_first(statement, t.events, index).limit(limit))
        return [Event(**row._mapping) for row in rows]
