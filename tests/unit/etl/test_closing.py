"""An hour is closed when every series is there, its market is shut, or it was given up."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourcast.clock import FrozenClock, StoreClock
from hourcast.contracts import HOUR_S, from_epoch
from hourcast.settings import DEFAULT_SERIES
from hourcast.store import SeriesState, Store, open_store
from hourcast_etl.cli import pause_before_next_look_s
from hourcast_etl.closing import CATCH_UP_H, Standing, closing, hours_to_close, lacking, owes
from hourcast_etl.engine import Engine, RunReport, SeriesReport
from hourcast_etl.hours import expected_opens
from hourcast_etl.settings import EtlSettings

_HOUR = 1_750_856_400  # 2025-06-25 13:00 UTC
_DEADLINE_S = 300.0
_HEADER = "datetime,open,high,low,close,volume\n"

_SERIES = st.lists(
    st.builds(
        Standing,
        symbol=st.sampled_from("ABCDE"),
        target=st.just(False),
        owed=st.booleans(),
        newest=st.none() | st.integers(-5, 0).map(lambda n: _HOUR + n * 1800),
        asked=st.booleans(),
    ),
    max_size=5,
    unique_by=lambda s: s.symbol,
)
_TARGET = Standing("T", True, True, _HOUR)


@given(series=_SERIES, late_s=st.floats(0, 1000))
def test_an_hour_is_closed_when_nothing_is_awaited(series: list[Standing], late_s: float) -> None:
    """It stays open exactly while an owed bar is missing that was not asked for or whose deadline has not passed."""
    found = closing(_HOUR, _HOUR + late_s, [_TARGET, *series], _DEADLINE_S)
    missing = [s for s in series if s.symbol in lacking(_HOUR, series)]
    assert (found is None) == any(late_s < _DEADLINE_S or not s.asked for s in missing)
    if found is not None:
        assert set(found) == {"T", *(s.symbol for s in series)}
        for s in series:
            newest = None if s.newest is None else from_epoch(s.newest)
            want = "there" if s.came(_HOUR) else "given_up" if s.owed else "shut"
            assert found[s.symbol] == SeriesState(want, newest)  # type: ignore[arg-type]  # one of the three


@given(series=_SERIES, late_s=st.floats(0, 10_000_000), behind=st.integers(1, 5))
def test_the_target_is_never_given_up(series: list[Standing], late_s: float, behind: int) -> None:
    """Without the bar that closes with the hour there is nothing to forecast from: the hour stays open however late."""
    for newest in (None, _HOUR - behind * 900):
        target = replace(_TARGET, newest=newest)
        assert closing(_HOUR, _HOUR + late_s, [target, *series], _DEADLINE_S) is None
        assert "T" in lacking(_HOUR, [target, *series])


@given(
    arrivals=st.lists(st.floats(0, 1000), min_size=4, max_size=4),
    owed=st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_over_random_arrivals_an_hour_closes_once_nothing_is_awaited(
    arrivals: list[float], owed: list[bool]
) -> None:
    """Looked at each second it closes when the last owed bar came or the deadline passed, and no earlier than the target."""
    closed_at = None
    for second in range(1200):
        series = [
            Standing(
                "TABC"[i], i == 0, i == 0 or owed[i - 1], _HOUR if arrivals[i] <= second else _HOUR - HOUR_S
            )
            for i in range(4)
        ]
        if closing(_HOUR, _HOUR + second, series, _DEADLINE_S) is not None:
            closed_at = second
            break
    others = [min(a, _DEADLINE_S) for a, o in zip(arrivals[1:], owed, strict=True) if o]
    assert closed_at == int(np.ceil(max([arrivals[0], *others])))


@given(
    closes=st.integers(0, 100).map(lambda n: _HOUR + np.arange(n) * HOUR_S),
    newest=st.none() | st.integers(-5, 100).map(lambda n: _HOUR + n * HOUR_S),
)
def test_hours_are_closed_from_the_newest_on(closes: Sequence[int], newest: int | None) -> None:
    """After the newest closed hour, at most two days of them; at first one, since no one saw what was loaded."""
    todo = hours_to_close(np.asarray(closes, np.int64), newest).tolist()
    if newest is None:
        assert todo == list(closes)[-1:]
    else:
        assert todo == [c for c in closes if c > newest][-CATCH_UP_H:]


def test_a_market_owes_what_its_own_hours_say() -> None:
    """QQQ's first bar of a day closes at half past and belongs to the full hour after it; at night it owes none."""
    qqq = DEFAULT_SERIES[1]
    opens = expected_opens(qqq, datetime(2025, 6, 25, tzinfo=UTC), datetime(2025, 6, 26, tzinfo=UTC))
    owed = [h for h in range(24) if owes(opens, 1_750_809_600 + h * HOUR_S)]
    assert owed == [15, 16, 17, 18, 19, 20, 21]


def _write(folder: Path, name: str, *closes: str) -> None:
    """A file of bars that close at moments such as `2025-06-25T13:00`."""
    rows = [f"{datetime.fromisoformat(c) - timedelta(hours=1):%Y-%m-%d %H:%M:%S},1,1,1,1,1" for c in closes]
    (folder / name).write_text(_HEADER + "\n".join(rows) + "\n")


@pytest.fixture
def settings(tmp_path: Path) -> EtlSettings:
    """Bitcoin, which never closes, and QQQ from a folder."""
    _write(tmp_path, "btc_1h.csv", *(f"2025-06-25T{h}:00" for h in range(12, 18)))
    _write(tmp_path, "ndx_1h.csv", "2025-06-24T20:30", "2025-06-25T14:30", "2025-06-25T16:30")
    return EtlSettings(source=f"files:{tmp_path}", clock="store", series=DEFAULT_SERIES[:2])


def _engine(settings: EtlSettings, store: Store) -> Engine:
    return Engine(settings, store, StoreClock(store.clock))


def _at(hour: int) -> datetime:
    return datetime(2025, 6, 25, hour, tzinfo=UTC)


@pytest.fixture
def files_store(tmp_path: Path) -> Iterator[Store]:
    """A store on SQLite."""
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        store.upgrade()
        yield store


def test_each_hour_of_a_replay_is_closed_as_it_comes(settings: EtlSettings, files_store: Store) -> None:
    """Shut at night, there in a session, given up at once where files have no bar; a second run closes nothing anew."""
    for hour in range(13, 18):
        files_store.set_clock(_at(hour))
        report = _engine(settings, files_store).run()
        assert [h.hour for h in report.closed] == [_at(hour)]
        assert (report.lacking, report.deadline) == ((), None)
        assert _engine(settings, files_store).run().closed == ()
    found = files_store.hours("hourcast")
    assert [h.series["QQQ"].state for h in found] == ["shut", "shut", "there", "given_up", "there"]
    assert [h.series["QQQ"].newest for h in found] == [
        datetime(2025, 6, 24, 20, 30, tzinfo=UTC), datetime(2025, 6, 24, 20, 30, tzinfo=UTC),
        *(datetime(2025, 6, 25, h, 30, tzinfo=UTC) for h in (14, 14, 16)),
    ]  # fmt: skip
    assert {h.series["BTC/USDT"].state for h in found} == {"there"}
    assert [h.closed_at for h in found] == [_at(hour) for hour in range(13, 18)]


def test_hours_that_were_missed_are_closed_together(settings: EtlSettings, files_store: Store) -> None:
    """After a pause every hour since the newest closed one is recorded, in order; what was loaded at first is not."""
    files_store.set_clock(_at(13))
    _engine(settings, files_store).run()
    files_store.set_clock(_at(17))
    closed = _engine(settings, files_store).run().closed
    assert [h.hour for h in closed] == [_at(h) for h in (14, 15, 16, 17)]
    assert [h.hour for h in files_store.hours("hourcast")] == [_at(h) for h in range(13, 18)]


@pytest.mark.parametrize(
    ("status", "late_s", "pause_s"),
    [
        ("complete", 10, 20.0),  # within the minute
        ("complete", 295, 5.01),  # at the deadline
        ("complete", 400, 60.0),  # the target alone keeps it open
        ("failed", 10, 20.0),
        ("complete", None, None),  # nothing is awaited
        ("failed", None, 60.0),
        ("partial", None, None),  # no source has more, and none failed
    ],
)
def test_a_watch_looks_again_within_the_minute(
    status: str, late_s: float | None, pause_s: float | None
) -> None:
    """While an hour lacks a bar that may come, and when its deadline passes; then only for the target or a failed source."""
    now = _at(15)
    deadline = None if late_s is None else now + timedelta(seconds=300 - late_s)
    series = SeriesReport(
        "QQQ", status="partial" if status == "failed" else status, failed=status == "failed"
    )
    report = RunReport((series,), (), ("QQQ",) if deadline else (), deadline)
    assert pause_before_next_look_s(report, EtlSettings(), now) == pause_s


def test_an_hour_waits_for_its_target(settings: EtlSettings, files_store: Store, tmp_path: Path) -> None:
    """Without Bitcoin's bar no hour is recorded; the bar that comes late closes its hour late."""
    files_store.set_clock(_at(18))
    assert _engine(settings, files_store).run().closed == ()
    _write(tmp_path, "btc_1h.csv", *(f"2025-06-25T{h}:00" for h in range(12, 19)))
    assert [h.hour for h in _engine(settings, files_store).run().closed] == [_at(18)]


def test_a_series_that_was_not_asked_is_not_given_up(settings: EtlSettings, files_store: Store) -> None:
    """A run of one series leaves an hour open that lacks another; a whole run closes it."""
    clock = FrozenClock(_at(15))
    assert Engine(settings, files_store, clock).run(("BTC/USDT",)).closed == ()
    assert [h.hour for h in Engine(settings, files_store, clock).run().closed] == [_at(15)]
