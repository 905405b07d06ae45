"""When each market trades, and which bars are missing by that. Pure but for exchange_calendars' tables."""

from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from hourcast.contracts import HOUR_S, IntArray, from_epoch, to_epoch
from hourcast.errors import ConfigurationError
from hourcast.settings import Series

__all__ = ["Gap", "expected_opens", "find_gaps"]

_NEW_YORK = ZoneInfo("America/New_York")


@dataclass(frozen=True, slots=True)
class Gap:
    """Consecutive missing bars: opens from `start` to `last`, `missing` of them."""

    symbol: str
    start: datetime
    last: datetime
    missing: int


@lru_cache(maxsize=16)
def _sessions(calendar: str, first: str, last: str) -> list[tuple[int, int]]:
    import exchange_calendars
    from exchange_calendars.errors import InvalidCalendarName

    try:
        table: Any = exchange_calendars.get_calendar(calendar, start=first, end=last)
    except InvalidCalendarName:
        raise ConfigurationError(
            f"HOURCAST_SERIES: calendar {calendar!r} is unknown; use `always`, `VIX` or a name of exchange_calendars such as XNYS"
        ) from None
    return [
        (int(opened.timestamp()), int(closed.timestamp()))
        for opened, closed in zip(table.opens, table.closes, strict=True)
    ]


def expected_opens(series: Series, start: datetime, end: datetime) -> IntArray:
    """Epoch seconds at which bars of a series open, start <= open < end, by its market's own hours.

    `always`: each full hour. `VIX`: on New York's sessions, hourly from 03:10 until 15 minutes after the
    close (Cboe disseminates the index from 03:15 to 16:15 Eastern). Calendars of nearly a whole day (CME):
    each full hour but the pause from 17:00 to 18:00 New York time. Others: hourly from the session's open.
    """
    first, last = to_epoch(start), to_epoch(end)
    if series.calendar == "always":
        return np.arange(-(-first // HOUR_S) * HOUR_S, last, HOUR_S, dtype=np.int64)
    name = "XNYS" if series.calendar == "VIX" else series.calendar
    # Whole years, so that the same tables serve every question.
    sessions = _sessions(name, f"{start.year - 1}-12-15", f"{end.year + 1}-01-15")
    opens: list[int] = []
    for opened, closed in sessions:
        if closed + 6 * HOUR_S < first or opened - 24 * HOUR_S > last:
            continue
        if series.calendar == "VIX":
            day = from_epoch(opened).astimezone(_NEW_YORK).date()
            at = to_epoch(datetime.combine(day, time(3, 10), _NEW_YORK).astimezone(UTC))
            opens += range(at, closed + 900, HOUR_S)
        elif closed - opened > 20 * HOUR_S:
            opens += [
                t
                for t in range(-(-opened // HOUR_S) * HOUR_S, closed, HOUR_S)
                if from_epoch(t).astimezone(_NEW_YORK).hour != 17
            ]
        else:
            opens += range(opened, closed, HOUR_S)
    found = np.unique(np.array(opens, np.int64))
    inside: IntArray = found[(found >= first) & (found < last)]
    return inside


def find_gaps(series: Series, stored_opens: IntArray, start: datetime, end: datetime) -> list[Gap]:
    """Runs of expected bars that are not stored; runs are joined over hours in which the market is shut."""
    expected = expected_opens(series, start, end)
    missing = ~np.isin(expected, stored_opens)
    gaps = []
    i = 0
    while i < len(expected):
        if not missing[i]:
            i += 1
            continue
        j = i
        while j + 1 < len(expected) and missing[j + 1]:
            j += 1
        gaps.append(Gap(series.symbol, from_epoch(int(expected[i])), from_epoch(int(expected[j])), j - i + 1))
        i = j + 1
    return gaps
