"""Prophet, for comparison only: Taylor and Letham, "Forecasting at Scale", The American Statistician 72 (2018).

A curve through the logarithm of the price, with Prophet's own trend and daily and weekly seasonality, and the
quantiles of its own simulated futures. It knows no last close: left as it is, its pinball loss one hour ahead was 7 to 45
times that of the naive floor. Here its curve is moved through the last close at every origin (3 to 5 times), which is
the most that can be done for it without making it another model. It is fitted anew in each fold like the others, is never
served, and needs the extra `prophet`.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from hourcast.conformal import shifted
from hourcast.contracts import HOUR_S, Bars, FloatArray, IntArray, from_epoch
from hourcast.errors import ConfigurationError, DataError
from hourcast.forecaster import HORIZONS, LEVELS, Forecasts, TrainingSpan
from hourcast_trainer.models._interface import Compared, EpochLosses, FitRequest, describe
from hourcast_trainer.settings import TrainerSettings

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ProphetFitted", "ProphetForecaster", "ProphetModel", "ProphetSpec"]

_MIN_HOURS = 500
_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class ProphetSpec:
    """Where a fit comes from; no more of it is kept."""

    target: str
    training: TrainingSpan
    trained_through: date
    decided_at: datetime
    data_fingerprint: str
    code_version: str
    seed: int
    synthetic: bool


class ProphetForecaster:
    """Forecasts as a `Forecaster` does, and can be neither saved nor served."""

    def __init__(self, spec: ProphetSpec, curve: Any) -> None:
        self.spec = spec
        self._curve = curve

    @property
    def fingerprint(self) -> str:
        """SHA-256 over lineage and fitted numbers, 16 hex digits."""
        digest = hashlib.sha256(repr(self.spec).encode())
        for name in sorted(self._curve.params):
            digest.update(name.encode() + np.asarray(self._curve.params[name], np.float64).tobytes())
        return digest.hexdigest()[:16]

    def predict(
        self,
        bars: Mapping[str, Bars],
        origins: IntArray | None = None,
        horizons: Sequence[int] | None = None,
        *,
        skip_unusable: bool = False,
        shift: FloatArray | None = None,
    ) -> Forecasts:
        """Forecast from each origin, with draws that the seed decides.

        Args:
            bars: bars by symbol; of the target, the closes at the origins are used.
            origins: (N,) epoch seconds, close times of target bars after the training span; default: the newest close.
            horizons: hours ahead; default: 1 to 24.
            skip_unusable: leave out origins at which no bar closed, instead of refusing them.
            shift: conformal shift (H, Q) or (N, H, Q) over all horizons and levels.

        Raises:
            DataError: when no bar closed at an origin, or an origin or a horizon cannot be forecast.
        """
        target = bars[self.spec.target]
        wanted = tuple(HORIZONS if horizons is None else horizons)
        if unknown := sorted(set(wanted) - set(HORIZONS)):
            raise DataError(
                f"horizons {unknown} are unknown; Prophet forecasts 1 to {max(HORIZONS)} hours ahead"
            )
        at = target.close_time[-1:] if origins is None else np.asarray(origins, np.int64)
        place = np.minimum(np.searchsorted(target.close_time, at), len(target) - 1)
        there = target.close_time[place] == at
        if not skip_unusable and not there.all():
            raise DataError(
                f"there is no bar of {self.spec.target} that closed at {from_epoch(at[~there][0]).isoformat()}"
            )
        at, last = at[there], target.close[place[there]]
        if not len(at):
            return Forecasts(at, wanted, LEVELS, last, np.empty((0, len(wanted), len(LEVELS))))
        start = int(self.spec.training.end.timestamp())
        if int(at.min()) < start:
            raise DataError(
                f"Prophet forecasts from {from_epoch(start).isoformat()} on, where its training ended"
            )
        # Always from the end of the training on, so that the draws of an hour do not depend on the first origin.
        hours = np.arange(start, int(at.max()) + (max(HORIZONS) + 1) * HOUR_S, HOUR_S)
        middle, quantiles = self._simulate(hours)
        now = (at - start) // HOUR_S
        ahead = now[:, None] + np.asarray(wanted)
        returns = quantiles[ahead] - middle[now][:, None, None]
        if shift is not None:
            chosen = [HORIZONS.index(h) for h in wanted]
            returns = shifted(returns, shift[..., chosen, :], LEVELS.index(0.5))
        return Forecasts(at, wanted, LEVELS, last, last[:, None, None] * np.exp(returns))

    def _simulate(self, hours: IntArray) -> tuple[FloatArray, FloatArray]:
        """Of the logarithm of the price at `hours` (T,): Prophet's point forecast (T,) and quantiles (T, Q)."""
        frame = _frame(hours)
        # Prophet draws from numpy's global generator.
        before = np.random.get_state()
        try:
            np.random.seed(self.spec.seed)
            draws = np.asarray(self._curve.predictive_samples(frame)["yhat"])
        finally:
            np.random.set_state(before)
        # Without draws it gives its point forecast alone.
        self._curve.uncertainty_samples = 0
        try:
            middle = self._curve.predict(frame)["yhat"].to_numpy()
        finally:
            self._curve.uncertainty_samples = _DRAWS
        return middle, np.quantile(draws, LEVELS, axis=1).T


@dataclass(frozen=True, slots=True)
class ProphetFitted:
    """A fitted curve, for as long as the process lives."""

    spec: ProphetSpec
    curve: Any
    epochs: tuple[EpochLosses, ...] = ()
    params: Mapping[str, float | int | str] = field(default_factory=dict)

    def forecaster(self) -> ProphetForecaster:
        """What forecasts."""
        return ProphetForecaster(self.spec, self.curve)


class ProphetModel(Compared):
    """Fits Prophet with its defaults, and daily and weekly seasonality."""

    kind = "prophet"

    def history_h(self, settings: TrainerSettings) -> int:
        """Three weeks."""
        return _MIN_HOURS

    def fit(self, request: FitRequest) -> ProphetFitted:
        """Fit the curve to the closes of the training span.

        Raises:
            ConfigurationError: when the package is not installed.
            DataError: when there are too few hours.
        """
        try:
            from prophet import Prophet
        except ModuleNotFoundError:
            raise ConfigurationError(
                "Prophet is not installed; it is for comparison only and comes with `pip install 'hourcast-trainer[prophet]'`"
            ) from None
        plan, settings, known = request.plan, request.settings, request.known
        target = known[settings.target.symbol]
        inside = target.close_time > plan.start_s
        times, close = target.close_time[inside], target.close[inside]
        if len(times) < _MIN_HOURS:
            raise DataError(
                f"only {len(times)} whole hours to train on before {plan.train_end:%Y-%m-%d}, "
                f"{_MIN_HOURS} are needed; load more history with `hourcast etl backfill`"
            )
        curve = Prophet(
            daily_seasonality=True,
            weekly_seasonality=True,
            yearly_seasonality=False,
            uncertainty_samples=_DRAWS,
        )
        # Its compiled model tells of each start and end, and sets its logger's level itself.
        logging.getLogger("cmdstanpy").addFilter(_worth_telling)
        curve.fit(_frame(times).assign(y=np.log(close)), seed=settings.seed)
        spec = ProphetSpec(**describe(request, from_epoch(times[0]), from_epoch(times[-1]), len(times)))
        return ProphetFitted(spec, curve, params={"draws": _DRAWS, "samples": len(times)})


def _worth_telling(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def _frame(hours: IntArray) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame({"ds": pd.to_datetime(hours, unit="s")})
