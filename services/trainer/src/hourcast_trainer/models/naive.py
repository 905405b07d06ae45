"""The naive floor: the last close, with recent empirical quantiles of returns around it."""

from hourcast.forecaster import HORIZONS, NAIVE_WINDOW_H, ForecasterSpec
from hourcast_trainer.models._interface import FitRequest, Fitted, Model, describe
from hourcast_trainer.settings import TrainerSettings

__all__ = ["NaiveModel"]


class NaiveModel(Model):
    """Learns nothing: its quantiles come from the bars that it is given."""

    kind = "naive"

    def history_h(self, settings: TrainerSettings) -> int:
        """The window of the quantiles and the longest horizon."""
        return NAIVE_WINDOW_H + max(HORIZONS) + 1

    def fit(self, request: FitRequest) -> Fitted:
        """Write down what the floor is."""
        known, plan = request.known, request.plan
        rows = len(known[request.settings.target.symbol])
        spec = ForecasterSpec(kind="naive", **describe(request, plan.start, plan.train_end, rows))
        return Fitted(spec, params={"naive_window_h": NAIVE_WINDOW_H})
