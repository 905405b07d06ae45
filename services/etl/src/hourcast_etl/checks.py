"""The data contract, checked before anything is written. Pure.

A bar must be whole: numbers, positive prices, low <= open, close <= high, volume not negative, opened on the
series' grid, and closed. A close that jumps absurdly against the last good one waits in quarantine until a
following bar confirms it: a real crash is confirmed within the hour, a broken tick is not.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from hourcast.contracts import HOUR_S, Bars

__all__ = ["Checked", "RawBar", "Rejected", "check"]

_JUMP_FLOOR = 0.20
_JUMP_SPREADS = 25.0


@dataclass(frozen=True, slots=True)
class RawBar:
    """A row as a source gave it: `open_time` in epoch seconds, prices of any type."""

    open_time: Any
    open: Any
    high: Any
    low: Any
    close: Any
    volume: Any

    def as_json(self) -> dict[str, Any]:
        """The row for the quarantine table."""
        return {
            name: value if isinstance(value, int | float | str) and value == value else repr(value)
            for name in ("open_time", "open", "high", "low", "close", "volume")
            for value in (getattr(self, name),)
        }


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that broke the contract, and how."""

    open_time: datetime
    reason: str
    row: Mapping[str, Any]


@dataclass(slots=True)
class Checked:
    """What may be written, what may not, and what was put right on the way."""

    bars: Bars
    rejected: list[Rejected] = field(default_factory=list)
    duplicates: int = 0
    unfinished: int = 0


def check(
    symbol: str,
    rows: Iterable[RawBar],
    *,
    now_s: int,
    on_the_hour: bool,
    before: Sequence[float] = (),
    final: bool = True,
) -> Checked:
    """Check rows of one series, in any order.

    Args:
        symbol: whose rows they are.
        rows: as the source gave them.
        now_s: epoch seconds; a bar that closes later is unfinished and left out.
        on_the_hour: whether bars must open on a full hour.
        before: closes already stored that precede the rows, oldest first; they say what a usual move is.
        final: whether no more rows follow at once, so that the last one cannot be confirmed here.
    """
    out = Checked(Bars.empty(symbol))
    good: dict[int, tuple[float, ...]] = {}
    for row in rows:
        parsed, wrong = _parse(row, on_the_hour)
        if parsed is None:
            at = (
                row.open_time
                if isinstance(row.open_time, int | float) and math.isfinite(row.open_time)
                else 0
            )
            out.rejected.append(Rejected(datetime.fromtimestamp(float(at), UTC), wrong, row.as_json()))
            continue
        opened, prices = parsed
        if opened + HOUR_S > now_s:
            out.unfinished += 1
            continue
        if opened in good:
            out.duplicates += 1
        # Of two rows for one hour the later one counts: sources correct themselves in that order.
        good[opened] = prices
    times = sorted(good)
    keep = _plausible(times, good, list(before), out, final)
    table = np.array([good[t] for t in keep], np.float64).reshape(len(keep), 5)
    out.bars = Bars.of(symbol, np.array(keep, np.int64), table)
    return out


def _parse(row: RawBar, on_the_hour: bool) -> tuple[tuple[int, tuple[float, ...]] | None, str]:
    """The row as numbers, or why it is none."""
    try:
        opened = float(row.open_time)
    except (TypeError, ValueError):
        return None, f"open_time is no number: {str(row.open_time)[:40]!r}"
    if not math.isfinite(opened) or opened != int(opened):
        return None, f"open_time is no whole second: {opened!r}"
    values = []
    for name in ("open", "high", "low", "close", "volume"):
        raw = getattr(row, name)
        try:
            value = float(raw)
        except (TypeError, ValueError):
            return None, f"{name} is no number: {str(raw)[:40]!r}"
        if not math.isfinite(value):
            return None, f"{name} is not finite: {value!r}"
        if value < 0 or (value == 0 and name != "volume"):
            return None, f"{name} is not positive: {value:g}"
        values.append(value)
    first, high, low, close, _volume = values
    if low > min(first, close):
        return None, f"low {low:g} is above open {first:g} or close {close:g}"
    if high < max(first, close):
        return None, f"high {high:g} is below open {first:g} or close {close:g}"
    if on_the_hour and int(opened) % HOUR_S:
        return None, "the bar does not open on the hour"
    return (int(opened), tuple(values)), ""


def _plausible(
    times: list[int],
    good: Mapping[int, tuple[float, ...]],
    before: list[float],
    out: Checked,
    final: bool,
) -> list[int]:
    """Hours whose close (and wick) is believable after the last good close."""
    closes = [*before, *(good[t][3] for t in times)]
    moves = np.abs(np.diff(np.log(closes))) if len(closes) > 2 else np.zeros(1)
    limit = max(_JUMP_FLOOR, _JUMP_SPREADS * float(np.median(moves)))
    last = before[-1] if before else None
    kept = []
    for i, t in enumerate(times):
        first, high, low, close, _ = good[t]
        wick = max(math.log(high / max(first, close)), math.log(min(first, close) / low))
        jump = abs(math.log(close / last)) if last is not None else 0.0
        following = good[times[i + 1]][3] if i + 1 < len(times) else None
        confirmed = following is not None and abs(math.log(following / close)) <= limit
        reason = None
        if wick > 2 * limit:
            reason = f"high {high:g} or low {low:g} lies absurdly far from open {first:g} and close {close:g}"
        elif jump > limit and not confirmed:
            pending = following is None and final
            reason = f"close {close:g} jumps {math.expm1(jump):.0%} from {last:g}" + (
                " and no later bar confirms it yet" if pending else " and the next bar does not confirm it"
            )
        if reason is not None:
            row = dict(zip(("open", "high", "low", "close", "volume"), good[t], strict=True))
            out.rejected.append(Rejected(datetime.fromtimestamp(t, UTC), reason, {"open_time": t, **row}))
            continue
        kept.append(t)
        last = close
    return kept
