"""The one point-in-time function that builds features, for training and for serving alike.

Everything lies on the hourly grid of the target's close times. The row of hour t uses the target's bars
that closed by t and, of each exogenous series, the newest bar whose CLOSE is not after t; it is carried
forward for at most `max_staleness_s`, never filled from the future. Every sum over the past has a fixed
number of lags, so that a row does not depend on how much history was read.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from hourcast.contracts import HOUR_S, Bars, FloatArray, IntArray, from_epoch
from hourcast.errors import DataError
from hourcast.volatility import VolatilitySpec, hour_of_week

__all__ = [
    "VOL_LAGS",
    "ExogenousFeature",
    "FeatureSpec",
    "Features",
    "Grid",
    "build",
    "feature_names",
    "fingerprint",
    "hourly_grid",
    "log_volatilities",
    "seen_otherwise",
    "why_unusable",
]

VOL_LAGS = 720
_CLIP = 8.0
_MISSING_LIMIT = 0.05
_TINY = 1e-8
_OPEN_AGE_S = HOUR_S
_VOLUME_LAGS = 168
_AT_ONCE = 4096
_TRENDS_H = (6, 24)
_WAVES = 4
# The expected squared logarithm of high over low of a driftless walk is this many times its variance (Parkinson 1980).
_RANGE_VARIANCE = 4 * float(np.log(2))


class ExogenousFeature(BaseModel):
    """An exogenous series; `scale` is the standard deviation of its hourly log-return in training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol: str
    max_staleness_s: Annotated[int, Field(gt=0)]
    scale: Annotated[float, Field(gt=0)]


class FeatureSpec(BaseModel):
    """How features are built; it travels inside the model, so that serving builds what training built.

    `seasonal` holds 168 factors by hour of the week: the usual size of a return in that hour against the
    mean, with mean square 1. `volatility` says over which half-lives recent ranges are weighed, each over the
    last `vol_lags` hours, and how wide a return they make expect.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    exogenous: tuple[ExogenousFeature, ...] = ()
    window: Annotated[int, Field(ge=1, le=336)] = 24
    vol_lags: Annotated[int, Field(ge=_VOLUME_LAGS, le=2000)] = VOL_LAGS
    seasonal: Annotated[tuple[float, ...], Field(min_length=168, max_length=168)]
    volatility: VolatilitySpec

    @property
    def width(self) -> int:
        """Number of features of one hour."""
        scales = len(self.volatility.halflives_h) - 1
        return 3 + scales + len(_TRENDS_H) + _WAVES + 3 * len(self.exogenous)

    @property
    def history_h(self) -> int:
        """Hours of target bars that a row needs, its own hour included."""
        return self.window + self.vol_lags + 1


@dataclass(frozen=True, slots=True)
class Features:
    """Features of N origins.

    `x` (N, window, width) float32, the last row of a window being the origin's own hour; `log_volatility` (N, K) is
    the logarithm of the deseasonalised volatility of one hour over each half-life; `last_close` (N,) in the quote
    currency; `usable` (N,) is False where history is missing, and then the other values of that origin mean nothing.
    """

    origin: IntArray
    x: npt.NDArray[np.float32]
    log_volatility: FloatArray
    last_close: FloatArray
    usable: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Grid:
    """The target on consecutive hours: `close_time` (G,) epoch s, `real` (G,) False where the bar is missing.

    A missing bar carries the last close forward: log-return and range are 0, volume is that of the last bar.
    """

    close_time: IntArray
    real: npt.NDArray[np.bool_]
    close: FloatArray
    log_return: FloatArray
    log_range: FloatArray
    log_volume: FloatArray

    def index(self, moment_s: IntArray) -> IntArray:
        """Place of moments on the grid; may lie outside of it."""
        place: IntArray = (moment_s - self.close_time[0]) // HOUR_S
        return place


def hourly_grid(bars: Bars, end_s: int | None = None) -> Grid:
    """The target's bars on consecutive hours up to `end_s` (default: the newest close).

    Raises:
        DataError: when there are no bars.
    """
    if end_s is not None:
        bars = bars.known_at(end_s)
    if not len(bars):
        raise DataError(f"there are no bars of {bars.symbol} yet; run `hourcast etl run`")
    first = int(bars.close_time[0])
    last = int(bars.close_time[-1]) if end_s is None else max(int(bars.close_time[-1]), end_s)
    times = np.arange(first, last + 1, HOUR_S, dtype=np.int64)
    source = np.searchsorted(bars.close_time, times, side="right") - 1
    real = bars.close_time[source] == times
    close = bars.close[source]
    log_close = np.log(close)
    log_return = np.concatenate([[0.0], np.diff(log_close)])
    log_range = np.where(real, np.log(bars.high[source] / bars.low[source]), 0.0)
    log_volume = np.log1p(bars.volume[source])
    return Grid(times, real, close, log_return, log_range, log_volume)


def _past_mean(values: FloatArray, weights: FloatArray, real: FloatArray, first: int = 0) -> FloatArray:
    """Weighted mean over the last `len(weights)` hours, leaving out hours without a bar; from the row `first` on."""
    lags = len(weights)
    # As many lags for each row, whatever lies before the grid: a sum's last bits come from its length too.
    before, since = np.zeros(max(lags - 1 - first, 0)), max(first - lags + 1, 0)
    top = np.convolve(np.concatenate([before, (values * real)[since:]]), weights, "valid")
    bottom = np.convolve(np.concatenate([before, real[since:]]), weights, "valid")
    mean: FloatArray = top / np.where(bottom > 0, bottom, 1.0)
    return mean


def _halflife(hours: float, lags: int) -> FloatArray:
    weights: FloatArray = 0.5 ** (np.arange(lags) / hours)
    return weights


def _exogenous(bars: Bars, feature: ExogenousFeature, times: IntArray) -> FloatArray:
    """(G, 3): log-return of the hour over `scale`, age over `max_staleness_s`, market open."""
    out = np.zeros((len(times), 3))
    out[:, 1] = 1.0
    if not len(bars):
        return out
    # Bars of one series may close out of step with their opens (a short last bar), so sort by close.
    order = np.argsort(bars.close_time, kind="stable")
    closes_at, log_close = bars.close_time[order], np.log(bars.close[order])
    source = np.searchsorted(closes_at, times, side="right") - 1
    found = source >= 0
    age = np.where(found, times - closes_at[np.maximum(source, 0)], np.iinfo(np.int64).max)
    known = age <= feature.max_staleness_s
    level = np.where(known, log_close[np.maximum(source, 0)], np.nan)
    change = np.concatenate([[0.0], np.diff(level)])
    out[:, 0] = np.clip(np.nan_to_num(change) / feature.scale, -_CLIP, _CLIP)
    out[:, 1] = np.where(known, age / feature.max_staleness_s, 1.0)
    out[:, 2] = known & (age < _OPEN_AGE_S)
    return out


def log_volatilities(
    grid: Grid, seasonal: FloatArray, halflives_h: Sequence[float], lags: int = VOL_LAGS, first: int = 0
) -> FloatArray:
    """(G - first, K): at each hour of the grid, the logarithm of the volatility of one hour over each half-life.

    Args:
        grid: the target's hours.
        seasonal: (168,) the usual size of each hour of the week, which is divided out.
        halflives_h: (K,) hours.
        lags: hours over which the means are taken.
        first: the hour of the grid from which on they are wanted.
    """
    factor = seasonal[hour_of_week(grid.close_time)]
    real = grid.real.astype(np.float64)
    variance = (grid.log_range / factor) ** 2 / _RANGE_VARIANCE
    means = [_past_mean(variance, _halflife(hours, lags), real, first) for hours in halflives_h]
    out: FloatArray = np.log(np.sqrt(np.stack(means, axis=1)) + _TINY)
    return out


def build(bars: Mapping[str, Bars], spec: FeatureSpec, origins: IntArray) -> Features:
    """Features of each origin, from what was known at it.

    Where bars come with a record of how they looked when an hour was closed (`Bars.seen`), the origins that are recorded
    hours are built from that: training sees the delays and the values that serving saw.

    Args:
        bars: bars by symbol; a missing exogenous series counts as unknown. Bars after an origin are not used.
        spec: how to build.
        origins: (N,) epoch seconds, close times of target bars, in any order.

    Returns:
        `Features` in the order of `origins`.

    Raises:
        DataError: when the target has no bars, or none that reach to an origin.
    """
    origins = np.asarray(origins, np.int64)
    made = _build(bars, spec, origins)
    symbols = (spec.target, *(f.symbol for f in spec.exogenous))
    within_s = spec.history_h * HOUR_S + max((f.max_staleness_s for f in spec.exogenous), default=0)
    for i, then in seen_otherwise({s: bars[s] for s in symbols if s in bars}, within_s, origins):
        if not len(then[spec.target]):
            made.usable[i] = False
            continue
        one = _build(then, spec, origins[[i]])
        for name in ("x", "log_volatility", "last_close", "usable"):
            getattr(made, name)[i] = getattr(one, name)[0]
    return made


def seen_otherwise(
    bars: Mapping[str, Bars], within_s: int, origins: IntArray
) -> Iterator[tuple[int, dict[str, Bars]]]:
    """Places of origins at whose close bars were others than today, each with the bars of then.

    Args:
        bars: bars by symbol.
        within_s: seconds before an origin in which bars matter.
        origins: (N,) epoch seconds.
    """
    seen = {symbol: part.seen for symbol, part in bars.items()}
    differs = {
        int(hour)
        for record in seen.values()
        if record is not None
        for hour in record.hour[record.differs(within_s)]
    }
    if not differs:
        return
    for i, origin in enumerate(origins.tolist()):
        if origin in differs:
            then = {symbol: bars[symbol] for symbol in seen}
            for symbol, record in seen.items():
                place = -1 if record is None else int(np.searchsorted(record.hour, origin))
                if record is not None and place < len(record.hour) and record.hour[place] == origin:
                    then[symbol] = record.at(place)
            yield i, then


def _build(bars: Mapping[str, Bars], spec: FeatureSpec, origins: IntArray) -> Features:
    target = bars.get(spec.target, Bars.empty(spec.target))
    window, halflives = spec.window, spec.volatility.halflives_h
    if not len(origins):
        none = np.empty(0)
        shape = (0, window, spec.width)
        return Features(
            origins, np.empty(shape, np.float32), np.empty((0, len(halflives))), none, np.empty(0, np.bool_)
        )
    earliest = int(origins.min()) - (spec.history_h + 1) * HOUR_S
    grid = hourly_grid(
        target.take(slice(int(np.searchsorted(target.close_time, earliest)), None)), int(origins.max())
    )
    place = grid.index(origins)
    size = len(grid.close_time)
    inside = (place >= 0) & (place < size) & ((origins - grid.close_time[0]) % HOUR_S == 0)
    safe = np.where(inside, place, 0)
    # The history before the first window is summed over, and has no rows of its own.
    first = max(int(safe.min()) - window + 1, 0)

    volatility = log_volatilities(
        grid, np.asarray(spec.seasonal), spec.volatility.halflives_h, spec.vol_lags, first
    )
    columns = _columns(bars, spec, grid, volatility, first, int(origins.max()))
    # Hours before the first bar are missing like any others: nothing may depend on how much history was read.
    whole = np.concatenate([[0], np.cumsum(grid.real)])
    missing = spec.history_h - (whole[safe + 1] - whole[np.maximum(safe - spec.history_h + 1, 0)])
    usable = inside & grid.real[safe] & (missing <= _MISSING_LIMIT * spec.history_h)

    rows = safe - first
    x = _windows(columns, np.exp(volatility[rows, len(halflives) // 2]), rows, spec)
    return Features(origins, x, volatility[rows], grid.close[safe], usable)


def _columns(
    bars: Mapping[str, Bars], spec: FeatureSpec, grid: Grid, volatility: FloatArray, first: int, now_s: int
) -> FloatArray:
    """(hours from `first` on, width) of the grid's features, each in its own measure."""
    halflives, size = spec.volatility.halflives_h, len(grid.close_time)
    factor = np.asarray(spec.seasonal)[hour_of_week(grid.close_time)]
    middle = len(halflives) // 2
    calm = grid.log_return / factor
    usual_volume = _past_mean(grid.log_volume, np.ones(_VOLUME_LAGS), grid.real.astype(np.float64), first)

    hours = grid.close_time[first:] // HOUR_S
    day, week = 2 * np.pi * (hours % 24) / 24, 2 * np.pi * (hours % 168) / 168
    others = [
        np.clip(volatility[:, k] - volatility[:, middle], -_CLIP, _CLIP)
        for k in range(len(halflives))
        if k != middle
    ]
    trends = [np.convolve(calm, np.ones(h))[first:size] / np.sqrt(h) for h in _TRENDS_H]
    columns = np.stack(
        [
            calm[first:],
            (grid.log_range / factor)[first:],
            *trends,
            np.clip(grid.log_volume[first:] - usual_volume, -_CLIP, _CLIP),
            *others,
            *(np.sin(day), np.cos(day), np.sin(week), np.cos(week)),
        ],
        axis=1,
    )
    for feature in spec.exogenous:
        series = bars.get(feature.symbol, Bars.empty(feature.symbol))
        known = _exogenous(series.known_at(now_s), feature, grid.close_time)
        columns = np.concatenate([columns, known[first:]], axis=1)
    return columns


def _windows(
    columns: FloatArray, sigma: FloatArray, rows: IntArray, spec: FeatureSpec
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(N, window, width) of the hours up to each of `rows` (N,), prices' columns counted in `sigma` (N,).

    That is the volatility that was known at the origin, not each hour's own.
    """
    x = np.empty((len(rows), spec.window, spec.width), np.float32)
    scaled = slice(0, 2 + len(_TRENDS_H))
    # In parts, since years of windows in double precision would take twice what they end as.
    for begin in range(0, len(rows), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        windows = columns[np.maximum(rows[part, None] + np.arange(-spec.window + 1, 1)[None, :], 0)]
        windows[:, :, scaled] = np.clip(windows[:, :, scaled] / sigma[part, None, None], -_CLIP, _CLIP)
        x[part] = windows
    return x


def feature_names(spec: FeatureSpec) -> tuple[str, ...]:
    """A name for each of the `width` features of an hour, in the order of `Features.x`."""
    halflives = spec.volatility.halflives_h
    middle = len(halflives) // 2
    return (
        "return",
        "range",
        *(f"trend_{h}h" for h in _TRENDS_H),
        "volume",
        *(f"volatility_{halflives[k]:g}h" for k in range(len(halflives)) if k != middle),
        *("day_sin", "day_cos", "week_sin", "week_cos"),
        *(f"{f.symbol}_{what}" for f in spec.exogenous for what in ("return", "age", "open")),
    )


def fingerprint(made: Features) -> tuple[str, ...]:
    """One mark for each origin of what a model sees there: 16 hex digits of SHA-256.

    Over the bytes of `x[i]`, `log_volatility[i]` and `last_close[i]`, little-endian. It depends on neither the other
    origins nor on how much history was read. That of an unusable origin means nothing.
    """
    x = np.ascontiguousarray(made.x, dtype="<f4")
    volatility = np.ascontiguousarray(made.log_volatility, dtype="<f8")
    last_close = np.ascontiguousarray(made.last_close, dtype="<f8")
    return tuple(
        hashlib.sha256(x[i].tobytes() + volatility[i].tobytes() + last_close[i].tobytes()).hexdigest()[:16]
        for i in range(len(made.origin))
    )


def why_unusable(bars: Bars, spec: FeatureSpec, origin_s: int) -> str:
    """A sentence that says what an origin lacks, for the error that refuses it."""
    known = bars.known_at(origin_s)
    start = origin_s - (spec.history_h - 1) * HOUR_S
    have = int(np.count_nonzero(known.close_time >= start))
    moment = from_epoch(origin_s).isoformat()
    if not np.any(known.close_time == origin_s):
        return f"there is no bar of {spec.target} that closed at {moment}"
    return (
        f"a forecast from {moment} needs {spec.history_h} hours of {spec.target} before it "
        f"(at most {_MISSING_LIMIT:.0%} missing), but {have} are there; run `hourcast etl gaps`"
    )
