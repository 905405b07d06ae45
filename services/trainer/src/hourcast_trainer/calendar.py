"""When a training is due, and which bars it may see. Pure."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from hourcast.contracts import Bars, to_epoch
from hourcast.errors import ConfigurationError
from hourcast_trainer.paired import LEAST_DAYS
from hourcast_trainer.settings import TrainerSettings

__all__ = ["TrainingPlan", "next_due", "plan_for", "plan_of", "quarter_of"]

_BEFORE_ALL = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """The spans of one training.

    Training targets close in (start, train_end]; the held-out window's targets close in (gate_start, gate_end], and
    nothing is learned from the embargo between `train_end` and `gate_start`. `trained_through` is the last UTC day of
    the training data and names the alias; `decided_at` is the moment from which the result can be known, `gate_end` at
    the earliest.
    """

    trained_through: date
    start: datetime
    train_end: datetime
    gate_start: datetime
    gate_end: datetime
    decided_at: datetime

    @property
    def start_s(self) -> int:
        """`start` in epoch seconds."""
        return to_epoch(self.start)

    @property
    def train_end_s(self) -> int:
        """`train_end` in epoch seconds."""
        return to_epoch(self.train_end)

    @property
    def gate_start_s(self) -> int:
        """`gate_start` in epoch seconds."""
        return to_epoch(self.gate_start)

    @property
    def gate_end_s(self) -> int:
        """`gate_end` in epoch seconds."""
        return to_epoch(self.gate_end)

    def known(self, bars: Bars) -> Bars:
        """What of a symbol's bars is learned from: those that had closed by `train_end`, as known at `decided_at`."""
        return bars.as_of(self.decided_at).known_at(self.train_end_s)


def plan_for(as_of: datetime, gate_days: int, train_days: int | None, embargo_h: int = 0) -> TrainingPlan:
    """The newest training that `as_of` allows: the held-out window ends with the last whole UTC day before it.

    Without `train_days` the training span begins with the first bar that there is.

    Raises:
        ConfigurationError: when the embargo leaves too little of the held-out window to prove anything.
    """
    if gate_days * 24 - embargo_h < LEAST_DAYS * 24:
        raise ConfigurationError(
            f"HOURCAST_EMBARGO_H={embargo_h} leaves less than {LEAST_DAYS} days of the {gate_days} on which a candidate "
            "is measured, and they prove nothing; make HOURCAST_GATE_DAYS longer"
        )
    midnight = datetime.combine(as_of.astimezone(UTC).date(), time(), tzinfo=UTC)
    train_end = midnight - timedelta(days=gate_days)
    return TrainingPlan(
        trained_through=(train_end - timedelta(days=1)).date(),
        start=_BEFORE_ALL if train_days is None else train_end - timedelta(days=train_days),
        train_end=train_end,
        gate_start=train_end + timedelta(hours=embargo_h),
        gate_end=midnight,
        decided_at=as_of.astimezone(UTC),
    )


def plan_of(as_of: datetime, settings: TrainerSettings) -> TrainingPlan:
    """The training that production would do at `as_of`."""
    days = settings.train_days if settings.train_window == "rolling" else None
    return plan_for(as_of, settings.gate_days, days, settings.embargo_h)


def next_due(newest_trained_through: date | None, every_days: int, gate_days: int) -> datetime | None:
    """The moment from which the next training is due, or None when there was none: due at once."""
    if newest_trained_through is None:
        return None
    day = newest_trained_through + timedelta(days=every_days + gate_days + 1)
    return datetime.combine(day, time(), tzinfo=UTC)


def quarter_of(moment: datetime) -> datetime:
    """The first moment of the calendar quarter (UTC) that `moment` lies in."""
    moment = moment.astimezone(UTC)
    return datetime(moment.year, 3 * ((moment.month - 1) // 3) + 1, 1, tzinfo=UTC)
