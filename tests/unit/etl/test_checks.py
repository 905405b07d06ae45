"""The data contract: what may be written, what may not, and the reason word for word."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourcast.contracts import HOUR_S
from hourcast_etl.checks import RawBar, check

_START = 1_700_000_000 // HOUR_S * HOUR_S


def _row(hour: int = 0, price: float = 100.0, **other: Any) -> RawBar:
    values: dict[str, Any] = {
        "open_time": _START + hour * HOUR_S, "open": 100.0, "high": max(100.0, price) + 1,
        "low": min(100.0, price) - 1, "close": price, "volume": 5.0,
    }  # fmt: skip
    return RawBar(**(values | other))


def _check(*rows: RawBar, **more: Any) -> Any:
    return check("T", rows, **({"now_s": _START + 1000 * HOUR_S, "on_the_hour": True} | more))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"close": "many"}, "close is no number: 'many'"),
        ({"close": None}, "close is no number: 'None'"),
        ({"high": math.nan}, "high is not finite: nan"),
        ({"open": 0}, "open is not positive: 0"),
        ({"low": -1}, "low is not positive: -1"),
        ({"volume": -2}, "volume is not positive: -2"),
        ({"low": 100.5}, "low 100.5 is above open 100 or close 100"),
        ({"high": 99.5}, "high 99.5 is below open 100 or close 100"),
        ({"open_time": _START + 600}, "the bar does not open on the hour"),
        ({"open_time": "soon"}, "open_time is no number: 'soon'"),
        ({"open_time": _START + 0.5}, f"open_time is no whole second: {_START + 0.5!r}"),
    ],
)
def test_a_broken_row_goes_into_quarantine_with_its_reason(wrong: dict[str, Any], reason: str) -> None:
    """Each breach of the contract keeps its row out and says what was wrong; the others are kept."""
    checked = _check(_row(0), _row(1, **wrong), _row(2))
    assert [r.reason for r in checked.rejected] == [reason]
    assert len(checked.bars) == 2


def test_other_markets_open_off_the_hour() -> None:
    """Where bars need not open on the hour, :30 is as good."""
    assert len(_check(_row(0, open_time=_START + 1800), on_the_hour=False).bars) == 1


def test_a_bar_that_is_still_open_is_left_out() -> None:
    """A bar whose hour has not ended is neither stored nor doubted."""
    checked = _check(_row(0), _row(1), now_s=_START + 2 * HOUR_S - 1)
    assert (len(checked.bars), checked.unfinished, checked.rejected) == (1, 1, [])


def test_of_duplicates_the_later_row_counts() -> None:
    """Two rows for an hour are one bar with the later values, and are counted."""
    checked = _check(_row(0, 100.0), _row(0, 100.5))
    assert (checked.bars.close.tolist(), checked.duplicates) == ([100.5], 1)


def test_a_broken_tick_is_kept_out_and_a_crash_is_not() -> None:
    """A jump that the next bar takes back is quarantined; one that the next bar confirms is stored."""
    usual = [_row(i, 100 + 0.1 * (i % 3)) for i in range(20)]
    tick = _check(*usual, _row(20, 1000.0, high=1001.0), _row(21))
    assert [r.reason for r in tick.rejected] == [
        "close 1000 jumps 899% from 100.1 and the next bar does not confirm it"
    ]
    assert tick.bars.close[-1] == 100.0
    crash = _check(
        *usual, _row(20, 50.0), _row(21, 51.0, open=50.0, high=52.0), _row(22, 50.5, open=51.0, high=52.0)
    )
    assert crash.rejected == []
    assert crash.bars.close[-1] == 50.5


def test_a_jump_at_the_end_waits_for_the_next_bar() -> None:
    """The newest bar may not be confirmed yet: it waits in quarantine, and the reason says so."""
    checked = _check(*[_row(i) for i in range(5)], _row(5, 300.0))
    assert checked.rejected[0].reason == "close 300 jumps 200% from 100 and no later bar confirms it yet"


def test_what_is_stored_already_says_what_a_usual_move_is() -> None:
    """The first row of a batch is compared with the bars before it."""
    checked = _check(_row(0, 300.0), before=[100.0, 100.1, 100.0])
    assert len(checked.rejected) == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.floats(90, 110), st.sampled_from([None, "x", math.nan, 0.0])),
        max_size=30,
    )
)
def test_no_row_is_lost_and_none_is_doubled(rows: list[tuple[int, float, Any]]) -> None:
    """Every row is a stored bar, a duplicate of one, or in quarantine; stored bars are in order, once each."""
    made = [_row(h, c) if bad is None else _row(h, c, close=bad) for h, c, bad in rows]
    checked = _check(*made)
    assert len(checked.bars) + checked.duplicates + len(checked.rejected) == len(rows)
    assert np.all(np.diff(checked.bars.open_time) > 0)
    good = {h for h, _, bad in rows if bad is None}
    assert set(((checked.bars.open_time - _START) // HOUR_S).tolist()) == good
