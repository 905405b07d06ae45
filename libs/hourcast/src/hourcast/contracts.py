"""Values that travel between services: bars, model references, manifests and names."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import AwareDatetime, BaseModel, ConfigDict

from hourcast.errors import DataError

__all__ = [
    "ALIAS_ANNOTATION",
    "CHAMPION",
    "CHAMPION_EVIDENCE",
    "DECIDED_ANNOTATION",
    "HOLD_ANNOTATION",
    "HOUR_S",
    "NEVER",
    "PIN_ANNOTATION",
    "STANDS",
    "VERSION_ANNOTATION",
    "AliasIndex",
    "AliasRecord",
    "Bars",
    "FloatArray",
    "Golden",
    "IntArray",
    "PackageManifest",
    "Seen",
    "alias_date",
    "alias_kind",
    "backtest_alias",
    "date_alias",
    "fingerprint",
    "from_epoch",
    "parse_hour",
    "parse_moment",
    "to_epoch",
    "version_number",
]

HOUR_S = 3600
# As moments: of a value that still stands, and of a bar that never was.
STANDS = np.iinfo(np.int64).max
NEVER = np.iinfo(np.int64).min
CHAMPION = "champion"
# Tag of a version that became champion: JSON of what was proved, of which `champion` is whom it succeeded.
CHAMPION_EVIDENCE = "champion_evidence"
VERSION_ANNOTATION = "hourcast.io/model-version"
ALIAS_ANNOTATION = "hourcast.io/model-alias"
PIN_ANNOTATION = "hourcast.io/pin"
HOLD_ANNOTATION = "hourcast.io/hold"
# Id of the decision about pin or hold that the two annotations follow.
DECIDED_ANNOTATION = "hourcast.io/decided"

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# What an integer column holds.
_NUMBER, _MOST = re.compile(r"[0-9]{1,10}"), 2**31 - 1
_PRICES = ("open", "high", "low", "close", "volume")


def to_epoch(moment: datetime) -> int:
    """Whole seconds since 1970-01-01 UTC of an aware moment."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone; give an aware datetime")
    return int(moment.timestamp())


def from_epoch(seconds: float) -> datetime:
    """Aware UTC moment of `seconds` since 1970-01-01."""
    return datetime.fromtimestamp(float(seconds), tz=UTC)


def parse_hour(text: str) -> datetime:
    """Read `2025-06-26`, `2025-06-26T05:00` or the same with `Z` or an offset, as UTC.

    Raises:
        ValueError: when the text is none of these.
    """
    try:
        moment = datetime.fromisoformat(text.strip().replace(" ", "T"))
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time; write it as 2025-06-26 or 2025-06-26T05:00Z") from None


def parse_moment(text: str) -> datetime:
    """Read what `datetime.isoformat` wrote of an aware moment, as UTC.

    Raises:
        ValueError: when the text is no moment, has no time zone, or lies outside the years 1 to 9999 in UTC.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{text[:80]!r} is no time with a zone")


def version_number(text: str | None) -> int | None:
    """The number of a version, or None where the text is none: it comes from annotations, which anyone may write."""
    number = int(text) if text is not None and _NUMBER.fullmatch(text) else 0
    return number if 0 < number <= _MOST else None


@dataclass(frozen=True, slots=True)
class Bars:
    """Closed bars of one symbol, in order of time.

    `open_time` and `close_time` are whole seconds since 1970 UTC, shape (n,); prices and volume are
    float64, shape (n,), prices in the quote currency. `close_time` is the moment from which the bar is known. `seen`
    says how they looked when hours were closed, where that is recorded; features of a recorded hour are built from it.
    """

    symbol: str
    open_time: IntArray
    close_time: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    seen: "Seen | None" = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return int(self.open_time.shape[0])

    @classmethod
    def empty(cls, symbol: str) -> Self:
        """No bars of `symbol`."""
        none_i, none_f = np.empty(0, np.int64), np.empty(0, np.float64)
        return cls(symbol, none_i, none_i, none_f, none_f, none_f, none_f, none_f)

    @classmethod
    def of(
        cls,
        symbol: str,
        open_time: npt.ArrayLike,
        prices: npt.ArrayLike,
        close_time: npt.ArrayLike | None = None,
    ) -> Self:
        """Bars from `open_time` (n,) in epoch seconds and `prices` (n, 5): open, high, low, close, volume.

        `close_time` defaults to an hour after the open.
        """
        opens = np.asarray(open_time, np.int64)
        closes = opens + HOUR_S if close_time is None else np.asarray(close_time, np.int64)
        table = np.asarray(prices, np.float64).reshape(len(opens), 5)
        return cls(symbol, opens, closes, *(np.ascontiguousarray(table[:, i]) for i in range(5)))

    def take(self, index: slice | npt.NDArray[np.bool_] | IntArray) -> Self:
        """The bars at `index`."""
        return type(self)(
            self.symbol,
            self.open_time[index],
            self.close_time[index],
            *(getattr(self, name)[index] for name in _PRICES),
            seen=self.seen,
        )

    def known_at(self, moment_s: int) -> Self:
        """The bars whose close time is not after `moment_s`."""
        return self.take(slice(0, int(np.searchsorted(self.close_time, moment_s, side="right"))))

    def between(self, start_s: int, end_s: int) -> Self:
        """The bars with start_s <= open_time < end_s."""
        first, last = np.searchsorted(self.open_time, [start_s, end_s], side="left")
        return self.take(slice(int(first), int(last)))

    def as_of(self, moment: datetime) -> Self:
        """The bars with the values that they had at a moment, without those that had not come by then.

        Without a record (`seen`) they are as they are, and so they are for a moment before it begins. History from before
        it counts as known whenever it was loaded.
        """
        record = self.seen
        at = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        if record is None or not len(self) or at < record.came.min():
            return self
        values = record.values
        known = (record.came <= at) & (at < record.replaced)
        first = np.concatenate([[True], values.open_time[1:] != values.open_time[:-1]])
        known |= first & (record.came > at) & (values.close_time * 1_000_000 <= record.came.min())
        known &= (values.open_time >= self.open_time[0]) & (values.close_time <= self.close_time[-1])
        columns = (getattr(values, name)[known] for name in ("open_time", "close_time", *_PRICES))
        return type(self)(self.symbol, *columns, seen=record.as_of(moment))

    def to_json(self) -> dict[str, object]:
        """A JSON-ready form that `from_json` reads back exactly."""
        return {
            "symbol": self.symbol,
            "open_time": self.open_time.tolist(),
            "close_time": self.close_time.tolist(),
            **{name: getattr(self, name).tolist() for name in _PRICES},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Self:
        """Inverse of `to_json`.

        Raises:
            DataError: when a column is missing, is not numeric or has another length.
        """
        try:
            opened, closed = (np.asarray(value[name], np.int64) for name in ("open_time", "close_time"))
            prices = [np.asarray(value[name], np.float64) for name in _PRICES]
            symbol = str(value["symbol"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"bars cannot be read: {error!r}") from None
        if len({array.shape for array in (opened, closed, *prices)}) != 1 or opened.ndim != 1:
            raise DataError(f"bars of {symbol} have columns of different lengths")
        return cls(symbol, opened, closed, *prices)


@dataclass(frozen=True, slots=True)
class Seen:
    """Every value that the bars of one symbol ever had, and the hours that were closed meanwhile.

    `values` (m,) in order of open time; each was known from `came` (m,) until `replaced` (m,), microseconds since 1970.
    Of each recorded hour `hour` (k,) epoch s, ascending: when it was closed, `closed_at` (k,) microseconds, and the newest
    close that its record knows, `newest` (k,) epoch s, which lies before every bar where it knows none.
    """

    values: Bars
    came: IntArray
    replaced: IntArray
    hour: IntArray
    closed_at: IntArray
    newest: IntArray

    def at(self, place: int) -> Bars:
        """What was known when the hour at `place` was closed."""
        moment = self.closed_at[place]
        known = (self.came <= moment) & (moment < self.replaced)
        if len(self.came) and moment < self.came.min():
            # Before the record of the symbol begins, what was loaded later counts as known.
            known = self.replaced == STANDS
        return self.values.take(known & (self.values.close_time <= self.newest[place]))

    def as_of(self, moment: datetime) -> "Seen":
        """The same as it was at a moment: what came later is absent, and what was replaced later stands."""
        at = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        if not len(self.came) or at < self.came.min():
            return self
        known = self.came <= at
        replaced = np.where(self.replaced > at, STANDS, self.replaced)
        return replace(self, values=self.values.take(known), came=self.came[known], replaced=replaced[known])

    def differs(self, within_s: int) -> npt.NDArray[np.bool_]:
        """(k,): whether a bar that closed within so many seconds before the hour is another today than it was then."""
        stands = self.replaced == STANDS
        close, came = self.values.close_time[stands], self.came[stands]
        # Closes are in order; two etls at once could break that, and then more hours are looked at than need be.
        closed_by = np.minimum.accumulate(self.closed_at[::-1])[::-1]
        first = np.searchsorted(self.hour, close)
        last = np.minimum(
            np.searchsorted(closed_by, came), np.searchsorted(self.hour, close + within_s, side="right")
        )
        late = last > first
        edges = np.zeros(len(self.hour) + 1, np.int64)
        np.add.at(edges, first[late], 1)
        np.add.at(edges, last[late], -1)
        at = np.searchsorted(close, self.hour, side="right") - 1
        newest = np.where(at >= 0, close[np.maximum(at, 0)], NEVER) if len(close) else np.full(len(at), NEVER)
        differs: npt.NDArray[np.bool_] = (np.cumsum(edges[:-1]) > 0) | (newest != self.newest)
        return differs


def fingerprint(bars: Mapping[str, Bars]) -> str:
    """SHA-256 over the bars of every symbol, 16 hex digits; equal bars give equal fingerprints anywhere."""
    digest = hashlib.sha256()
    for symbol in sorted(bars):
        part = bars[symbol]
        digest.update(symbol.encode())
        for name in ("open_time", "close_time"):
            digest.update(np.ascontiguousarray(getattr(part, name), dtype="<i8").tobytes())
        for name in _PRICES:
            digest.update(np.ascontiguousarray(getattr(part, name), dtype="<f8").tobytes())
    return digest.hexdigest()[:16]


_DATE_ALIAS = re.compile(r"^(backtest_)?(\d{4})(\d{2})(\d{2})$")
AliasKind = Literal["date", "backtest", "champion", "unknown"]


def alias_kind(alias: str) -> AliasKind:
    """What an alias is by its name; `unknown` ones are ignored with a logged reason."""
    if alias == CHAMPION:
        return "champion"
    if alias_date(alias) is None:
        return "unknown"
    return "backtest" if alias.startswith("backtest_") else "date"


def alias_date(alias: str) -> date | None:
    """The last UTC day of the training data that a date alias names, or None."""
    match = _DATE_ALIAS.match(alias)
    if match is None:
        return None
    try:
        return date(int(match[2]), int(match[3]), int(match[4]))
    except ValueError:
        return None


def date_alias(day: date) -> str:
    """`YYYYMMDD` of the last UTC day of the training data."""
    return day.strftime("%Y%m%d")


def backtest_alias(day: date) -> str:
    """`backtest_YYYYMMDD` of the last UTC day of the training data."""
    return f"backtest_{date_alias(day)}"


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Golden(_Closed):
    """An input and the output that the version gave at training time.

    `bars` maps symbol to `Bars.to_json()`; `origin` is epoch seconds; `quantiles` has shape
    (horizons, levels), in the quote currency.
    """

    bars: dict[str, dict[str, object]]
    origin: int
    quantiles: list[list[float]]
    rtol: float = 1e-4


class PackageManifest(_Closed):
    """What lies beside `bentos/<model>/<version>.bento` in the bucket, as `<version>.json`."""

    schema_version: Literal[1] = 1
    model: str
    version: int
    run_id: str
    alias: str | None
    kind: str
    sha256: str
    size_bytes: int
    created_at: AwareDatetime
    data_fingerprint: str
    trained_through: date
    decided_at: AwareDatetime
    golden: Golden


class AliasRecord(_Closed):
    """One alias as the registry had it. `decided_at` is when the version could first be known."""

    alias: str
    version: int
    run_id: str
    kind: str
    trained_through: date
    decided_at: AwareDatetime


class AliasIndex(_Closed):
    """`bentos/<model>/aliases.json`: what serving knows of the registry. Written by the packager alone."""

    schema_version: Literal[1] = 1
    model: str
    generated_at: AwareDatetime
    aliases: list[AliasRecord]
