"""What the etl did, and what it kept out."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hourcast.store import _schema as t
from hourcast.store._base import Connected
from hourcast.store._engine import run_transaction
from hourcast.store._rows import IngestRun, Quarantined

__all__ = ["IngestRecord"]


class IngestRecord(Connected):
    """Runs of the etl and rows in quarantine."""

    def begin_ingest(self, symbol: str, source: str, started_at: datetime) -> int:
        """Record that a run started; returns its id."""

        def work(connection: Connection) -> int:
            result = connection.execute(
                sa.insert(t.ingest_runs).values(
                    symbol=symbol,
                    source=source,
                    started_at=started_at,
                    status="running",
                    fetched=0,
                    inserted=0,
                    revised=0,
                    quarantined=0,
                )
            )
            key = result.inserted_primary_key
            assert key is not None
            return int(key[0])

        return run_transaction(self._engine, work, writes=True)

    def update_ingest(self, run_id: int, **values: Any) -> None:
        """Set columns of a run (`status`, `ended_at`, `fetched`, `reason`, `source`…)."""
        statement = sa.update(t.ingest_runs).where(t.ingest_runs.c.id == run_id).values(**values)
        run_transaction(self._engine, lambda c: c.execute(statement), writes=True)

    def ingest_runs(self, limit: int = 20) -> list[IngestRun]:
        """The newest runs first."""
        rows = self._read(sa.select(t.ingest_runs).order_by(t.ingest_runs.c.id.desc()).limit(limit))
        return [IngestRun(**row._mapping) for row in rows]

    def quarantine(self, rows: Sequence[Quarantined]) -> None:
        """Keep rows that broke the contract out of `bars`, with the reason; the same row twice is one."""
        values = [
            {
                "symbol": r.symbol, "open_time": r.open_time, "reason": r.reason,
                "row": dict(r.row), "source": r.source, "seen_at": r.seen_at,
            }
            for r in rows
        ]  # fmt: skip
        run_transaction(
            self._engine,
            lambda c: self._upsert(c, t.quarantined_bars, values, update=True),
            writes=True,
        )

    def leave_quarantine(self, symbol: str, opened: Sequence[datetime]) -> int:
        """Take rows out of quarantine, because good ones came in their place; returns how many."""
        if not opened:
            return 0
        c = t.quarantined_bars.c
        # Few rows are in quarantine: look for those of the span before naming thousands of hours.
        there = sa.select(c.open_time).where(
            c.symbol == symbol, c.open_time.between(min(opened), max(opened))
        )
        held = {row.open_time for row in self._read(there)} & set(opened)
        if not held:
            return 0
        statement = sa.delete(t.quarantined_bars).where(c.symbol == symbol, c.open_time.in_(held))
        run_transaction(self._engine, lambda connection: connection.execute(statement), writes=True)
        return len(held)

    def quarantined(self, symbol: str | None = None) -> list[Quarantined]:
        """The rows in quarantine, in order of time."""
        statement = sa.select(t.quarantined_bars).order_by(
            t.quarantined_bars.c.symbol, t.quarantined_bars.c.open_time
        )
        if symbol is not None:
            statement = statement.where(t.quarantined_bars.c.symbol == symbol)
        return [Quarantined(**row._mapping) for row in self._read(statement)]
