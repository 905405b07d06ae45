"""Small specifications and bars that tests of the library share."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

import numpy as np
import numpy.typing as npt

from hourcast.contracts import HOUR_S, Bars
from hourcast.features import ExogenousFeature, FeatureSpec
from hourcast.forecaster import HORIZONS, ForecasterSpec, TrainingSpan
from hourcast.volatility import HALFLIVES_H, VolatilitySpec

__all__ = ["START", "features_of", "forecaster_spec", "random_walk", "volatility_of"]

START = 1_700_000_000 // HOUR_S * HOUR_S
_DAY = datetime(2024, 6, 1, tzinfo=UTC)


def random_walk(symbol: str, hours: int | npt.NDArray[np.int64], seed: int = 1) -> Bars:
    """Bars of a driftless walk of 1 % an hour that opens at START and so many hours, or at given moments."""
    opens = START + np.arange(hours) * HOUR_S if isinstance(hours, int) else hours
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, len(opens))))
    first = np.concatenate([[100.0], close[:-1]])
    wick = np.exp(rng.exponential(0.003, (2, len(opens))))
    high, low = np.maximum(first, close) * wick[0], np.minimum(first, close) / wick[1]
    return Bars.of(symbol, opens, np.column_stack([first, high, low, close, rng.uniform(1, 9, len(opens))]))


def volatility_of(
    horizons: Sequence[int] = HORIZONS,
    halflives_h: Sequence[float] = HALFLIVES_H,
    weight: float = 0.3,
) -> VolatilitySpec:
    """Every half-life counts alike, a bit less with each horizon."""
    k = len(halflives_h)
    return VolatilitySpec(
        halflives_h=tuple(halflives_h),
        horizons=tuple(horizons),
        centre=(-4.6,) * k,
        spread=(0.3,) * k,
        weights=tuple((-4.8 + 0.01 * h, *((weight / k / h**0.2,) * k)) for h in horizons),
    )


def features_of(
    target: str = "T",
    exogenous: Sequence[str] = (),
    *,
    window: int = 24,
    vol_lags: int = 336,
    volatility: VolatilitySpec | None = None,
) -> FeatureSpec:
    """Features with a season that moves, over a shorter past than production's."""
    return FeatureSpec(
        target=target,
        exogenous=tuple(
            ExogenousFeature(symbol=symbol, max_staleness_s=30 * HOUR_S, scale=0.01) for symbol in exogenous
        ),
        window=window,
        vol_lags=vol_lags,
        seasonal=tuple((1 + 0.3 * np.sin(np.arange(168))).tolist()),
        volatility=volatility or volatility_of(),
    )


def forecaster_spec(**changes: object) -> ForecasterSpec:
    """The naive floor of BTC/USDT, but for what is given."""
    values: dict[str, object] = {
        "kind": "naive",
        "target": "BTC/USDT",
        "training": TrainingSpan(start=_DAY, end=_DAY, rows=1),
        "trained_through": date(2024, 6, 1),
        "decided_at": _DAY,
        "data_fingerprint": "0" * 16,
        "code_version": "0",
        "seed": 1,
    }
    return ForecasterSpec(**{**values, **changes})  # type: ignore[arg-type]
