"""Forecasts: of the present hour as issued, of a range, of what users got, of a caller's own bars."""

import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from hourcast.clock import Clock, FrozenClock
from hourcast.contracts import Bars, FloatArray, IntArray, alias_kind, from_epoch, to_epoch
from hourcast.errors import DataError, RefusedError, UnavailableError
from hourcast.forecaster import LEVELS, Forecaster, Forecasts
from hourcast.store import Fan, Hour, Store
from hourcast_bento.calibrating import Calibrator
from hourcast_bento.closes import SECOND, actual_of, aims_within, origins_of
from hourcast_bento.issued import IssuedRecord, Told, forecasts_of, joined
from hourcast_bento.market import WEEK, Market
from hourcast_bento.models import Models
from hourcast_bento.package import PackageInfo
from hourcast_bento.recorder import Recorder
from hourcast_bento.settings import ServingSettings

__all__ = ["Forecasting", "Made"]

_PRESENT_TTL_S = 1.0
_UNRECORDED = "this forecast is not on record, because the database does not take it now; another server may answer otherwise"


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


class Forecasting:
    """Answers questions for forecasts. Thread-safe."""

    def __init__(
        self,
        settings: ServingSettings,
        store: Store,
        clock: Clock,
        models: Models,
        market: Market,
        calibrator: Calibrator,
        issued: IssuedRecord,
        recorder: Recorder,
    ) -> None:
        self._settings, self._store, self._clock, self._models = settings, store, clock, models
        self._market, self._calibrator, self._issued, self._recorder = market, calibrator, issued, recorder
        # Threads race for it, and the loser of a race makes the same forecast once more: no lock is worth it.
        self._present: dict[int, tuple[datetime, float, Forecasts]] = {}

    def present(self, alias: str | None, horizons: tuple[int, ...] | None) -> Made:
        """The forecast from the newest closed hour: what was issued; of another alias, what it would have been.

        Where nothing was issued yet, this issues it.

        Raises:
            UnavailableError: when there is no fresh hour.
        """
        name, info, forecaster = self._models.resolve(alias)
        now = self._clock.now()
        hour, newest = self._market.origin(now)
        reason = self._market.stale_reason(newest, now)
        if reason is not None or newest is None:
            raise UnavailableError(reason or "", retry_after_s=60)
        fan = self._issued.at(newest)
        if fan is None and alias is None:
            fan = self._recorder.issue_present(now, newest, hour)
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
        if fan.version == self._models.info.version:
            return None
        issued = f"this hour's forecast was issued at {fan.issued_at:%Y-%m-%d %H:%M:%S} UTC by version {fan.version}"
        if not isinstance(self._clock, FrozenClock):
            return f"{issued}; version {self._models.info.version}, which answers, forecasts from the next hour on"
        return (
            f"{issued} and stays, because the clock stands still and no next hour comes; version {self._models.info.version}, which "
            f"answers, gives its own under its alias {self._models.alias}, as `/predict?alias={self._models.alias}` and on the page; "
            "`make up REPLAY=8w` lets hours pass"
        )

    def _from_newest(
        self, version: int, forecaster: Forecaster, newest: datetime, now: datetime, hour: Hour | None
    ) -> Forecasts:
        """The forecast of all horizons from the newest hour; without hours a revision of older bars shows after a second."""
        known = self._present.get(version)
        if known is not None and known[0] == newest and time.monotonic() - known[1] < _PRESENT_TTL_S:
            return known[2]
        bars = self._market.bars_for([forecaster], newest, now, hour)
        try:
            origin = np.array([to_epoch(newest)], np.int64)
            made = forecaster.predict(bars, origin, shift=self._calibrator.shift(forecaster, origin, newest))
        except DataError as error:
            raise UnavailableError(str(error), retry_after_s=300) from None
        if len(self._present) > self._settings.lru_packages:
            self._present.clear()
        self._present[version] = (newest, time.monotonic(), made)
        return made

    def over(self, alias: str | None, start: datetime, end: datetime, horizons: tuple[int, ...]) -> Made:
        """Forecasts for closes with start <= close < end, each made as many hours before as asked, in one run."""
        name, info, forecaster = self._models.resolve(alias)
        now = self._clock.now()
        newest = self._market.newest_close(now)
        first, last = start - timedelta(hours=max(horizons)), end - timedelta(hours=min(horizons))
        # Nothing that closes later counts: neither for a forecast nor among the closes that came.
        bars = self._market.bars_for([forecaster], first, min(now, end))
        target = bars[self._settings.target.symbol]
        origins = origins_of(target, first, last)
        origins = origins[aims_within(origins, horizons, start, end).any(axis=1)]
        # A range of which there are no bars is empty, which is no fault of anyone's.
        made, _ = joined([], horizons, LEVELS)
        if len(origins):
            shift = self._calibrator.shift(forecaster, origins, newest)
            made = forecaster.predict(bars, origins, horizons, skip_unusable=True, shift=shift)
        asked = aims_within(made.origin, horizons, start, end)
        actual = actual_of(target, made)
        return Made(info, name, made, actual, newest, now, asked=asked, source="reconstructed")

    def produced(self, start: datetime, end: datetime, horizons: tuple[int, ...]) -> Made:
        """What users got at each hour; where nothing was issued, what the version that reigned would have said."""
        now = self._clock.now()
        _, newest = self._market.origin(now)
        first = start - timedelta(hours=max(horizons))
        last = end - timedelta(hours=min(horizons))
        if newest is not None:
            last = min(last, newest + SECOND)
        fans = [
            fan
            for fan in self._issued.between(first, last)
            if fan.levels == LEVELS and set(horizons) <= set(fan.horizons)
        ]
        target = self._store.read_bars(
            self._settings.target.symbol, start=first - WEEK, known_at=min(now, end)
        )
        closed = origins_of(target, first, last)
        closed = closed[aims_within(closed, horizons, start, end).any(axis=1)]
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
            "production",
            whole,
            actual_of(target, whole),
            newest,
            now,
            tuple(alias for alias, *_ in names),
            tuple(version for _, version, _ in names),
            aims_within(whole.origin, horizons, start, end),
            "issued" if names and all(at is not None for *_, at in names) else "reconstructed",
            tuple(at for *_, at in names),
        )

    def _reconstructed(
        self, origins: IntArray, horizons: tuple[int, ...], newest: datetime | None, now: datetime
    ) -> list[tuple["_Reign", Forecasts]]:
        """What the versions that reigned at hours without a record would have said."""
        if not len(origins):
            return []
        first, last = from_epoch(origins[0]), from_epoch(origins[-1]) + SECOND
        wanted = [
            (reign, origins[(origins >= to_epoch(max(reign.since, first))) & (origins < to_epoch(until))])
            for reign in self._reigns(first, last)
            if (until := min(reign.until or last, last)) > first
        ]
        wanted = [(reign, chosen) for reign, chosen in wanted if len(chosen)]
        if len({reign.version for reign, _ in wanted}) > 200:
            raise RefusedError("the range holds more than 200 versions; ask for a shorter one")
        models = {reign.version: self._models.of(reign.version)[1] for reign, _ in wanted}
        bars = self._market.bars_for(models.values(), first, min(now, last))
        return [
            (
                reign,
                models[reign.version].predict(
                    bars, chosen, horizons, skip_unusable=True,
                    shift=self._calibrator.shift(models[reign.version], chosen, newest),
                ),
            )
            for reign, chosen in wanted
        ]  # fmt: skip

    def _reigns(self, start: datetime, end: datetime) -> list["_Reign"]:
        """Who reigned at start <= moment < end: what was rolled out; before the first roll each alias from its decision on.

        Back-test aliases fill the time before the first production alias.
        """
        rolls = self._store.decided(self._settings.model_name, "rolled", start=start, end=end)
        first = rolls[0].at if rolls else None
        records = [r for r in self._models.index().aliases if alias_kind(r.alias) in ("date", "backtest")]
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
        made = self._models.forecaster.predict(bars, None, horizons)
        newest = from_epoch(made.origin[-1])
        return Made(
            self._models.info,
            self._models.alias,
            made,
            np.full((1, len(made.horizons)), np.nan),
            newest,
            self._clock.now(),
        )
