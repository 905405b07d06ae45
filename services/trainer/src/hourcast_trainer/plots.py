"""Figures that MLflow keeps beside a run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hourcast.contracts import FloatArray, IntArray
from hourcast_trainer.models import EpochLosses

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["calibration_plot", "forecast_plot", "loss_plot"]

_INK, _BAND, _ACTUAL = "#2563eb", "#93c5fd", "#111827"


def _canvas(title: str, x: str, y: str) -> "tuple[Figure, Axes]":
    # Figure without pyplot keeps no global state and needs no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def loss_plot(epochs: Sequence[EpochLosses]) -> "Figure":
    """Training and validation loss by epoch."""
    figure, axes = _canvas("Pinball loss of scaled returns", "epoch", "loss")
    at = [e.epoch for e in epochs]
    axes.plot(at, [e.training for e in epochs], marker="o", label="training", color=_BAND)
    axes.plot(at, [e.validation for e in epochs], marker="o", label="validation", color=_INK)
    axes.legend()
    return figure


def forecast_plot(
    target_time: IntArray, actual: FloatArray, quantiles: FloatArray, levels: Sequence[float]
) -> "Figure":
    """Next-hour forecasts (n, Q) with their 90 % band against what came (n,)."""
    figure, axes = _canvas("Forecast one hour ahead on the held-out window", "UTC", "price")
    at = target_time.astype("datetime64[s]")
    low, mid, high = (quantiles[:, list(levels).index(level)] for level in (0.05, 0.5, 0.95))
    axes.fill_between(at, low, high, color=_BAND, alpha=0.6, label="90 %")
    axes.plot(at, mid, color=_INK, lw=1, label="median")
    axes.plot(at, actual, color=_ACTUAL, lw=1, label="actual")
    axes.legend()
    figure.autofmt_xdate()
    return figure


def calibration_plot(actual: FloatArray, quantiles: FloatArray, levels: Sequence[float]) -> "Figure":
    """Share of actuals below each quantile, against its level."""
    figure, axes = _canvas("Calibration on the held-out window", "quantile level", "share below")
    below = np.mean(actual[..., None] <= quantiles, axis=tuple(range(actual.ndim)))
    axes.plot([0, 1], [0, 1], color=_ACTUAL, lw=0.8, ls="--", label="perfect")
    axes.plot(list(levels), below, marker="o", color=_INK, label="model")
    axes.legend()
    return figure
