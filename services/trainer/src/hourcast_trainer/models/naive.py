"""The naive floor: the last close, with recent empirical quantiles of returns around it."""

from collections.abc import Sequence

from hourcast.forecaster import HORIZONS, NAIVE_WINDOW_H, ForecasterSpec
from hourcast_trainer.models._interface import FitRequest, Fitted, Hyper, describe
from hourcast_trainer.settings import TrainerSettings

__all__ = ["NaiveModel"]


class NaiveModel:
    """Learns nothing: its quantiles come from the bars that it is given."""

    kind = "naive"

    def history_h(self, settings: TrainerSettings) -> int:
        """The window of the quantiles and the longest horizon."""
        return NAIVE_WINDOW_H + max(HORIZONS) + 1

    def candidates(self, settings: TrainerSettings) -> Sequence[Hyper]:
        """There is nothing to choose."""
        return ({},)

    def fit(self, request: FitRequest) -> Fitted:
        """Write down what the floor is."""
        known, plan = request.known, request.plan
        rows = len(known[request.settings.target.symbol])
        spec = ForecasterSpec(kind="naive", **describe(request, plan.start, plan.train_end, rows))
        return Fitted(spec, params={"naive_window_h": NAIVE_WINDOW_H})
