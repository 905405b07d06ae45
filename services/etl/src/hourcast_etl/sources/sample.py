"""A seeded sample: synthetic bars that look like a market, for a first look without any network.

Each hour's randomness comes from (seed, symbol, hour) alone, so that an hour's bar is the same whenever and by
whomever it is asked for. Volatility follows a slow log-wave and the hour of the week.
"""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from hourcast.contracts import HOUR_S, FloatArray, to_epoch
from hourcast.settings import Series
from hourcast_etl.checks import RawBar
from hourcast_etl.hours import expected_opens

__all__ = ["SampleSource"]

_ORIGIN = datetime(2022, 1, 1, tzinfo=UTC)
_BLOCK_H = 24 * 28
_LEVELS = {
    "BTC/USDT": (42_000.0, 0.0055),
    "QQQ": (400.0, 0.003),
    "^VIX": (16.0, 0.012),
    "GC=F": (2_000.0, 0.0018),
}
_OTHER = (100.0, 0.005)


class SampleSource:
    """Bars of any series, from a seed."""

    name = "sample"
    reach: timedelta | None = None

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._paths: dict[str, tuple[int, FloatArray, FloatArray]] = {}

    def _block(self, symbol: str, number: int) -> Any:
        key = hashlib.sha256(f"{self._seed}|{symbol}|{number}".encode()).digest()
        return np.random.default_rng(int.from_bytes(key[:8], "big"))

    def _path(self, symbol: str, hours: int) -> tuple[FloatArray, FloatArray]:
        """Log-price at each hour from the origin on, and the size of each hour's move."""
        known = self._paths.get(symbol)
        if known is not None and known[0] >= hours:
            return known[1], known[2]
        level, sigma = _LEVELS.get(symbol, _OTHER)
        blocks = -(-hours // _BLOCK_H)
        shocks = (
            np.concatenate([self._block(symbol, i).standard_t(5, _BLOCK_H) for i in range(blocks)]) / 1.29
        )
        slow = np.concatenate([self._block(f"{symbol}|vol", i).normal(0, 1, _BLOCK_H) for i in range(blocks)])
        wave = np.zeros(len(slow))
        for i in range(1, len(slow)):
            wave[i] = 0.985 * wave[i - 1] + 0.07 * slow[i]
        t = np.arange(len(shocks))
        clock = 1 + 0.35 * np.sin(2 * np.pi * (t % 24 - 9) / 24) - 0.25 * ((t // 24) % 7 >= 5)
        size = sigma * np.exp(wave) * clock
        # A pull to the level keeps a path of years within reason.
        log_price = np.empty(len(shocks))
        at = 0.0
        for i in range(len(shocks)):
            at = 0.9997 * at + size[i] * shocks[i]
            log_price[i] = at
        log_price += np.log(level)
        self._paths[symbol] = (len(shocks), log_price, size)
        return log_price, size

    def pages(self, series: Series, start: datetime, end: datetime) -> Iterator[list[RawBar]]:
        """All bars of the span in one page."""
        first = max(start, _ORIGIN)
        opens = expected_opens(series, first, end)
        if not len(opens):
            return
        origin = to_epoch(_ORIGIN)
        log_price, size = self._path(series.symbol, (to_epoch(end) - origin) // HOUR_S + 2)
        hour = (opens - origin) // HOUR_S
        close = np.exp(log_price[hour + 1])
        begin = np.exp(log_price[hour])
        wick = np.exp(0.4 * size[hour + 1])
        high, low = np.maximum(begin, close) * wick, np.minimum(begin, close) / wick
        volume = 900 * size[hour + 1] / _LEVELS.get(series.symbol, _OTHER)[1]
        rows = np.round(np.column_stack([begin, high, low, close, volume]), 6).tolist()
        yield [RawBar(int(o), *row) for o, row in zip(opens, rows, strict=True)]
