"""What a source is."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Protocol

from hourcast.settings import Series
from hourcast_etl.checks import RawBar

__all__ = ["Source", "SourceError"]


class SourceError(Exception):
    """A source cannot give what was asked for, after every attempt; the next one is tried."""


class Source(Protocol):
    """Gives pages of raw rows, in order of time from page to page."""

    name: str
    reach: timedelta | None
    """How far back it gives bars at most, by its provider's word; None where that is not known."""

    def pages(self, series: Series, start: datetime, end: datetime) -> Iterator[list[RawBar]]:
        """Rows that open in [start, end); unfinished bars may be among them.

        Raises:
            SourceError: when the source cannot go on; pages that came before stay good.
        """
        ...
