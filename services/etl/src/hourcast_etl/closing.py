"""When an hour is closed. Pure: values in, values out.

An hour is the close of a bar of the target. It is closed when the target's bar is there and every other series has its
bar of that hour, owes none because its market is shut, or was given up: it was asked for, and the deadline has passed.
The target is never given up, because without its bar there is nothing to forecast from: it closes its hour late, or the
hour is not recorded at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hourcast.contracts import HOUR_S, IntArray, from_epoch
from hourcast.store import SeriesState

__all__ = ["CATCH_UP_H", "Standing", "closing", "hours_to_close", "lacking", "owes"]

CATCH_UP_H = 48
"""Hours behind the present that are still closed, as many as serving catches up; what is older needs no record."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a series stands at an hour: whether it owes a bar, and its newest close not after the hour (epoch s)."""

    symbol: str
    target: bool
    owed: bool
    newest: int | None
    asked: bool = True

    def came(self, hour_s: int) -> bool:
        """Whether its bar of that hour is there; the target's closes with the hour."""
        if self.newest is None or self.target:
            return self.newest == hour_s
        return self.newest > hour_s - HOUR_S


def hours_to_close(closes: IntArray, newest_closed_s: int | None) -> IntArray:
    """Which of the target's expected closes (n,), ascending and not after now, are still to be closed.

    Those after the newest closed hour, at most the last `CATCH_UP_H`; on a store without hours only the newest, since
    history that is loaded at first was not seen live.
    """
    if newest_closed_s is None:
        return closes[-1:]
    newer: IntArray = closes[closes > newest_closed_s]
    return newer[-CATCH_UP_H:]


def lacking(hour_s: int, series: Sequence[Standing]) -> tuple[str, ...]:
    """Symbols whose bar of the hour is owed and has not come."""
    return tuple(s.symbol for s in series if (s.owed or s.target) and not s.came(hour_s))


def closing(
    hour_s: int, now_s: float, series: Sequence[Standing], deadline_s: float
) -> dict[str, SeriesState] | None:
    """How each series stands when the hour is closed now, or None when it stays open.

    Args:
        hour_s: the target's close, epoch seconds.
        now_s: by the clock setting.
        series: every series of the stream.
        deadline_s: seconds after the hour from which on a missing bar is given up.
    """
    out = {}
    for s in series:
        newest = None if s.newest is None else from_epoch(s.newest)
        if s.came(hour_s):
            out[s.symbol] = SeriesState("there", newest)
        elif s.target:
            return None
        elif not s.owed:
            out[s.symbol] = SeriesState("shut", newest)
        elif s.asked and now_s >= hour_s + deadline_s:
            out[s.symbol] = SeriesState("given_up", newest)
        else:
            return None
    return out


def owes(expected_opens: IntArray, hour_s: int) -> bool:
    """Whether one of the opens (n,), by the market's own hours, is of a bar that closes within the hour."""
    closes = expected_opens + HOUR_S
    return bool(np.any((closes > hour_s - HOUR_S) & (closes <= hour_s)))
