"""The naive floor: the last close, with recent empirical quantiles of returns around it."""

from hourcast import __version__
from hourcast.forecaster import HORIZONS, NAIVE_WINDOW_H, ForecasterSpec, TrainingSpan
from hourcast_trainer.datasets import data_fingerprint
from hourcast_trainer.models._interface import FitRequest, Fitted
from hourcast_trainer.settings import TrainerSettings

__all__ = ["NaiveModel"]


class NaiveModel:
    """Learns nothing: its quantiles come from the bars that it is given."""

    kind = "naive"

    def history_h(self, settings: TrainerSettings) -> int:
        """The window of the quantiles and the longest horizon."""
        return NAIVE_WINDOW_H + max(HORIZONS) + 1

    def fit(self, request: FitRequest) -> Fitted:
        """Write down what the floor is."""
        plan, settings = request.plan, request.settings
        target = request.bars[settings.target.symbol].known_at(plan.train_end_s)
        spec = ForecasterSpec(
            kind="naive",
            target=settings.target.symbol,
            training=TrainingSpan(start=plan.start, end=plan.train_end, rows=len(target)),
            trained_through=plan.trained_through,
            decided_at=plan.decided_at,
            data_fingerprint=data_fingerprint(request.bars, plan.start_s, plan.train_end_s),
            code_version=__version__,
            seed=settings.seed,
            synthetic=settings.synthetic,
        )
        return Fitted(spec, None, params={"naive_window_h": NAIVE_WINDOW_H})
