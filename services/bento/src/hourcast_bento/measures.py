"""How good forecasts have been: at the gate, in back-tests, live. Made in the background, so that nobody waits long."""

from datetime import datetime, timedelta

import numpy as np

from hourcast.clock import Clock
from hourcast.contracts import HOUR_S, to_epoch
from hourcast.errors import UnavailableError
from hourcast.forecaster import LEVELS, naive_quantiles
from hourcast.store import ForecastRow, Store
from hourcast_bento.calibrating import Calibration, Calibrator
from hourcast_bento.kept import Kept
from hourcast_bento.live import LiveRecord
from hourcast_bento.market import Market
from hourcast_bento.models import Models
from hourcast_bento.settings import ServingSettings
from hourcast_bento.skill import LiveWindow, SkillRow, live_window, skill_of

__all__ = ["Measures"]

_MOST_SHOWN = 52
_FIGURES_TTL_S, _BACKTESTS_TTL_S, _FIGURES_WAIT_S = 10.0, 60.0, 15.0
_WINDOW_DAYS = (7, 30)
_WINDOW_HORIZONS = (1, 6, 12, 24, None)


class Measures:
    """Figures, each kept for a while. Thread-safe."""

    def __init__(
        self,
        settings: ServingSettings,
        store: Store,
        clock: Clock,
        models: Models,
        market: Market,
        live: LiveRecord,
        calibrator: Calibrator,
    ) -> None:
        self._settings, self._store, self._clock, self._models = settings, store, clock, models
        self._market, self._live, self._calibrator = market, live, calibrator
        self._skill = Kept(self._compute_skill, _FIGURES_TTL_S, _FIGURES_WAIT_S, "the table of errors")
        # Nine thousand rows that hardly ever change: not each time that a page looks.
        self._backtests = Kept(self._compute_backtests, _BACKTESTS_TTL_S, _FIGURES_WAIT_S, "the back-tests")
        self._windows = Kept(
            self.windows_now, _FIGURES_TTL_S, _FIGURES_WAIT_S, "the record of live forecasts"
        )

    def skill(self) -> list[SkillRow]:
        """Errors per alias beside naive; at most ten seconds old."""
        return self._skill.get()

    def _compute_skill(self) -> list[SkillRow]:
        now = self._clock.now()
        return [*self._gates(now), *self._backtests.get(), *self._of_0_1_0(now)]

    def _gates(self, now: datetime) -> list[SkillRow]:
        """What the gate of each version measured."""
        rows: list[SkillRow] = []
        for e in self._store.evaluations(
            self._settings.model_name, "gate", baseline="naive", limit=_MOST_SHOWN
        ):
            if e.passed and e.made_at <= now:
                ours, naive = e.figures["candidate"]["next_hour"], e.figures["baseline"]["next_hour"]
                names = ("rmse", "mae", "pinball", "coverage_90")
                rows.append(
                    SkillRow(
                        e.alias, e.version, e.kind, "gate", int(ours["n"]),
                        *(float(ours[name]) for name in names), *(float(naive[name]) for name in names),
                    )
                )  # fmt: skip
        return rows

    def _of_0_1_0(self, now: datetime) -> list[SkillRow]:
        """Live errors of each version on the record of release 0.1.0."""
        model, symbol = self._settings.model_name, self._settings.target.symbol
        rows: list[SkillRow] = []
        recorded = self._store.forecasts(
            model, symbol, horizon=1, start=now - timedelta(days=60), end=now + timedelta(hours=1)
        )
        if not recorded:
            return rows
        first = min(r.origin for r in recorded)
        target = self._store.read_bars(symbol, start=first - timedelta(days=40), known_at=now)
        if not len(target):
            return rows
        kinds = self._store.kinds(model, {r.version for r in recorded})
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
        model = self._settings.model_name
        newest = self._store.evaluations(model, "backtest", baseline="naive", limit=_MOST_SHOWN)
        # Evaluations come oldest first: of a week that was decided again the newest counts.
        kinds = {e.alias: e.kind for e in newest if e.alias is not None}
        stored = self._store.backtest_rows(model, set(kinds))
        return [
            skill_of(
                b.alias, b.version, kinds[b.alias], "backtest",
                b.actual, b.quantiles, b.naive_quantiles, LEVELS,
            )
            for b in stored
        ]  # fmt: skip

    def windows(self) -> list[LiveWindow]:
        """How live forecasts of the last 7 and 30 days did, whichever version made them; at most ten seconds old."""
        return self._windows.get()

    def windows_now(self) -> list[LiveWindow]:
        """The same, made now."""
        now = self._clock.now()
        newest = self._market.newest_close(now) or now
        spans = {days: now - timedelta(days=days) for days in _WINDOW_DAYS}
        rows = self._live.rows(min(spans.values()), newest)
        naive = self._live.naive_losses(rows)
        out = []
        for days, since in spans.items():
            part = rows.between(to_epoch(since), to_epoch(newest))
            losses = naive[len(rows) - len(part) :]
            out += [live_window(part, losses, days, horizon) for horizon in _WINDOW_HORIZONS]
        return out

    def calibration(self) -> Calibration | None:
        """What closes have taught the served version; None for one that is not calibrated, such as the naive floor."""
        try:
            newest = self._market.newest_close(self._clock.now())
        except UnavailableError:
            newest = None
        return self._calibrator.of(self._models.forecaster, newest)
