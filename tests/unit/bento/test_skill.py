"""Rows of errors and windows of live forecasts."""

import numpy as np
import pytest

from hourcast.forecaster import LEVELS
from hourcast.verification import figures
from hourcast_bento.live import LiveRows
from hourcast_bento.skill import live_window, skill_of, wilson


def test_a_row_holds_the_figures_of_both_on_the_same_hours() -> None:
    """Its skill is what the loss is below naive's."""
    rng = np.random.default_rng(1)
    actual = rng.normal(100, 5, 500)
    ours = np.sort(rng.normal(100, 5, (500, len(LEVELS))), axis=1)
    naive = np.sort(rng.normal(100, 6, (500, len(LEVELS))), axis=1)
    row = skill_of("20250101", 3, "lstm", "gate", actual, ours, naive, LEVELS)
    model, floor = figures(actual, ours, LEVELS), figures(actual, naive, LEVELS)
    assert (row.rmse, row.mae, row.pinball, row.coverage_90) == (
        model.rmse,
        model.mae,
        model.pinball,
        model.coverage_90,
    )
    assert (row.rmse_naive, row.pinball_naive) == (floor.rmse, floor.pinball)
    assert row.as_json()["skill_pinball"] == pytest.approx(1 - model.pinball / floor.pinball)


def _live(hours: int, horizons: tuple[int, ...], miss_every: int) -> LiveRows:
    """Rows of so many hours; every n-th is outside of its interval."""
    rng = np.random.default_rng(2)
    target = np.repeat(3600 * np.arange(1, hours + 1), len(horizons))
    n = len(target)
    out = np.arange(n) % miss_every == 0
    return LiveRows(
        target, np.tile(np.array(horizons), hours), np.full(n, 100.0), np.zeros((n, 19), np.bool_), ~out, ~out,
        rng.uniform(1, 2, n),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("share", "n", "bounds"),
    [(0.9, 10, (0.5958, 0.9821)), (0.5, 100, (0.4038, 0.5962)), (1.0, 7, (0.6457, 1.0))],
)
def test_wilsons_interval_is_the_published_one(share: float, n: float, bounds: tuple[float, float]) -> None:
    """As in the tables of Brown, Cai and DasGupta (2001); never outside of 0 … 1."""
    assert wilson(share, n) == pytest.approx(bounds, abs=5e-5)


def test_a_week_is_read_as_what_it_is() -> None:
    """168 hours one ahead are 168 trials; a day ahead they are seven, at all horizons too, and the bounds say so."""
    hour, day = _live(168, (1,), 10), _live(168, (24,), 10)
    one = live_window(hour, np.full(168, 3.0), 7, 1)
    far = live_window(day, np.full(168, 3.0), 7, 24)
    every = live_window(_live(168, tuple(range(1, 25)), 10), np.full(168 * 24, 3.0), 7, None)
    assert (one.n, one.independent, far.n, far.independent) == (168, 168, 168, 7)
    assert (every.n, every.independent) == (168 * 24, 7)
    assert one.coverage_90 == pytest.approx(151 / 168)
    assert (one.coverage_90_low, one.coverage_90_high) == pytest.approx((0.844, 0.936), abs=0.001)
    assert far.coverage_90_high is not None
    assert far.coverage_90_low is not None
    assert far.coverage_90_high - far.coverage_90_low > 0.35


def test_live_skill_is_that_of_the_table() -> None:
    """The ratio of the losses' means, between its bounds; hours without a naive floor are left out of both."""
    rows = _live(240, (1,), 10)
    naive = rows.pinball * 1.25 + np.random.default_rng(5).normal(0, 0.1, 240)
    naive[:40] = np.nan
    made = live_window(rows, naive, 30, 1)
    assert made.n == 240
    assert made.pinball == pytest.approx(rows.pinball[40:].mean())
    assert made.skill == pytest.approx(1 - rows.pinball[40:].mean() / naive[40:].mean())
    assert made.skill_low is not None
    assert made.skill_high is not None
    assert made.skill_low < 0.2 < made.skill_high
    assert made.skill_high - made.skill_low < 0.05


def test_a_few_days_have_no_bounds_and_nothing_has_no_figures() -> None:
    """Bounds of the skill need five days; before the first close everything is null."""
    few = live_window(_live(72, (1,), 10), np.full(72, 3.0), 7, 1)
    assert few.skill is not None
    assert (few.skill_low, few.skill_high) == (None, None)
    none = live_window(LiveRows.none(LEVELS), np.empty(0), 7, 6).as_json()
    assert none == {
        "days": 7, "horizon": 6, "n": 0, "independent": 0.0, "coverage_50": None, "coverage_90": None,
        "coverage_90_low": None, "coverage_90_high": None, "pinball": None, "pinball_naive": None, "skill": None,
        "skill_low": None, "skill_high": None,
    }  # fmt: skip
