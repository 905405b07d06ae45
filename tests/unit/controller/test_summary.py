"""What `kubectl describe` shows: what is served, since when and why."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hourcast.store import Event
from hourcast_controller.journal import noted, quarantine_of, released_of
from hourcast_controller.plan import Deployment, Wait
from hourcast_controller.summary import summary

_AT = datetime(2026, 11, 24, 10, 0, 30, tzinfo=UTC)


def _event(kind: str, version: int | None, reason: str = "why") -> Event:
    return Event(_AT, "controller", kind, "m", version, None, reason, _AT)


_SERVED = Deployment(7, "20250612", 7, "20250612")


@pytest.mark.parametrize(
    ("deployment", "told"),
    [
        (_SERVED, ("version 7 (alias 20250612) is served since 2026-11-24 10:00 UTC", "newer")),
        (
            replace(_SERVED, pin=7, hold=True),
            (
                "version 7 (alias 20250612) is served since 2026-11-24 10:00 UTC; pinned to version 7; "
                "held, nothing is rolled until `hourcast release`",
                "newer",
            ),
        ),
        (
            Deployment(8, "20250619", 7, "20250612", rolling=True),
            ("version 7 is served, and version 8 (alias 20250619) is being rolled out", "next"),
        ),
        (Deployment(), ("nothing is served yet", "no version has passed its gate and been packaged yet")),
        (
            Deployment(8, "8", failed_version=8, failure="no image"),
            ("nothing is served: version 8 is not ready", "no image"),
        ),
    ],
)
def test_status_and_reason_are_sentences(deployment: Deployment, told: tuple[str, str]) -> None:
    """Served, rolling, nothing yet, nothing ready."""
    events = [_event("roll_started", 8, "next"), _event("rolled", 7, "newer")]
    assert summary(deployment, [], events) == told


def test_what_is_waited_for_is_the_reason() -> None:
    """A person who asks why nothing moves is told."""
    assert summary(_SERVED, [Wait("the registry cannot be read")], [])[1] == "the registry cannot be read"


def test_pin_and_hold_are_those_of_the_newest_events() -> None:
    """An unpinned version is not pinned, whatever was pinned before."""
    assert noted([]) == (None, False)
    assert noted([_event("held", None), _event("pinned", 3)]) == (3, True)
    assert noted([_event("released", None), _event("unpinned", 3), _event("held", None), _event("pinned", 3)]) == (None, False)  # fmt: skip


def test_a_released_version_is_known_by_when() -> None:
    """A failure from before does not count again."""
    events = [_event("unquarantined", 3), _event("quarantined", 3)]
    assert released_of(events) == {3: _AT}
    assert quarantine_of(events) == {}
