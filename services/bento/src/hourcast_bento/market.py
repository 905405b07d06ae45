"""What the market did, as the store has it: the newest hour, the bars behind a forecast, and how fresh they are."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from hourcast.contracts import HOUR_S, Bars, from_epoch
from hourcast.forecaster import Forecaster
from hourcast.store import Hour, Store
from hourcast_bento.settings import ServingSettings

__all__ = ["WEEK", "Market"]

WEEK = timedelta(days=7)
_GAP_DAYS = 30


class Market:
    """Bars and closed hours, each as known at a moment. Thread-safe, as the store is."""

    def __init__(self, settings: ServingSettings, store: Store) -> None:
        self._settings, self._store = settings, store

    def newest_close(self, now: datetime) -> datetime | None:
        """Close of the newest target bar."""
        bars = self._store.read_bars(self._settings.target.symbol, known_at=now, last=1)
        return from_epoch(bars.close_time[-1]) if len(bars) else None

    def newest_hour(self, now: datetime) -> Hour | None:
        """The newest closed hour, from which present forecasts are made; None where nobody closes hours.

        That is a store of release 0.1.0, or one whose etl is of that release again: then its newest bar is far ahead.
        """
        hour = self._store.newest_hour(self._settings.model_name, now)
        if hour is None or self.stale_reason(hour.hour, now) is None:
            return hour
        return hour if self.stale_reason(self.newest_close(now), now) is not None else None

    def origin(self, now: datetime) -> tuple[Hour | None, datetime | None]:
        """The newest closed hour and the moment from which to forecast: that hour, or the newest bar without one."""
        hour = self.newest_hour(now)
        return hour, self.newest_close(now) if hour is None else hour.hour

    def bars_for(
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
        start = first_origin - timedelta(hours=history + 4) - WEEK
        if hour is not None:
            return hour.known(
                self._store.read_many(symbols, start=start, known_at=hour.hour, as_of=hour.closed_at)
            )
        return self._store.read_many(symbols, start=start, known_at=now)

    def stale_reason(self, newest: datetime | None, now: datetime) -> str | None:
        """Why no present forecast can be made, or None."""
        target = self._settings.target
        if newest is None:
            return f"there are no bars of {target.symbol} yet"
        age = now - newest
        if age > timedelta(hours=target.max_staleness_h):
            return (
                f"the newest bar of {target.symbol} closed at {newest:%Y-%m-%d %H:%M} UTC, {age.total_seconds() / HOUR_S:.1f} h ago; "
                f"forecasts are refused beyond {target.max_staleness_h:g} h"
            )
        return None

    def freshness(self, now: datetime) -> list[dict[str, Any]]:
        """How fresh each series is; for the target also the hours that are missing in the last 30 days."""
        symbols = [series.symbol for series in self._settings.series]
        stored = {f.symbol: f for f in self._store.freshness(symbols, known_at=now)}
        out = []
        for series in self._settings.series:
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
        return out

    def _gaps(self, symbol: str, now: datetime) -> list[dict[str, Any]]:
        times = self._store.read_bars(symbol, start=now - timedelta(days=_GAP_DAYS), known_at=now).open_time
        return [
            {
                "from": from_epoch(int(times[i]) + HOUR_S),
                "to": from_epoch(int(times[i + 1])),
                "missing": int(times[i + 1] - times[i]) // HOUR_S - 1,
            }
            for i in np.flatnonzero(np.diff(times) > HOUR_S)
        ]
