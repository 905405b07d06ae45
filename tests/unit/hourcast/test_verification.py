"""Losses and figures are the textbook's, and one forecast an hour counts."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourcast.store import ForecastRow
from hourcast.verification import figures, first_made, inside, pinball

_AT = datetime(2025, 6, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)
_PRICES = st.floats(0.01, 1e6)


def test_pinball_is_the_textbook_one() -> None:
    """Loss of a forecast below and above what came, by hand."""
    loss = pinball(np.array([10.0]), np.array([[8.0, 11.0]]), [0.1, 0.9])
    assert loss[0] == pytest.approx((0.1 * 2 + 0.1 * 1) / 2)


@given(st.lists(st.tuples(_PRICES, st.lists(_PRICES, min_size=3, max_size=3)), min_size=1, max_size=8))
def test_pinball_is_a_plain_loop(drawn: list[tuple[float, list[float]]]) -> None:
    """Each level asks its share for a close above the quantile, and the rest for one below it."""
    levels = (0.1, 0.5, 0.9)
    told = pinball(np.array([a for a, _ in drawn]), np.array([q for _, q in drawn]), levels)
    for loss, (actual, quantiles) in zip(told.tolist(), drawn, strict=True):
        parts = [
            level * (actual - q) if actual >= q else (1 - level) * (q - actual)
            for level, q in zip(levels, quantiles, strict=True)
        ]
        assert loss == pytest.approx(sum(parts) / 3)


def test_figures_by_hand() -> None:
    """Two hours: one hit, one miss beyond the 90 % interval, whose ends count as inside."""
    levels = (0.05, 0.5, 0.95)
    actual, quantiles = np.array([90.0, 120.0]), np.array([[90.0, 100.0, 110.0], [90.0, 100.0, 110.0]])
    made = figures(actual, quantiles, levels)
    assert (made.n, made.mae, made.coverage_90) == (2, 15.0, 0.5)
    assert made.rmse == pytest.approx(np.sqrt((100 + 400) / 2))
    assert made.pinball == pytest.approx(np.mean([0 + 5 + 0.05 * 20, 0.05 * 30 + 10 + 0.95 * 10]) / 3)
    assert inside(actual, quantiles, levels, 0.05, 0.95).tolist() == [True, False]


def _row(hour: int, made: float, version: int = 1, horizon: int = 1, value: float = 100.0) -> ForecastRow:
    target = _AT + hour * _HOUR
    return ForecastRow(
        "m", version, "BTC/USDT", target - horizon * _HOUR, horizon, target, target + made * _HOUR, "a", 100.0,
        (0.05, 0.5, 0.95), (value, value, value),
    )  # fmt: skip


def test_of_several_forecasts_the_first_counts_and_late_ones_never() -> None:
    """Made before its hour came; of two made at once the older version's; what is no number counts for nothing."""
    levels = (0.05, 0.5, 0.95)
    rows = [
        _row(5, -0.5), _row(5, -0.9, version=2), _row(5, -0.9, version=3),
        _row(4, 0.0), _row(4, 0.5),
        _row(3, -2.0, value=float("nan")), _row(3, -1.0, version=4),
        _row(3, -6.0, horizon=6),
    ]  # fmt: skip
    for order in (rows, rows[::-1]):
        counted = first_made(order, levels)
        assert [(r.target_time.hour, r.horizon, r.version) for r in counted] == [
            (3, 1, 4),
            (3, 6, 1),
            (5, 1, 2),
        ]
    assert first_made(rows, (0.1, 0.5, 0.9)) == []
