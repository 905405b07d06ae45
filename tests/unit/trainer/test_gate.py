"""The gate and the measures that it goes by."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourcast.contracts import HOUR_S, Bars, FloatArray, parse_hour, to_epoch
from hourcast.forecaster import LEVELS
from hourcast.verification import Figures, figures, pinball
from hourcast_trainer.gate import decide, level_of_look, pooled, stays
from hourcast_trainer.measuring import Measured
from tests.placebos import (
    GATE_LEVEL,
    MARGIN,
    gate_passes,
    recorded_pair,
    recorded_years,
    synthetic_span,
    windows,
    years,
)
from tests.unit.trainer.test_paired import at_most

_DAYS = 14


def _measured(next_hour: float = 1.0, later: float = 1.0, off: float = 0.0, days: int = _DAYS) -> Measured:
    """Closes that move by 100 either way; forecasts one and two hours ahead whose pinball losses grow with each figure.

    `next_hour` and `later` make the loss of their horizon so many times larger, `off` shifts the median one hour ahead.
    """
    n = 24 * days
    rng = np.random.default_rng(4)
    last = np.full(n, 60_000.0)
    actual = last[:, None] + 100 * rng.choice([-1.0, 1.0], (n, 2)) * rng.uniform(0.9, 1.1, (n, 2))
    quantiles = np.empty((n, 2, len(LEVELS)))
    for j, times in enumerate((next_hour, later)):
        miss = actual[:, j] - last
        quantiles[:, j] = (actual[:, j] - times * miss)[:, None]
    quantiles[:, 0, LEVELS.index(0.5)] += off
    origin = to_epoch(parse_hour("2024-06-03")) + HOUR_S * np.arange(n)
    return Measured(origin, last, quantiles, actual)


@pytest.mark.parametrize(
    ("next_hour", "later", "named"), [(1.05, 1.0, "pinball 1 h"), (1.0, 1.05, "pinball all")]
)
def test_each_figure_alone_can_fail_a_candidate(next_hour: float, later: float, named: str) -> None:
    """One figure that is worse by more than the margin is enough, and the reason names it with its ratio."""
    naive = _measured()
    assert decide(_measured(), {"naive": naive}, 0.01, 0.1).passed
    failed = decide(_measured(next_hour, later), {"naive": naive}, 0.01, 0.1)
    assert not failed.passed
    assert failed.reason.startswith("not shown to be at most 1 % worse: ")
    assert f"{named} / naive = {failed.ratios[f'{named} / naive']:.4f} (p = " in failed.reason
    assert failed.ratios[f"{named} / naive"] > 1.01


def test_the_point_forecast_counts_by_its_figure() -> None:
    """A median that strays fails by its RMSE alone, though its quantiles lose no more than is allowed."""
    failed = decide(_measured(off=30.0), {"naive": _measured()}, 0.02, 0.1)
    assert failed.reason == "not shown to be at most 2 % worse: RMSE 1 h / naive = 1.0580"


def test_a_pass_says_what_was_shown() -> None:
    """The reason of a pass names every figure with its ratio and p, and the evidence has each test whole."""
    passed = decide(_measured(0.9, 0.9), {"naive": _measured()}, 0.02, 0.1)
    assert passed.reason == (
        "at most 2 % worse than every baseline (each p < 0.1): pinball 1 h / naive = 0.9000 (p < 0.0001), "
        "pinball all / naive = 0.9000 (p < 0.0001), RMSE 1 h / naive = 0.9000"
    )
    assert set(passed.evidence) == {"pinball 1 h / naive", "pinball all / naive"}
    test = passed.evidence["pinball 1 h / naive"]
    assert set(test) == {"ratio", "difference", "t", "p", "days"}
    assert (test["days"], test["ratio"]) == (_DAYS, pytest.approx(0.9))


def test_every_baseline_counts() -> None:
    """A candidate that beats naive and not the champion fails, and the reason names the champion alone."""
    decision = decide(_measured(0.9, 0.9), {"naive": _measured(), "champion": _measured(0.8, 0.9)}, 0.01, 0.1)
    assert not decision.passed
    assert decision.reason == (
        "not shown to be at most 1 % worse: pinball 1 h / champion = 1.1250 (p = 1.0000), "
        "pinball all / champion = 1.0625 (p = 1.0000), RMSE 1 h / champion = 1.1250"
    )


def test_a_figure_that_is_no_number_fails() -> None:
    """NaN never passes."""
    assert not decide(_measured(float("nan")), {"naive": _measured()}, 0.5, 0.5).passed


def test_a_few_hours_show_nothing() -> None:
    """Four days of a forecast that is no worse are not enough to show it."""
    assert not decide(_measured(0.9, days=4), {"naive": _measured(days=4)}, 0.02, 0.1).passed


def test_hours_that_only_one_has_are_left_out() -> None:
    """A candidate is held against each baseline on the hours that both forecast."""
    late = _measured(0.9).take(np.arange(48, 24 * _DAYS))
    assert decide(late, {"naive": _measured()}, 0.02, 0.1).evidence["pinball all / naive"]["days"] == 12


def test_what_is_served_stays_until_it_is_seen_to_be_worse() -> None:
    """The incumbent has been shown before: figures within the margin suffice, where a candidate would have to show it."""
    rng = np.random.default_rng(8)
    span = synthetic_span(rng, _DAYS)
    naive = span.measured(span.sharp)
    level = span.measured(span.widened(span.sharp, np.exp(rng.normal(0, 0.25, (24 * _DAYS, 1)))))
    assert not decide(level, {"naive": naive}, MARGIN, 1e-6).passed
    assert stays(level, naive, MARGIN)
    assert not stays(span.measured(span.widened(span.sharp, 2.0)), naive, MARGIN)


def _at_the_margin() -> float:
    """The factor on true intervals by which the expected loss is 2 % larger."""
    rng = np.random.default_rng(1)
    low, high = 1.0, 2.0
    spans = [synthetic_span(rng) for _ in range(20)]

    def excess(factor: float) -> float:
        ours = sum(pinball(s.actual, s.widened(s.sharp, factor), LEVELS).sum() for s in spans)
        theirs = sum(pinball(s.actual, s.sharp, LEVELS).sum() for s in spans)
        return float(ours / theirs - 1 - MARGIN)

    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return low


def test_what_is_worse_by_the_margin_passes_no_more_often_than_stated() -> None:
    """Of a thousand candidates whose true loss is just 2 % above naive's, no more than one in ten pass."""
    factor, rng = _at_the_margin(), np.random.default_rng(2)
    passed = 0
    for _ in range(1000):
        span = synthetic_span(rng, _DAYS)
        candidate = span.measured(span.widened(span.sharp, factor))
        passed += decide(candidate, {"naive": span.measured(span.sharp)}, MARGIN, GATE_LEVEL).passed
    assert at_most(passed, 1000, GATE_LEVEL), passed


def test_what_is_better_passes_most_weeks() -> None:
    """Of candidates whose true loss is 3 % below naive's, nine in ten pass on a fortnight."""
    rng = np.random.default_rng(3)
    spans = [synthetic_span(rng, _DAYS) for _ in range(200)]
    passed = sum(
        decide(s.measured(s.sharp), {"naive": s.measured(s.blunt)}, MARGIN, GATE_LEVEL).passed for s in spans
    )
    assert passed >= 180


def test_a_real_model_passes_most_recorded_weeks(market_bars: dict[str, Bars]) -> None:
    """A plain volatility model, 2 to 3 % better than naive over a year of recorded bars, passes nine fortnights in ten."""
    passed = gate_passes(market_bars["BTC/USDT"])
    assert len(passed) > 50
    assert np.mean(passed) >= 0.9


def test_a_year_of_looks_lets_through_what_is_too_bad_no_more_often_than_stated() -> None:
    """Worse by the margin all year: of looks by themselves 98 years in 100 pass some, and 5 weeks of 52; together one year in ten at most."""
    made = years(_at_the_margin(), 200, 5)
    assert np.mean([y.alone.any() for y in made]) > 0.9
    assert 3 < np.mean([y.alone.sum() for y in made]) < 7
    passed = sum(bool(y.together.any()) for y in made)
    assert at_most(passed, 200, GATE_LEVEL), passed


def test_a_year_of_looks_passes_a_real_model(market_bars: dict[str, Bars]) -> None:
    """In recorded half-years a plain volatility model passes nineteen looks in twenty, the first one nine times in ten."""
    made = recorded_years(market_bars["BTC/USDT"])
    assert len(made) > 30
    assert np.mean([y.together.mean() for y in made]) >= 0.95
    assert np.mean([y.together[0] for y in made]) >= 0.9


def _look(first: int, gains: list[float]) -> dict[str, dict[int, float]]:
    return {"loss": dict(enumerate(gains, first))}


def test_a_day_counts_once_by_the_candidate_that_came_first() -> None:
    """Windows of neighbouring weeks overlap; a quarter is looked back at, and a year of looks is counted."""
    rng = np.random.default_rng(1)
    gains = rng.normal(1, 1, 21).tolist()
    later = dict.fromkeys(range(7, 14), -9.0) | dict(enumerate(gains[14:], 14))
    test, number = pooled([_look(0, gains[:14])], "loss", later)
    assert (test.days, number) == (21, 2)
    assert test.gain == pytest.approx(np.mean(gains))
    far = {day + 98: gain for day, gain in later.items()}
    test, number = pooled([_look(0, gains[:14]), {"other": {100: 1.0}}], "loss", far)
    assert (test.days, number) == (14, 2)
    assert pooled([_look(0, gains[:14])], "loss", {day + 400: gain for day, gain in later.items()})[1] == 1


def test_the_levels_of_all_looks_add_up_to_one() -> None:
    """However many there are, they spend no more than the level."""
    assert 0.09 < sum(level_of_look(k, 0.1) for k in range(1, 1000)) < 0.1


def test_a_look_that_is_good_by_itself_fails_where_those_before_it_were_not() -> None:
    """The reason says over how many days it did not hold, and what is asked for at this look."""
    bad = [decide(_measured(1.05, 0.7), {"naive": _measured()}, 0.02, 0.1).look]
    early = {key: {day - 10: gain for day, gain in days.items()} for key, days in bad[0].items()}
    assert decide(_measured(0.99, 0.7), {"naive": _measured()}, 0.02, 0.1, []).passed
    failed = decide(_measured(0.99, 0.7), {"naive": _measured()}, 0.02, 0.1, [early])
    test = failed.evidence["pinball 1 h / naive"]
    assert failed.reason == (
        "not shown to be at most 2 % worse: pinball 1 h / naive over 24 days "
        f"(p = {test['pooled_p']:.4f}, and 0.015 is asked for at look 2 of a year)"
    )
    assert (test["look"], test["pooled_days"]) == (2, 24)


def test_intervals_that_are_too_wide_fail_most_recorded_weeks(market_bars: dict[str, Bars]) -> None:
    """Naive with intervals 60 % wider, some 4 % worse over the year, passes one fortnight in ten at most."""
    naive, _model = recorded_pair(market_bars["BTC/USDT"])
    centre = naive.quantiles[:, :, [LEVELS.index(0.5)]]
    wide = Measured(naive.origin, naive.last_close, centre + 1.6 * (naive.quantiles - centre), naive.actual)
    worse = (
        pinball(wide.actual, wide.quantiles, LEVELS).mean()
        / pinball(naive.actual, naive.quantiles, LEVELS).mean()
    )
    assert worse > 1.03
    passed = [decide(w, {"naive": n}, MARGIN, GATE_LEVEL).passed for n, w in windows((naive, wide), _DAYS, 7)]
    assert at_most(sum(passed), len(passed), GATE_LEVEL)


@given(st.integers(0, 2**32 - 1))
def test_true_quantiles_have_the_least_loss(seed: int) -> None:
    """Against normal draws, the true quantiles beat the same made wider."""
    draws = np.random.default_rng(seed).normal(size=4000)
    true: FloatArray = np.quantile(np.random.default_rng(0).normal(size=200_000), LEVELS)
    made = np.broadcast_to(true, (4000, len(LEVELS)))
    assert pinball(draws, made, LEVELS).mean() < pinball(draws, made * 1.5, LEVELS).mean()


def test_figures_of_a_perfect_forecast() -> None:
    """A forecast that is right has no error and covers."""
    actual = np.array([1.0, 2.0])
    made = np.repeat(actual[:, None], len(LEVELS), axis=1)
    assert figures(actual, made, LEVELS) == Figures(2, 0.0, 0.0, 0.0, 1.0)
