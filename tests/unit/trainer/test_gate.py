"""The gate and the measures that it goes by."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourcast.forecaster import LEVELS
from hourcast_trainer.gate import Scores, decide
from hourcast_trainer.metrics import Figures, better_p, figures, pinball


def _scores(pinball_1: float = 1.0, pinball_all: float = 1.0, rmse: float = 1.0) -> Scores:
    return Scores(Figures(10, rmse, 1, pinball_1, 0.9), Figures(240, 2, 2, pinball_all, 0.9))


@pytest.mark.parametrize("name", ["pinball_1", "pinball_all", "rmse"])
def test_each_figure_alone_can_fail_a_candidate(name: str) -> None:
    """One figure beyond the margin is enough, one at the margin is not."""
    assert decide(_scores(**{name: 1.01}), {"naive": _scores()}, 0.01).passed
    failed = decide(_scores(**{name: 1.02}), {"naive": _scores()}, 0.01)
    assert not failed.passed
    assert failed.reason.startswith("worse than allowed (1.01): ")
    assert failed.reason.endswith("/ naive = 1.0200")


def test_every_baseline_counts() -> None:
    """A candidate that beats naive and not the champion fails, and the reason names the champion."""
    decision = decide(_scores(0.9), {"naive": _scores(), "champion": _scores(0.8)}, 0.01)
    assert not decision.passed
    assert decision.reason == "worse than allowed (1.01): pinball 1 h / champion = 1.1250"


def test_a_figure_that_is_no_number_fails() -> None:
    """NaN never passes."""
    assert not decide(_scores(float("nan")), {"naive": _scores()}, 0.01).passed


def test_pinball_is_the_textbook_one() -> None:
    """Loss of a forecast below and above what came, by hand."""
    loss = pinball(np.array([10.0]), np.array([[8.0, 11.0]]), [0.1, 0.9])
    assert loss[0] == pytest.approx((0.1 * 2 + 0.1 * 1) / 2)


@given(st.integers(0, 2**32 - 1))
def test_true_quantiles_have_the_least_loss(seed: int) -> None:
    """Against normal draws, the true quantiles beat the same made wider."""
    draws = np.random.default_rng(seed).normal(size=4000)
    true = np.quantile(np.random.default_rng(0).normal(size=200_000), LEVELS)
    made = np.broadcast_to(true, (4000, len(LEVELS)))
    assert pinball(draws, made, LEVELS).mean() < pinball(draws, made * 1.5, LEVELS).mean()


def test_figures_of_a_perfect_forecast() -> None:
    """A forecast that is right has no error and covers."""
    actual = np.array([1.0, 2.0])
    made = np.repeat(actual[:, None], len(LEVELS), axis=1)
    assert figures(actual, made, LEVELS) == Figures(2, 0.0, 0.0, 0.0, 1.0)


def test_proof_needs_more_than_luck() -> None:
    """Equal losses prove nothing, a steady gain does, and a loss does not."""
    rng = np.random.default_rng(3)
    base = rng.uniform(1, 2, 336)
    assert better_p(base, base) == 1.0
    assert better_p(base - 0.1 + rng.normal(0, 0.05, 336), base) < 0.001
    assert better_p(base + 0.1 + rng.normal(0, 0.05, 336), base) > 0.999
