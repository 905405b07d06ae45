"""Hyperparameters, chosen inside the training span: the span that is forecast never has a say.

Once a calendar quarter each candidate is fitted without the last weeks of what was known at the quarter's first
moment, and the one with the least pinball loss over all horizons on those weeks is taken for the quarter. A choice
depends on the bars before the quarter and on nothing else, so a walk may begin anywhere and be cut into any parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from hourcast.contracts import Bars
from hourcast.errors import DataError
from hourcast_trainer.calendar import plan_of, quarter_of
from hourcast_trainer.measuring import measure
from hourcast_trainer.models import COMPARED, MODELS, FitRequest, Hyper, members_of
from hourcast_trainer.settings import TrainerSettings

__all__ = ["Chooser", "Question", "questions_of"]

_INNER_DAYS = 28


@dataclass(frozen=True, slots=True)
class Question:
    """Which hyperparameters a kind takes for a quarter when it looks at these exogenous series."""

    kind: str
    quarter: datetime
    series: tuple[str, ...]

    def candidates(self, settings: TrainerSettings) -> Sequence[Hyper]:
        """The possible answers, the default first."""
        return COMPARED[self.kind].candidates(settings.model_copy(update={"feature_series": self.series}))

    def loss(self, bars: Mapping[str, Bars], settings: TrainerSettings, number: int) -> float | None:
        """The loss of candidate `number`; None where the bars' history is too short to spare some weeks."""
        chosen = settings.model_copy(update={"feature_series": self.series})
        plan = plan_of(self.quarter, chosen)
        known = {symbol: plan.known(part) for symbol, part in bars.items()}
        inner_end = plan.train_end - timedelta(days=_INNER_DAYS)
        inner = replace(plan, train_end=inner_end, trained_through=(inner_end - timedelta(days=1)).date())
        judged_from = int((inner_end + timedelta(hours=chosen.embargo_h)).timestamp())
        hyper = self.candidates(settings)[number]
        try:
            fitted = MODELS[self.kind].fit(FitRequest(known, inner, chosen, hyper))
            return measure(fitted.forecaster(), known, judged_from, plan.train_end_s).scaled_loss
        except DataError:
            return None

    def answer(self, settings: TrainerSettings, losses: Sequence[float | None]) -> Hyper:
        """The candidate with the least loss; the default when one has none."""
        candidates = self.candidates(settings)
        measured = [loss for loss in losses if loss is not None]
        return candidates[int(np.argmin(measured)) if len(measured) == len(candidates) else 0]


class Chooser:
    """Chooses for one set of bars and settings, and remembers what it chose."""

    def __init__(self, bars: Mapping[str, Bars], settings: TrainerSettings) -> None:
        self._bars, self._settings = bars, settings
        self._known: dict[Question, Hyper] = {}

    def hyper(self, kind: str, as_of: datetime, series: tuple[str, ...] | None = None) -> Hyper:
        """The hyperparameters of a kind for the quarter of `as_of`; an ensemble's are its members', `<kind>.<name>`.

        `series` are the exogenous series that the model looks at; default: the settings'.
        """
        looked_at = self._settings.feature_series if series is None else series
        if members := members_of(kind, self._settings):
            return {
                f"{member}.{name}": value
                for member in members
                for name, value in self.hyper(member, as_of, looked_at).items()
            }
        question = Question(kind, quarter_of(as_of), looked_at)
        if question not in self._known:
            self._known[question] = self._answer(question)
        return self._known[question]

    def learn(self, answers: Mapping[Question, Hyper]) -> None:
        """Take answers that were found elsewhere for the same bars and settings."""
        self._known.update(answers)

    def _answer(self, question: Question) -> Hyper:
        candidates = question.candidates(self._settings)
        if len(candidates) == 1:
            return candidates[0]
        losses = []
        for number in range(len(candidates)):
            losses.append(question.loss(self._bars, self._settings, number))
            if losses[-1] is None:
                break
        return question.answer(self._settings, losses)


def questions_of(
    settings: TrainerSettings, kind: str, as_of: datetime, series: tuple[str, ...]
) -> list[Question]:
    """What `Chooser.hyper` has to find out for a kind that leaves something to choose."""
    kinds = members_of(kind, settings) or (kind,)
    asked = [Question(one, quarter_of(as_of), series) for one in kinds]
    return [question for question in asked if len(question.candidates(settings)) > 1]
