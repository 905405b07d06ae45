"""What a server knows: its model, other packages, the alias index, the store and the clock."""

import logging
import math
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from hourcast.bucket import Bucket, aliases_key, manifest_key, open_bucket
from hourcast.clock import Clock, FrozenClock, clock_from
from hourcast.conformal import ConformalState, advance, shifts_at
from hourcast.contracts import (
    HOUR_S,
    AliasIndex,
    Bars,
    FloatArray,
    IntArray,
    alias_kind,
    from_epoch,
    to_epoch,
)
from hourcast.errors import ConfigurationError, DataError, HourcastError, RefusedError, UnavailableError
from hourcast.forecaster import LEVELS, Forecaster, Forecasts, naive_quantiles
from hourcast.store import Fan, ForecastRow, Hour, Store, open_store
from hourcast_bento.issued import IssuedRecord, Told, calibration_of, forecasts_of, joined
from hourcast_bento.kept import Kept
from hourcast_bento.live import LiveRecord, LiveRows
from hourcast_bento.package import MODEL_FOLDER, PackageInfo, fetch, load_model, unpack
from hourcast_bento.settings import ServingSettings
from hourcast_bento.skill import LiveWindow, SkillRow, live_window, skill_of

__all__ = ["Calibration", "Made", "NotFoundError", "Serving"]

_LOG = logging.getLogger(__name__)
_WEEK = timedelta(days=7)
_SECOND = timedelta(seconds=1)
_CATCH_UP = 48
_GAP_DAYS = 30
_PRESENT_TTL_S = 1.0
_MEASURE_S = 10.0
# A request rather answers unrecorded than waits for another that issues, and tries a database that refused later.
_ISSUE_WAIT_S = 2.0
_ISSUE_AGAIN_S = 5.0
_MOST_SHOWN = 52
# How old what is told may be, and how long a caller waits for it. A package and the figures take longer to come.
_INDEX_TTL_S, _PACKAGED_TTL_S, _FIGURES_TTL_S, _BACKTESTS_TTL_S = 2.0, 5.0, 10.0, 60.0
_BUCKET_WAIT_S, _PACKAGE_WAIT_S, _FIGURES_WAIT_S = 3.0, 15.0, 15.0
# The longest of its statements takes a second. One that hangs may be waited for twice, with the handshake before it.
_STORE_WAIT_S = 8.0
_WINDOW_DAYS = (7, 30)
_WINDOW_HORIZONS = (1, 6, 12, 24, None)
_UNRECORDED = "this forecast is not on record, because the database does not take it now; another server may answer otherwise"


class NotFoundError(HourcastError):
    """What a request names does not exist; the message lists what does."""


@dataclass(frozen=True, slots=True)
class Made:
    """Forecasts with the alias and version that made each of them, and the closes that came (NaN: not yet).

    `asked` (N, H) leaves out those whose close lies outside the range that was asked for; None: all were. `source` says
    where all of them are from; where they differ, `issued_at` has for each origin when it was issued, or None for one
    that is reconstructed. `fan` is what was issued, where it is one; then `info` is None.
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
    source: Told = "computed"
    issued_at: tuple[datetime | None, ...] = ()
    fan: Fan | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class _Reign:
    """A version that was in production with since <= hour < until; None: until now."""

    alias: str
    version: int
    since: datetime
    until: datetime | None


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


class Serving:
    """One served version and everything that its endpoints need. Thread-safe."""

    def __init__(self, settings: ServingSettings, info: PackageInfo, forecaster: Forecaster) -> None:
        self.settings = settings
        self.store: Store = open_store(settings.resolved_database_url, _STORE_WAIT_S)
        self.bucket: Bucket = open_bucket(settings.resolved_bucket_url, settings.s3_endpoint_url)
        self.clock: Clock = clock_from(settings.clock, self.store.clock)
        self.info, self.forecaster = info, forecaster
        if settings.model_version not in (None, self.info.version):
            raise ConfigurationError(
                f"HOURCAST_MODEL_VERSION is {settings.model_version}, but this package holds version {self.info.version}"
            )
        self.alias = settings.model_alias or self.info.alias or str(self.info.version)
        self._others: OrderedDict[int, Kept[tuple[PackageInfo, Forecaster]]] = OrderedDict()
        self._others_lock = threading.Lock()
        self._present: dict[int, tuple[datetime, float, Forecasts]] = {}
        # Half of the requests that run at a time (`Gate`): the others need no bucket.
        self._bucket_room = threading.Semaphore(8)
        self._index = Kept(
            self._read_index, _INDEX_TTL_S, _BUCKET_WAIT_S, "the alias index", self._bucket_room
        )
        self._packaged = Kept(
            self._read_packaged, _PACKAGED_TTL_S, _BUCKET_WAIT_S, "the list of packages", self._bucket_room
        )
        self._skill = Kept(self._compute_skill, _FIGURES_TTL_S, _FIGURES_WAIT_S, "the table of errors")
        # Nine thousand rows that hardly ever change: not each time that a page looks.
        self._backtests = Kept(self._compute_backtests, _BACKTESTS_TTL_S, _FIGURES_WAIT_S, "the back-tests")
        self._windows = Kept(
            self._compute_windows, _FIGURES_TTL_S, _FIGURES_WAIT_S, "the record of live forecasts"
        )
        self.live = LiveRecord(
            self.store, settings.model_name, settings.target.symbol, tuple(forecaster.spec.levels)
        )
        self.issued = IssuedRecord(self.store, settings.model_name, settings.target.symbol)
        self._issuing = threading.Lock()
        self._refused_until = -1e9
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
        """Versions with a whole package in the bucket, as it was at most five seconds ago while the bucket answers."""
        return self._packaged.get()

    def _read_packaged(self) -> set[int]:
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
            kept = self._others.pop(version, None) or Kept(
                lambda: self._load(version),
                math.inf,
                _PACKAGE_WAIT_S,
                f"the package of version {version}",
                self._bucket_room,
            )
            self._others[version] = kept
            while len(self._others) > self.settings.lru_packages:
                self._others.popitem(last=False)
        return kept.get()

    def _load(self, version: int) -> tuple[PackageInfo, Forecaster]:
        body = fetch(self.bucket, self.settings.model_name, version)
        with tempfile.TemporaryDirectory(prefix="hourcast-model-") as folder:
            unpack(body, Path(folder), only=MODEL_FOLDER)
            return load_model(Path(folder) / MODEL_FOLDER)

    # -- bars -----------------------------------------------------------------------------------

    def newest_close(self, now: datetime) -> datetime | None:
        """Close of the newest target bar."""
        bars = self.store.read_bars(self.settings.target.symbol, known_at=now, last=1)
        return from_epoch(bars.close_time[-1]) if len(bars) else None

    def newest_hour(self, now: datetime) -> Hour | None:
        """The newest closed hour, from which present forecasts are made; None where nobody closes hours.

        That is a store of release 0.1.0, or one whose etl is of that release again: then its newest bar is far ahead.
        """
        hour = self.store.newest_hour(self.settings.model_name, now)
        if hour is None or self.stale_reason(hour.hour, now) is None:
            return hour
        return hour if self.stale_reason(self.newest_close(now), now) is not None else None

    def _origin(self, now: datetime) -> tuple[Hour | None, datetime | None]:
        """The newest closed hour and the moment from which to forecast: that hour, or the newest bar without one."""
        hour = self.newest_hour(now)
        return hour, self.newest_close(now) if hour is None else hour.hour

    def _bars_for(
        self,
        forecasters: Iterable[Forecaster],
        first_origin: datetime,
        now: datetime,
        hour: Hour | None = None,
    ) -> dict[str, Bars]:
        """What is known now, or what was known when `hour` was closed."""
        history = max((f.history_h for f in forecasters), default=0)
        symbols = dict.fromkeys(s for f in forecasters for s in f.symbols)
        # A week more, so that an exogenous series that slept over holidays still has its last bar.
        start = first_origin - timedelta(hours=history + 4) - _WEEK
        if hour is not None:
            return hour.known(
                self.store.read_many(symbols, start=start, known_at=hour.hour, as_of=hour.closed_at)
            )
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
        """The forecast from the newest closed hour: what was issued; of another alias, what it would have been.

        Where nothing was issued yet, this issues it.

        Raises:
            UnavailableError: when there is no fresh hour.
        """
        name, info, forecaster = self.resolve(alias)
        now = self.clock.now()
        hour, newest = self._origin(now)
        reason = self.stale_reason(newest, now)
        if reason is not None or newest is None:
            raise UnavailableError(reason or "", retry_after_s=60)
        fan = self.issued.at(newest)
        if fan is None and alias is None:
            fan = self._issue_present(now, newest, hour)
        if fan is not None and (alias is None or (fan.alias, fan.version) == (name, info.version)):
            made = forecasts_of(fan)
            told = Made(
                None, fan.alias or str(fan.version), made, np.empty(0), newest, now, source=fan.source
            )
            told = replace(told, fan=fan, note=self._earlier(fan))
        else:
            made = self._from_newest(info.version, forecaster, newest, now, hour)
            told = Made(info, name, made, np.empty(0), newest, now, note=None if alias else _UNRECORDED)
        if horizons is not None:
            made = made.only(horizons)
        return replace(told, forecasts=made, actual=np.full((1, len(made.horizons)), np.nan))

    def _earlier(self, fan: Fan) -> str | None:
        """What is to be said when the hour's forecast is not of the version that serves."""
        if fan.version == self.info.version:
            return None
        issued = f"this hour's forecast was issued at {fan.issued_at:%Y-%m-%d %H:%M:%S} UTC by version {fan.version}"
        if not isinstance(self.clock, FrozenClock):
            return f"{issued}; version {self.info.version}, which answers, forecasts from the next hour on"
        return (
            f"{issued} and stays, because the clock stands still and no next hour comes; version {self.info.version}, which "
            f"answers, gives its own under its alias {self.alias}, as `/predict?alias={self.alias}` and on the page; "
            "`make up REPLAY=8w` lets hours pass"
        )

    def _issue_present(self, now: datetime, newest: datetime, hour: Hour | None) -> Fan | None:
        """Issue the newest hour's fan, or learn who did; None when it cannot be made or stored."""
        if not self._issuing.acquire(timeout=_ISSUE_WAIT_S):
            return None
        try:
            if (known := self.issued.at(newest)) is not None:
                return known
            if time.monotonic() < self._refused_until:
                return None
            bars = self._bars_for([self.forecaster], newest, now, hour)
            fans = self._fans(now, newest, bars, np.array([to_epoch(newest)], np.int64))
            standing = self._issue(fans, now, newest)
            return standing[0] if standing else None
        except UnavailableError as error:
            _LOG.warning("no forecast was issued: %s", error)
            self._refused_until = time.monotonic() + _ISSUE_AGAIN_S
            return None
        finally:
            self._issuing.release()

    def _from_newest(
        self, version: int, forecaster: Forecaster, newest: datetime, now: datetime, hour: Hour | None
    ) -> Forecasts:
        """The forecast of all horizons from the newest hour; without hours a revision of older bars shows after a second."""
        known = self._present.get(version)
        if known is not None and known[0] == newest and time.monotonic() - known[1] < _PRESENT_TTL_S:
            return known[2]
        bars = self._bars_for([forecaster], newest, now, hour)
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
        # Nothing that closes later counts: neither for a forecast nor among the closes that came.
        bars = self._bars_for([forecaster], first, min(now, end))
        target = bars[self.settings.target.symbol]
        origins = self._origins(target, first, last)
        origins = origins[self._asked(origins, horizons, start, end).any(axis=1)]
        # A range of which there are no bars is empty, which is no fault of anyone's.
        made, _ = joined([], horizons, LEVELS)
        if len(origins):
            shift = self._shift(forecaster, origins, newest)
            made = forecaster.predict(bars, origins, horizons, skip_unusable=True, shift=shift)
        asked = self._asked(made.origin, horizons, start, end)
        actual = self._actual(target, made)
        return Made(info, name, made, actual, newest, now, asked=asked, source="reconstructed")

    def stitched(self, start: datetime, end: datetime, horizons: tuple[int, ...]) -> Made:
        """What users got at each hour; where nothing was issued, what the version that reigned would have said."""
        now = self.clock.now()
        _, newest = self._origin(now)
        first = start - timedelta(hours=max(horizons))
        last = end - timedelta(hours=min(horizons))
        if newest is not None:
            last = min(last, newest + _SECOND)
        fans = [
            fan
            for fan in self.issued.between(first, last)
            if fan.levels == LEVELS and set(horizons) <= set(fan.horizons)
        ]
        target = self.store.read_bars(
            self.settings.target.symbol, start=first - _WEEK, known_at=min(now, end)
        )
        closed = self._origins(target, first, last)
        closed = closed[self._asked(closed, horizons, start, end).any(axis=1)]
        missing = closed[~np.isin(closed, [to_epoch(fan.origin) for fan in fans])]
        parts = [forecasts_of(fan).only(horizons) for fan in fans]
        names: list[tuple[str, int, datetime | None]] = [
            (fan.alias or str(fan.version), fan.version, fan.issued_at if fan.source == "issued" else None)
            for fan in fans
        ]
        for record, made in self._reconstructed(missing, horizons, newest, now):
            parts.append(made)
            names += [(record.alias, record.version, None)] * len(made.origin)
        whole, order = joined(parts, horizons, LEVELS)
        names = [names[i] for i in order]
        return Made(
            None,
            "champion-stitched",
            whole,
            self._actual(target, whole),
            newest,
            now,
            tuple(alias for alias, *_ in names),
            tuple(version for _, version, _ in names),
            self._asked(whole.origin, horizons, start, end),
            "issued" if names and all(at is not None for *_, at in names) else "reconstructed",
            tuple(at for *_, at in names),
        )

    def _reconstructed(
        self, origins: IntArray, horizons: tuple[int, ...], newest: datetime | None, now: datetime
    ) -> list[tuple["_Reign", Forecasts]]:
        """What the versions that reigned at hours without a record would have said."""
        if not len(origins):
            return []
        first, last = from_epoch(origins[0]), from_epoch(origins[-1]) + _SECOND
        wanted = [
            (reign, origins[(origins >= to_epoch(max(reign.since, first))) & (origins < to_epoch(until))])
            for reign in self._reigns(first, last)
            if (until := min(reign.until or last, last)) > first
        ]
        wanted = [(reign, chosen) for reign, chosen in wanted if len(chosen)]
        if len({reign.version for reign, _ in wanted}) > 200:
            raise RefusedError("the range holds more than 200 versions; ask for a shorter one")
        models = {reign.version: self._model(reign.version)[1] for reign, _ in wanted}
        bars = self._bars_for(models.values(), first, min(now, last))
        return [
            (
                reign,
                models[reign.version].predict(
                    bars, chosen, horizons, skip_unusable=True,
                    shift=self._shift(models[reign.version], chosen, newest),
                ),
            )
            for reign, chosen in wanted
        ]  # fmt: skip

    def _reigns(self, start: datetime, end: datetime) -> list["_Reign"]:
        """Who reigned at start <= moment < end: what was rolled out; before the first roll each alias from its decision on.

        Back-test aliases fill the time before the first production alias.
        """
        rolls = self.store.decided(self.settings.model_name, "rolled", start=start, end=end)
        first = rolls[0].at if rolls else None
        records = [r for r in self.index().aliases if alias_kind(r.alias) in ("date", "backtest")]
        records = [r for r in records if first is None or r.decided_at < first]
        production = sorted((r for r in records if alias_kind(r.alias) == "date"), key=lambda r: r.decided_at)
        begun = production[0].decided_at if production else None
        earlier = sorted(
            (
                r
                for r in records
                if alias_kind(r.alias) == "backtest" and (begun is None or r.decided_at < begun)
            ),
            key=lambda r: r.decided_at,
        )
        line = [(r.alias, r.version, r.decided_at) for r in (*earlier, *production)]
        line += [(d.alias or str(d.version), d.version, d.at) for d in rolls if d.version is not None]
        until: list[datetime | None] = [at for *_, at in line[1:]]
        return [
            _Reign(alias, version, since, end)
            for (alias, version, since), end in zip(line, [*until, None], strict=False)
        ]

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
                hour, newest = self._origin(now)
                if newest is not None and newest != done:
                    self._record(now, newest, done, hour)
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

    def _record(
        self, now: datetime, newest: datetime, done: datetime | None, hour: Hour | None = None
    ) -> None:
        """Issue what this version forecasts for every hour since the last look, the newest included, that has no fan."""
        if self.stale_reason(newest, now) is not None:
            return
        first = (
            newest if done is None else max(done + timedelta(hours=1), newest - timedelta(hours=_CATCH_UP))
        )
        known = [to_epoch(fan.origin) for fan in self.issued.between(first, newest + _SECOND)]
        fans: list[Fan] = []
        if hour is None:
            bars = self._bars_for([self.forecaster], first, now)
            origins = self._origins(bars[self.settings.target.symbol], first, newest + _SECOND)
            fans += self._fans(now, newest, bars, origins[~np.isin(origins, known)])
        else:
            for each in self.store.hours(self.settings.model_name, start=first, end=newest + _SECOND):
                if to_epoch(each.hour) not in known:
                    bars = self._bars_for([self.forecaster], each.hour, now, each)
                    fans += self._fans(now, newest, bars, np.array([to_epoch(each.hour)], np.int64))
        self._issue(fans, now, newest)

    def _issue(self, fans: list[Fan], now: datetime, newest: datetime) -> list[Fan]:
        standing = self.issued.issue(fans)
        mine = sum(len(fan.horizons) for fan, stands in zip(fans, standing, strict=True) if fan == stands)
        self.on_recorded(mine, (now - newest).total_seconds())
        return standing

    def _fans(self, now: datetime, newest: datetime, bars: dict[str, Bars], origins: IntArray) -> list[Fan]:
        """This version's fans of hours (N,), those left out that lack history; older hours than the newest are filled in."""
        shift = self._shift(self.forecaster, origins, newest)
        made = self.forecaster.predict(bars, origins, skip_unusable=True, shift=shift, fingerprints=True)
        state = self.forecaster.spec.conformal
        came = None if state is None else self._live_rows(state.as_of, newest).target_time
        fans = []
        for i, origin in enumerate(made.origin.tolist()):
            calibration = None
            if state is not None and came is not None:
                table = state.table if shift is None else shift[int(np.searchsorted(origins, origin))]
                taught = int(np.searchsorted(came, origin, side="right"))
                as_of = from_epoch(came[taught - 1]) if taught else state.as_of
                calibration = calibration_of(table, as_of)
            fans.append(
                Fan(
                    model=self.settings.model_name,
                    role="served",
                    symbol=self.settings.target.symbol,
                    origin=from_epoch(origin),
                    version=self.info.version,
                    alias=self.alias,
                    issued_at=now,
                    wall_at=datetime.now(UTC),
                    last_close=float(made.last_close[i]),
                    levels=made.levels,
                    horizons=made.horizons,
                    quantiles=tuple(tuple(row) for row in made.quantiles[i].tolist()),
                    source="issued" if origin == to_epoch(newest) else "reconstructed",
                    fingerprint=made.fingerprints[i],
                    calibration=calibration,
                    run_id=self.info.run_id,
                    kind=self.info.kind,
                    data_fingerprint=self.info.data_fingerprint,
                )
            )
        return fans

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
        for e in self.store.evaluations(model, "gate", baseline="naive", limit=_MOST_SHOWN):
            if e.passed and e.made_at <= now:
                ours, naive = e.figures["candidate"]["next_hour"], e.figures["baseline"]["next_hour"]
                names = ("rmse", "mae", "pinball", "coverage_90")
                rows.append(
                    SkillRow(
                        e.alias, e.version, e.kind, "gate", int(ours["n"]),
                        *(float(ours[name]) for name in names), *(float(naive[name]) for name in names),
                    )
                )  # fmt: skip
        rows += self._backtests.get()
        recorded = self.store.forecasts(
            model, symbol, horizon=1, start=now - timedelta(days=60), end=now + timedelta(hours=1)
        )
        if not recorded:
            return rows
        first = min(r.origin for r in recorded)
        target = self.store.read_bars(symbol, start=first - timedelta(days=40), known_at=now)
        if not len(target):
            return rows
        kinds = self.store.kinds(model, {r.version for r in recorded})
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

    def _compute_backtests(self) -> list[SkillRow]:
        """Errors of the newest back-test aliases: what they said an hour ahead, each hour of their weeks."""
        model = self.settings.model_name
        newest = self.store.evaluations(model, "backtest", baseline="naive", limit=_MOST_SHOWN)
        stored = self.store.backtest_rows(model, {e.alias for e in newest if e.alias is not None})
        kinds = self.store.kinds(model, {b.version for b in stored})
        return [
            skill_of(
                b.alias, b.version, kinds.get(b.version, "unknown"), "backtest",
                b.actual, b.quantiles, b.naive_quantiles, LEVELS,
            )
            for b in stored
        ]  # fmt: skip

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
        symbols = [series.symbol for series in self.settings.series]
        stored = {f.symbol: f for f in self.store.freshness(symbols, known_at=now)}
        out = []
        for series in self.settings.series:
            f = stored.get(series.symbol)
            newest = f.last_close if f else None
            age = (now - newest).total_seconds() if newest else None
            limit = series.max_staleness_h * HOUR_S
            out.append(
                {
                    "symbol": series.symbol,
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
