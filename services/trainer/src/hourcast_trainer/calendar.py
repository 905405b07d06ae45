"""When a training is due, and which bars it may see. Pure."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from hourcast.contracts import HOUR_S, to_epoch

__all__ = ["TrainingPlan", "next_due", "plan_for"]


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """The spans of one training.

    Training targets close in (start, train_end]; the held-out window's targets close in (train_end, gate_end].
    `trained_through` is the last UTC day of the training data and names the alias; `decided_at` is the moment
    from which the result can be known, `gate_end` at the earliest.
    """

    trained_through: date
    start: datetime
    train_end: datetime
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
    def gate_end_s(self) -> int:
        """`gate_end` in epoch seconds."""
        return to_epoch(self.gate_end)

    def gate_origins_s(self, horizon: int = 1) -> tuple[int, int]:
        """First and last origin (inclusive) whose forecast `horizon` hours ahead falls into the held-out window."""
        return self.train_end_s, self.gate_end_s - horizon * HOUR_S


def plan_for(as_of: datetime, gate_days: int, train_days: int) -> TrainingPlan:
    """The newest training that `as_of` allows: the held-out window ends with the last whole UTC day before it."""
    midnight = datetime.combine(as_of.astimezone(UTC).date(), time(), tzinfo=UTC)
    train_end = midnight - timedelta(days=gate_days)
    return TrainingPlan(
        trained_through=(train_end - timedelta(days=1)).date(),
        start=train_end - timedelta(days=train_days),
        train_end=train_end,
        gate_end=midnight,
        decided_at=as_of.astimezone(UTC),
    )


def next_due(newest_trained_through: date | None, every_days: int, gate_days: int) -> datetime | None:
    """The moment from which the next training is due, or None when there was none: due at once."""
    if newest_trained_through is None:
        return None
    day = newest_trained_through + timedelta(days=every_days + gate_days + 1)
    return datetime.combine(day, time(), tzinfo=UTC)
