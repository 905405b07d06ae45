"""Tests of paired losses: their arithmetic by hand, and how often they find what is not there."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourcast.contracts import HOUR_S, parse_hour, to_epoch
from hourcast_trainer.paired import daily, mean_test, paired_test, student_tail, weakest_without_a_week

_START = to_epoch(parse_hour("2024-06-03"))


def _hours(n: int) -> np.ndarray:
    return _START + HOUR_S * np.arange(n)


# Abramowitz and Stegun, "Handbook of Mathematical Functions", table 26.10; the last two are Cauchy and nearly normal.
@pytest.mark.parametrize(
    ("t", "freedom", "tail"),
    [
        (2.015, 5, 0.05),
        (2.821, 9, 0.01),
        (1.725, 20, 0.05),
        (2.390, 60, 0.01),
        (1.0, 1, 0.25),
        (1.645, 1e6, 0.05),
    ],
)
def test_the_tail_of_students_t_is_that_of_the_tables(t: float, freedom: float, tail: float) -> None:
    """One-sided tails agree with the printed tables to their last digit, and both sides sum to one."""
    assert student_tail(t, freedom) == pytest.approx(tail, abs=3e-5)
    assert student_tail(-t, freedom) == pytest.approx(1 - tail, abs=3e-5)


@given(st.floats(-40, 40), st.floats(-40, 40), st.floats(0.5, 1e5))
def test_a_larger_t_proves_no_less(a: float, b: float, freedom: float) -> None:
    """The tail is a probability and never grows with t, whatever the degrees of freedom."""
    low, high = sorted((a, b))
    assert 0 <= student_tail(high, freedom) <= student_tail(low, freedom) * (1 + 1e-9) <= 1 + 1e-9


def test_the_statistic_is_the_textbook_one() -> None:
    """Newey and West's variance with two lags, corrected by what it is of the truth where values are independent, by hand."""
    gain = np.array([1.0, 2.0, -1.0, 3.0, 0.5, 2.5, 1.5, -0.5])
    n, c = 8, gain - gain.mean()
    auto = [float(c[k:] @ c[: n - k]) / n for k in range(3)]
    long_run = auto[0] + 2 * (2 / 3 * auto[1] + 1 / 3 * auto[2])
    weights = np.array([[max(0.0, 1 - abs(i - j) / 3) for i in range(n)] for j in range(n)])
    centre = np.eye(n) - 1 / n
    form = centre @ weights @ centre / n
    t, p = mean_test(gain, 2)
    assert t == pytest.approx(gain.mean() / np.sqrt(long_run / np.trace(form) / n))
    assert p == pytest.approx(student_tail(t, np.trace(form) ** 2 / np.trace(form @ form)))


def test_without_lags_it_is_students_own_test() -> None:
    """The statistic of independent values is the one-sample t with n - 1 degrees of freedom."""
    gain = np.random.default_rng(0).normal(0.3, 1, 12)
    t, p = mean_test(gain, 0)
    assert t == pytest.approx(gain.mean() / (gain.std(ddof=1) / np.sqrt(12)))
    assert p == student_tail(t, 11)


def test_days_keep_the_mean_whatever_hours_are_missing() -> None:
    """A day that lacks hours counts for less, one without any for nothing, and the mean of the days is that of the hours."""
    rng = np.random.default_rng(1)
    kept = np.flatnonzero((rng.random(24 * 10) < 0.8) & (np.arange(24 * 10) // 24 != 4))
    gain = rng.normal(1, 3, len(kept))
    days = daily(gain, _hours(24 * 10)[kept])
    assert len(days) == 9
    assert days.mean() == pytest.approx(gain.mean())


@pytest.mark.parametrize("gain", [np.zeros(24 * 20), np.full(24 * 20, np.nan), np.ones(0)])
def test_nothing_proves_nothing(gain: np.ndarray) -> None:
    """Equal losses, no numbers and no hours are no proof."""
    assert paired_test(gain, _hours(len(gain))).p == 1.0


def test_four_days_prove_nothing() -> None:
    """Fewer than five days are no sample, however large the gain."""
    gain = np.random.default_rng(0).normal(100, 1, 24 * 4)
    assert paired_test(gain, _hours(96)).p == 1.0
    assert weakest_without_a_week(np.tile(gain, 2), _hours(192))[1].p == 1.0


@given(st.integers(0, 35), st.floats(1, 1000))
def test_no_single_week_can_buy_it(first: int, gain: float) -> None:
    """A gain of one week alone is found out, wherever the week lies and however large the gain."""
    hours = np.random.default_rng(5).normal(-0.01, 1, 24 * 42)
    hours[24 * first : 24 * (first + 7)] += gain
    week, test = weakest_without_a_week(hours, _hours(len(hours)))
    assert test.p > 0.05
    assert abs(week - (_START + 86_400 * first)) <= 86_400 or gain < 3


def test_the_weakest_is_the_weakest_of_all() -> None:
    """It is what leaving out each run of seven days by hand gives at its worst."""
    hours = np.random.default_rng(9).standard_t(3, 24 * 28) + 0.3
    at = _hours(len(hours))
    by_hand = []
    for first in range(22):
        day = (at - _START) // 86_400
        kept = (day < first) | (day >= first + 7)
        by_hand.append(mean_test(daily(hours[kept], at[kept]), 2)[1])
    week, test = weakest_without_a_week(hours, at)
    assert test.p == pytest.approx(max(by_hand))
    assert week == _START + 86_400 * int(np.argmax(by_hand))


def _nothing(rng: np.random.Generator, n: int) -> np.ndarray:
    """Hourly differences without a gain: heavy-tailed, wilder on some days, correlated, with a rhythm of a day."""
    shocks = rng.standard_t(3, n + 2)
    wild = np.exp(np.repeat(rng.normal(0, 0.5, n // 24 + 1), 24))[:n]
    made: np.ndarray = (shocks[2:] + 0.3 * shocks[1:-1] + 0.2 * shocks[:-2]) * wild
    return made * (1 + 0.5 * np.sin(np.arange(n) * 2 * np.pi / 24))


def at_most(count: int, trials: int, level: float) -> bool:
    """Whether so many of so many do not speak against a rate of `level`: as many or more have a chance above 1 in 1000."""
    below = sum(comb(trials, i) * level**i * (1 - level) ** (trials - i) for i in range(count))
    return 1 - below > 1e-3


@pytest.mark.parametrize("days", [14, 42])
@pytest.mark.parametrize("level", [0.01, 0.05, 0.1])
def test_proof_is_found_no_more_often_than_stated(days: int, level: float) -> None:
    """Where there is no gain, p falls below a level in no larger share of two thousand samples."""
    rng = np.random.default_rng(days)
    found = sum(paired_test(_nothing(rng, 24 * days), _hours(24 * days)).p < level for _ in range(2000))
    assert at_most(found, 2000, level), f"{found} of 2000 at {level}"
