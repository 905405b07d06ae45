"""Features are point in time: what comes later changes nothing, in training and in serving alike."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hourcast.contracts import HOUR_S, Bars, from_epoch
from hourcast.features import ExogenousFeature, FeatureSpec, build, hourly_grid, why_unusable

_START = 1_700_000_000 // HOUR_S * HOUR_S
_HOURS = 700
_SPEC = FeatureSpec(
    target="T",
    exogenous=(ExogenousFeature(symbol="X", max_staleness_s=30 * HOUR_S, scale=0.01),),
    window=24,
    seasonal=tuple(1 + 0.3 * np.sin(np.arange(168))),
)


def _walk(symbol: str, opens: np.ndarray, seed: int) -> Bars:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, len(opens))))
    first = np.concatenate([[100.0], close[:-1]])
    high, low = np.maximum(first, close) * 1.002, np.minimum(first, close) * 0.998
    return Bars.of(symbol, opens, np.column_stack([first, high, low, close, rng.uniform(1, 9, len(opens))]))


def _market(seed: int = 1) -> dict[str, Bars]:
    hours = _START + np.arange(_HOURS) * HOUR_S
    return {"T": _walk("T", hours, seed), "X": _walk("X", hours[::3] + 1800, seed + 1)}


def _moved(bars: Bars, after_s: int, seed: int) -> Bars:
    """The same bars with every one that closed after a moment replaced by noise."""
    later = bars.close_time > after_s
    other = _walk(bars.symbol, bars.open_time, seed)
    prices = {
        name: np.where(later, getattr(other, name) * 3, getattr(bars, name))
        for name in ("open", "high", "low", "close", "volume")
    }
    return Bars(bars.symbol, bars.open_time, bars.close_time, **prices)


@settings(max_examples=40, deadline=None)
@given(hour=st.integers(_SPEC.history_h, _HOURS - 1), seed=st.integers(0, 10_000))
def test_moving_the_future_changes_no_feature(hour: int, seed: int) -> None:
    """Bars that close after an origin, whatever they hold, leave its features as they are, to the bit."""
    bars = _market()
    origin = np.array([int(bars["T"].close_time[hour])])
    changed = {symbol: _moved(part, int(origin[0]), seed) for symbol, part in bars.items()}
    before, after = build(bars, _SPEC, origin), build(changed, _SPEC, origin)
    assert before.usable.all()
    assert np.array_equal(before.x, after.x)
    assert before.sigma[0] == after.sigma[0]
    assert before.last_close[0] == after.last_close[0]


@settings(max_examples=25, deadline=None)
@given(hour=st.integers(_SPEC.history_h + 52, _HOURS - 1), more=st.integers(0, 50))
def test_serving_sees_what_training_saw(hour: int, more: int) -> None:
    """A row does not depend on how much older history was read, nor on the other rows of its batch."""
    bars = _market()
    target = bars["T"]
    origin = np.array([int(target.close_time[hour])])
    everything = build(bars, _SPEC, target.close_time)
    short = target.take(slice(hour - _SPEC.history_h - more - 2, hour + 1))
    alone = build({"T": short, "X": bars["X"]}, _SPEC, origin)
    assert alone.usable.all()
    np.testing.assert_allclose(alone.x[0], everything.x[hour], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(alone.sigma[0], everything.sigma[hour], rtol=1e-12)


def test_an_exogenous_bar_counts_from_its_close() -> None:
    """A bar that opened at :30 is unknown at the next full hour and known at the one after."""
    bars = _market()
    place = 400
    origin = int(bars["T"].close_time[place])
    opened = origin - 1800
    x = Bars.of("X", [opened - 10 * HOUR_S, opened], [[1, 1, 1, 1, 1], [2, 2, 2, 2, 1]])
    here = build({"T": bars["T"], "X": x}, _SPEC, np.array([origin, origin + HOUR_S]))
    age = here.x[:, -1, 10] * 30
    assert age[0] == pytest.approx(9.5, abs=1e-5)
    assert age[1] == pytest.approx(0.5, abs=1e-5)
    assert here.x[0, -1, 11] == 0
    assert here.x[1, -1, 11] == 1
    assert here.x[0, -1, 9] == 0
    assert here.x[1, -1, 9] == 8


def test_a_stale_series_counts_as_unknown() -> None:
    """Beyond `max_staleness_s` the age is at its limit, the market is shut and no return is seen."""
    bars = _market()
    origin = int(bars["T"].close_time[500])
    old = Bars.of("X", [origin - 40 * HOUR_S], [[1, 1, 1, 1, 1]])
    row = build({"T": bars["T"], "X": old}, _SPEC, np.array([origin])).x[0, -1]
    assert row[9:12].tolist() == [0.0, 1.0, 0.0]


def test_a_few_missing_hours_are_carried_and_many_are_refused() -> None:
    """Up to 5 % of the history may be missing; beyond that the origin is not usable and the reason says so."""
    bars = _market()["T"]
    keep = np.ones(_HOURS, bool)
    keep[450:460] = False
    few = build({"T": bars.take(keep)}, _SPEC, bars.close_time[[600]])
    assert few.usable.all()
    keep[300:440] = False
    many = bars.take(keep)
    assert not build({"T": many}, _SPEC, bars.close_time[[600]]).usable.any()
    moment = from_epoch(bars.close_time[600]).isoformat()
    have = int(keep[601 - _SPEC.history_h : 601].sum())
    assert why_unusable(many, _SPEC, int(bars.close_time[600])) == (
        f"a forecast from {moment} needs 361 hours of T before it (at most 5% missing), "
        f"but {have} are there; run `hourcast etl gaps`"
    )


def test_an_origin_needs_its_own_bar() -> None:
    """An hour whose bar is missing, or that is not a full hour, is no origin."""
    bars = _market()["T"]
    keep = np.ones(_HOURS, bool)
    keep[600] = False
    origin = bars.close_time[[600]]
    assert not build({"T": bars.take(keep)}, _SPEC, origin).usable.any()
    assert not build({"T": bars}, _SPEC, origin + 60).usable.any()
    moment = from_epoch(origin[0]).isoformat()
    assert (
        why_unusable(bars.take(keep), _SPEC, int(origin[0]))
        == f"there is no bar of T that closed at {moment}"
    )


def test_the_grid_marks_what_is_missing() -> None:
    """The hourly grid carries the last close over a hole and says which hours are real."""
    bars = Bars.of("T", [0, 3 * HOUR_S], [[1, 2, 1, 2, 5], [2, 4, 2, 4, 5]])
    grid = hourly_grid(bars)
    assert grid.close_time.tolist() == [HOUR_S, 2 * HOUR_S, 3 * HOUR_S, 4 * HOUR_S]
    assert grid.real.tolist() == [True, False, False, True]
    assert grid.close.tolist() == [2, 2, 2, 4]
    np.testing.assert_allclose(grid.log_return, [0, 0, 0, np.log(2)])


def test_real_bars_of_every_series_give_whole_features(market_bars: dict[str, Bars]) -> None:
    """On recorded bars every hour after the first weeks has finite features."""
    spec = FeatureSpec(
        target="BTC/USDT",
        exogenous=tuple(
            ExogenousFeature(symbol=s, max_staleness_s=96 * HOUR_S, scale=0.01)
            for s in ("QQQ", "^VIX", "GC=F")
        ),
        seasonal=(1.0,) * 168,
    )
    origins = market_bars["BTC/USDT"].close_time
    made = build(market_bars, spec, origins)
    assert made.x.shape == (len(origins), 24, 18)
    assert made.usable[spec.history_h :].all()
    assert not made.usable[: spec.history_h - 1].any()
    assert np.isfinite(made.x[made.usable]).all()
