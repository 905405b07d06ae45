"""When a training is due and what it may see."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from hourcast.contracts import HOUR_S, from_epoch
from hourcast_trainer.calendar import next_due, plan_for

_moments = st.integers(1_704_067_200, 1_767_225_600).map(from_epoch)


@given(_moments, st.integers(7, 30), st.integers(0, 48))
def test_a_plan_never_sees_the_future(as_of: datetime, gate_days: int, embargo_h: int) -> None:
    """Training ends an embargo before the held-out window, which ends by the moment of the training."""
    plan = plan_for(as_of, gate_days, 365, embargo_h)
    assert plan.start < plan.train_end <= plan.gate_start < plan.gate_end <= as_of
    assert plan.gate_start - plan.train_end == timedelta(hours=embargo_h)
    assert plan.gate_start_s == plan.train_end_s + embargo_h * HOUR_S
    assert plan.gate_end - plan.train_end == timedelta(days=gate_days)
    assert plan.trained_through == (plan.train_end - timedelta(hours=1)).date()


@given(_moments, st.integers(1, 30), st.integers(5, 30))
def test_after_a_training_the_next_is_due_a_span_later(as_of: datetime, every: int, gate_days: int) -> None:
    """What was trained just now is due again after `every` days, by the day."""
    plan = plan_for(as_of, gate_days, 365)
    due = next_due(plan.trained_through, every, gate_days)
    assert due == plan.gate_end + timedelta(days=every)
    assert next_due(None, every, gate_days) is None


def test_the_alias_names_the_last_whole_day() -> None:
    """Two weeks are held out, so a training on the 6th of June knows all of the 22nd of May."""
    assert plan_for(datetime(2024, 6, 6, 7, tzinfo=UTC), 14, 365).trained_through == date(2024, 5, 22)
