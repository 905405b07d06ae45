"""The record of hours: what was there when an hour was closed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from hourcast.contracts import Bars, to_epoch
from hourcast.store import _schema as t
from hourcast.store._base import Connected, after_closes
from hourcast.store._engine import run_transaction

__all__ = ["Hour", "HourRecord", "SeriesState"]


@dataclass(frozen=True, slots=True)
class SeriesState:
    """How a series stood when its hour was closed.

    `there`: the bar that the market owed had come. `shut`: it owed none. `given_up`: it had not come by the deadline.
    `newest` is the newest close not after the hour that was known, None where there was no bar at all.
    """

    state: Literal["there", "shut", "given_up"]
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class Hour:
    """A closed hour of a stream: `hour` is the close of the target's bar, `series` its series by symbol.

    `closed_at` is by the clock setting, `wall_at` by the wall.
    """

    model: str
    hour: datetime
    closed_at: datetime
    wall_at: datetime
    series: Mapping[str, SeriesState]

    @property
    def given_up(self) -> tuple[str, ...]:
        """Symbols whose bar had not come by the deadline."""
        return tuple(symbol for symbol, s in self.series.items() if s.state == "given_up")

    def known(self, bars: Mapping[str, Bars]) -> dict[str, Bars]:
        """What of `bars` was known when the hour was closed, by the newest close in this record.

        A series that the record does not name is cut at the hour itself.
        """
        out = {}
        for symbol, part in bars.items():
            seen = self.series.get(symbol)
            newest = self.hour if seen is None else seen.newest
            out[symbol] = Bars.empty(symbol) if newest is None else part.known_at(to_epoch(newest))
        return out


class HourRecord(Connected):
    """Hours as they were closed; the etl is their only writer, and nobody changes one."""

    def close_hour(self, hour: Hour) -> bool:
        """Record that an hour is closed. One that is closed already stays as it is, and the answer is False.

        `closed_at` is moved behind the newest close of any hour and is no earlier than what had come, so that the order of
        closes and arrivals can be told by a clock that stands still or goes back, too.
        """

        def work(connection: Connection) -> bool:
            b, c = t.bars.c, t.hours.c
            known = sa.select(c.hour).where(c.model == hour.model, c.hour == hour.hour)
            if connection.scalar(known) is not None:
                return False
            state = {
                symbol: {"state": s.state, "newest": None if s.newest is None else s.newest.isoformat()}
                for symbol, s in hour.series.items()
            }
            came = [
                connection.scalar(sa.select(sa.func.max(b.ingested_at)).where(b.symbol == symbol))
                for symbol in hour.series
            ]
            closed_at = max([after_closes(connection, hour.closed_at), *(m for m in came if m is not None)])
            values = {
                "model": hour.model,
                "hour": hour.hour,
                "closed_at": closed_at,
                "wall_at": hour.wall_at,
                "state": state,
            }
            connection.execute(sa.insert(t.hours).values(values))
            return True

        try:
            return run_transaction(self._engine, work, writes=True)
        except IntegrityError:
            # Another etl was faster.
            return False

    def newest_hour(self, model: str, known_at: datetime | None = None) -> Hour | None:
        """The newest closed hour, or the newest that is not after `known_at`; None where none is recorded."""
        c = t.hours.c
        statement = sa.select(t.hours).where(c.model == model)
        if known_at is not None:
            statement = statement.where(c.hour <= known_at)
        found = self._read(statement.order_by(c.hour.desc()).limit(1))
        return _hour(found[0]) if found else None

    def hours(self, model: str, *, start: datetime | None = None, end: datetime | None = None) -> list[Hour]:
        """Closed hours with start <= hour < end, in order."""
        c = t.hours.c
        statement = sa.select(t.hours).where(c.model == model)
        if start is not None:
            statement = statement.where(c.hour >= start)
        if end is not None:
            statement = statement.where(c.hour < end)
        return [_hour(row) for row in self._read(statement.order_by(c.hour))]


def _hour(row: sa.Row[Any]) -> Hour:
    state: Iterable[tuple[str, Any]] = row.state.items()
    series = {
        symbol: SeriesState(s["state"], None if s["newest"] is None else datetime.fromisoformat(s["newest"]))
        for symbol, s in state
    }
    return Hour(row.model, row.hour, row.closed_at, row.wall_at, series)
