"""Hyperparameters, chosen inside the training span: the span that is forecast never has a say.

Once a calendar quarter each candidate is fitted without the last weeks of what was known at the quarter's first
moment, and the one with the least pinball loss over all horizons on those weeks is taken for the quarter. A choice
depends on the bars before the quarter and on nothing else, so a walk may begin anywhere and be cut into any parts.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from hourcast.contracts import Bars
from hourcast.errors import DataError
from hourcast_trainer.measuring import measure
from hourcast_trainer.models import COMPARED, MODELS, FitRequest, Hyper
from hourcast_trainer.settings import TrainerSettings
from hourcast_trainer.walk.folds import plan_of, quarter_of

__all__ = ["Chooser"]

_INNER_DAYS = 28


class Chooser:
    """Chooses for one set of bars and settings, and remembers what it chose."""

    def __init__(self, bars: Mapping[str, Bars], settings: TrainerSettings) -> None:
        self._bars, self._settings = bars, settings
        self._known: dict[tuple[str, datetime, tuple[str, ...]], Hyper] = {}

    def hyper(self, kind: str, as_of: datetime, series: tuple[str, ...] | None = None) -> Hyper:
        """The hyperparameters of a kind for the quarter of `as_of`; an ensemble's are its members', `<kind>.<name>`.

        `series` are the exogenous series that the model looks at; default: the settings'.
        """
        looked_at = self._settings.feature_series if series is None else series
        if kind == "ensemble":
            return {
                f"{member}.{name}": value
                for member in self._settings.ensemble_members
                for name, value in self.hyper(member, as_of, looked_at).items()
            }
        at = (kind, quarter_of(as_of), looked_at)
        if at not in self._known:
            self._known[at] = self._choose(*at)
        return self._known[at]

    def _choose(self, kind: str, quarter: datetime, series: tuple[str, ...]) -> Hyper:
        settings = self._settings.model_copy(update={"feature_series": series})
        candidates = COMPARED[kind].candidates(settings)
        default = candidates[0]
        if len(candidates) == 1:
            return default
        plan = plan_of(quarter, settings)
        known = {symbol: part.known_at(plan.train_end_s) for symbol, part in self._bars.items()}
        inner_end = plan.train_end - timedelta(days=_INNER_DAYS)
        inner = replace(plan, train_end=inner_end, trained_through=(inner_end - timedelta(days=1)).date())
        judged_from = int((inner_end + timedelta(hours=settings.embargo_h)).timestamp())
        losses = []
        for hyper in candidates:
            try:
                fitted = MODELS[kind].fit(FitRequest(known, inner, settings, hyper))
                measured = measure(fitted.forecaster(), known, judged_from, plan.train_end_s)
            except DataError:
                # Too early in the bars' history to spare some weeks.
                return default
            losses.append(measured.scaled_loss)
        return candidates[int(np.argmin(losses))]
