"""The store itself: every record behind one class."""

from datetime import UTC, datetime

import sqlalchemy as sa

from hourcast.errors import UnavailableError
from hourcast.store import _schema as t
from hourcast.store._bars import BarRecord
from hourcast.store._decisions import DecisionRecord
from hourcast.store._engine import create_engine, run_transaction
from hourcast.store._events import EventRecord
from hourcast.store._forecasts import ForecastRecord
from hourcast.store._hours import HourRecord
from hourcast.store._ingest import IngestRecord
from hourcast.store._research import ResearchRecord
from hourcast.store._retention import RetentionRecord

__all__ = ["Store", "open_store"]


def open_store(url: str, patience_s: float = 60) -> "Store":
    """The store at a SQLAlchemy URL. Nothing is contacted yet.

    `patience_s` is how long MySQL may take for a statement. Callers of an API wait for less than a job does.

    Raises:
        ConfigurationError: when the URL is not one of SQLite or MySQL.
    """
    return Store(create_engine(url, patience_s))


class Store(
    BarRecord,
    IngestRecord,
    ResearchRecord,
    ForecastRecord,
    EventRecord,
    HourRecord,
    DecisionRecord,
    RetentionRecord,
):
    """Reads and writes of every table; each method is one transaction.

    Every method raises `UnavailableError` when the database does not answer or has no tables.
    """

    def clock(self) -> datetime:
        """The replay's present moment.

        Raises:
            UnavailableError: when no replay has set it.
        """
        rows = self._read(sa.select(t.clock.c.now))
        if not rows:
            raise UnavailableError(
                "the store's clock is not set; start a replay, or set HOURCAST_CLOCK=wall", 5
            )
        moment: datetime = rows[0][0]
        return moment

    def set_clock(self, moment: datetime) -> None:
        """Set the replay's present moment. Only the replay driver calls this."""
        row = {"id": 1, "now": moment.astimezone(UTC)}
        run_transaction(self._engine, lambda c: self._upsert(c, t.clock, [row], update=True), writes=True)
