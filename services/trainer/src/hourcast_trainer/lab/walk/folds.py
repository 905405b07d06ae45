"""The calendar of a walk-forward. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from hourcast.contracts import backtest_alias
from hourcast.errors import ConfigurationError
from hourcast_trainer.calendar import TrainingPlan, plan_of
from hourcast_trainer.settings import TrainerSettings

__all__ = ["Fold", "folds"]


@dataclass(frozen=True, slots=True)
class Fold:
    """One step: what is fitted by `plan` forecasts the closes in (start, end]."""

    start: datetime
    end: datetime
    plan: TrainingPlan

    @property
    def alias(self) -> str:
        """`backtest_YYYYMMDD`."""
        return backtest_alias(self.plan.trained_through)


def folds(start: datetime, end: datetime, every_days: int, settings: TrainerSettings) -> list[Fold]:
    """The steps from `start` to `end`, a refit each `every_days`; the last may be shorter.

    Raises:
        ConfigurationError: when `start` does not lie before `end`.
    """
    if start >= end:
        raise ConfigurationError(f"--from {start:%Y-%m-%d} must lie before --to {end:%Y-%m-%d}")
    out = []
    at = start
    while at < end:
        stop = min(at + timedelta(days=every_days), end)
        out.append(Fold(at, stop, plan_of(at, settings)))
        at = stop
    return out
