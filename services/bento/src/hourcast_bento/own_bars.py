"""A caller's own bars: JSON in, columns out.

Thousands of bars come at once, so they are read as columns where they have the usual form: times of UTC in whole
seconds, numbers as JSON writes them. pydantic reads every other form, and it says what is wrong with a body.
"""

import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Annotated, Any, NotRequired

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, with_config
from pydantic_core import from_json
from typing_extensions import TypedDict  # pydantic refuses typing's own before Python 3.12

from hourcast.contracts import HOUR_S, Bars, FloatArray, IntArray, to_epoch
from hourcast.errors import DataError, HourcastError
from hourcast_bento.moments import EARLIEST, LATEST, YEARS

__all__ = ["MAX_BYTES", "Columns", "OwnBar", "OwnBars", "Read", "TooLargeError", "check", "read"]

MAX_BYTES = 8 * 2**20
"""As long as a body may be."""

_MAX_SYMBOLS, _MAX_ROWS, _MAX_HORIZONS = 16, 20_000, 24
_MAX_ROWS_IN_ALL = 40_000
_LOWEST_PRICE, _HIGHEST_PRICE, _MOST_VOLUME = 1e-12, 1e15, 1e18
_PRICES = ("open", "high", "low", "close")
_USUAL = itemgetter("open_time", *_PRICES, "volume")
_USUAL_TIMES = re.compile(r"(?:(?!0000)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|\+00:00)?\n)+", re.ASCII)
_FIRST_S, _LAST_S = to_epoch(EARLIEST), to_epoch(LATEST)
_WITHOUT_ZONE, _LONGEST_TIME = "S19", 25

# Beyond these a ratio of prices is no number any more.
_Price = Annotated[float, Field(ge=_LOWEST_PRICE, le=_HIGHEST_PRICE)]


# A dict, since a model each would cost more than the forecast.
@with_config(ConfigDict(extra="forbid"))
class OwnBar(TypedDict):
    """One bar of the caller. `close_time` defaults to an hour after `open_time`."""

    open_time: datetime
    close_time: NotRequired[datetime | None]
    open: _Price
    high: _Price
    low: _Price
    close: _Price
    volume: NotRequired[Annotated[float, Field(ge=0, le=_MOST_VOLUME)]]


class OwnBars(BaseModel):
    """A caller's own bars by symbol, in order of time."""

    model_config = ConfigDict(extra="forbid")

    bars: Annotated[
        dict[str, Annotated[list[OwnBar], Field(max_length=_MAX_ROWS)]], Field(max_length=_MAX_SYMBOLS)
    ]
    horizons: Annotated[list[int], Field(max_length=_MAX_HORIZONS)] | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """Bars of one symbol: opens and closes (n,) in epoch seconds; open, high, low, close and volume (n, 5)."""

    open_time: IntArray
    close_time: IntArray
    prices: FloatArray


@dataclass(frozen=True, slots=True)
class Read:
    """What a caller sent; each value is what it has to be, whether they fit each other is not known yet."""

    bars: Mapping[str, Columns]
    horizons: tuple[int, ...] | None


class TooLargeError(HourcastError):
    """A body that is not even parsed."""


def read(body: bytes) -> Read:
    """Read the JSON of `OwnBars`.

    Raises:
        TooLargeError: when it has more bytes or bars than are taken; it is not parsed then.
        ValidationError: of pydantic, when the body is not that.
    """
    if len(body) > MAX_BYTES:
        raise TooLargeError(f"the body is larger than {MAX_BYTES // 2**20} MiB; send the newest bars alone")
    # A bar is an object, in an object of symbols, in the body's.
    if (rows := body.count(b"{") - 2) > _MAX_ROWS_IN_ALL:
        raise TooLargeError(
            f"the body has {rows} bars, at most {_MAX_ROWS_IN_ALL} are taken; send the newest bars alone"
        )
    try:
        return _read_usual(from_json(body))
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        payload = OwnBars.model_validate_json(body)
    bars = {symbol: _columns(rows) for symbol, rows in payload.bars.items()}
    return Read(bars, tuple(payload.horizons) if payload.horizons else None)


def _read_usual(value: Any) -> Read:
    """Raises one of several errors when anything is not of the usual form; that need not be wrong."""
    bars, horizons = value["bars"], value.get("horizons")
    if value.keys() - {"bars", "horizons"} or len(bars) > _MAX_SYMBOLS:
        raise ValueError
    if horizons is not None and (len(horizons) > _MAX_HORIZONS or {*map(type, horizons)} - {int}):
        raise ValueError
    columns = {symbol: _usual_columns(rows) for symbol, rows in bars.items()}
    return Read(columns, tuple(horizons) if horizons else None)


def _usual_columns(rows: Sequence[Mapping[str, Any]]) -> Columns:
    if len(rows) > _MAX_ROWS or {*map(len, rows)} != {1 + len(_PRICES) + 1}:
        raise ValueError
    times, *numbers = zip(*map(_USUAL, rows), strict=True)
    # array takes numbers alone, where numpy would read texts as well.
    prices = np.array([array("d", column) for column in numbers]).T
    most, least = prices.max(axis=0), prices.min(axis=0)
    if not (least[:-1].min() >= _LOWEST_PRICE and most[:-1].max() <= _HIGHEST_PRICE):
        raise ValueError
    if not (least[-1] >= 0 and most[-1] <= _MOST_VOLUME):
        raise ValueError
    if max(map(len, times)) > _LONGEST_TIME or not _USUAL_TIMES.fullmatch("\n".join(times) + "\n"):
        raise ValueError
    opens = np.array(times, _WITHOUT_ZONE).astype("datetime64[s]").astype(np.int64)
    return Columns(opens, opens + HOUR_S, prices)


def _columns(rows: Sequence[OwnBar]) -> Columns:
    opens = np.array([_epoch(r["open_time"]) for r in rows], np.int64)
    ends = [r.get("close_time") for r in rows]
    closes = [_epoch(end) if end else o + HOUR_S for end, o in zip(ends, opens.tolist(), strict=True)]
    prices = [(r["open"], r["high"], r["low"], r["close"], r.get("volume", 0.0)) for r in rows]
    return Columns(opens, np.array(closes, np.int64), np.array(prices, np.float64).reshape(len(rows), 5))


def _epoch(moment: datetime) -> int:
    """Whole seconds; a time without a zone is UTC, as everywhere in this API."""
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def check(given: Mapping[str, Columns]) -> dict[str, Bars]:
    """The bars, once they contradict neither themselves nor each other.

    Raises:
        DataError: naming the first that does.
    """
    out = {}
    for symbol, columns in given.items():
        opens, closes, prices = columns.open_time, columns.close_time, columns.prices
        first, high, low, close = (prices[:, i] for i in range(4))
        apart = (low > np.minimum(first, close)) | (high < np.maximum(first, close))
        outside = (opens < _FIRST_S) | (closes > _LAST_S)
        early = closes <= opens
        disordered, crossed = (np.diff(times, prepend=times[:1] - 1) <= 0 for times in (opens, closes))
        if (i := _first(apart)) is not None:
            raise DataError(
                f"bars[{symbol!r}][{i}]: low {low[i]:g} and high {high[i]:g} must enclose "
                f"open {first[i]:g} and close {close[i]:g}"
            )
        if (i := _first(outside)) is not None:
            raise DataError(f"bars[{symbol!r}][{i}]: open_time and close_time must lie within {YEARS}")
        if (i := _first(early)) is not None:
            raise DataError(f"bars[{symbol!r}][{i}]: close_time must lie after open_time")
        if (i := _first(disordered)) is not None:
            raise DataError(f"bars[{symbol!r}][{i}]: open_time must be later than that of the bar before it")
        if (i := _first(crossed)) is not None:
            raise DataError(f"bars[{symbol!r}][{i}]: close_time must be later than that of the bar before it")
        out[symbol] = Bars.of(symbol, opens, prices, closes)
    return out


def _first(wrong: npt.NDArray[np.bool_]) -> int | None:
    """The place of the first that is wrong, or None."""
    return int(np.argmax(wrong)) if wrong.any() else None
