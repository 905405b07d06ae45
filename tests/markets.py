"""Simulated markets whose truth is known."""

import numpy as np

from hourcast.contracts import HOUR_S, Bars

__all__ = ["START", "market"]

START = 1_700_006_400
_STEPS = 8


def market(hours: int, seed: int = 1, *, omen: float = 0.0, symbol: str = "BTC/USDT") -> Bars:
    """Hourly bars from START on, without drift: volatility clusters, and is twice as high by day as by night.

    An hour's volume is random; `omen` is how much of its logarithm goes into the logarithm of the next hour's volatility.
    """
    rng = np.random.default_rng(seed)
    clusters = np.convolve(rng.normal(0, 0.12, hours + 400), 0.97 ** np.arange(400), "valid")[:hours]
    volume = rng.normal(0, 1, hours)
    day = np.where(np.arange(hours) % 24 < 12, 0.7, 1.4)
    sigma = 0.004 * day * np.exp(clusters + omen * np.concatenate([[0.0], volume[:-1]]))
    steps = rng.normal(0, 1, (hours, _STEPS)) * sigma[:, None] / np.sqrt(_STEPS)
    path = 100 * np.exp(np.cumsum(steps.ravel()).reshape(hours, _STEPS))
    opens = np.concatenate([[100.0], path[:-1, -1]])
    both = np.concatenate([opens[:, None], path], axis=1)
    prices = np.stack([opens, both.max(axis=1), both.min(axis=1), path[:, -1], np.exp(5 + volume)], axis=1)
    return Bars.of(symbol, START + HOUR_S * np.arange(hours, dtype=np.int64), prices)
