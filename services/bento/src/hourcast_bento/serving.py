"""What a server knows: its model, other packages, the alias index, the store and the clock."""

import logging
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from hourcast.bucket import Bucket, aliases_key, manifest_key, open_bucket
from hourcast.clock import Clock, clock_from
from hourcast.conformal import ConformalState, advance, shifts_at
from hourcast.contracts import (
    HOUR_S,
    AliasIndex,
    AliasRecord,
    Bars,
    FloatArray,
    IntArray,
    alias_kind,
    from_epoch,
    to_epoch,
)
from hourcast.errors import ConfigurationError, DataError, HourcastError, RefusedError, UnavailableError
from hourcast.forecaster import LEVELS, Forecaster, Forecasts, naive_quantiles
from hourcast.store import ForecastRow, Store, open_store
from hourcast_bento.live import LiveRecord, LiveRows
from hourcast_bento.package import MODEL_FOLDER, PackageInfo, fetch, load_model, unpack
from hourcast_bento.settings import ServingSettings
from hourcast_bento.skill import LiveWindow, SkillRow, live_window, skill_of

__all__ = ["Calibration", "Made", "NotFoundError", "Serving"]

_LOG = logging.getLogger(__name__)
_WEEK = timedelta(days=7)
_CATCH_UP = 48
_GAP_DAYS = 30
_PRESENT_TTL_S = 1.0
_MEASURE_S = 10.0
_WINDOW_DAYS = (7, 30)
_WINDOW_HORIZONS = (1, 6, 12, 24, None)
T = TypeVar("T")


class NotFoundError(HourcastError):
    """What a request names does not exist; the message lists what does."""


@dataclass(frozen=True, slots=True)
class Made:
    """Forecasts with the alias and version that made each of them, and the closes that came (NaN: not yet).

    `asked` (N, H) leaves out those whose close lies outside the range that was asked for; None: all were.
    """

    info: PackageInfo | None
    alias: str
    forecasts: Forecasts
    actual: FloatArray
    newest_close: datetime | None
    now: datetime
    aliases: tuple[str, ...] = ()
    versions: tuple[int, ...] = ()
    asked: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the closes that came have taught the served version: `outcomes` of them since `trained`.

    `state` is that of the last of them, `trained` the one that the model came with.
    """

    trained: ConformalState
    state: ConformalState
    outcomes: int

    @property
    def stretch_90(self) -> float:
        """Mean factor, over horizons, on the distances of the 90 % interval's ends from the median."""
        return _stretch_90(self.state)

    @property
    def trained_stretch_90(self) -> float:
        """The same as the model came."""
        return _stretch_90(self.trained)


def _stretch_90(state: ConformalState) -> float:
    ends = [state.levels.index(level) for level in (0.05, 0.95)]
    return float(np.exp(state.table[:, ends]).mean())


class _Cached(Generic[T]):
    """A value that is read again when it is older than `ttl_s`; an old one is kept while reading fails."""

    def __init__(self, read: Callable[[], T], ttl_s: float) -> None:
        self._read, self._ttl_s = read, ttl_s
        self._lock = threading.Lock()
        self._value: T | None = None
        self._at = -1e9

    def get(self) -> T:
        with self._lock:
            if time.monotonic() - self._at > self._ttl_s:
                try:
                    self._value = self._read()
                    self._at = time.monotonic()
                except UnavailableError:
                    if self._value is None:
                        raise
            assert self._value is not None
            return self._value


class Serving:
    """One served version and everything that its endpoints need. Thread-safe."""

    def __init__(self, settings: ServingSettings, info: PackageInfo, forecaster: Forecaster) -> None:
        self.settings = settings
        self.store: Store = open_store(settings.resolved_database_url)
        self.bucket: Bucket = open_bucket(settings.resolved_bucket_url, settings.s3_endpoint_url)
        self.clock: Clock = clock_from(settings.clock, self.store.clock)
        self.info, self.forecaster = info, forecaster
        if settings.model_version not in (None, self.info.version):
            raise ConfigurationError(
                f"HOURCAST_MODEL_VERSION is {settings.model_version}, but this package holds version {self.info.version}"
            )
        self.alias = settings.model_alias or self.info.alias or str(self.info.version)
        self._others: OrderedDict[int, tuple[PackageInfo, Forecaster]] = OrderedDict()
        self._others_lock = threading.Lock()
        self._present: dict[int, tuple[datetime, float, Forecasts]] = {}
        self._index = _Cached(self._read_index, 2.0)
        self._skill = _Cached(self._compute_skill, 10.0)
        self._windows = _Cached(self._compute_windows, 10.0)
        self.live = LiveRecord(
            self.store, settings.model_name, settings.target.symbol, tuple(forecaster.spec.levels)
        )
        self._stop = threading.Event()
        self._recorder: threading.Thread | None = None
        self.on_recorded: Callable[[int, float], None] = lambda _rows, _age_s: None
        self.on_measured: Callable[[list[LiveWindow], Calibration | None], None] = (
            lambda _live, _calibration: None
        )

    # -- lifetime -------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin recording live forecasts."""
        self._recorder = threading.Thread(target=self._record_forever, name="recorder", daemon=True)
        self._recorder.start()

    def stop(self) -> None:
        """End the recorder and give connections back."""
        self._stop.set()
        if self._recorder is not None:
            self._recorder.join(timeout=5)
        self.store.close()

    # -- aliases --------------------------------------------------------------------------------

    def _read_index(self) -> AliasIndex:
        body = self.bucket.get(aliases_key(self.settings.model_name))
        if body is None:
            return AliasIndex(model=self.settings.model_name, generated_at=datetime.now(UTC), aliases=[])
        try:
            return AliasIndex.model_validate_json(body)
        except ValidationError:
            raise UnavailableError("the alias index in the bucket cannot be read", 5) from None

    def index(self) -> AliasIndex:
        """The alias index, at most two seconds old while the bucket answers."""
        return self._index.get()

    def packaged(self) -> set[int]:
        """Versions with a whole package in the bucket."""
        prefix = manifest_key(self.settings.model_name, 0).removesuffix("0.json")
        names = (
            key.removeprefix(prefix).removesuffix(".json")
            for key in self.bucket.keys(prefix)
            if key.endswith(".json")
        )
        return {int(name) for name in names if name.isdigit()}

    def resolve(self, alias: str | None) -> tuple[str, PackageInfo, Forecaster]:
        """The model behind an alias; None is the served one.

        Raises:
            NotFoundError: when there is no such alias.
            UnavailableError: when its package is not there yet.
        """
        if alias is None:
            return self.alias, self.info, self.forecaster
        # An alias may have moved to another version since this one was rolled out: the index knows.
        try:
            records = self.index().aliases
        except UnavailableError:
            if alias != self.alias:
                raise
            records = []
        for record in records:
            if record.alias == alias:
                info, forecaster = self._model(record.version)
                return alias, info, forecaster
        if alias == self.alias:
            return self.alias, self.info, self.forecaster
        known = [r.alias for r in records if alias_kind(r.alias) != "backtest"][:5]
        raise NotFoundError(
            f"there is no alias {alias!r}; the newest are {', '.join(known) or 'none yet'}; /aliases lists all"
        )

    def _model(self, version: int) -> tuple[PackageInfo, Forecaster]:
        if version == self.info.version:
            return self.info, self.forecaster
        with self._others_lock:
            found = self._others.get(version)
            if found is not None:
                self._others.move_to_end(version)
                return found
        body = fetch(self.bucket, self.settings.model_name, version)
        with tempfile.TemporaryDirectory(prefix="hourcast-model-") as folder:
            unpack(body, Path(folder), only=MODEL_FOLDER)
            loaded = load_model(Path(folder) / MODEL_FOLDER)
        with self._others_lock:
            self._others[version] = loaded
            while len(self._others) > self.settings.lru_packages:
                self._others.popitem(last=False)
        return loaded

    # -- bars -----------------------------------------------------------------------------------

    def newest_close(self, now: datetime) -> datetime | None:
        """Close of the newest target bar."""
        bars = self.store.read_bars(self.settings.target.symbol, known_at=now, last=1)
        return from_epoch(bars.close_time[-1]) if len(bars) else None

    def _bars_for(
        self, forecasters: Iterable[Forecaster], first_origin: datetime, now: datetime
    ) -> dict[str, Bars]:
        history = max((f.history_h for f in forecasters), default=0)
        symbols = dict.fromkeys(s for f in forecasters for s in f.symbols)
        # A week more, so that an exogenous series that slept over holidays still has its last bar.
        start = first_origin - timedelta(hours=history + 4) - _WEEK
        return self.store.read_many(symbols, start=start, known_at=now)

    def stale_reason(self, newest: datetime | None, now: datetime) -> str | None:
        """Why no present forecast can be made, or None."""
        target = self.settings.target
        if newest is None:
            return f"there are no bars of {target.symbol} yet"
        age = now - newest
        if age > timedelta(hours=target.max_staleness_h):
            return (
                f"the newest bar of {target.symbol} closed at {newest:%Y-%m-%d %H:%M} UTC, {age.total_seconds() / HOUR_S:.1f} h ago; "
                f"forecasts are refused beyond {target.max_staleness_h:g} h"
            )
        return None

    # -- forecasts ------------------------------------------------------------------------------

    def present(self, alias: str | None, horizons: tuple[int, ...] | None) -> Made:
        """The forecast from the newest bar.

        Raises:
            UnavailableError: when there is no fresh bar.
        """
        name, info, forecaster = self.resolve(alias)
        now = self.clock.now()
        newest = self.newest_close(now)
        reason = self.stale_reason(newest, now)
        if reason is not None or newest is None:
            raise UnavailableError(reason or "", retry_after_s=60)
        made = self._from_newest(info.version, forecaster, newest, now)
        if horizons is not None:
            made = made.only(horizons)
        return Made(info, name, made, np.full((1, len(made.horizons)), np.nan), newest, now)

    def _from_newest(
        self, version: int, forecaster: Forecaster, newest: datetime, now: datetime
    ) -> Forecasts:
        """The forecast of all horizons from the newest bar; a revision of older bars shows after a second."""
        known = self._present.get(version)
        if known is not None and known[0] == newest and time.monotonic() - known[1] < _PRESENT_TTL_S:
            return known[2]
        bars = self._bars_for([forecaster], newest, now)
        try:
            origin = np.array([to_epoch(newest)], np.int64)
            made = forecaster.predict(bars, origin, shift=self._shift(forecaster, origin, newest))
        except DataError as error:
            raise UnavailableError(str(error), retry_after_s=300) from None
        if len(self._present) > self.settings.lru_packages:
            self._present.clear()
        self._present[version] = (newest, time.monotonic(), made)
        return made

    def _shift(self, forecaster: Forecaster, origins: IntArray, newest: datetime | None) -> FloatArray | None:
        """The conformal shift (N, H, Q) that was known at each origin; None: that of the model's own state.

        The state that the model came with goes on by the live forecasts whose closes came since, whichever version
        made them; before the first of those it stays as it came.
        """
        state = forecaster.spec.conformal
        if state is None or newest is None or state.levels != self.live.levels:
            return None
        rows = self._live_rows(state.as_of, newest)
        if not len(rows) or not len(origins) or origins.max() < rows.target_time[0]:
            return None
        shift = shifts_at(state, rows.outcomes, origins)
        shift[origins < rows.target_time[0]] = state.table
        return shift

    def _live_rows(self, since: datetime, newest: datetime) -> LiveRows:
        """Live forecasts whose closes came after `since`; those that were read last while the database is down."""
        try:
            return self.live.rows(since, newest)
        except UnavailableError:
            return self.live.seen(since)

    def over(self, alias: str | None, start: datetime, end: datetime, horizons: tuple[int, ...]) -> Made:
        """Forecasts for closes with start <= close < end, each made as many hours before as asked, in one run."""
        name, info, forecaster = self.resolve(alias)
        now = self.clock.now()
        newest = self.newest_close(now)
        first, last = start - timedelta(hours=max(horizons)), end - timedelta(hours=min(horizons))
        bars = self._bars_for([forecaster], first, now)
        target = bars[self.settings.target.symbol]
        origins = self._origins(target, first, last)
        origins = origins[self._asked(origins, horizons, start, end).any(axis=1)]
        made = forecaster.predict(
            bars, origins, horizons, skip_unusable=True, shift=self._shift(forecaster, origins, newest)
        )
        asked = self._asked(made.origin, horizons, start, end)
        return Made(info, name, made, self._actual(target, made), newest, now, asked=asked)

    def stitched(self, start: datetime, end: datetime, horizons: tuple[int, ...]) -> Made:
        """Each hour's forecast by the version that reigned when it had to be made."""
        now = self.clock.now()
        newest = self.newest_close(now)
        reigns = self._reigns()
        origin_start = start - timedelta(hours=max(horizons))
        origin_end = end - timedelta(hours=min(horizons))
        wanted = [
            (record, max(since, origin_start), min(until or origin_end, origin_end))
            for record, since, until in reigns
        ]
        wanted = [(record, since, until) for record, since, until in wanted if since < until]
        if len({record.version for record, *_ in wanted}) > 200:
            raise RefusedError("the range holds more than 200 versions; ask for a shorter one")
        models = {record.version: self._model(record.version)[1] for record, *_ in wanted}
        bars = self._bars_for(list(models.values()) or [self.forecaster], origin_start, now)
        target = bars[self.settings.target.symbol]
        parts, aliases, versions = [], [], []
        for record, since, until in wanted:
            origins, model = self._origins(target, since, until), models[record.version]
            origins = origins[self._asked(origins, horizons, start, end).any(axis=1)]
            made = model.predict(
                bars, origins, horizons, skip_unusable=True, shift=self._shift(model, origins, newest)
            )
            parts.append(made)
            aliases += [record.alias] * len(made.origin)
            versions += [record.version] * len(made.origin)
        if parts:
            joined = Forecasts(
                np.concatenate([p.origin for p in parts]),
                horizons,
                parts[0].levels,
                np.concatenate([p.last_close for p in parts]),
                np.concatenate([p.quantiles for p in parts]),
            )
        else:
            shape = (0, len(horizons), len(LEVELS))
            joined = Forecasts(np.empty(0, np.int64), horizons, LEVELS, np.empty(0), np.empty(shape))
        return Made(
            None,
            "champion-stitched",
            joined,
            self._actual(target, joined),
            newest,
            now,
            tuple(aliases),
            tuple(versions),
            self._asked(joined.origin, horizons, start, end),
        )

    def _reigns(self) -> list[tuple[AliasRecord, datetime, datetime | None]]:
        """Who reigned when: a version from its decision to the next one's.

        Back-test aliases fill the time before the first production alias.
        """
        records = [r for r in self.index().aliases if alias_kind(r.alias) in ("date", "backtest")]
        production = sorted((r for r in records if alias_kind(r.alias) == "date"), key=lambda r: r.decided_at)
        first = production[0].decided_at if production else None
        earlier = sorted(
            (
                r
                for r in records
                if alias_kind(r.alias) == "backtest" and (first is None or r.decided_at < first)
            ),
            key=lambda r: r.decided_at,
        )
        line = [*earlier, *production]
        until: list[datetime | None] = [r.decided_at for r in line[1:]]
        return [(r, r.decided_at, u) for r, u in zip(line, [*until, None], strict=False)]

    def over_bars(self, bars: dict[str, Bars], horizons: tuple[int, ...] | None) -> Made:
        """A forecast from a caller's own bars.

        Raises:
            DataError: when they do not suffice.
        """
        made = self.forecaster.predict(bars, None, horizons)
        newest = from_epoch(made.origin[-1])
        return Made(
            self.info, self.alias, made, np.full((1, len(made.horizons)), np.nan), newest, self.clock.now()
        )

    @staticmethod
    def _origins(target: Bars, start: datetime, end: datetime) -> IntArray:
        closes = target.close_time
        chosen: IntArray = closes[(closes >= to_epoch(start)) & (closes < to_epoch(end))]
        return chosen

    @staticmethod
    def _asked(
        origins: IntArray, horizons: tuple[int, ...], start: datetime, end: datetime
    ) -> npt.NDArray[np.bool_]:
        """(N, H): whether the close at which a forecast aims lies within start <= close < end."""
        aim = origins[:, None] + np.array(horizons, np.int64) * HOUR_S
        within: npt.NDArray[np.bool_] = (aim >= to_epoch(start)) & (aim < to_epoch(end))
        return within

    @staticmethod
    def _actual(target: Bars, made: Forecasts) -> FloatArray:
        if not len(target):
            return np.full((len(made.origin), len(made.horizons)), np.nan)
        place = np.searchsorted(target.close_time, made.target_time)
        safe = np.minimum(place, len(target) - 1)
        came: FloatArray = np.where(target.close_time[safe] == made.target_time, target.close[safe], np.nan)
        return came

    # -- recording ------------------------------------------------------------------------------

    def _record_forever(self) -> None:
        told = ""
        done: datetime | None = None
        measured: datetime | None = None
        at = -1e9
        while not self._stop.wait(self.settings.record_poll_s):
            try:
                now = self.clock.now()
                newest = self.newest_close(now)
                if newest is not None and newest != done:
                    self._record(now, newest, done)
                    done = newest
                # A replay brings ten bars a second; each is recorded, and some are enough to tell how it goes.
                if done != measured and time.monotonic() - at > _MEASURE_S:
                    measured, at = done, time.monotonic()
                    self._measure()
                told = ""
            except HourcastError as error:
                if str(error) != told:
                    _LOG.warning("no forecast was recorded: %s", error)
                    told = str(error)
            except Exception:
                _LOG.exception("no forecast was recorded")

    def _record(self, now: datetime, newest: datetime, done: datetime | None) -> None:
        """Record what this version forecasts from every bar since the last look, the newest included."""
        if self.stale_reason(newest, now) is not None:
            return
        first = (
            newest if done is None else max(done + timedelta(hours=1), newest - timedelta(hours=_CATCH_UP))
        )
        bars = self._bars_for([self.forecaster], first, now)
        target = bars[self.settings.target.symbol]
        origins = target.close_time[
            (target.close_time >= to_epoch(first)) & (target.close_time <= to_epoch(newest))
        ]
        shift = self._shift(self.forecaster, origins, newest)
        made = self.forecaster.predict(bars, origins, skip_unusable=True, shift=shift)
        rows = [
            ForecastRow(
                model=self.settings.model_name,
                version=self.info.version,
                symbol=self.settings.target.symbol,
                origin=from_epoch(made.origin[i]),
                horizon=horizon,
                target_time=from_epoch(made.origin[i] + horizon * HOUR_S),
                made_at=now,
                alias=self.alias,
                last_close=float(made.last_close[i]),
                levels=made.levels,
                quantiles=tuple(made.quantiles[i, j].tolist()),
            )
            for i in range(len(made.origin))
            for j, horizon in enumerate(made.horizons)
        ]
        self.store.save_forecasts(rows)
        self.on_recorded(len(rows), (now - newest).total_seconds())

    def _measure(self) -> None:
        try:
            self.on_measured(self._compute_windows(), self.calibration())
        except UnavailableError as error:
            _LOG.warning("live forecasts were not measured: %s", error)

    # -- skill, freshness -----------------------------------------------------------------------

    def skill(self) -> list[SkillRow]:
        """Errors per alias beside naive; at most ten seconds old."""
        return self._skill.get()

    def _compute_skill(self) -> list[SkillRow]:
        model, symbol = self.settings.model_name, self.settings.target.symbol
        now = self.clock.now()
        rows: list[SkillRow] = []
        for e in self.store.evaluations(model, "gate"):
            if e.baseline == "naive" and e.passed and e.made_at <= now:
                ours, naive = e.figures["candidate"]["next_hour"], e.figures["baseline"]["next_hour"]
                names = ("rmse", "mae", "pinball", "coverage_90")
                rows.append(
                    SkillRow(
                        e.alias, e.version, e.kind, "gate", int(ours["n"]),
                        *(float(ours[name]) for name in names), *(float(naive[name]) for name in names),
                    )
                )  # fmt: skip
        kinds = {e.version: e.kind for e in self.store.evaluations(model)}
        for b in self.store.backtest_rows(model):
            kind = kinds.get(b.version, "unknown")
            rows.append(
                skill_of(
                    b.alias, b.version, kind, "backtest", b.actual, b.quantiles, b.naive_quantiles, LEVELS
                )
            )
        recorded = self.store.forecasts(
            model, horizon=1, start=now - timedelta(days=60), end=now + timedelta(hours=1)
        )
        if not recorded:
            return rows
        first = min(r.origin for r in recorded)
        target = self.store.read_bars(symbol, start=first - timedelta(days=40), known_at=now)
        if not len(target):
            return rows
        by_version: dict[int, list[ForecastRow]] = {}
        for r in recorded:
            by_version.setdefault(r.version, []).append(r)
        for version, part in by_version.items():
            origins = np.array([to_epoch(r.origin) for r in part], np.int64)
            place = np.searchsorted(target.close_time, origins + HOUR_S)
            safe = np.minimum(place, len(target) - 1)
            naive, _last, usable = naive_quantiles(target, origins, (1,))
            came = usable & (target.close_time[safe] == origins + HOUR_S)
            live = np.array([r.made_at < r.target_time for r in part])
            quantiles = np.array([r.quantiles for r in part])
            for source, keep in (("live", came & live), ("recorded", came & ~live)):
                if keep.any():
                    rows.append(
                        skill_of(
                            part[-1].alias, version, kinds.get(version, "unknown"), source,
                            target.close[safe][keep], quantiles[keep], naive[keep, 0], LEVELS,
                        )
                    )  # fmt: skip
        return rows

    def windows(self) -> list[LiveWindow]:
        """How live forecasts of the last 7 and 30 days did, whichever version made them; at most ten seconds old."""
        return self._windows.get()

    def _compute_windows(self) -> list[LiveWindow]:
        now = self.clock.now()
        newest = self.newest_close(now) or now
        spans = {days: now - timedelta(days=days) for days in _WINDOW_DAYS}
        rows = self.live.rows(min(spans.values()), newest)
        naive = self.live.naive_losses(rows)
        out = []
        for days, since in spans.items():
            part = rows.between(to_epoch(since), to_epoch(newest))
            losses = naive[len(rows) - len(part) :]
            out += [live_window(part, losses, days, horizon) for horizon in _WINDOW_HORIZONS]
        return out

    def calibration(self) -> Calibration | None:
        """What closes have taught the served version; None for one that is not calibrated, such as the naive floor."""
        trained = self.forecaster.spec.conformal
        if trained is None:
            return None
        try:
            newest = self.newest_close(self.clock.now())
            rows = self.live.seen(trained.as_of) if newest is None else self.live.rows(trained.as_of, newest)
        except UnavailableError:
            rows = self.live.seen(trained.as_of)
        if not len(rows):
            return Calibration(trained, trained, 0)
        return Calibration(
            trained, advance(trained, rows.outcomes, from_epoch(rows.target_time[-1])), len(rows)
        )

    def freshness(self) -> dict[str, Any]:
        """How fresh each series is; for the target also the hours that are missing in the last 30 days."""
        now = self.clock.now()
        stored = {f.symbol: f for f in self.store.freshness(known_at=now)}
        out = []
        for series in self.settings.series:
            f = stored.get(series.symbol)
            newest = f.last_close if f else None
            age = (now - newest).total_seconds() if newest else None
            limit = series.max_staleness_h * HOUR_S
            out.append(
                {
                    "symbol": series.symbol,
                    "count": f.count if f else 0,
                    "first_open": f.first_open if f else None,
                    "last_close": newest,
                    "age_s": age,
                    "max_staleness_s": limit,
                    "stale": age is None or age > limit,
                    "source": f.source if f else None,
                    "gaps": self._gaps(series.symbol, now) if series.role == "target" and f else [],
                }
            )
        return {"now": now, "synthetic": self.info.synthetic, "series": out}

    def _gaps(self, symbol: str, now: datetime) -> list[dict[str, Any]]:
        times = self.store.read_bars(symbol, start=now - timedelta(days=_GAP_DAYS), known_at=now).open_time
        return [
            {
                "from": from_epoch(int(times[i]) + HOUR_S),
                "to": from_epoch(int(times[i + 1])),
                "missing": int(times[i + 1] - times[i]) // HOUR_S - 1,
            }
            for i in np.flatnonzero(np.diff(times) > HOUR_S)
        ]
