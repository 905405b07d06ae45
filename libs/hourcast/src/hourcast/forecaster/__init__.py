"""The forecaster: a directory with `spec.json`, `network.onnx` where the kind has one, and `members/<kind>/` of an ensemble.

It runs on onnxruntime and numpy alone; nothing is unpickled. A forecast of horizon h from origin t is a set
of quantiles of the close at t + h hours, anchored to the close at t: the last close times exp(scale * z), where the
scale says how wide returns are expected to be now (`hourcast.volatility`) and z is the model's.
"""

from hourcast.forecaster._files import load, save
from hourcast.forecaster._forecaster import Forecaster, Looked
from hourcast.forecaster._forecasts import Forecasts
from hourcast.forecaster._golden import check_golden, golden_from_json, make_golden
from hourcast.forecaster._naive import naive_quantiles
from hourcast.forecaster._spec import (
    HORIZONS,
    LEVELS,
    NAIVE_WINDOW_H,
    SCHEMA,
    ForecasterSpec,
    Kind,
    Member,
    TrainingSpan,
)

__all__ = [
    "HORIZONS",
    "LEVELS",
    "NAIVE_WINDOW_H",
    "SCHEMA",
    "Forecaster",
    "ForecasterSpec",
    "Forecasts",
    "Kind",
    "Looked",
    "Member",
    "TrainingSpan",
    "check_golden",
    "golden_from_json",
    "load",
    "make_golden",
    "naive_quantiles",
    "save",
]
