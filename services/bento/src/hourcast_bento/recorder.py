"""The recorder: what this version forecasts for each closed hour, put on record once."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np

from hourcast.clock import Clock
from hourcast.contracts import Bars, IntArray, from_epoch, to_epoch
from hourcast.errors import HourcastError, UnavailableError
from hourcast.store import Fan, Hour, Store
from hourcast_bento.calibrating import Calibration, Calibrator
from hourcast_bento.closes import SECOND, origins_of
from hourcast_bento.issued import IssuedRecord, calibration_of
from hourcast_bento.market import Market
from hourcast_bento.measures import Measures
from hourcast_bento.models import Models
from hourcast_bento.settings import ServingSettings
from hourcast_bento.skill import LiveWindow

__all__ = ["Recorder"]

_LOG = logging.getLogger(__name__)
_CATCH_UP = 48
_MEASURE_S = 10.0
# A request rather answers unrecorded than waits for another that issues, and tries a database that refused later.
_ISSUE_WAIT_S = 2.0
_ISSUE_AGAIN_S = 5.0


class Recorder:
    """A thread that issues each hour's fan when it closes; a request that comes before it issues it itself."""

    def __init__(
        self,
        settings: ServingSettings,
        store: Store,
        clock: Clock,
        models: Models,
        market: Market,
        calibrator: Calibrator,
        issued: IssuedRecord,
        measures: Measures,
    ) -> None:
        self._settings, self._store, self._clock, self._models = settings, store, clock, models
        self._market, self._calibrator, self._issued, self._measures = market, calibrator, issued, measures
        self._issuing = threading.Lock()
        self._refused_until = -1e9
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.on_recorded: Callable[[int, float], None] = lambda _rows, _age_s: None
        self.on_measured: Callable[[list[LiveWindow], Calibration | None], None] = (
            lambda _live, _calibration: None
        )

    def start(self) -> None:
        """Begin recording live forecasts."""
        self._thread = threading.Thread(target=self._record_forever, name="recorder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the present hour."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def issue_present(self, now: datetime, newest: datetime, hour: Hour | None) -> Fan | None:
        """Issue the newest hour's fan, or learn who did; None when it cannot be made or stored.

        Requests race each other here, and the recorder, and other pods: the lock keeps this pod from making the same fan
        many times over, the store says which pod's stands.
        """
        if not self._issuing.acquire(timeout=_ISSUE_WAIT_S):
            return None
        try:
            if (known := self._issued.at(newest)) is not None:
                return known
            if time.monotonic() < self._refused_until:
                return None
            bars = self._market.bars_for([self._models.forecaster], newest, now, hour)
            fans = self._fans(now, newest, bars, np.array([to_epoch(newest)], np.int64))
            standing = self._issue(fans, now, newest)
            return standing[0] if standing else None
        except UnavailableError as error:
            _LOG.warning("no forecast was issued: %s", error)
            self._refused_until = time.monotonic() + _ISSUE_AGAIN_S
            return None
        finally:
            self._issuing.release()

    def _record_forever(self) -> None:
        told = ""
        done: datetime | None = None
        measured: datetime | None = None
        at = -1e9
        while not self._stop.wait(self._settings.record_poll_s):
            try:
                now = self._clock.now()
                hour, newest = self._market.origin(now)
                if newest is not None and newest != done:
                    self.record(now, newest, done, hour)
                    done = newest
                # A replay brings ten bars a second; each is recorded, and some are enough to tell how it goes.
                if done != measured and time.monotonic() - at > _MEASURE_S:
                    measured, at = done, time.monotonic()
                    self.measure()
                told = ""
            except HourcastError as error:
                if str(error) != told:
                    _LOG.warning("no forecast was recorded: %s", error)
                    told = str(error)
            except Exception:
                _LOG.exception("no forecast was recorded")

    def record(
        self, now: datetime, newest: datetime, done: datetime | None, hour: Hour | None = None
    ) -> None:
        """Issue what this version forecasts for every hour since the last look, the newest included, that has no fan."""
        if self._market.stale_reason(newest, now) is not None:
            return
        first = (
            newest if done is None else max(done + timedelta(hours=1), newest - timedelta(hours=_CATCH_UP))
        )
        known = [to_epoch(fan.origin) for fan in self._issued.between(first, newest + SECOND)]
        fans: list[Fan] = []
        if hour is None:
            bars = self._market.bars_for([self._models.forecaster], first, now)
            origins = origins_of(bars[self._settings.target.symbol], first, newest + SECOND)
            fans += self._fans(now, newest, bars, origins[~np.isin(origins, known)])
        else:
            for each in self._store.hours(self._settings.model_name, start=first, end=newest + SECOND):
                if to_epoch(each.hour) not in known:
                    bars = self._market.bars_for([self._models.forecaster], each.hour, now, each)
                    fans += self._fans(now, newest, bars, np.array([to_epoch(each.hour)], np.int64))
        self._issue(fans, now, newest)

    def _issue(self, fans: list[Fan], now: datetime, newest: datetime) -> list[Fan]:
        standing = self._issued.issue(fans)
        mine = sum(len(fan.horizons) for fan, stands in zip(fans, standing, strict=True) if fan == stands)
        self.on_recorded(mine, (now - newest).total_seconds())
        return standing

    def _fans(self, now: datetime, newest: datetime, bars: dict[str, Bars], origins: IntArray) -> list[Fan]:
        """This version's fans of hours (N,), those left out that lack history; older hours than the newest are filled in."""
        shift = self._calibrator.shift(self._models.forecaster, origins, newest)
        made = self._models.forecaster.predict(
            bars, origins, skip_unusable=True, shift=shift, fingerprints=True
        )
        state = self._models.forecaster.spec.conformal
        came = None if state is None else self._calibrator.rows(state.as_of, newest).target_time
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
                    model=self._settings.model_name,
                    role="served",
                    symbol=self._settings.target.symbol,
                    origin=from_epoch(origin),
                    version=self._models.info.version,
                    alias=self._models.alias,
                    issued_at=now,
                    wall_at=datetime.now(UTC),
                    last_close=float(made.last_close[i]),
                    levels=made.levels,
                    horizons=made.horizons,
                    quantiles=tuple(tuple(row) for row in made.quantiles[i].tolist()),
                    source="issued" if origin == to_epoch(newest) else "reconstructed",
                    fingerprint=made.fingerprints[i],
                    calibration=calibration,
                    run_id=self._models.info.run_id,
                    kind=self._models.info.kind,
                    data_fingerprint=self._models.info.data_fingerprint,
                )
            )
        return fans

    def measure(self) -> None:
        """Tell how live forecasts did."""
        try:
            self.on_measured(self._measures.windows_now(), self._measures.calibration())
        except UnavailableError as error:
            _LOG.warning("live forecasts were not measured: %s", error)
