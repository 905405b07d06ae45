"""Each market's own hours: sessions, holidays, early closes, daylight saving."""

from datetime import UTC, datetime

import numpy as np
import pytest

from hourcast.contracts import HOUR_S, Bars, from_epoch
from hourcast.errors import ConfigurationError
from hourcast.settings import DEFAULT_SERIES, Series
from hourcast_etl.hours import expected_opens, find_gaps

_BTC, _QQQ, _VIX, _GOLD = DEFAULT_SERIES


def _day(series: Series, day: str) -> list[str]:
    start = datetime.fromisoformat(f"{day}T00:00Z")
    end = datetime.fromisoformat(f"{day}T23:59Z")
    return [f"{from_epoch(int(t)):%H:%M}" for t in expected_opens(series, start, end)]


def test_bitcoin_never_closes() -> None:
    """Every hour of a Christmas day."""
    assert len(_day(_BTC, "2024-12-25")) == 24


@pytest.mark.parametrize(
    ("day", "opens"),
    [
        ("2025-01-15", ["14:30", "15:30", "16:30", "17:30", "18:30", "19:30", "20:30"]),  # winter
        ("2025-06-25", ["13:30", "14:30", "15:30", "16:30", "17:30", "18:30", "19:30"]),  # summer
        ("2025-07-03", ["13:30", "14:30", "15:30", "16:30"]),  # closes at 13:00 in New York
        ("2025-07-04", []),  # Independence Day
        ("2025-06-28", []),  # a Saturday
    ],
)
def test_qqq_keeps_new_yorks_sessions(day: str, opens: list[str]) -> None:
    """Opens move with daylight saving; holidays and early closes are known."""
    assert _day(_QQQ, day) == opens


def test_vix_opens_ten_past_from_three_in_new_york() -> None:
    """Hourly from 03:10 to 16:10 Eastern."""
    opens = _day(_VIX, "2025-06-25")
    assert (opens[0], opens[-1], len(opens)) == ("07:10", "20:10", 14)


def test_gold_rests_an_hour_and_the_weekend() -> None:
    """23 hours on a weekday, none from 17:00 to 18:00 in New York, none on Saturday."""
    opens = _day(_GOLD, "2025-06-25")
    assert len(opens) == 23
    assert "21:00" not in opens
    assert _day(_GOLD, "2025-06-28") == []


@pytest.mark.parametrize("symbol", ["BTC/USDT", "QQQ", "^VIX"])
def test_recorded_bars_lie_on_the_expected_opens(market_bars: dict[str, Bars], symbol: str) -> None:
    """Of what was really traded from 2025-01 to 2025-06, at least 98 % opens when the hours say."""
    series = next(s for s in DEFAULT_SERIES if s.symbol == symbol)
    start, end = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 6, 1, tzinfo=UTC)
    bars = market_bars[symbol].between(int(start.timestamp()), int(end.timestamp()))
    expected = expected_opens(series, start, end)
    assert np.isin(bars.open_time, expected).mean() >= 0.98
    assert np.isin(expected, bars.open_time).mean() >= 0.98


def test_gaps_are_runs_of_missing_bars_by_the_markets_hours() -> None:
    """Two missing bars side by side are one gap, also over a night; a weekend is none."""
    start, end = datetime(2025, 6, 23, tzinfo=UTC), datetime(2025, 6, 30, tzinfo=UTC)
    opens = expected_opens(_QQQ, start, end)
    gaps = find_gaps(_QQQ, np.delete(opens, [6, 7, 20]), start, end)
    assert [(f"{g.start:%d %H:%M}", f"{g.last:%d %H:%M}", g.missing) for g in gaps] == [
        ("23 19:30", "24 13:30", 2),
        ("25 19:30", "25 19:30", 1),
    ]
    assert find_gaps(_QQQ, opens, start, end) == []


def test_an_unknown_calendar_is_named() -> None:
    """A calendar that nobody knows is a configuration error with the choices."""
    with pytest.raises(ConfigurationError) as caught:
        expected_opens(
            Series(symbol="X", calendar="MOON"),
            datetime(2025, 1, 1, tzinfo=UTC),
            datetime(2025, 1, 2, tzinfo=UTC),
        )
    assert str(caught.value) == (
        "HOURCAST_SERIES: calendar 'MOON' is unknown; use `always`, `VIX` or a name of exchange_calendars such as XNYS"
    )


def test_bars_of_an_hour_are_an_hour_apart() -> None:
    """Expected opens of a never-closing market are a grid."""
    opens = expected_opens(_BTC, datetime(2025, 3, 30, 0, 30, tzinfo=UTC), datetime(2025, 3, 31, tzinfo=UTC))
    assert set(np.diff(opens).tolist()) == {HOUR_S}
