"""Online calibration is a leaky sum over what came: never early, never dependent on order, and it gets coverage right."""

from datetime import timedelta
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hourcast.conformal import (
    HALFLIFE_H,
    RATE,
    ConformalState,
    Outcomes,
    advance,
    shifted,
    shifts_at,
    walk,
)
from hourcast.contracts import HOUR_S, from_epoch, to_epoch

_AT = 1_717_200_000
_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
_NORMAL = np.array([-1.6449, -0.6745, 0.0, 0.6745, 1.6449])
_HORIZONS = (1, 3, 24)
_LIMIT = 0.7
_Array = npt.NDArray[np.float64]


def _state(
    shift: float = 0.0, rate: float = RATE, halflife_h: float = HALFLIFE_H, at: int = _AT
) -> ConformalState:
    row = (shift, shift / 2, 0.0, shift / 3, -shift)
    return ConformalState(
        as_of=from_epoch(at),
        horizons=_HORIZONS,
        levels=_LEVELS,
        rate=rate,
        halflife_h=halflife_h,
        shift=(row,) * 3,
    )


# Hours since the state, an unknown horizon among them, and how many quantiles were not passed.
_rows = st.lists(
    st.tuples(st.integers(-30, 300) | st.integers(-1, 4), st.sampled_from([1, 2, 3, 24]), st.integers(0, 5)),
    max_size=120,
)
_states = st.builds(
    _state, st.floats(-0.8, 0.8), st.sampled_from([0.005, 0.1]), st.sampled_from([24.0, 2160.0])
)


def _outcomes(rows: list[tuple[int, int, int]]) -> Outcomes:
    hour, horizon, kept = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    below = np.arange(5)[None, :] >= (5 - kept)[:, None]
    return Outcomes(_AT + hour * HOUR_S, horizon, below)


def _hours(number: float) -> timedelta:
    return timedelta(hours=number)


def _by_hand(state: ConformalState, rows: list[tuple[int, int, int]], hour: int) -> _Array:
    """The shift at `hour` after the state, straight from the docstrings."""
    out = np.zeros((3, 5))
    for i, h in enumerate(_HORIZONS):
        for j, level in enumerate(_LEVELS):
            total = state.shift[i][j] * 0.5 ** (hour / state.halflife_h)
            for came, horizon, kept in rows:
                if horizon == h and 0 < came <= hour:
                    side = (level > 0.5) - (level < 0.5)
                    miss = level - (1 if j >= 5 - kept else 0)
                    total += state.rate / h**0.5 * miss * side * 0.5 ** ((hour - came) / state.halflife_h)
            out[i, j] = total
    return out


@settings(max_examples=40, deadline=None)
@given(_states, _rows, st.integers(1, 320))
def test_the_state_is_the_leaky_sum(
    state: ConformalState, rows: list[tuple[int, int, int]], hour: int
) -> None:
    """A state that goes on holds what the formula says: known horizons, closes after it and by then, each faded."""
    went_on = advance(state, _outcomes(rows), state.as_of + _hours(hour))
    np.testing.assert_allclose(np.asarray(went_on.shift), _by_hand(state, rows, hour), rtol=1e-9, atol=1e-12)
    assert went_on.as_of == state.as_of + _hours(hour)


@settings(max_examples=40, deadline=None)
@given(_states, _rows, st.randoms(use_true_random=False), st.integers(1, 320))
def test_the_order_of_outcomes_does_not_matter(
    state: ConformalState, rows: list[tuple[int, int, int]], random: Random, hour: int
) -> None:
    """The same outcomes in another order give the same state, to the bit."""
    other = list(rows)
    random.shuffle(other)
    until = state.as_of + _hours(hour)
    assert advance(state, _outcomes(rows), until) == advance(state, _outcomes(other), until)


@settings(max_examples=40, deadline=None)
@given(_states, _rows, st.lists(st.floats(0, 320), max_size=6))
def test_a_state_may_go_on_in_parts(
    state: ConformalState, rows: list[tuple[int, int, int]], stops: list[float]
) -> None:
    """Going on in any parts, each given all outcomes, is going on at once, beyond the bound as well."""
    outcomes, end = _outcomes(rows), state.as_of + _hours(320)
    parts = state
    for stop in sorted(stops):
        parts = advance(parts, outcomes, state.as_of + _hours(int(stop * HOUR_S) / HOUR_S))
    parts = advance(parts, outcomes, end)
    once = advance(state, outcomes, end)
    np.testing.assert_allclose(np.asarray(parts.shift), np.asarray(once.shift), rtol=1e-12, atol=1e-12)
    assert parts.as_of == once.as_of


def test_a_bound_is_not_forgotten_on_the_way() -> None:
    """What is beyond the bound counts when it comes back: one cut more changes nothing."""
    state = _state(rate=0.1, halflife_h=1e6)
    rows = [(hour, 1, 0) for hour in range(1, 21)] + [(hour, 1, 5) for hour in range(21, 61)]
    outcomes = _outcomes(rows)
    half = advance(state, outcomes, state.as_of + _hours(20))
    assert half.shift[0][4] == pytest.approx(20 * 0.1 * 0.95, rel=1e-3)
    assert half.table[0, 4] == _LIMIT
    end = state.as_of + _hours(60)
    np.testing.assert_allclose(
        advance(half, outcomes, end).shift, advance(state, outcomes, end).shift, rtol=1e-12
    )


@settings(max_examples=40, deadline=None)
@given(_states, _rows, st.integers(0, 250))
def test_what_has_not_come_moves_nothing(
    state: ConformalState, rows: list[tuple[int, int, int]], hour: int
) -> None:
    """Outcomes at or before the state, later than the moment, or of unknown horizons may be left out."""
    until = state.as_of + _hours(hour)
    needed = [row for row in rows if 0 < row[0] <= hour and row[1] in _HORIZONS]
    assert advance(state, _outcomes(rows), until) == advance(state, _outcomes(needed), until)


@pytest.mark.parametrize("hours", [0, -1, -500])
def test_going_back_gives_the_state_as_it_is(hours: int) -> None:
    """A moment at or before the state changes nothing."""
    state = _state(0.3)
    assert advance(state, _outcomes([(1, 1, 0), (-5, 1, 0)]), state.as_of + _hours(hours)) is state


@settings(max_examples=40, deadline=None)
@given(_states, _rows, st.lists(st.integers(-40, 320), max_size=8))
def test_shifts_at_many_moments_are_those_of_each(
    state: ConformalState, rows: list[tuple[int, int, int]], hours: list[int]
) -> None:
    """In any order of moments, each shift is the bounded one of the state that went on until then."""
    outcomes = _outcomes(rows)
    made = shifts_at(state, outcomes, _AT + np.array(hours, np.int64) * HOUR_S)
    assert made.shape == (len(hours), 3, 5)
    assert np.abs(made).max(initial=0) <= _LIMIT
    for i, hour in enumerate(hours):
        there = advance(state, outcomes, state.as_of + _hours(hour))
        np.testing.assert_allclose(made[i], there.table, rtol=1e-12, atol=1e-12)


def test_a_miss_widens_and_a_hit_narrows_by_the_rate() -> None:
    """A close beyond a quantile moves it outwards by rate times level, one within moves it inwards by the rest."""
    at = np.array([_AT + HOUR_S, _AT + HOUR_S])
    quantiles = np.array([[-2.0, -1, 0, 1, 2]] * 2)
    above = Outcomes.of(at[:1], np.array([1]), quantiles[:1], np.array([3.0]))
    below = Outcomes.of(at[:1], np.array([1]), quantiles[:1], np.array([-3.0]))
    moved = [advance(_state(), part, from_epoch(at[0])).shift[0] for part in (above, below)]
    np.testing.assert_allclose(moved[0], RATE * np.array([-0.05, -0.25, 0, 0.75, 0.95]), rtol=1e-12)
    np.testing.assert_allclose(moved[1], RATE * np.array([0.95, 0.75, 0, -0.25, -0.05]), rtol=1e-12)
    on_it = Outcomes.of(at[:1], np.array([1]), quantiles[:1], np.array([2.0]))
    assert on_it.below[0].tolist() == [False, False, False, False, True]


def test_a_move_fades_by_half_in_a_halflife() -> None:
    """What was learnt is worth half after `halflife_h` hours without outcomes."""
    state = _state(0.4, halflife_h=48)
    later = advance(state, Outcomes.none(5), state.as_of + _hours(48))
    np.testing.assert_allclose(np.asarray(later.shift), np.asarray(state.shift) / 2, rtol=1e-12)


def test_forecasts_without_a_close_are_no_outcomes() -> None:
    """A close that did not come, or a forecast that is no number, is left out; the rest is joined as it was."""
    at, horizon = _AT + HOUR_S * np.arange(1, 4), np.array([1, 3, 24])
    quantiles = np.tile(_NORMAL, (3, 1))
    quantiles[2, 1] = np.nan
    made = Outcomes.of(at, horizon, quantiles, np.array([0.1, np.nan, 0.1]))
    assert (made.target_time.tolist(), made.horizon.tolist()) == ([at[0]], [1])
    again = made.joined(Outcomes.none(5)).joined(made)
    assert again.target_time.tolist() == [at[0], at[0]]
    assert again.below.tolist() == [[False, False, False, True, True]] * 2
    assert again.take(np.array([True, False])).below.shape == (1, 5)


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.floats(0, 0.1), min_size=5, max_size=5),
    first=st.floats(-0.2, 0.2),
    shift=st.lists(st.floats(-0.7, 0.7), min_size=5, max_size=5),
)
def test_quantiles_never_cross_and_the_median_stays(
    steps: list[float], first: float, shift: list[float]
) -> None:
    """Whatever the shift, quantiles are in order and the median is the one that was given, to the bit."""
    quantiles = first + np.cumsum(steps)[None, None, :]
    made = shifted(quantiles, np.array([shift]), 2)
    assert (np.diff(made, axis=-1) >= 0).all()
    assert made[0, 0, 2] == quantiles[0, 0, 2]
    spread, was = np.abs(made - made[..., 2:3]), np.abs(quantiles - quantiles[..., 2:3])
    assert (spread <= was.max() * np.exp(0.7) + 1e-12).all()


def test_a_shift_is_the_logarithm_of_the_stretch() -> None:
    """Log 2 doubles a quantile's distance from the median, for all origins or for each its own."""
    quantiles = np.array([[[-2.0, -1, 1, 2, 4]], [[-2.0, -1, 1, 2, 4]]])
    all_alike = shifted(quantiles, np.full((1, 5), np.log(2)), 2)
    np.testing.assert_allclose(all_alike, [[[-5, -3, 1, 3, 7]]] * 2)
    each = shifted(quantiles, np.log(np.array([[[1.0] * 5], [[2.0] * 5]])), 2)
    np.testing.assert_allclose(each, [[[-2, -1, 1, 2, 4]], [[-5, -3, 1, 3, 7]]])


def _forecasts(
    n: int, seed: int, width: float = 1.0, holes: float = 0.2
) -> tuple[npt.NDArray[np.int64], _Array, _Array]:
    """Origins with gaps, normal quantiles (N, 3, 5) of a drifting width and what came (N, 3), some of it missing."""
    rng = np.random.default_rng(seed)
    hours = np.flatnonzero(rng.random(2 * n) > holes)[:n]
    scale = 0.01 * np.sqrt(_HORIZONS) * np.exp(rng.normal(0, 0.3, (len(hours), 1)))
    actual = rng.normal(0, 1, (len(hours), 3)) * scale
    quantiles = (0.001 * rng.normal(size=(len(hours), 1, 1)) + width * _NORMAL) * scale[:, :, None]
    actual[rng.random(actual.shape) < holes] = np.nan
    return _AT + hours * HOUR_S, quantiles, actual


def _walk_by_hand(
    state: ConformalState, origin: npt.NDArray[np.int64], quantiles: _Array, actual: _Array
) -> _Array:
    """Each forecast stretched by what had come by its origin, all sums anew each time."""
    out = np.full_like(quantiles, np.nan)
    for i, now in enumerate(origin.tolist()):
        age = (now - to_epoch(state.as_of)) / HOUR_S
        for k, h in enumerate(_HORIZONS):
            for j, level in enumerate(_LEVELS):
                total = state.shift[k][j] * 0.5 ** (max(age, 0) / state.halflife_h)
                for past in range(i):
                    came = int(origin[past]) + h * HOUR_S
                    if not to_epoch(state.as_of) < came <= now or np.isnan(actual[past, k]):
                        continue
                    miss = level - (1 if actual[past, k] <= out[past, k, j] else 0)
                    fading = 0.5 ** ((now - came) / HOUR_S / state.halflife_h)
                    total += state.rate / h**0.5 * miss * ((level > 0.5) - (level < 0.5)) * fading
                stretch = np.exp(min(max(total, -_LIMIT), _LIMIT))
                out[i, k, j] = quantiles[i, k, 2] + (quantiles[i, k, j] - quantiles[i, k, 2]) * stretch
            out[i, k].sort()
    return out


@pytest.mark.parametrize(
    ("seed", "before_h", "shift", "rate", "halflife_h"),
    [
        (1, 0, 0.0, 0.005, 2160.0),
        (2, 200, 0.3, 0.1, 24.0),
        (3, -12, 0.2, 0.1, 100.0),
        (4, 0.5, -0.9, 0.1, 1e6),
    ],
)
def test_a_walk_is_what_the_slow_way_gives(
    seed: int, before_h: float, shift: float, rate: float, halflife_h: float
) -> None:
    """Over gaps and missing closes, from an older state or from one in the midst, each forecast knows what had come."""
    origin, quantiles, actual = _forecasts(50, seed)
    state = _state(shift, rate, halflife_h, int(origin[0] - before_h * HOUR_S))
    made, _end = walk(state, origin, quantiles, actual)
    np.testing.assert_allclose(made, _walk_by_hand(state, origin, quantiles, actual), rtol=1e-10, atol=1e-14)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), state=_states)
def test_a_walk_is_what_serving_does(seed: int, state: ConformalState) -> None:
    """Prices that were recorded hour by hour, and outcomes made of them, give the walk's shifts and its last state."""
    origin, quantiles, actual = _forecasts(60, seed)
    last = 60_000 * np.exp(np.random.default_rng(seed).normal(0, 0.02, len(origin)))
    made, end = walk(state, origin, quantiles, actual)
    times = origin[:, None] + np.array(_HORIZONS) * HOUR_S
    horizon = np.broadcast_to(_HORIZONS, times.shape)
    known = Outcomes.none(5)
    recorded = np.empty_like(made)
    for i, now in enumerate(origin):
        shift = shifts_at(state, known, np.array([now]))[0]
        recorded[i] = last[i] * np.exp(shifted(quantiles[i], shift, 2))
        price = last[i] * np.exp(actual[i])
        known = known.joined(Outcomes.of(times[i], horizon[i], recorded[i], price))
    np.testing.assert_allclose(np.log(recorded / last[:, None, None]), made, rtol=1e-9, atol=1e-13)
    went_on = advance(state, known, from_epoch(int(origin[-1])))
    np.testing.assert_allclose(np.asarray(end.shift), np.asarray(went_on.shift), rtol=1e-9, atol=1e-12)
    assert end.as_of == max(went_on.as_of, state.as_of)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(1, 79))
def test_a_walk_never_sees_what_comes(seed: int, cut: int) -> None:
    """Closes after an origin, and later forecasts, change nothing up to it, to the bit."""
    origin, quantiles, actual = _forecasts(80, seed, holes=0.0)
    other, later = actual.copy(), quantiles.copy()
    came = origin[:, None] + np.array(_HORIZONS) * HOUR_S
    unseen = came > origin[cut]
    other[unseen] = np.random.default_rng(seed).normal(0, 9, int(unseen.sum()))
    later[cut + 1 :] *= 3
    before, after = (
        walk(_state(rate=0.1), origin, q, a)[0] for q, a in ((quantiles, actual), (later, other))
    )
    assert np.array_equal(before[: cut + 1], after[: cut + 1])


def test_forecasts_that_stay_as_they_are_still_teach() -> None:
    """The floor's forecasts are not stretched, and their outcomes move what comes after them."""
    origin, quantiles, actual = _forecasts(60, 5, width=0.5, holes=0.0)
    still = np.arange(60) < 30
    made, _ = walk(_state(rate=0.1), origin, quantiles, actual, still)
    assert np.array_equal(made[:30], quantiles[:30])
    alone, _ = walk(_state(rate=0.1), origin[30:], quantiles[30:], actual[30:])
    width, fresh = (part[:, 0, -1] - part[:, 0, 0] for part in (made[30:], alone))
    assert width[0] > fresh[0]


def test_a_forecast_that_is_no_number_teaches_nothing() -> None:
    """A row of NaN stays NaN and leaves the others as if its close had not come."""
    origin, quantiles, actual = _forecasts(60, 6, holes=0.0)
    quantiles[20, 1, 3] = np.nan
    without = actual.copy()
    without[20, 1] = np.nan
    made, end = walk(_state(rate=0.1), origin, quantiles, actual)
    again, same = walk(_state(rate=0.1), origin, quantiles, without)
    assert end == same
    assert np.array_equal(made, again, equal_nan=True)
    assert np.isnan(made).sum(axis=(1, 2)).nonzero()[0].tolist() == [20]


def test_a_walk_over_nothing_leaves_the_state() -> None:
    """Without an origin there are no quantiles, and the state is the one that was given."""
    state = _state(0.2)
    made, end = walk(state, np.empty(0, np.int64), np.empty((0, 3, 5)), np.empty((0, 3)))
    assert made.shape == (0, 3, 5)
    assert end is state


def _coverage(quantiles: _Array, actual: _Array) -> _Array:
    """(H, Q): how often the close was not above each quantile."""
    share: _Array = (actual[:, :, None] <= quantiles).mean(axis=0)
    return share


@pytest.mark.parametrize("width", [0.7, 1.4])
def test_coverage_comes_right_in_the_long_run(width: float) -> None:
    """Forecasts that are always too narrow or too wide cover what they promise after some hundred outcomes."""
    origin, quantiles, actual = _forecasts(6000, 7, width, holes=0.0)
    state = _state(rate=0.03, halflife_h=1e6)
    made, _ = walk(state, origin, quantiles, actual)
    off = np.abs(_coverage(made[2000:], actual[2000:]) - _LEVELS)
    was = np.abs(_coverage(quantiles[2000:], actual[2000:]) - _LEVELS)
    assert (was[:, [0, 1, 3, 4]] > 0.02).all()
    assert (off[:2] < 0.01).all()
    assert (off < 0.02).all()


def test_the_rate_in_use_mends_most_of_a_wrong_width() -> None:
    """With the defaults a year of hourly closes takes away more than half of the next hours' miscoverage."""
    origin, quantiles, actual = _forecasts(8760, 9, 0.7, holes=0.0)
    made, _ = walk(_state(), origin, quantiles, actual)
    off, was = (np.abs(_coverage(part[4000:], actual[4000:]) - _LEVELS) for part in (made, quantiles))
    assert (off[0, [0, 4]] < 0.5 * was[0, [0, 4]]).all()
    assert (off[:, [0, 4]] < was[:, [0, 4]]).all()


def test_a_stretch_is_bounded() -> None:
    """However long every close is missed, a quantile is at most about twice as far from the median."""
    n = 3000
    origin = _AT + HOUR_S * np.arange(n)
    quantiles = np.broadcast_to(0.01 * _NORMAL, (n, 3, 5)).copy()
    made, end = walk(_state(rate=0.1), origin, quantiles, np.full((n, 3), 9.0))
    stretch = made[-1, 0, 4] / quantiles[-1, 0, 4]
    assert stretch == pytest.approx(np.exp(_LIMIT))
    assert end.shift[0][4] > _LIMIT
    assert np.abs(end.table).max() == _LIMIT


@settings(max_examples=30, deadline=None)
@given(_states, _rows)
def test_a_state_is_read_back_exactly(state: ConformalState, rows: list[tuple[int, int, int]]) -> None:
    """What is written as JSON is the same state when it is read, and is written the same again."""
    went_on = advance(state, _outcomes(rows), state.as_of + _hours(100))
    written = went_on.model_dump_json()
    again = ConformalState.model_validate_json(written)
    assert again == went_on
    assert again.model_dump_json() == written


def test_a_state_starts_without_a_stretch() -> None:
    """Before any outcome nothing is stretched."""
    state = ConformalState.start(from_epoch(_AT), _HORIZONS, _LEVELS)
    assert not state.table.any()
    assert state.table.shape == (3, 5)
    assert np.array_equal(shifted(np.array([_NORMAL]), state.table[:1], 2), np.array([_NORMAL]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shift": ((0.0,) * 5,) * 2}, "Value error, shift must have the shape (horizons, levels)"),
        (
            {"shift": ((0.0,) * 5, (0.0,) * 5, (0.0,))},
            "Value error, shift must have the shape (horizons, levels)",
        ),
        ({"shift": ((float("nan"),) * 5,) * 3}, "Input should be a finite number"),
        (
            {"horizons": (3, 1, 24)},
            "Value error, horizons and levels must be ascending and distinct, levels hold 0.5",
        ),
        (
            {"levels": (0.1, 0.2, 0.3, 0.4, 0.6)},
            "Value error, horizons and levels must be ascending and distinct, levels hold 0.5",
        ),
        ({"horizons": (0, 1, 2)}, "Input should be greater than 0"),
        ({"rate": 0.2}, "Input should be less than or equal to 0.1"),
        ({"halflife_h": 1.0}, "Input should be greater than or equal to 24"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    """Tables of another shape, axes out of order and numbers that are none are named."""
    with pytest.raises(ValidationError) as caught:
        ConformalState(**{**_state().model_dump(), **changes})
    assert caught.value.errors()[0]["msg"] == message
