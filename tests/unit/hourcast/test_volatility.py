"""How wide the coming hours are expected to be: fitted from sizes alone, never running away."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hourcast.contracts import HOUR_S, parse_hour, to_epoch
from hourcast.errors import DataError
from hourcast.volatility import HALFLIVES_H, VolatilitySpec, fit_volatility, hour_of_week, season
from tests.specs import START, volatility_of

_HORIZONS = (1, 6, 24)
_TRUE = np.array(
    [
        [-4.6, 0.25, 0.10, 0.15, 0.05, 0.02],
        [-3.7, 0.10, 0.15, 0.20, 0.10, 0.05],
        [-3.0, 0.00, 0.05, 0.20, 0.20, 0.10],
    ]
)
_Array = npt.NDArray[np.float64]


def _levels(n: int, seed: int, k: int = 5) -> _Array:
    """Log-volatilities (n, k) around -4.6 that move apart from each other."""
    return np.random.default_rng(seed).normal(-4.6, [0.6, 0.5, 0.4, 0.3, 0.25][:k], (n, k))


def _sample(n: int = 20_000, seed: int = 3) -> tuple[_Array, _Array, _Array]:
    """Log-volatilities, usual sizes and log-returns whose sizes are gamma with the true weights' mean."""
    rng = np.random.default_rng(seed)
    level = _levels(n, seed)
    standard = (level - level.mean(axis=0)) / level.std(axis=0)
    seasonal = rng.uniform(0.5, 2, (n, len(_HORIZONS)))
    mean = np.exp(_TRUE[:, 0] + standard @ _TRUE[:, 1:].T) * seasonal
    return level, seasonal, mean * rng.gamma(1.5, 1 / 1.5, mean.shape) * rng.choice([-1, 1], mean.shape)


def test_known_weights_are_found_again() -> None:
    """On sizes of a gamma distribution with known weights, the fit finds them."""
    spec = fit_volatility(*_sample(), _HORIZONS)
    np.testing.assert_allclose(np.asarray(spec.weights), _TRUE, atol=0.03)
    assert spec.halflives_h == HALFLIVES_H
    assert spec.horizons == _HORIZONS


def test_sizes_are_right_on_average() -> None:
    """The mean of size over scale is 1 at each horizon, whatever the distribution."""
    level, seasonal, _ = _sample(4000)
    change = np.random.default_rng(8).standard_t(3, (4000, 3)) * 0.01
    scale = fit_volatility(level, seasonal, change, _HORIZONS).scale(level, seasonal, _HORIZONS)
    np.testing.assert_allclose((np.abs(change) / scale).mean(axis=0), 1, rtol=2e-3)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.01, 100))
def test_twice_the_returns_are_twice_the_scale(factor: float) -> None:
    """Multiplying every return moves the constant by the logarithm and leaves the weights."""
    level, seasonal, change = _sample(600)
    once = np.asarray(fit_volatility(level, seasonal, change, _HORIZONS).weights)
    times = np.asarray(fit_volatility(level, seasonal, change * factor, _HORIZONS).weights)
    np.testing.assert_allclose(times[:, 0], once[:, 0] + np.log(factor), atol=1e-6)
    np.testing.assert_allclose(times[:, 1:], once[:, 1:], atol=1e-6)


def test_what_has_not_come_has_no_say() -> None:
    """Missing returns of one horizon leave the other horizons' weights as they are, and count for nothing there."""
    level, seasonal, change = _sample(3000)
    whole = fit_volatility(level, seasonal, change, _HORIZONS)
    holed = change.copy()
    holed[::2, 1] = np.nan
    fitted = fit_volatility(level, seasonal, holed, _HORIZONS)
    assert (fitted.weights[0], fitted.weights[2]) == (whole.weights[0], whole.weights[2])
    assert fitted.weights[1] != whole.weights[1]
    np.testing.assert_allclose(fitted.weights[1], _TRUE[1], atol=0.1)


def test_no_return_at_all_is_refused() -> None:
    """A horizon over which nothing came is named."""
    level, seasonal, change = _sample(100)
    change[:, 2] = np.nan
    with pytest.raises(DataError) as caught:
        fit_volatility(level, seasonal, change, _HORIZONS)
    assert str(caught.value) == "there is no log-return over 24 h to learn a volatility from"


@pytest.mark.parametrize("seed", range(5))
def test_the_wildest_returns_do_not_run_away(seed: int) -> None:
    """Returns without a mean, and a single jump of a million, give weights that are worth no less than a constant."""
    rng = np.random.default_rng(seed)
    level = np.cumsum(rng.normal(0, 0.03, (720, 5)), axis=0)
    jump = rng.normal(0, 1, 720)
    jump[300] = 1e6
    change = np.stack([rng.standard_cauchy(720), rng.standard_t(1.5, 720), jump], axis=1)
    flat = np.ones((720, 3))
    spec = fit_volatility(level, flat, change, _HORIZONS)
    scale = spec.scale(level, flat, _HORIZONS)
    size = np.abs(change) + 1e-3 * np.abs(change).mean(axis=0)
    assert (np.abs(np.asarray(spec.weights)[:, 1:]) < 5).all()
    loss, constant = (np.sum(np.log(s) + size / s, axis=0) for s in (scale, size.mean(axis=0) * flat))
    assert (loss <= constant).all()


def test_returns_of_nothing_but_zeros_give_a_scale() -> None:
    """A price that never moved has a tiny, finite scale."""
    level = _levels(800, 1)
    spec = fit_volatility(level, np.ones((800, 3)), np.zeros((800, 3)), _HORIZONS)
    scale = spec.scale(level, np.ones((800, 3)), _HORIZONS)
    assert np.isfinite(scale).all()
    assert (scale > 0).all()


_numbers = st.floats(-20, 5)


@settings(max_examples=60, deadline=None)
@given(
    levels=st.lists(_numbers, min_size=5, max_size=5),
    which=st.integers(0, 4),
    more=st.floats(0, 10),
    weights=st.lists(st.floats(-1, 1), min_size=6, max_size=6),
)
def test_more_volatility_of_positive_weight_is_a_wider_scale(
    levels: list[float], which: int, more: float, weights: list[float]
) -> None:
    """The scale is above 0 and goes up with a log-volatility of positive weight, down with one of negative."""
    spec = volatility_of((1,)).model_copy(update={"weights": (tuple(weights),)})
    before = np.array([levels])
    after = before.copy()
    after[0, which] += more
    a, b = (spec.scale(part, np.ones((1, 1)), (1,))[0, 0] for part in (before, after))
    assert a > 0
    assert np.sign(weights[which + 1]) * (b - a) >= -1e-12 * a


def test_far_outside_a_straight_line_does_not_go_on() -> None:
    """Beyond five spreads from the centre the scale stays where it is."""
    spec = volatility_of((1, 24))
    centre, spread = np.asarray(spec.centre), np.asarray(spec.spread)
    edge, far = (spec.scale((centre + n * spread)[None], np.ones((1, 2)), (1, 24)) for n in (5, 500))
    low, lower = (spec.scale((centre - n * spread)[None], np.ones((1, 2)), (1, 24)) for n in (5, 500))
    np.testing.assert_allclose(edge, far, rtol=1e-12)
    np.testing.assert_allclose(low, lower, rtol=1e-12)
    assert (edge > low).all()


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 70), k=st.integers(1, 5), seed=st.integers(0, 1000), last=st.integers(1, 24))
def test_a_row_and_a_horizon_stand_alone(n: int, k: int, seed: int, last: int) -> None:
    """The scale of many rows and horizons is, to the bit, that of each row and each horizon alone."""
    horizons = tuple(range(1, last + 1))
    spec = volatility_of(horizons, HALFLIVES_H[:k])
    levels = _levels(n, seed, k)
    origins = START + np.random.default_rng(seed).integers(0, 5000, n) * HOUR_S
    ahead = season(tuple(np.linspace(0.5, 1.5, 168)), origins, horizons)
    together = spec.scale(levels, ahead, horizons)
    assert together.shape == (n, last)
    chosen = horizons[::-2]
    for i in range(n):
        row = season(tuple(np.linspace(0.5, 1.5, 168)), origins[i : i + 1], chosen)
        alone = spec.scale(levels[i : i + 1], row, chosen)
        assert np.array_equal(alone[0], together[i, ::-2])


def test_hours_of_the_week_begin_on_thursday() -> None:
    """Hour 0 is Thursday 00:00 UTC and hour 167 the one before it."""
    moments = [
        to_epoch(parse_hour(text))
        for text in ("1970-01-01", "2024-06-06", "2024-06-05T23:00Z", "2024-06-07T05:59Z")
    ]
    assert hour_of_week(np.array(moments)).tolist() == [0, 0, 167, 29]


@settings(max_examples=40, deadline=None)
@given(
    origin=st.integers(0, 500_000),
    seed=st.integers(0, 1000),
    horizons=st.sets(st.integers(1, 200), min_size=1, max_size=6),
)
def test_the_season_is_the_root_of_summed_squares_ahead(origin: int, seed: int, horizons: set[int]) -> None:
    """Over h hours it is what the factors of the h hours after the origin add up to, across the end of the week too."""
    factors = np.random.default_rng(seed).uniform(0.2, 3, 168)
    wanted = tuple(horizons)
    made = season(tuple(factors), np.array([origin * HOUR_S]), wanted)[0]
    by_hand = [sum(factors[(origin + step) % 168] ** 2 for step in range(1, h + 1)) ** 0.5 for h in wanted]
    np.testing.assert_allclose(made, by_hand, rtol=1e-12)


def test_without_a_season_width_goes_with_the_root_of_time() -> None:
    """Factors of 1 give the square root of the horizon from every origin."""
    made = season((1.0,) * 168, START + np.arange(3) * HOUR_S, (1, 4, 9, 24))
    np.testing.assert_allclose(made, np.sqrt([[1, 4, 9, 24]] * 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"centre": (0.0,)}, "Value error, centre and spread must have a number a half-life, spread above 0"),
        (
            {"spread": (1.0, 0.0)},
            "Value error, centre and spread must have a number a half-life, spread above 0",
        ),
        (
            {"spread": (1.0, 1.0, 1.0)},
            "Value error, centre and spread must have a number a half-life, spread above 0",
        ),
        (
            {"weights": ((0.0, 1.0, 1.0),)},
            "Value error, weights must have the shape (horizons, 1 + half-lives)",
        ),
        (
            {"weights": ((0.0, 1.0), (0.0,))},
            "Value error, weights must have the shape (horizons, 1 + half-lives)",
        ),
        (
            {"horizons": (), "weights": ()},
            "Value error, weights must have the shape (horizons, 1 + half-lives)",
        ),
        ({"weights": ((0.0, 1.0, float("nan")),) * 2}, "Input should be a finite number"),
        ({"centre": (0.0, float("inf"))}, "Input should be a finite number"),
        ({"halflives_h": (0.0, 1.0)}, "Input should be greater than 0"),
        ({"horizons": (0, 1)}, "Input should be greater than 0"),
    ],
)
def test_a_specification_that_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    """Tables of another shape, numbers that are none and times of nothing are named."""
    values = volatility_of((1, 2), (2.0, 6.0)).model_dump()
    with pytest.raises(ValidationError) as caught:
        VolatilitySpec(**{**values, **changes})
    assert caught.value.errors()[0]["msg"] == message


def test_a_fitted_specification_is_read_back_exactly() -> None:
    """What is written as JSON is the same specification when it is read."""
    spec = fit_volatility(*_sample(500), _HORIZONS)
    assert VolatilitySpec.model_validate_json(spec.model_dump_json()) == spec
