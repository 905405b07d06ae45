"""The record of bars: what the market did, and what was known of it at any earlier moment."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from hourcast.contracts import NEVER, STANDS, Bars, Seen, from_epoch, to_epoch
from hourcast.store import _schema as t
from hourcast.store._base import Connected, after_closes
from hourcast.store._engine import run_transaction
from hourcast.store._rows import Freshness, UpsertResult

__all__ = ["BarRecord"]

_PRICES = ("open", "high", "low", "close", "volume")
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class _Window:
    """Which bars are asked for."""

    start: datetime | None
    end: datetime | None
    known_at: datetime | None

    def of(self, table: sa.Table) -> list[sa.ColumnElement[bool]]:
        """The same as conditions on a table of bars."""
        c = table.c
        return [
            *([c.open_time >= self.start] if self.start is not None else []),
            *([c.open_time < self.end] if self.end is not None else []),
            # A bar opens before it closes: with this the key is bounded on both sides, whatever lies before and after.
            *(
                [c.close_time <= self.known_at, c.open_time < self.known_at]
                if self.known_at is not None
                else []
            ),
        ]


def _select(
    table: sa.Table,
    symbol: str,
    where: Iterable[sa.ColumnElement[bool]],
    last: int | None,
    first: int | None = None,
) -> "sa.Select[*tuple[Any, ...]]":
    c = table.c
    # Naive UTC as the database has it: making each of thousands of moments aware costs more than reading them.
    moments = (
        sa.type_coerce(column, sa.DateTime()).label(column.name) for column in (c.open_time, c.close_time)
    )
    statement = sa.select(*moments, *(c[name] for name in _PRICES)).where(c.symbol == symbol, *where)
    if table is t.bars:
        # Within a symbol both times are in the same order: the key serves, from either end. MySQL would rather find every
        # bar of the symbol by another index, and sort them.
        statement = statement.with_hint(table, "FORCE INDEX (PRIMARY)", "mysql")
    return statement.order_by(c.open_time.desc() if last else c.open_time).limit(last or first)


def _bars(symbol: str, rows: Sequence[Sequence[Any]], last: int | None) -> Bars:
    """Bars from rows in order of time, or the other way round where the last ones were asked for."""
    if last:
        rows = rows[::-1]
    if not rows:
        return Bars.empty(symbol)
    columns = list(zip(*rows, strict=True))
    opened, closed = (np.array(column, "datetime64[s]").astype(np.int64) for column in columns[:2])
    return Bars(symbol, opened, closed, *(np.array(column, np.float64) for column in columns[2:]))


class BarRecord(Connected):
    """Bars by (symbol, open_time); the etl is their only writer."""

    def upsert_bars(self, bars: Bars, source: str, ingested_at: datetime) -> UpsertResult:
        """Write bars by (symbol, open_time). A bar with other values than the stored one is revised and counted.

        All of `bars` is written or, when the process is killed amid it, nothing; what a revision replaces is kept in
        the same transaction. `ingested_at` is the moment from which on readers have them; it is moved behind the newest
        close of an hour where it is not later.
        """
        if not len(bars):
            return UpsertResult(0, 0, 0)
        try:
            return run_transaction(
                self._engine, lambda c: self._write_bars(c, bars, source, ingested_at), writes=True
            )
        except IntegrityError:
            # Two revisions of one bar at one moment: this time the other one's is seen.
            return run_transaction(
                self._engine, lambda c: self._write_bars(c, bars, source, ingested_at), writes=True
            )

    def _write_bars(
        self, connection: Connection, bars: Bars, source: str, ingested_at: datetime
    ) -> UpsertResult:
        c = t.bars.c
        span = c.open_time.between(from_epoch(bars.open_time.min()), from_epoch(bars.open_time.max()))
        stored = self._read_bars(connection, bars.symbol, span)
        place = {int(moment): i for i, moment in enumerate(stored.open_time)}
        new, other = [], []
        for i, moment in enumerate(bars.open_time.tolist()):
            j = place.get(moment)
            if j is None:
                new.append(i)
            elif bars.close_time[i] != stored.close_time[j] or any(
                getattr(bars, name)[i] != getattr(stored, name)[j] for name in _PRICES
            ):
                other.append(i)
        came = after_closes(connection, ingested_at)
        replaced = self._keep_replaced(connection, bars, other, came)
        rows = []
        for i in sorted((*new, *other)):
            moment = from_epoch(bars.open_time[i])
            rows.append(
                {
                    "symbol": bars.symbol,
                    "open_time": moment,
                    "close_time": from_epoch(bars.close_time[i]),
                    **{name: float(getattr(bars, name)[i]) for name in _PRICES},
                    "source": source,
                    "ingested_at": replaced.get(moment, came),
                }
            )
        self._upsert(connection, t.bars, rows, update=True)
        return UpsertResult(len(new), len(other), len(bars) - len(new) - len(other))

    def _keep_replaced(
        self, connection: Connection, bars: Bars, revised: list[int], came: datetime
    ) -> dict[datetime, datetime]:
        """Keep the stored values of the bars at `revised`; returns when each of them was replaced."""
        c, r = t.bars.c, t.bar_revisions.c
        out: dict[datetime, datetime] = {}
        rows = []
        for first in range(0, len(revised), _AT_ONCE):
            opens = [from_epoch(bars.open_time[i]) for i in revised[first : first + _AT_ONCE]]
            kept = connection.execute(
                sa.select(r.open_time, r.replaced_at).where(r.symbol == bars.symbol, r.open_time.in_(opens))
            )
            known = {(opened, at) for opened, at in kept}
            for row in connection.execute(
                sa.select(t.bars).where(c.symbol == bars.symbol, c.open_time.in_(opens))
            ):
                # By a clock that went back a value would end before it began.
                at = max(came, row.ingested_at)
                out[row.open_time] = at
                # Of several values at one moment readers had the last, and the first is what they had before.
                if (row.open_time, at) not in known:
                    rows.append({**row._mapping, "replaced_at": at})
        if rows:
            connection.execute(sa.insert(t.bar_revisions), rows)
        return out

    def _read_bars(
        self,
        connection: Connection,
        symbol: str,
        *where: sa.ColumnElement[bool],
        last: int | None = None,
        first: int | None = None,
    ) -> Bars:
        return _bars(symbol, connection.execute(_select(t.bars, symbol, where, last, first)).all(), last)

    def _read_as_of(
        self, connection: Connection, symbol: str, window: "_Window", last: int | None, as_of: datetime
    ) -> Bars:
        now, old = t.bars, t.bar_revisions
        begins = [
            connection.scalar(sa.select(sa.func.min(table.c.ingested_at)).where(table.c.symbol == symbol))
            for table in (now, old)
        ]
        if as_of < min((moment for moment in begins if moment is not None), default=as_of):
            return self._read_bars(connection, symbol, *window.of(now), last=last)
        # In one statement, so that a value that is being replaced is seen in one of the two tables. What was replaced
        # since is little for a moment of late, whichever bars are asked for, and is found by when.
        parts = [
            _select(now, symbol, (*window.of(now), now.c.ingested_at <= as_of), last),
            _select(
                old, symbol, (*window.of(old), old.c.ingested_at <= as_of, old.c.replaced_at > as_of), None
            ),
        ]
        both = sa.union_all(*(sa.select(part.subquery()) for part in parts))
        rows = connection.execute(both).all()
        return _bars(symbol, sorted(rows, key=lambda row: row[0], reverse=bool(last))[:last], last)

    def _read_known(
        self,
        symbols: Iterable[str],
        window: "_Window",
        last: int | None,
        as_of: datetime | None,
    ) -> dict[str, Bars]:
        def work(connection: Connection) -> dict[str, Bars]:
            if as_of is None:
                return {s: self._read_bars(connection, s, *window.of(t.bars), last=last) for s in symbols}
            return {s: self._read_as_of(connection, s, window, last, as_of) for s in symbols}

        return run_transaction(self._engine, work, writes=False)

    def read_bars(
        self,
        symbol: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        known_at: datetime | None = None,
        as_of: datetime | None = None,
        last: int | None = None,
        first: int | None = None,
    ) -> Bars:
        """Bars of `symbol`, in order of time.

        `start <= open_time < end`; `known_at` keeps only bars that had closed by then; `last` keeps the newest n,
        `first` the oldest n.

        `as_of` gives what a reader had at that moment: a bar whose value was replaced later shows the older value, and one
        that first came later is absent. Before the first arrival of anything of the symbol nobody had anything; for
        such a moment what was loaded later counts as known, which is a reconstruction and not a record. (Release 0.1.0
        kept no replaced values: a bar that it revised counts from its revision on.)
        """
        window = _Window(start, end, known_at)
        if first is None or as_of is not None:
            bars = self._read_known([symbol], window, last, as_of)[symbol]
            return bars if first is None else bars.take(slice(0, first))
        return run_transaction(
            self._engine,
            lambda c: self._read_bars(c, symbol, *window.of(t.bars), first=first),
            writes=False,
        )

    def read_many(
        self,
        symbols: Iterable[str],
        *,
        start: datetime | None = None,
        known_at: datetime | None = None,
        as_of: datetime | None = None,
        last: int | None = None,
    ) -> dict[str, Bars]:
        """Bars of several symbols, read in one transaction, so that they belong together; arguments as in `read_bars`."""
        return self._read_known(list(symbols), _Window(start, None, known_at), last, as_of)

    def read_recorded(
        self, model: str, symbols: Iterable[str], *, known_at: datetime, as_of: datetime | None = None
    ) -> dict[str, Bars]:
        """Bars that had closed by `known_at`, each with how it looked when the hours of a stream were closed.

        For training: `hourcast.features.build` makes of a recorded hour what serving made of it (`Bars.seen`). With `as_of`
        it is what this method gave at that moment (see `read_bars`).
        """
        h = t.hours.c
        hours = sa.select(h.hour, h.closed_at, h.state).where(h.model == model, h.hour <= known_at)
        if as_of is not None:
            hours = hours.where(h.closed_at <= as_of)
        window = _Window(None, None, known_at)

        def work(connection: Connection) -> dict[str, Bars]:
            closed = connection.execute(hours.order_by(h.hour)).all()
            out = {}
            for symbol in symbols:
                bars = (
                    self._read_bars(connection, symbol, *window.of(t.bars))
                    if as_of is None
                    else self._read_as_of(connection, symbol, window, None, as_of)
                )
                seen = self._seen(connection, symbol, window, closed) if closed else None
                out[symbol] = replace(bars, seen=seen if seen is None or as_of is None else seen.as_of(as_of))
            return out

        return run_transaction(self._engine, work, writes=False)

    def _seen(self, connection: Connection, symbol: str, window: _Window, closed: Sequence[Any]) -> Seen:
        """The values of a symbol's bars and the closed hours; newest closes are those that the records know."""
        # The types of a union are those of its first part, so that the one with a moment comes first.
        parts = [
            _select(table, symbol, window.of(table), None)
            .order_by(None)
            .add_columns(
                sa.type_coerce(table.c.ingested_at, sa.DateTime()).label("came"), until.label("until")
            )
            for table, until in (
                (t.bar_revisions, sa.type_coerce(t.bar_revisions.c.replaced_at, sa.DateTime())),
                (t.bars, sa.null()),
            )
        ]
        rows = sorted(connection.execute(sa.union_all(*parts)), key=lambda row: (row[0], row.came))
        values = _bars(symbol, [row[:-2] for row in rows], None)
        came, until = (np.array([row[i] for row in rows], "datetime64[us]") for i in (-2, -1))
        replaced = np.where(np.isnat(until), STANDS, until.astype(np.int64))
        hour, closed_at = (
            np.array([row[i].replace(tzinfo=None) for row in closed], f"datetime64[{unit}]").astype(np.int64)
            for i, unit in ((0, "s"), (1, "us"))
        )
        newest = []
        for row in closed:
            known = row.state.get(symbol, {"newest": row.hour.isoformat()})["newest"]
            newest.append(NEVER if known is None else to_epoch(datetime.fromisoformat(known)))
        return Seen(values, came.astype(np.int64), replaced, hour, closed_at, np.array(newest, np.int64))

    def freshness(
        self, symbols: Iterable[str] | None = None, known_at: datetime | None = None
    ) -> list[Freshness]:
        """First and newest bar of each of these symbols that has any, or of every stored one; by symbol."""

        def work(connection: Connection) -> list[Freshness]:
            names = set(self._symbols(connection) if symbols is None else symbols)
            found = (self._freshness(connection, name, known_at) for name in sorted(names))
            return [each for each in found if each is not None]

        return run_transaction(self._engine, work, writes=False)

    @staticmethod
    def _symbols(connection: Connection) -> Iterator[str]:
        """Every stored symbol: a look at the key for each, instead of a walk along it."""
        c = t.bars.c
        at = connection.scalar(sa.select(sa.func.min(c.symbol)))
        while at is not None:
            yield at
            at = connection.scalar(sa.select(sa.func.min(c.symbol)).where(c.symbol > at))

    @staticmethod
    def _freshness(connection: Connection, symbol: str, known_at: datetime | None) -> Freshness | None:
        c = t.bars.c
        newest = connection.execute(
            sa.select(c.close_time, c.source)
            .where(c.symbol == symbol, *_Window(None, None, known_at).of(t.bars))
            .order_by(c.open_time.desc())
            .limit(1)
        ).first()
        if newest is None:
            return None
        first = connection.scalar(sa.select(sa.func.min(c.open_time)).where(c.symbol == symbol))
        return Freshness(symbol, first, newest.close_time, newest.source)

    def bar_counts(self, symbols: Iterable[str], known_at: datetime | None = None) -> dict[str, int]:
        """How many bars there are of each symbol: for people, since every one of them is counted."""
        c = t.bars.c
        names, n = list(symbols), sa.func.count().label("bars")
        counting = sa.select(c.symbol, n).where(c.symbol.in_(names)).group_by(c.symbol)
        if known_at is not None:
            counting = counting.where(c.close_time <= known_at)
        found = {str(row.symbol): int(row.bars) for row in self._read(counting)}
        return {symbol: found.get(symbol, 0) for symbol in names}
