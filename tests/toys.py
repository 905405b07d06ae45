"""A kind of model as a stranger would write it, by docs/contributing.md: nothing of Hourcast names it."""

import contextlib
from collections.abc import Iterator

import numpy as np

from hourcast.contracts import from_epoch
from hourcast.forecaster import LEVELS, ForecasterSpec
from hourcast_trainer.models import (
    FitRequest,
    Fitted,
    Kind,
    Model,
    describe,
    register,
    samples_of,
    unregister,
)
from hourcast_trainer.settings import TrainerSettings

__all__ = ["ToyModel", "toy_registered"]


class ToyModel(Model):
    """The quantiles that scaled returns had in the training span, median and all."""

    kind = "toy"

    def history_h(self, settings: TrainerSettings) -> int:
        """Enough hours for a volatility, and a month of samples."""
        return 1500

    def fit(self, request: FitRequest) -> Fitted:
        """Take the quantiles of each horizon."""
        features, samples = samples_of(request, (), 1)
        origin = samples.origin
        spec = ForecasterSpec(
            kind=self.kind,
            features=features,
            base=tuple(map(tuple, np.quantile(samples.z, LEVELS, axis=0).T.tolist())),
            **describe(request, from_epoch(origin[0]), from_epoch(origin[-1]), len(origin)),
        )
        return Fitted(spec, params={"samples": len(origin)})


@contextlib.contextmanager
def toy_registered() -> Iterator[None]:
    """The toy is known for as long as this is open."""
    register(Kind(ToyModel(), title="Toy", spoken="the toy"))
    try:
        yield
    finally:
        unregister("toy")
