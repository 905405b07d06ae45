"""Moments that callers name."""

from datetime import UTC, datetime

from hourcast.contracts import parse_hour

__all__ = ["EARLIEST", "LATEST", "YEARS", "parse_moment"]

# A moment a few weeks before or after must still be one that datetime and the databases know.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
YEARS = "1970 to 2199"


def parse_moment(text: str) -> datetime:
    """Read what `parse_hour` reads, of years of which there can be bars.

    Raises:
        ValueError: when the text is no time, or of another year.
    """
    moment = parse_hour(text)
    if not EARLIEST <= moment < LATEST:
        raise ValueError(f"{text!r} does not lie within {YEARS}")
    return moment
