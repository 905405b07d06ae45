"""What is served answers to the closes that came: wider after misses, as it was known at each hour, the same after a restart."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hourcast.conformal import ConformalState, shifts_at
from hourcast.contracts import Bars, to_epoch
from hourcast.features import FeatureSpec
from hourcast.forecaster import HORIZONS, LEVELS, Forecaster, ForecasterSpec, TrainingSpan
from hourcast.store import ForecastRow, Store, open_store
from hourcast.volatility import VolatilitySpec
from hourcast_bento.live import LiveRows
from hourcast_bento.package import PackageInfo
from hourcast_bento.serving import Serving
from hourcast_bento.settings import ServingSettings
from tests.fans import fans_of

_TRAINED = datetime(2024, 6, 10, tzinfo=UTC)
_NOW = datetime(2024, 6, 13, tzinfo=UTC)
_Z = (-1.9, -1.4, -1.1, -0.9, -0.7, -0.5, -0.35, -0.25, -0.1)
_SHAPE = (*_Z, 0.0, *(-z for z in reversed(_Z)))


def _bars(until: datetime = _NOW, hours: int = 2000) -> Bars:
    rng = np.random.default_rng(11)
    close = 60_000 * np.exp(np.cumsum(rng.normal(0, 0.005, hours)))
    first = to_epoch(_NOW + timedelta(hours=48)) - hours * 3600
    prices = np.stack([close, close * 1.004, close * 0.996, close, np.ones(hours)], axis=1)
    whole = Bars.of("BTC/USDT", first + 3600 * np.arange(hours), prices)
    return whole.known_at(to_epoch(until))


def _forecaster(width: float = 1.0) -> Forecaster:
    """A model without a network; `width` multiplies what would be right."""
    weights = ((float(np.log(0.005 * width)), 0.0),) * len(HORIZONS)
    volatility = VolatilitySpec(
        halflives_h=(24.0,), horizons=HORIZONS, centre=(0.0,), spread=(1.0,), weights=weights
    )
    state = ConformalState.start(_TRAINED, HORIZONS, LEVELS)
    shift = tuple(tuple(0.05 * abs(level - 0.5) for level in LEVELS) for _ in HORIZONS)
    return Forecaster(
        ForecasterSpec(
            kind="volatility", target="BTC/USDT", base=(_SHAPE,) * len(HORIZONS),
            features=FeatureSpec(target="BTC/USDT", window=1, seasonal=(1.0,) * 168, volatility=volatility),
            conformal=state.model_copy(update={"shift": shift}),
            training=TrainingSpan(start=_TRAINED, end=_TRAINED, rows=1), trained_through=date(2024, 6, 9),
            decided_at=_TRAINED, data_fingerprint="0" * 16, code_version="0", seed=1,
        )
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with bars up to now."""
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    opened.upgrade()
    opened.upsert_bars(_bars(), "files", _NOW)
    opened.set_clock(_NOW)
    yield opened
    opened.close()


@pytest.fixture
def serve(tmp_path: Path, store: Store) -> Iterator[Callable[..., Serving]]:
    """Make servers of the store."""
    running: list[Serving] = []

    def made(forecaster: Forecaster | None = None, version: int = 1) -> Serving:
        chosen = forecaster or _forecaster()
        info = PackageInfo(
            model="m", version=version, run_id="r", alias=None, kind=chosen.spec.kind, data_fingerprint="0" * 16,
            trained_through=date(2024, 6, 9), decided_at=_TRAINED, synthetic=True,
        )  # fmt: skip
        settings = ServingSettings.load(
            state_dir=tmp_path, model_name="m", clock="store", database_url=str(store.engine.url)
        )
        running.append(Serving(settings, info, chosen))
        return running[-1]

    yield made
    for serving in running:
        serving.stop()


def _live(hours: range, width: float, version: int = 7) -> list[ForecastRow]:
    """Forecasts that were recorded at each hour before now, of a width that is `width` times what is right."""
    bars = _bars(_NOW + timedelta(hours=48))
    rows = []
    for hour in hours:
        origin = _NOW + timedelta(hours=hour)
        last = float(bars.close[np.searchsorted(bars.close_time, to_epoch(origin))])
        for horizon in HORIZONS:
            spread = width * 0.005 * np.sqrt(horizon) * np.array(_SHAPE)
            rows.append(
                ForecastRow(
                    "m", version, "BTC/USDT", origin, horizon, origin + timedelta(hours=horizon), origin, None,
                    last, LEVELS, tuple((last * np.exp(spread)).tolist()),
                )
            )  # fmt: skip
    return rows


def _present(serving: Serving) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """What this server says of all horizons from the newest bar, whatever was issued."""
    last = serving.clock.now() + timedelta(hours=24)
    (quantiles,) = serving.forecasting.over(
        None, last, last + timedelta(hours=1), HORIZONS
    ).forecasts.quantiles
    return quantiles


def _width(serving: Serving) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    quantiles = _present(serving)
    width: np.ndarray[tuple[int], np.dtype[np.float64]] = quantiles[:, -1] - quantiles[:, 0]
    return width


def test_before_the_first_close_a_model_is_served_as_it_came(serve: Callable[..., Serving]) -> None:
    """Without live forecasts the present one is the model's own, with the state of its training."""
    serving = serve()
    own = serving.models.forecaster.predict({"BTC/USDT": _bars()}, np.array([to_epoch(_NOW)]))
    np.testing.assert_array_equal(_present(serving), own.quantiles[0])
    made = serving.measures.calibration()
    assert made is not None
    assert (made.outcomes, made.state.as_of) == (0, _TRAINED)
    assert made.stretch_90 == made.trained_stretch_90


@pytest.mark.parametrize(("width", "grows"), [(0.3, True), (3.0, False)])
def test_widths_answer_to_the_closes_that_came(
    serve: Callable[..., Serving], store: Store, width: float, grows: bool
) -> None:
    """After days of forecasts that were too narrow what is served is wider; after too wide ones it is narrower."""
    before = _width(serve())
    store.issue(fans_of(_live(range(-70, 0), width)))
    serving = serve()
    assert ((_width(serving) > before) == grows).all()
    made = serving.measures.calibration()
    assert made is not None
    assert made.outcomes == sum(70 - (h - 1) for h in HORIZONS)
    assert (made.stretch_90 > made.trained_stretch_90) == grows
    assert made.state.as_of == _NOW


def test_a_range_knows_at_each_hour_what_was_known_then(serve: Callable[..., Serving], store: Store) -> None:
    """Later live forecasts move no earlier hour by a bit; the newest hour of a range is the present forecast."""
    store.issue(fans_of(_live(range(-70, -30), 0.3)))
    span = (_NOW - timedelta(hours=60), _NOW + timedelta(hours=25))
    first = serve().forecasting.over(None, *span, (1, 24)).forecasts
    store.issue(fans_of(_live(range(-30, 0), 0.1)))
    serving = serve()
    made = serving.forecasting.over(None, *span, (1, 24)).forecasts
    np.testing.assert_array_equal(made.origin, first.origin)
    moved = (made.quantiles != first.quantiles).any(axis=(1, 2))
    known_s = to_epoch(_NOW - timedelta(hours=30))
    assert not moved[made.origin <= known_s].any()
    assert moved[made.origin > known_s + 3600].all()
    present = serving.forecasting.present(None, (1, 24)).forecasts
    assert made.origin[-1] == present.origin[0]
    np.testing.assert_allclose(made.quantiles[-1], present.quantiles[0], rtol=1e-12)


def test_a_restart_goes_on_as_if_nothing_had_been(serve: Callable[..., Serving], store: Store) -> None:
    """A server that saw each close come and one that starts now give the same bits."""
    serving = serve()
    for hour in range(-40, 1):
        if hour < 0:
            store.issue(fans_of(_live(range(hour, hour + 1), 0.4)))
        now = _NOW + timedelta(hours=hour)
        store.set_clock(now)
        kept = _present(serving)
    np.testing.assert_array_equal(kept, _present(serve()))


def test_what_is_recorded_is_what_is_served(serve: Callable[..., Serving], store: Store) -> None:
    """The recorder writes the calibrated forecast, also for the hours that it catches up on."""
    store.issue(fans_of(_live(range(-60, -2), 0.3)))
    serving = serve()
    serving.recorder.record(_NOW, _NOW, _NOW - timedelta(hours=3))
    recorded = [r for r in store.forecasts("m", "BTC/USDT") if r.version == 1]
    assert len(recorded) == 3 * 24
    now = {r.horizon: r.quantiles for r in recorded if r.origin == _NOW}
    served = serving.forecasting.present(None, None).forecasts
    np.testing.assert_allclose([now[h] for h in HORIZONS], served.quantiles[0], rtol=1e-12)
    earlier = _NOW - timedelta(hours=2)
    alone = serving.forecasting.over(
        None, earlier + timedelta(hours=1), earlier + timedelta(hours=2), (1,)
    ).forecasts
    (row,) = [r for r in recorded if r.origin == earlier and r.horizon == 1]
    np.testing.assert_allclose(row.quantiles, alone.quantiles[0, 0], rtol=1e-12)


def test_a_callers_bars_are_forecast_without_memory(serve: Callable[..., Serving], store: Store) -> None:
    """From own bars the model's own state is used, whatever was recorded: the same question has one answer."""
    before = serve().forecasting.over_bars({"BTC/USDT": _bars()}, None).forecasts.quantiles
    store.issue(fans_of(_live(range(-70, 0), 0.3)))
    serving = serve()
    serving.forecasting.present(None, None)
    np.testing.assert_array_equal(
        serving.forecasting.over_bars({"BTC/USDT": _bars()}, None).forecasts.quantiles, before
    )


def test_without_the_table_the_last_state_is_kept(serve: Callable[..., Serving], store: Store) -> None:
    """Forecasts that cannot be read are no reason to forget: the width stays, and calibration is still told."""
    store.issue(fans_of(_live(range(-70, 0), 0.3)))
    serving = serve()
    width, told = _width(serving), serving.measures.calibration()
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE fans")
    store.upsert_bars(_bars(_NOW + timedelta(hours=1)), "files", _NOW)
    store.set_clock(_NOW + timedelta(hours=1))
    np.testing.assert_allclose(_width(serving), width, rtol=0.02)
    assert serving.measures.calibration() == told
    assert (_width(serving) > _width(serve())).all()


def test_a_naive_floor_is_not_calibrated(serve: Callable[..., Serving], store: Store) -> None:
    """It is the reference that others are measured against, and stays what it is."""
    store.issue(fans_of(_live(range(-70, 0), 0.3)))
    floor = {"kind": "naive", "base": None, "features": None, "conformal": None}
    serving = serve(Forecaster(ForecasterSpec(**_forecaster().spec.model_dump() | floor)))
    assert serving.measures.calibration() is None
    own = serving.models.forecaster.predict({"BTC/USDT": _bars()}, np.array([to_epoch(_NOW)]))
    np.testing.assert_array_equal(_present(serving), own.quantiles[0])


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(6)), st.integers(1, 5))
def test_neither_order_nor_portions_of_records_matter(order: list[int], cut: int) -> None:
    """Whichever rows come first and wherever the reading is cut, the shift is the same to the last bit."""
    bars = _bars()
    parts = [_live(range(-60 + 10 * i, -50 + 10 * i), 0.5, version=i) for i in range(6)]
    mixed = [row for i in order for row in parts[i]]
    state, at = _forecaster().spec.conformal, np.array([to_epoch(_NOW)])
    assert state is not None
    whole = LiveRows.of([row for part in parts for row in part], bars, LEVELS)[0]
    early = LiveRows.of(
        [r for r in mixed if r.target_time <= _NOW - timedelta(hours=10 * cut)], bars, LEVELS
    )[0]
    late = LiveRows.of([r for r in mixed if r.target_time > _NOW - timedelta(hours=10 * cut)], bars, LEVELS)[
        0
    ]
    np.testing.assert_array_equal(
        shifts_at(state, whole.outcomes, at), shifts_at(state, early.joined(late).outcomes, at)
    )


def test_live_windows_hold_what_was_promised_before_the_hour(
    serve: Callable[..., Serving], store: Store
) -> None:
    """Too narrow forecasts show as low coverage and negative skill; forecasts made afterwards do not count."""
    store.issue(fans_of(_live(range(-70, 0), 0.3)))
    late = [
        replace(row, made_at=row.origin + timedelta(hours=24), version=2)
        for row in _live(range(-200, -71), 1.0)
    ]
    store.issue(fans_of(late))
    windows = {(w.days, w.horizon): w for w in serve().measures.windows()}
    assert list(windows) == [(d, h) for d in (7, 30) for h in (1, 6, 12, 24, None)]
    hour = windows[7, 1]
    assert hour.n == windows[30, 1].n == 70
    assert hour.coverage_90 is not None
    assert hour.coverage_90 < 0.6
    assert hour.skill is not None
    assert hour.skill < 0
    assert windows[7, None].n == sum(70 - (h - 1) for h in HORIZONS)
