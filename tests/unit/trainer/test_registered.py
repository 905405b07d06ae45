"""What the trainer makes of tags, whatever they say."""

import logging
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourcast_trainer.registry import registered

_TODAY = date(2026, 1, 5)
_GOOD = {"kind": "lstm", "stage": "production", "gate": "passed", "trained_through": "2025-06-25", "alias": "20250625"}  # fmt: skip


def test_a_version_is_read_from_its_tags() -> None:
    """All that a training looks at."""
    found = registered(7, _GOOD, _TODAY)
    assert (found.version, found.kind, found.stage, found.gate) == (7, "lstm", "production", "passed")
    assert (found.trained_through, found.alias) == (date(2025, 6, 25), "20250625")


@pytest.mark.parametrize("told", ["yesterday", "9999-12-31", "2026-01-06"])
def test_a_version_trained_through_no_day_that_has_been_is_skipped_and_named(
    told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is none of production's, so it neither stops trainings nor puts off the next until that day."""
    with caplog.at_level(logging.WARNING):
        found = registered(7, _GOOD | {"trained_through": told}, _TODAY)
    assert (found.stage, found.trained_through) == ("unknown", None)
    assert caplog.messages == [
        f"version 7 is skipped: its tag trained_through cannot be understood: '{told}' is no day that has been"
    ]


def test_a_tag_that_is_no_alias_is_not_set_as_one(caplog: pytest.LogCaptureFixture) -> None:
    """MLflow would refuse it at every training, and `champion` is not a trainer's word to copy."""
    with caplog.at_level(logging.WARNING):
        found = registered(7, _GOOD | {"alias": "champion"}, _TODAY)
    assert found.alias is None
    assert caplog.messages == [
        "version 7 gets no alias from its tag: 'champion' is neither YYYYMMDD nor backtest_YYYYMMDD"
    ]


@given(st.dictionaries(st.sampled_from([*_GOOD, "alias_set", "challenge"]), st.text(max_size=40)))
def test_no_tag_stops_a_training(tags: dict[str, str]) -> None:
    """Any text in any tag gives a version."""
    found = registered(7, tags, _TODAY)
    assert found.trained_through is None or found.trained_through <= _TODAY
