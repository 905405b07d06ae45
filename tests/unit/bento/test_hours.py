"""Serving forecasts from hours that are closed, and from what was known when they were."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from hourcast.contracts import HOUR_S, Bars, from_epoch, to_epoch
from hourcast.forecaster import Forecaster
from hourcast.store import Hour, SeriesState, Store, open_store
from hourcast_bento.package import PackageInfo
from hourcast_bento.serving import Serving
from hourcast_bento.settings import ServingSettings
from tests.servers import wait_for
from tests.specs import features_of, forecaster_spec, random_walk

_NOW = datetime(2024, 6, 13, tzinfo=UTC)
_TARGET = "BTC/USDT"
_SHAPE = tuple(np.linspace(-1, 1, 19).tolist())


def _bars(symbol: str, seed: int, until: datetime = _NOW) -> Bars:
    """1000 hours that end at a moment."""
    return random_walk(symbol, to_epoch(until) - np.arange(1000, 0, -1) * HOUR_S, seed)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Bars of Bitcoin up to now and of QQQ up to an hour before; no hour is closed."""
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        opened.upgrade()
        opened.upsert_bars(_bars(_TARGET, 1), "files", _NOW)
        opened.upsert_bars(_bars("QQQ", 2).known_at(to_epoch(_NOW) - HOUR_S), "files", _NOW)
        opened.set_clock(_NOW + timedelta(minutes=5))
        yield opened


@pytest.fixture
def serve(tmp_path: Path, store: Store) -> Iterator[Callable[[], Serving]]:
    """Make servers of the store."""
    running: list[Serving] = []

    def made() -> Serving:
        spec = forecaster_spec(
            kind="volatility", target=_TARGET, base=(_SHAPE,) * 24, features=features_of(_TARGET, ("QQQ",))
        )
        info = PackageInfo(
            model="m", version=1, run_id="r", alias=None, kind="volatility", data_fingerprint="0" * 16,
            trained_through=date(2024, 6, 9), decided_at=_NOW, synthetic=True,
        )  # fmt: skip
        settings = ServingSettings.load(
            state_dir=tmp_path, model_name="m", clock="store", database_url=str(store.engine.url)
        )
        running.append(Serving(settings, info, Forecaster(spec, None, ())))
        return running[-1]

    yield made
    for serving in running:
        serving.stop()


def _close(store: Store, hours_ago: int = 0, **series: SeriesState) -> Hour:
    """Close an hour five minutes after it ended."""
    hour = _NOW - timedelta(hours=hours_ago)
    closed_at = hour + timedelta(minutes=5)
    assert store.close_hour(
        Hour("m", hour, closed_at, closed_at, {_TARGET: SeriesState("there", hour), **series})
    )
    return store.hours("m", start=hour)[0]


def _origin(serving: Serving) -> datetime:
    return from_epoch(serving.forecasting.present(None, None).forecasts.origin[0])


def test_a_present_forecast_waits_for_its_hour(store: Store, serve: Callable[[], Serving]) -> None:
    """While the newest bar's hour is open the forecast is that of the hour before; once it is closed it is the new one."""
    serving = serve()
    _close(store, 1)
    assert _origin(serving) == _NOW - timedelta(hours=1)
    hour = _close(store)
    assert serving.market.newest_hour(_NOW) == hour
    assert _origin(serving) == _NOW


def test_without_hours_the_newest_bar_counts(store: Store, serve: Callable[[], Serving]) -> None:
    """A store that no etl closes hours in is served as before: none was ever closed, or the last is long ago."""
    serving = serve()
    assert serving.market.newest_hour(_NOW) is None
    assert _origin(serving) == _NOW
    _close(store, 10)
    assert serving.market.newest_hour(_NOW) is None
    assert _origin(serving) == _NOW


def test_what_comes_after_the_close_changes_nothing(store: Store, serve: Callable[[], Serving]) -> None:
    """A bar of QQQ that was given up and comes late, and a revision of Bitcoin, leave the hour's forecast as it was."""
    _close(store, QQQ=SeriesState("given_up", _NOW - timedelta(hours=1)))
    before = serve().forecasting.present(None, None).forecasts
    late = _NOW + timedelta(minutes=6)
    store.upsert_bars(_bars("QQQ", 2), "files", late)
    revised = _bars(_TARGET, 3).take(slice(-5, None))
    assert store.upsert_bars(revised, "files", late).revised == 5
    after = serve().forecasting.present(None, None).forecasts
    assert after.quantiles.tobytes() == before.quantiles.tobytes()
    assert after.last_close.tobytes() == before.last_close.tobytes()


def test_the_recorder_records_closed_hours(store: Store, serve: Callable[[], Serving]) -> None:
    """Nothing for the hour that is open; each hour once it is closed, from what was known at its close."""
    _close(store, 1)
    serving = serve()
    serving.start()
    wait_for(lambda: len(store.forecasts("m", _TARGET)) == 24, 30, "forecasts of the closed hour")
    assert {r.origin for r in store.forecasts("m", _TARGET)} == {_NOW - timedelta(hours=1)}
    _close(store)
    wait_for(
        lambda: len(store.forecasts("m", _TARGET)) == 48, 30, "forecasts of the hour that was closed since"
    )
    newest = [r for r in store.forecasts("m", _TARGET) if r.origin == _NOW]
    assert {r.last_close for r in newest} == {float(_bars(_TARGET, 1).close[-1])}
