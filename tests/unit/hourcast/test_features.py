"""Features are point in time: what comes later changes nothing, in training and in serving alike."""

import hashlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hourcast.contracts import HOUR_S, Bars, from_epoch
from hourcast.errors import DataError
from hourcast.features import (
    ExogenousFeature,
    Features,
    FeatureSpec,
    build,
    fingerprint,
    hourly_grid,
    log_volatilities,
    why_unusable,
)
from hourcast.volatility import HALFLIVES_H
from tests.leaks import assert_no_leak
from tests.specs import START, features_of, random_walk, volatility_of

_HOURS = 700
_SPEC = features_of(exogenous=("X",))
_EXOGENOUS = 8 + len(HALFLIVES_H)


def _market(seed: int = 1) -> dict[str, Bars]:
    hours = START + np.arange(_HOURS) * HOUR_S
    return {"T": random_walk("T", _HOURS, seed), "X": random_walk("X", hours[::3] + 1800, seed + 1)}


_MARKET = _market()


def _values(made: Features) -> dict[str, npt.NDArray[np.generic]]:
    return {name: getattr(made, name) for name in ("x", "log_volatility", "last_close", "usable")}


def _assert_same_row(one: Features, i: int, other: Features, j: int) -> None:
    assert one.usable[i] == other.usable[j]
    if one.usable[i]:
        np.testing.assert_allclose(one.x[i], other.x[j], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one.log_volatility[i], other.log_volatility[j], rtol=1e-12)
        assert one.last_close[i] == other.last_close[j]


def _without(bars: Bars, holes: set[int]) -> Bars:
    return bars.take(~np.isin(np.arange(len(bars)), list(holes)))


@settings(max_examples=30, deadline=None)
@given(hour=st.integers(_SPEC.history_h, _HOURS - 2), seed=st.integers(0, 10_000))
def test_the_future_changes_no_feature(hour: int, seed: int) -> None:
    """Bars that close after an origin, moved, shuffled or cut off, leave its features as they are, to the bit."""
    moment = int(_MARKET["T"].close_time[hour])
    origin = np.array([moment])
    assert build(_MARKET, _SPEC, origin).usable.all()
    assert_no_leak(lambda bars: _values(build(bars, _SPEC, origin)), _MARKET, moment, seed)


@settings(max_examples=10, deadline=None)
@given(first=st.integers(_SPEC.history_h, 500), number=st.integers(1, 150), seed=st.integers(0, 10_000))
def test_the_future_changes_no_feature_of_a_range(first: int, number: int, seed: int) -> None:
    """What closes after the last of many origins changes none of their features."""
    origins = _MARKET["T"].close_time[first : first + number]
    assert_no_leak(lambda bars: _values(build(bars, _SPEC, origins)), _MARKET, int(origins[-1]), seed)


def _next_hour(bars: Mapping[str, Bars], origin: npt.NDArray[np.int64]) -> Features:
    target = bars["T"]
    early = replace(target, open_time=target.open_time - HOUR_S, close_time=target.close_time - HOUR_S)
    return build({**bars, "T": early}, _SPEC, origin)


def _joined_on_opens(bars: Mapping[str, Bars], origin: npt.NDArray[np.int64]) -> Features:
    return build({**bars, "X": replace(bars["X"], close_time=bars["X"].open_time)}, _SPEC, origin)


def _season_of_everything(bars: Mapping[str, Bars], origin: npt.NDArray[np.int64]) -> Features:
    grid = hourly_grid(bars["T"])
    size = np.sqrt(
        np.bincount((grid.close_time // HOUR_S) % 168, weights=grid.log_return**2, minlength=168) + 1e-6
    )
    return build(bars, _SPEC.model_copy(update={"seasonal": tuple(size / size.mean())}), origin)


@pytest.mark.parametrize("leaky", [_next_hour, _joined_on_opens, _season_of_everything])
def test_a_planted_leak_is_caught(leaky: Callable[..., Features]) -> None:
    """The next hour's bar, a join on opens or a season of all bars does not get past the check that features pass."""
    moment = int(_MARKET["T"].close_time[600])
    origin = np.array([moment])
    assert moment in _MARKET["X"].open_time + 1800
    assert_no_leak(lambda bars: _values(build(bars, _SPEC, origin)), _MARKET, moment)
    with pytest.raises(AssertionError) as caught:
        assert_no_leak(lambda bars: _values(leaky(bars, origin)), _MARKET, moment)
    assert str(caught.value) == "x changed when what comes later was moved"


def test_the_check_knows_each_kind_of_future() -> None:
    """A leak that only sizes, only the order or only the end gives away is caught by name."""
    moment = int(_MARKET["T"].close_time[600])

    def caught(made: Callable[[Bars], float]) -> str:
        with pytest.raises(AssertionError) as error:
            assert_no_leak(lambda bars: {"it": made(bars["T"])}, _MARKET, moment)
        return str(error.value)

    assert caught(lambda bars: bars.close.max()) == "it changed when what comes later was moved"
    order = caught(lambda bars: np.argmax((bars.close / bars.open)[601:]) if len(bars) > 601 else -1)
    assert order == "it changed when what comes later was shuffled"
    assert caught(len) == "it changed when what comes later was cut off"


def test_the_check_needs_a_future() -> None:
    """A moment after which nothing comes proves nothing, and is refused."""
    last = max(int(part.close_time[-1]) for part in _MARKET.values())
    with pytest.raises(AssertionError) as caught:
        assert_no_leak(lambda _bars: {"it": 0}, _MARKET, last)
    assert str(caught.value) == "there is no future to change after that moment"


@settings(max_examples=40, deadline=None)
@given(
    hour=st.integers(_SPEC.history_h, _HOURS - 1),
    more=st.integers(0, 50),
    holes=st.sets(st.integers(0, _HOURS - 1), max_size=60)
    | st.integers(0, 600).map(lambda i: {*range(i, i + 12)}),
)
def test_serving_sees_what_training_saw(hour: int, more: int, holes: set[int]) -> None:
    """A row depends on no bar before its history, nor on the other rows of its batch, nor on where hours are missing."""
    target = _without(_MARKET["T"], holes)
    moment = int(_MARKET["T"].close_time[hour])
    everything = build({**_MARKET, "T": target}, _SPEC, _MARKET["T"].close_time)
    known = (target.close_time > moment - (_SPEC.history_h + more) * HOUR_S) & (target.close_time <= moment)
    if known.any():
        alone = build({**_MARKET, "T": target.take(known)}, _SPEC, np.array([moment]))
        _assert_same_row(alone, 0, everything, hour)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, _HOURS - 1), min_size=1, max_size=20))
def test_origins_in_any_order_give_their_own_rows(hours: list[int]) -> None:
    """A batch of any origins, repeated or out of order, gives each the row that it has alone."""
    origins = _MARKET["T"].close_time[hours]
    together = build(_MARKET, _SPEC, origins)
    assert together.origin.tolist() == origins.tolist()
    for i, origin in enumerate(origins[:4]):
        _assert_same_row(build(_MARKET, _SPEC, np.array([origin])), 0, together, i)


@settings(max_examples=40, deadline=None)
@given(
    hour=st.integers(_SPEC.history_h, _HOURS - 1),
    more=st.integers(0, 50),
    holes=st.sets(st.integers(0, _HOURS - 1), max_size=12),
)
def test_a_fingerprint_is_that_of_its_own_hour(hour: int, more: int, holes: set[int]) -> None:
    """Alone with the least history or among all hours with all of it, a usable origin has the same bytes and fingerprint."""
    target = _without(_MARKET["T"], holes)
    moment = int(_MARKET["T"].close_time[hour])
    known = (target.close_time > moment - (_SPEC.history_h + more) * HOUR_S) & (target.close_time <= moment)
    whole = build({**_MARKET, "T": target}, _SPEC, _MARKET["T"].close_time)
    alone = build({**_MARKET, "T": target.take(known)}, _SPEC, np.array([moment]))
    if alone.usable[0]:
        assert {n: v[0].tobytes() for n, v in _values(alone).items()} == {
            n: v[hour].tobytes() for n, v in _values(whole).items()
        }
        assert fingerprint(alone) == (fingerprint(whole)[hour],)


def test_a_fingerprint_is_sha256_of_what_a_model_sees() -> None:
    """Window, volatilities and last close as little-endian bytes; any other value gives another mark."""
    made = build(_MARKET, _SPEC, _MARKET["T"].close_time[[500, 501]])
    parts = made.x[1].tobytes() + made.log_volatility[1].astype("<f8").tobytes()
    want = hashlib.sha256(parts + struct.pack("<d", made.last_close[1])).hexdigest()[:16]
    assert fingerprint(made)[1] == want
    assert len({*fingerprint(made), *fingerprint(replace(made, last_close=made.last_close + 1))}) == 4
    assert fingerprint(build(_MARKET, _SPEC, np.empty(0, np.int64))) == ()


def _by_hand(bars: Bars, spec: FeatureSpec, at: int, origin: int) -> list[float]:
    """Hour `at` in the window of `origin`, without the exogenous part; no hour is missing."""
    close, moment = np.log(bars.close), bars.close_time
    factor = np.array([spec.seasonal[(m // HOUR_S) % 168] for m in moment.tolist()])
    calm = np.diff(close, prepend=close[0]) / factor
    spread = np.log(bars.high / bars.low) / factor

    def volatility(halflife: float, hour: int) -> float:
        weights = [0.5 ** (lag / halflife) for lag in range(spec.vol_lags)]
        terms = [w * spread[hour - lag] ** 2 / (4 * np.log(2)) for lag, w in enumerate(weights)]
        return float(np.log(np.sqrt(sum(terms) / sum(weights)) + 1e-8))

    halflives = spec.volatility.halflives_h
    middle = len(halflives) // 2
    unit = np.exp(volatility(halflives[middle], origin))
    levels = [volatility(h, at) for h in halflives]
    scaled = [
        calm[at],
        spread[at],
        calm[at - 5 : at + 1].sum() / 6**0.5,
        calm[at - 23 : at + 1].sum() / 24**0.5,
    ]
    usual = np.mean(np.log1p(bars.volume[at - 167 : at + 1]))
    turns = [2 * np.pi * moment[at] / HOUR_S / hours for hours in (24, 168)]
    return [
        *(value / unit for value in scaled),
        np.log1p(bars.volume[at]) - usual,
        *(level - levels[middle] for i, level in enumerate(levels) if i != middle),
        *(np.sin(turns[0]), np.cos(turns[0]), np.sin(turns[1]), np.cos(turns[1])),
    ]


@pytest.mark.parametrize("origin", [400, 555, 699])
def test_features_are_those_of_the_plain_formula(origin: int) -> None:
    """Each column agrees with its definition, written out for hours of a window; prices in the origin's volatility."""
    window = build(_MARKET, _SPEC, _MARKET["T"].close_time[[origin]]).x[0, :, :_EXOGENOUS]
    for back in (0, 1, 12, 23):
        want = _by_hand(_MARKET["T"], _SPEC, origin - back, origin)
        np.testing.assert_allclose(window[-1 - back], want, rtol=1e-5, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(
    window=st.integers(1, 40),
    halflives=st.lists(st.floats(1, 500), min_size=1, max_size=7),
    exogenous=st.sampled_from([(), ("X",), ("X", "missing")]),
    number=st.integers(0, 5),
)
def test_the_width_is_that_of_the_rows(
    window: int, halflives: list[float], exogenous: tuple[str, ...], number: int
) -> None:
    """For any half-lives, series and window the specification knows the shape of what is built."""
    spec = features_of(
        exogenous=exogenous, window=window, volatility=volatility_of((1,), halflives), vol_lags=168
    )
    made = build(_MARKET, spec, _MARKET["T"].close_time[500 : 500 + number])
    assert made.x.shape == (number, window, spec.width)
    assert made.x.dtype == np.float32
    assert made.log_volatility.shape == (number, len(halflives))
    assert made.usable.all()


def test_a_price_that_stands_still_has_finite_features() -> None:
    """Bars without any range give numbers, and so does the first move after them."""
    flat = np.full((_HOURS, 5), 7.0)
    flat[-1, :4] = [7, 9, 7, 9]
    made = build(
        {"T": Bars.of("T", START + np.arange(_HOURS) * HOUR_S, flat)},
        _SPEC,
        START + np.arange(600, 701) * HOUR_S,
    )
    assert made.usable.all()
    assert np.isfinite(made.x).all()
    assert np.isfinite(made.log_volatility).all()
    assert np.abs(made.x).max() <= 8
    assert (made.x[0, :, :4] == 0).all()
    assert (made.x[-1, -1, :4] > 0).all()


def test_days_without_a_range_do_not_leave_the_usual() -> None:
    """When a market freezes, the columns that compare half-lives stay within their bound."""
    table = np.column_stack([getattr(_MARKET["T"], n) for n in ("open", "high", "low", "close", "volume")])
    table[-60:, :4] = table[-61, 3]
    frozen = Bars.of("T", _MARKET["T"].open_time, table)
    made = build({"T": frozen}, _SPEC, frozen.close_time[-1:])
    assert made.x[0, -1, 5:9].min() == -8


def test_ranges_tell_the_volatility_of_an_hour() -> None:
    """On a walk of known volatility and season each half-life finds it, the season being divided out."""
    rng = np.random.default_rng(5)
    hours, steps = 2000, 400
    factor = np.asarray(_SPEC.seasonal)
    opens = START + np.arange(hours) * HOUR_S
    size = 0.01 * factor[(opens // HOUR_S + 1) % 168]
    path = np.cumsum(rng.normal(0, 1, (hours, steps)) * size[:, None] / np.sqrt(steps), axis=1)
    path = np.concatenate([np.zeros((hours, 1)), path], axis=1)
    price = 100 * np.exp(path + np.concatenate([[0], np.cumsum(path[:-1, -1])])[:, None])
    table = np.column_stack([price[:, 0], price.max(axis=1), price.min(axis=1), price[:, -1], np.ones(hours)])
    found = log_volatilities(hourly_grid(Bars.of("T", opens, table)), factor, (24.0, 96.0, 336.0))
    np.testing.assert_allclose(np.exp(found[800:]).mean(axis=0), 0.01, rtol=0.08)
    assert np.exp(found[800:]).std(axis=0)[2] < 0.0005


def test_an_exogenous_bar_counts_from_its_close() -> None:
    """A bar that opened at :30 is unknown at the next full hour and known at the one after."""
    bars = _MARKET
    place = 400
    origin = int(bars["T"].close_time[place])
    opened = origin - 1800
    x = Bars.of("X", [opened - 10 * HOUR_S, opened], [[1, 1, 1, 1, 1], [2, 2, 2, 2, 1]])
    here = build({"T": bars["T"], "X": x}, _SPEC, np.array([origin, origin + HOUR_S])).x[:, -1, _EXOGENOUS:]
    np.testing.assert_allclose(here[:, 1] * 30, [9.5, 0.5], atol=1e-5)
    assert here[:, 2].tolist() == [0, 1]
    assert here[:, 0].tolist() == [0, 8]


def test_a_stale_series_counts_as_unknown() -> None:
    """Beyond `max_staleness_s` the age is at its limit, the market is shut and no return is seen."""
    origin = int(_MARKET["T"].close_time[500])
    old = Bars.of("X", [origin - 40 * HOUR_S], [[1, 1, 1, 1, 1]])
    row = build({"T": _MARKET["T"], "X": old}, _SPEC, np.array([origin])).x[0, -1]
    assert row[_EXOGENOUS:].tolist() == [0.0, 1.0, 0.0]


def test_a_few_missing_hours_are_carried_and_many_are_refused() -> None:
    """Up to 5 % of the history may be missing; beyond that the origin is not usable and the reason says so."""
    bars = _MARKET["T"]
    few = build({"T": _without(bars, {*range(450, 460)})}, _SPEC, bars.close_time[[600]])
    assert few.usable.all()
    assert np.isfinite(few.x).all()
    holes = {*range(450, 460), *range(300, 440)}
    many = _without(bars, holes)
    assert not build({"T": many}, _SPEC, bars.close_time[[600]]).usable.any()
    moment = from_epoch(bars.close_time[600]).isoformat()
    have = len({*range(601 - _SPEC.history_h, 601)} - holes)
    assert why_unusable(many, _SPEC, int(bars.close_time[600])) == (
        f"a forecast from {moment} needs 361 hours of T before it (at most 5% missing), "
        f"but {have} are there; run `hourcast etl gaps`"
    )


@settings(max_examples=20, deadline=None)
@given(have=st.integers(1, 400))
@example(have=342)
@example(have=343)
@example(have=360)
def test_hours_before_the_first_bar_are_missing_ones(have: int) -> None:
    """Where bars begin, an origin is usable exactly when no more than 5 % of its history is missing."""
    bars = _MARKET["T"].take(slice(0, have))
    made = build({"T": bars}, _SPEC, bars.close_time[-1:])
    assert made.usable[0] == (have >= 0.95 * _SPEC.history_h)


def test_a_hole_does_not_look_like_calm() -> None:
    """Through days without a bar the short half-lives hold what they last saw."""
    holed = hourly_grid(_without(_MARKET["T"], {*range(500, 600)}))
    level = log_volatilities(holed, np.asarray(_SPEC.seasonal), (2.0, 6.0))
    np.testing.assert_allclose(level[599], level[499], rtol=1e-9)


def test_an_origin_needs_its_own_bar() -> None:
    """An hour whose bar is missing, or that is not a full hour, is no origin."""
    bars = _MARKET["T"]
    holed = _without(bars, {600})
    origin = bars.close_time[[600]]
    assert not build({"T": holed}, _SPEC, origin).usable.any()
    assert not build({"T": bars}, _SPEC, origin + 60).usable.any()
    moment = from_epoch(origin[0]).isoformat()
    assert why_unusable(holed, _SPEC, int(origin[0])) == f"there is no bar of T that closed at {moment}"


def test_no_bars_are_refused() -> None:
    """Without a bar of the target there is a sentence and no features."""
    with pytest.raises(DataError) as caught:
        build({"X": _MARKET["X"]}, _SPEC, _MARKET["T"].close_time[[600]])
    assert str(caught.value) == "there are no bars of T yet; run `hourcast etl run`"


def test_the_grid_marks_what_is_missing() -> None:
    """The hourly grid carries the last close over a hole and says which hours are real."""
    bars = Bars.of("T", [0, 3 * HOUR_S], [[1, 2, 1, 2, 5], [2, 4, 2, 4, 5]])
    grid = hourly_grid(bars)
    assert grid.close_time.tolist() == [HOUR_S, 2 * HOUR_S, 3 * HOUR_S, 4 * HOUR_S]
    assert grid.real.tolist() == [True, False, False, True]
    assert grid.close.tolist() == [2, 2, 2, 4]
    np.testing.assert_allclose(grid.log_return, [0, 0, 0, np.log(2)])
    np.testing.assert_allclose(grid.log_range, [np.log(2), 0, 0, np.log(2)])


def test_real_bars_of_every_series_give_whole_features(market_bars: dict[str, Bars]) -> None:
    """On recorded bars every hour after the first weeks has finite features, and those that it has alone."""
    spec = FeatureSpec(
        target="BTC/USDT",
        exogenous=tuple(
            ExogenousFeature(symbol=s, max_staleness_s=96 * HOUR_S, scale=0.01)
            for s in ("QQQ", "^VIX", "GC=F")
        ),
        seasonal=(1.0,) * 168,
        volatility=volatility_of(),
    )
    origins = market_bars["BTC/USDT"].close_time
    made = build(market_bars, spec, origins)
    assert made.x.shape == (len(origins), 24, 22)
    assert made.usable[spec.history_h :].all()
    assert not made.usable[: int(0.95 * spec.history_h) - 1].any()
    assert np.isfinite(made.x[made.usable]).all()
    assert np.isfinite(made.log_volatility[made.usable]).all()
    for i in (800, 4095, 4096, len(origins) - 1):
        _assert_same_row(build(market_bars, spec, origins[[i]]), 0, made, i)
