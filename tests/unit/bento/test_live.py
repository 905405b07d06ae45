"""Live forecasts beside their closes: the same rows whatever the order, the portions and the restarts."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hourcast.contracts import Bars, to_epoch
from hourcast.errors import UnavailableError
from hourcast.forecaster import HORIZONS, LEVELS, naive_quantiles
from hourcast.store import ForecastRow, Store, open_store
from hourcast_bento.live import LiveRecord, LiveRows
from tests.fans import fans_of

_START = datetime(2024, 6, 1, tzinfo=UTC)
_HOURS = 60


def _bars(hours: int = 900, end: datetime = _START + timedelta(hours=_HOURS)) -> Bars:
    rng = np.random.default_rng(3)
    close = 60_000 * np.exp(np.cumsum(rng.normal(0, 0.004, hours)))
    first = to_epoch(end) - hours * 3600
    prices = np.stack([close, close * 1.002, close * 0.998, close, np.ones(hours)], axis=1)
    return Bars.of("BTC/USDT", first + 3600 * np.arange(hours), prices)


def _row(hour: int, ahead: int, **changes: object) -> ForecastRow:
    origin = _START + timedelta(hours=hour)
    rng = np.random.default_rng(hour * 100 + ahead)
    quantiles = tuple((60_000 + np.sort(rng.normal(0, 900, len(LEVELS)))).tolist())
    values: dict[str, object] = {
        "model": "m", "version": 1, "symbol": "BTC/USDT", "origin": origin, "horizon": ahead,
        "target_time": origin + timedelta(hours=ahead), "made_at": origin, "alias": None, "last_close": 60_000.0,
        "levels": LEVELS, "quantiles": quantiles,
    }  # fmt: skip
    return ForecastRow(**{**values, **changes})  # type: ignore[arg-type]


def _recorded(hours: int = _HOURS) -> list[ForecastRow]:
    return [_row(hour, horizon) for hour in range(hours) for horizon in (1, 2, 24)]


def _same(one: LiveRows, other: LiveRows) -> None:
    for name in LiveRows.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)


class _Asked(Store):
    """A store that remembers how many hours of forecasts each read asked for."""

    hours: list[float]

    def forecasts(
        self,
        model: str,
        symbol: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        horizon: int | None = None,
    ) -> list[ForecastRow]:
        """As ever."""
        assert start is not None
        assert end is not None
        self.hours.append((end - start).total_seconds() / 3600)
        return super().forecasts(model, symbol, start=start, end=end, horizon=horizon)


@pytest.fixture
def record(tmp_path: Path) -> Iterator[LiveRecord]:
    """A record over a store with bars and live forecasts."""
    plain = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    store = _Asked(plain.engine)
    store.hours = []
    store.upgrade()
    store.upsert_bars(_bars(), "files", _START)
    store.issue(fans_of(_recorded()))
    yield LiveRecord(store, "m", "BTC/USDT", LEVELS)
    store.close()


def _again(record: LiveRecord) -> LiveRecord:
    return LiveRecord(record.store, record.model, record.symbol, record.levels)


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_records_does_not_matter(random: object) -> None:
    """Rows in any order give the same table, also where two versions forecast the same hour."""
    rows: Sequence[ForecastRow] = [*_recorded(12), *(_row(h, 1, version=2) for h in range(12))]
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    whole, _ = LiveRows.of(rows, _bars(), LEVELS)
    other, _ = LiveRows.of(mixed, _bars(), LEVELS)
    assert len(whole) == 36
    _same(whole, other)


def test_of_two_forecasts_of_an_hour_the_first_counts() -> None:
    """While servers roll both record: what was made first is what was served, whatever its version."""
    low = replace(_row(0, 1), quantiles=tuple(1.0 + i for i in range(19)), version=2)
    later = _row(0, 1, version=1, made_at=_START + timedelta(minutes=5))
    made, _ = LiveRows.of([later, low], _bars(), LEVELS)
    assert made.below.tolist() == [[False] * 19]


@pytest.mark.parametrize(
    "change",
    [
        {"made_at": _START + timedelta(hours=1)},
        {"quantiles": (float("nan"),) * 19},
        {"levels": (0.1, 0.5, 0.9), "quantiles": (1.0, 2.0, 3.0)},
        {"horizon": 25, "target_time": _START + timedelta(hours=25)},
        {"target_time": _START + timedelta(days=300)},
    ],
)
def test_what_is_no_live_forecast_is_left_out(change: dict[str, object]) -> None:
    """Made when its hour had come, no numbers, other levels or horizons, no close: none of it counts."""
    made, _ = LiveRows.of([_row(0, 1), _row(0, 1, version=0, **change)], _bars(), LEVELS)
    assert len(made) == 1
    _same(made, LiveRows.of([_row(0, 1)], _bars(), LEVELS)[0])


def test_hour_by_hour_is_what_a_restart_reads_at_once(record: LiveRecord) -> None:
    """Read as closes come, or all at once after a restart, or from a later moment and then from an earlier: the same."""
    end = _START + timedelta(hours=_HOURS)
    for hour in range(1, _HOURS + 1):
        rows = record.rows(_START, _START + timedelta(hours=hour))
    _same(rows, _again(record).rows(_START, end))
    other = _again(record)
    other.rows(_START + timedelta(hours=40), end)
    _same(rows, other.rows(_START, end))
    assert int(rows.target_time.max()) == to_epoch(end)
    assert len(rows) == 60 + 59 + 37


def test_only_what_is_new_is_read(record: LiveRecord) -> None:
    """The same moment again asks nothing; the next hour asks for a few hours, not for all."""
    assert isinstance(record.store, _Asked)
    record.rows(_START, _START + timedelta(hours=50))
    for _ in range(3):
        record.rows(_START, _START + timedelta(hours=50))
    record.rows(_START, _START + timedelta(hours=51))
    assert record.store.hours == [50, 7]


def test_a_close_that_comes_late_is_counted_when_it_has_come(record: LiveRecord) -> None:
    """An hour whose bar was missing and was filled in days later counts as it does after a restart."""
    gone = to_epoch(_START + timedelta(hours=5))
    bars = _bars()
    with record.store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM bars WHERE close_time = '2024-06-01 05:00:00.000000'")
    before = record.rows(_START, _START + timedelta(hours=30))
    assert gone not in before.target_time
    record.store.upsert_bars(bars.take(bars.close_time == gone), "files", _START)
    after = record.rows(_START, _START + timedelta(hours=31))
    assert gone in after.target_time
    _same(after, _again(record).rows(_START, _START + timedelta(hours=31)))


def test_a_late_close_counts_also_before_what_was_read_first(record: LiveRecord) -> None:
    """A hole in the part that was read later, but lies earlier, is looked at again too."""
    gone = to_epoch(_START + timedelta(hours=5))
    bars = _bars()
    with record.store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM bars WHERE close_time = '2024-06-01 05:00:00.000000'")
    record.rows(_START + timedelta(hours=20), _START + timedelta(hours=30))
    assert gone not in record.rows(_START, _START + timedelta(hours=30)).target_time
    record.store.upsert_bars(bars.take(bars.close_time == gone), "files", _START)
    after = record.rows(_START, _START + timedelta(hours=31))
    assert gone in after.target_time
    _same(after, _again(record).rows(_START, _START + timedelta(hours=31)))


def test_without_the_database_the_last_rows_stay(record: LiveRecord) -> None:
    """What was read is kept; what is new cannot be had, and that is said."""
    rows = record.rows(_START, _START + timedelta(hours=30))
    with record.store.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE fans")
    with pytest.raises(UnavailableError):
        record.rows(_START, _START + timedelta(hours=31))
    _same(rows, record.seen(_START))
    assert len(_again(record).seen(_START)) == 0


def test_naive_is_measured_on_the_same_closes(record: LiveRecord) -> None:
    """Each row's naive loss is that of the naive floor from the row's own origin; where history is short it is none."""
    rows = record.rows(_START, _START + timedelta(hours=_HOURS))
    losses = record.naive_losses(rows)
    at = len(rows) - 1
    origin = rows.target_time[at] - rows.horizon[at] * 3600
    prices, _, _ = naive_quantiles(_bars(), np.array([origin]), HORIZONS, LEVELS)
    off = rows.actual[at] - prices[0, HORIZONS.index(int(rows.horizon[at]))]
    level = np.array(LEVELS)
    assert losses[at] == pytest.approx(np.maximum(level * off, (level - 1) * off).mean())
    assert np.isfinite(losses).all()
    other = _again(record)
    with record.store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM bars WHERE close_time < '2024-05-10 00:00:00.000000'")
    assert np.isnan(other.naive_losses(rows)).any()
