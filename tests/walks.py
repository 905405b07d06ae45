"""Walks whose truth is known: prices with clustered volatility, and forecasters that know it, half know it, or do not."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from statistics import NormalDist

import numpy as np

from hourcast.contracts import HOUR_S, Bars, FloatArray, IntArray, from_epoch, parse_hour, to_epoch
from hourcast.forecaster import HORIZONS, LEVELS, naive_quantiles
from hourcast.store import Store, WalkFold
from hourcast_trainer.lab.walk import walk_id
from hourcast_trainer.lab.walk.rows import FoldRows, WalkRows, sha256_of, write_parquet
from hourcast_trainer.settings import TrainerSettings

__all__ = ["START_S", "ablated", "bars_of", "keep", "scaled", "synthetic_walk"]

START_S = to_epoch(parse_hour("2024-03-04"))
_HISTORY_H = 760
_Z = np.array([NormalDist().inv_cdf(level) for level in LEVELS])


def _volatility(n: int, rng: np.random.Generator) -> FloatArray:
    """Hourly standard deviations (n,) that cluster and go with the hour of the day."""
    log = np.zeros(n)
    noise = rng.normal(0, 0.1, n)
    for i in range(1, n):
        log[i] = 0.98 * log[i - 1] + noise[i]
    season = 0.35 * np.sin(2 * np.pi * np.arange(n) / 24)
    scale: FloatArray = 0.0045 * np.exp(log + season)
    return scale


def scaled(rows: WalkRows, kind: str, factor: FloatArray | float) -> WalkRows:
    """The same forecasts under another name, their log-returns times `factor` (N,)."""
    times = np.broadcast_to(np.asarray(factor, np.float64), rows.origin.shape)[:, None, None]
    return replace(rows, kind=kind, returns=rows.returns * times, raw=rows.raw * times)


def ablated(rows: WalkRows, kind: str, noise: float, seed: int) -> WalkRows:
    """The same forecasts under another name, their width off by a factor of e to the `noise` in one standard deviation."""
    return scaled(rows, kind, np.exp(np.random.default_rng(seed).normal(0, noise, len(rows))))


def synthetic_walk(n: int, seed: int = 0) -> dict[str, WalkRows]:
    """Kinds over `n` hours from `START_S`: `exact` knows the distribution, `naive` is the reference, `copy` is naive again.

    The shocks are normal and the volatility path is what `exact` goes by, so that its quantiles are right at every horizon; seen
    without that path, returns have heavy tails. Before calibration `exact` is a fifth too narrow.
    """
    rng = np.random.default_rng(seed)
    ahead = max(HORIZONS)
    total = _HISTORY_H + n + ahead
    sigma = _volatility(total, rng)
    close = 60_000 * np.exp(np.cumsum(sigma * rng.normal(size=total)))
    opens = START_S + (np.arange(total) - _HISTORY_H) * HOUR_S
    bars = Bars.of("BTC/USDT", opens, np.repeat(close[:, None], 5, axis=1))
    at: IntArray = np.arange(_HISTORY_H - 1, _HISTORY_H - 1 + n)
    origin = bars.close_time[at]
    steps = at[:, None] + np.arange(1, ahead + 1)
    actual = close[steps]
    returns = np.sqrt(np.cumsum(sigma[steps] ** 2, axis=1))[:, :, None] * _Z
    exact = WalkRows("exact", origin, close[at], actual, returns, 0.8 * returns)
    prices, last, _usable = naive_quantiles(bars, origin)
    simple = np.log(prices / last[:, None, None])
    naive = WalkRows("naive", origin, close[at], actual, simple, simple)
    return {"naive": naive, "exact": exact, "copy": replace(naive, kind="copy")}


def bars_of(rows: WalkRows) -> Bars:
    """The bars behind a walk of whole hours, from its first origin on."""
    close = np.concatenate([rows.last_close, rows.actual[-1]])
    opens = rows.origin[0] + (np.arange(len(close)) - 1) * HOUR_S
    return Bars.of("BTC/USDT", opens, np.repeat(close[:, None], 5, axis=1))


def keep(store: Store, settings: TrainerSettings, walk: Mapping[str, WalkRows]) -> None:
    """Put bars and weekly folds into the store, as `hourcast compare` leaves them."""
    longest = max(walk.values(), key=len)
    made_at = from_epoch(int(longest.origin[-1]) + 48 * HOUR_S)
    store.upsert_bars(bars_of(longest), "sample", made_at)
    week = 7 * 24 * HOUR_S
    folds = []
    for kind, rows in walk.items():
        for start_s in range(int(rows.origin[0]), int(rows.origin[-1]) + 1, week):
            at = (rows.origin >= start_s) & (rows.origin < start_s + week)
            body = write_parquet(
                FoldRows(rows.origin[at], rows.last_close[at], rows.returns[at].astype(np.float32))
            )
            start = from_epoch(start_s)
            lineage = {
                "kind": kind,
                "trained_through": f"{start - timedelta(days=15):%Y-%m-%d}",
                "hyper": {"rate": 0.05},
            }
            folds.append(
                WalkFold(
                    settings.model_name, walk_id(settings, 7), kind, start, start + timedelta(days=7), "recipe",
                    sha256_of(body), lineage, body, made_at,
                )
            )  # fmt: skip
    store.save_walk_folds(folds)
