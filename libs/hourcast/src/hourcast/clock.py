"""Time as a setting: the wall, a frozen hour, or the hour that a replay has written into the store."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from hourcast.contracts import parse_hour
from hourcast.errors import ConfigurationError

__all__ = ["Clock", "FrozenClock", "StoreClock", "WallClock", "clock_from"]


class Clock(Protocol):
    """Says what time it is, in UTC."""

    def now(self) -> datetime:
        """The present moment, aware, UTC."""
        ...


class WallClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """The present moment, aware, UTC."""
        return datetime.now(UTC)


class FrozenClock:
    """Always the same moment."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment.astimezone(UTC)

    def now(self) -> datetime:
        """The frozen moment."""
        return self._moment


class StoreClock:
    """The moment that a replay keeps in the store; `read` gives it."""

    def __init__(self, read: Callable[[], datetime]) -> None:
        self._read = read

    def now(self) -> datetime:
        """The replay's present moment."""
        return self._read()


def clock_from(setting: str, read_store: Callable[[], datetime]) -> Clock:
    """The clock that `HOURCAST_CLOCK` names.

    Raises:
        ConfigurationError: when the setting is neither `wall`, `store` nor a time.
    """
    if setting == "wall":
        return WallClock()
    if setting == "store":
        return StoreClock(read_store)
    try:
        return FrozenClock(parse_hour(setting))
    except ValueError as error:
        raise ConfigurationError(f"HOURCAST_CLOCK: {error}; or set it to `wall` or `store`") from None
