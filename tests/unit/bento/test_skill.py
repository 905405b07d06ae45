"""Figures on the page are those of the trainer."""

import numpy as np
import pytest

from hourcast.forecaster import LEVELS
from hourcast_bento.skill import skill_of
from hourcast_trainer.metrics import figures


def test_serving_and_trainer_agree_on_every_figure() -> None:
    """Serving must not import the trainer, so that both hold the same formulas: they give the same numbers."""
    rng = np.random.default_rng(1)
    actual = rng.normal(100, 5, 500)
    ours = np.sort(rng.normal(100, 5, (500, len(LEVELS))), axis=1)
    naive = np.sort(rng.normal(100, 6, (500, len(LEVELS))), axis=1)
    row = skill_of("20250101", 3, "lstm", "gate", actual, ours, naive, LEVELS)
    model, floor = figures(actual, ours, LEVELS), figures(actual, naive, LEVELS)
    assert (row.rmse, row.mae, row.pinball, row.coverage_90) == pytest.approx(
        (model.rmse, model.mae, model.pinball, model.coverage_90)
    )
    assert (row.rmse_naive, row.pinball_naive) == pytest.approx((floor.rmse, floor.pinball))
    assert row.as_json()["skill_pinball"] == pytest.approx(1 - model.pinball / floor.pinball)
