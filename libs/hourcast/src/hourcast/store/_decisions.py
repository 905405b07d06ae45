"""The record of decisions, and how things stand after the last of them."""

from datetime import datetime
from functools import cache

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.engine import Connection

from hourcast.decisions import Decision, DecisionKind, Standing
from hourcast.errors import UnavailableError
from hourcast.store import _schema as t
from hourcast.store._base import Connected, newest_first
from hourcast.store._engine import run_transaction

__all__ = ["DecisionRecord"]

_FIELDS = ("at", "actor", "kind", "model", "version", "alias", "reason", "evidence", "wall_at")

_PATIENCE_S = 10


@cache
def _standings() -> TypeAdapter[Standing]:
    return TypeAdapter(Standing)


class DecisionRecord(Connected):
    """What was decided, in the order in which it was committed."""

    def decide(self, decision: Decision, *, seen: int | None = None) -> Decision:
        """Store a decision, how things stand after it, and the event that tells of it, in one transaction.

        Decisions of one model are stored one after the other: an id that is seen is never followed by a lower one.

        Args:
            decision: without its id.
            seen: the standing's id that it rests on; when another decision came between, this one is not stored.

        Returns:
            The decision with its id, when it is stored.

        Raises:
            UnavailableError: when it is not.
        """

        def work(connection: Connection) -> Decision:
            if self._engine.dialect.name != "sqlite":
                connection.exec_driver_sql(f"SET SESSION innodb_lock_wait_timeout = {_PATIENCE_S}")
            # The row's lock is held until the commit, and ends with the connection of one who dies.
            row = {"model": decision.model, "decision_id": 0, "state": _dump(Standing())}
            self._upsert(connection, t.standing, [row], update=False)
            state = connection.scalar(_state_of(decision.model).with_for_update())
            before = _standings().validate_python(state)
            if seen is not None and before.id != seen:
                raise UnavailableError(
                    f"another decision about {decision.model} was stored meanwhile; this one is thought over",
                    0,
                )
            values = {name: getattr(decision, name) for name in _FIELDS} | {
                "evidence": dict(decision.evidence)
            }
            key = connection.execute(sa.insert(t.decisions).values(**values)).inserted_primary_key
            assert key is not None
            stored = Decision(**values, id=int(key[0]))
            connection.execute(
                sa.update(t.standing)
                .where(t.standing.c.model == decision.model)
                .values(decision_id=stored.id, state=_dump(before.after(stored)))
            )
            connection.execute(sa.insert(t.events).values(**values))
            return stored

        return run_transaction(self._engine, work, writes=True)

    def standing(self, model: str) -> Standing:
        """How things stand after the last decision: one row, however many came before."""
        rows = self._read(_state_of(model))
        return _standings().validate_python(rows[0][0]) if rows else Standing()

    def decisions(
        self, model: str, *, after: int = 0, kind: DecisionKind | None = None, limit: int | None = None
    ) -> list[Decision]:
        """Decisions later than `after`, the oldest first; with `limit` the newest of them alone."""
        c = t.decisions.c
        statement, index = sa.select(t.decisions).where(c.model == model, c.id > after), "ix_decisions_model"
        if kind is not None:
            statement, index = statement.where(c.kind == kind), "ix_decisions_kind"
        rows = self._read(newest_first(statement, t.decisions, index).limit(limit))
        return [Decision(**row._mapping) for row in reversed(rows)]

    def decided(self, model: str, kind: DecisionKind, *, start: datetime, end: datetime) -> list[Decision]:
        """Decisions of a kind that were the newest at some moment with start <= moment < end, by their moments.

        Those are the ones that were made then, and the last one before.
        """
        c = t.decisions.c
        ours = sa.select(t.decisions).where(c.model == model, c.kind == kind)
        before = ours.where(c.at <= start).order_by(c.at.desc(), c.id.desc()).limit(1)
        then = ours.where(c.at > start, c.at < end).order_by(c.at, c.id)

        def work(connection: Connection) -> list[Decision]:
            rows = [*connection.execute(before), *connection.execute(then)]
            return [Decision(**row._mapping) for row in rows]

        return run_transaction(self._engine, work, writes=False)


def _state_of(model: str) -> sa.Select[tuple[object]]:
    return sa.select(t.standing.c.state).where(t.standing.c.model == model)


def _dump(standing: Standing) -> object:
    return _standings().dump_python(standing, mode="json")
