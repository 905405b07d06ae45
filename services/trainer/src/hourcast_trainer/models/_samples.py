"""What kinds that learn from features share: their samples, and the horizons at which they learn."""

from collections.abc import Sequence

import numpy as np

from hourcast.contracts import FloatArray
from hourcast.errors import DataError
from hourcast.features import FeatureSpec
from hourcast.forecaster import HORIZONS
from hourcast.settings import Series
from hourcast.volatility import HALFLIVES_H
from hourcast_trainer.datasets import Samples, fit_features, make_samples
from hourcast_trainer.models._interface import FitRequest

__all__ = ["ANCHORS", "between", "samples_of", "window_history_h"]

ANCHORS = (1, 2, 4, 8, 16, 24)
"""Horizons, in hours, at which a model is fitted; the others lie between them."""

_MIN_SAMPLES = 500


def between() -> FloatArray:
    """(anchors, H): weights that interpolate over the logarithm of the horizon."""
    at, anchors = np.log(HORIZONS), np.log(ANCHORS)
    return np.stack([np.interp(at, anchors, one) for one in np.eye(len(ANCHORS))])


def window_history_h(window_h: int) -> int:
    """Hours of bars for a fit on windows: five weeks of samples beside the features' own history."""
    return 35 * 24 + 720 + window_h + 1 + max(HORIZONS)


def samples_of(
    request: FitRequest,
    series: Sequence[Series],
    window_h: int,
    halflives_h: Sequence[float] = HALFLIVES_H,
) -> tuple[FeatureSpec, Samples]:
    """Features as the training span teaches them, and its samples.

    Raises:
        DataError: when there are too few hours.
    """
    plan, known, target = request.plan, request.known, request.settings.target.symbol
    features = fit_features(
        known, target, series, window_h, plan.start_s, plan.train_end_s, halflives_h=halflives_h
    )
    samples = make_samples(known, features, plan.start_s, plan.train_end_s)
    if len(samples.origin) < _MIN_SAMPLES:
        raise DataError(
            f"only {len(samples.origin)} whole hours to train on before {plan.train_end:%Y-%m-%d}, "
            f"{_MIN_SAMPLES} are needed; load more history with `hourcast etl backfill`"
        )
    return features, samples
