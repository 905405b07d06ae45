"""What `kubectl describe` shows: what is served, since when and why."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hourcast.decisions import Asked, Blocked, Served, Standing
from hourcast_controller.actions import Wait
from hourcast_controller.observed import Deployment
from hourcast_controller.summary import summary

_AT = datetime(2026, 11, 24, 10, 0, 30, tzinfo=UTC)


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
    standing = Standing(
        served=(Served(7, "20250612", "newer", _AT),), asked=Asked(8, "20250619", "next", _AT)
    )
    assert summary(deployment, [], standing) == told


def test_what_is_waited_for_is_the_reason() -> None:
    """A person who asks why nothing moves is told."""
    assert (
        summary(_SERVED, [Wait("the registry cannot be read")], Standing())[1]
        == "the registry cannot be read"
    )


def test_a_roll_that_is_blocked_is_not_told_as_under_way() -> None:
    """What serves is what counts, and the reason is what stands in the way."""
    standing = Standing(
        served=(Served(7, "20250612", "newer", _AT),),
        asked=Asked(8, "20250619", "next", _AT),
        blocked=Blocked(8, "place", "the bucket is away"),
    )
    rolling = Deployment(8, "20250619", 7, "20250612", rolling=True, fetching=True)
    waits = [Wait("the bucket is away")]
    assert summary(rolling, waits, standing) == (
        "version 7 (alias 20250612) is served since 2026-11-24 10:00 UTC",
        "the bucket is away",
    )
    alone = Deployment(8, "20250619", rolling=True, fetching=True)
    assert summary(alone, waits, standing) == (
        "nothing is served: version 8 (alias 20250619) is not ready",
        "the bucket is away",
    )
