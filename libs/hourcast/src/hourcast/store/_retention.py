"""What is kept how long. Pure rules, the deletes that hold to them, and the record of what has gone."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hourcast.store import _schema as t
from hourcast.store._base import Connected
from hourcast.store._engine import run_transaction

__all__ = ["RETENTION", "Keeping", "Retention", "RetentionRecord"]

Keeping = Literal["runs", "quarantined", "events", "forecasts", "records", "walks"]
"""What has a span of its own; the setting is `HOURCAST_KEEP_<…>_DAYS`."""

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Retention:
    """How long the rows of a table are kept.

    Attributes:
        why: for people: why it is kept, or what is lost with old rows.
        keeping: what they belong to; None: they are kept for ever, or until what they belong to goes.
        column: the moment that says how old a row is.
        prefix: columns before it in the key; the newest row of each value stays, however old.
    """

    why: str
    keeping: Keeping | None = None
    column: str = ""
    prefix: tuple[str, ...] = ()


RETENTION: Mapping[str, Retention] = {
    "bars": Retention("every training, figure and chart is made from them"),
    "decisions": Retention("they say what was in production, and why"),
    "standing": Retention("one row a model"),
    "evaluations": Retention("the proof behind each alias and each champion"),
    "reports": Retention("one page a model; a new one takes its place"),
    "backtest_rows": Retention("they go with their version"),
    "clock": Retention("one row"),
    "forgotten": Retention("one row a table: up to when its rows have gone"),
    # Before the revisions: an hour that is on record needs what was revised after it was closed.
    "hours": Retention("what was there when an hour was closed", "records", "hour", ("model",)),
    "bar_revisions": Retention(
        "what was known of a bar before it was revised", "records", "replaced_at", ("symbol",)
    ),
    "fans": Retention(
        "forecasts as issued; older hours are reconstructed",
        "forecasts",
        "origin",
        ("model", "role", "symbol"),
    ),
    "forecasts": Retention(
        "the record of release 0.1.0", "forecasts", "origin", ("model", "version", "symbol")
    ),
    "events": Retention("the story of decisions, which stay", "events", "wall_at", ("model",)),
    "walk_folds": Retention(
        "rows of walks; the newest walk of each kind stays", "walks", "made_at", ("model", "walk", "kind")
    ),
    "ingest_runs": Retention("what each fetch brought", "runs", "started_at", ("symbol",)),
    "quarantined_bars": Retention("rows that broke the contract", "quarantined", "seen_at", ("symbol",)),
}
"""Each table of the store; a test sees to it that none is left out."""


class RetentionRecord(Connected):
    """`hourcast tidy` is the only one who deletes by age."""

    def forget(self, table: str, before: datetime, *, dry_run: bool = False) -> int:
        """Delete the rows of a table that are older than a moment, in batches of a thousand; returns how many there were.

        Up to when rows have gone is stored with the first of them (`forgotten`). The newest row of each prefix stays, and of
        a walk all rows or none. Killed half-way, the next call goes on.

        Raises:
            ValueError: when the table's rows are kept for ever.
        """
        rule = RETENTION[table]
        if rule.keeping is None:
            raise ValueError(f"rows of {table} are not forgotten by their age: {rule.why}")
        of = t.metadata.tables[table]
        bounds = self._newest(of, rule)
        gone = 0
        for prefix, newest in bounds.items():
            where = [of.c[name] == value for name, value in zip(rule.prefix, prefix, strict=True)]
            if table == "walk_folds":
                # Where a walk's last fold is old, all of it is; the newest walk of a kind is what its report shows.
                rivals = [b for key, b in bounds.items() if key[0] == prefix[0] and key[2] == prefix[2]]
                if newest >= before or newest == max(rivals):
                    continue
            else:
                where.append(of.c[rule.column] < min(before, newest))
            gone += self._forget(of, rule, sa.and_(*where), before, dry_run)
        return gone

    def _newest(self, of: sa.Table, rule: Retention) -> dict[tuple[Any, ...], datetime]:
        keys = [of.c[name] for name in rule.prefix]
        newest = sa.select(*keys, sa.func.max(of.c[rule.column]).label("newest")).group_by(*keys)
        found = [tuple(row) for row in self._read(newest)]
        return {row[:-1]: row[-1] for row in found}

    def _forget(
        self, of: sa.Table, rule: Retention, where: sa.ColumnElement[bool], before: datetime, dry_run: bool
    ) -> int:
        if dry_run:
            return int(self._read(sa.select(sa.func.count()).select_from(of).where(where))[0][0])
        moment, gone = of.c[rule.column], 0
        # A DELETE with a LIMIT is not in every SQLite, so that a batch ends at the moment of its last row.
        last = sa.select(moment).where(where).order_by(moment).offset(_BATCH - 1).limit(1)

        def batch(connection: Connection) -> tuple[int, bool]:
            end = connection.scalar(last)
            chosen = where if end is None else sa.and_(where, moment <= end)
            count = connection.execute(sa.delete(of).where(chosen)).rowcount
            if count:
                self._note(connection, of.name, before)
            return count, end is None

        done = False
        while not done:
            count, done = run_transaction(self._engine, batch, writes=True)
            gone += count
        return gone

    def _note(self, connection: Connection, table: str, before: datetime) -> None:
        c = t.forgotten.c
        known = connection.scalar(sa.select(c.up_to).where(c.record == table))
        row = {"record": table, "up_to": max(before, known or before), "at": datetime.now(UTC)}
        self._upsert(connection, t.forgotten, [row], update=True)

    def forget_backtest(self, model: str, version: int) -> int:
        """Delete the hourly rows of a version that is no more; returns how many there were."""
        c = t.backtest_rows.c
        statement = sa.delete(t.backtest_rows).where(c.model == model, c.version == version)
        return run_transaction(self._engine, lambda co: co.execute(statement).rowcount, writes=True)

    def forgotten(self, table: str) -> datetime | None:
        """The moment before which rows of a table have gone; None where none has."""
        c = t.forgotten.c
        rows = self._read(sa.select(c.up_to).where(c.record == table))
        return rows[0].up_to if rows else None
