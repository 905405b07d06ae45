"""Volatility alone: how wide the coming hours will be, with the shape that returns have had.

The scale of each horizon is that of `hourcast.volatility`: exponentially weighted ranges over several half-lives,
and the usual size of the hours of the week ahead. The shape is the empirical distribution of returns over that scale
in the training span (filtered historical simulation: Barone-Adesi, Giannopoulos and Vosper, "VaR without
Correlations for Portfolios of Derivative Securities", Journal of Futures Markets 19, 1999), centred on its median.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hourcast.contracts import FloatArray, from_epoch
from hourcast.forecaster import HORIZONS, LEVELS, ForecasterSpec
from hourcast_trainer.models._interface import FitRequest, Fitted, Hyper, Model, describe
from hourcast_trainer.models._samples import samples_of
from hourcast_trainer.settings import TrainerSettings

__all__ = ["VolatilityModel", "centred_quantiles"]

_HALFLIVES_H = {
    "short to long": (2.0, 6.0, 24.0, 96.0, 336.0),
    "day to month": (12.0, 24.0, 72.0, 168.0, 336.0),
}


class VolatilityModel(Model):
    """Fits some dozens of numbers in a fraction of a second; served from its specification alone."""

    kind = "volatility"

    def history_h(self, settings: TrainerSettings) -> int:
        """A month of volatilities, beside the hours that the first of them needs."""
        return 30 * 24 + 720 + max(HORIZONS) + 1

    def candidates(self, settings: TrainerSettings) -> Sequence[Hyper]:
        """Which half-lives to weigh ranges over."""
        return tuple({"halflives": name} for name in _HALFLIVES_H)

    def fit(self, request: FitRequest) -> Fitted:
        """Fit scale and shape.

        Raises:
            DataError: when there are too few hours.
        """
        chosen = str(request.hyper.get("halflives", "short to long"))
        features, samples = samples_of(request, (), 1, _HALFLIVES_H[chosen])
        origins = samples.origin
        spec = ForecasterSpec(
            kind="volatility",
            features=features,
            base=tuple(map(tuple, centred_quantiles(samples.z).tolist())),
            **describe(request, from_epoch(origins[0]), from_epoch(origins[-1]), len(origins)),
        )
        return Fitted(spec, params={"halflives": chosen, "samples": len(origins)})


def centred_quantiles(z: npt.NDArray[np.float32]) -> FloatArray:
    """Empirical quantiles (H, Q) of z (N, H) at LEVELS, less their median: the point forecast is the last close."""
    quantiles: FloatArray = np.quantile(z.astype(np.float64), LEVELS, axis=0).T
    return quantiles - quantiles[:, [LEVELS.index(0.5)]]
