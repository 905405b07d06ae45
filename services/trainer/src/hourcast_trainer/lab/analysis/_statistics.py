"""Is one forecaster better than another, and by how much: tests and intervals for losses that hang together in time."""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from hourcast.contracts import FloatArray
from hourcast_trainer.paired import bartlett, student_tail

__all__ = ["DieboldMariano", "Interval", "diebold_mariano", "hac_lags", "ratio_interval"]


@dataclass(frozen=True, slots=True)
class DieboldMariano:
    """One-sided test of "the loss is smaller than the reference's".

    `gain` is the mean of reference less loss, `t` its size in standard errors, `p` the probability of such a `t` or a larger one
    where there is no gain: 0.5 for equal forecasts, near 1 for worse ones. `lags` hours may hang together.
    """

    n: int
    gain: float
    t: float
    p: float
    lags: int


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`."""

    low: float
    high: float


def hac_lags(n: int, horizon: int) -> int:
    """How many hours of loss differences may hang together.

    Forecasts h hours ahead overlap for h hours, and volatility comes in days: at least a day, twice the horizon, and the cube
    root of n, so that the variance is consistent as n grows.
    """
    return min(max(24, 2 * horizon, int(np.ceil(n ** (1 / 3)))), max(n - 1, 0))


def diebold_mariano(
    loss: FloatArray, reference: FloatArray, *, horizon: int = 1, lags: int | None = None
) -> DieboldMariano:
    """Compare two series of losses (n,) on the same hours, in order of time.

    Diebold and Mariano, "Comparing Predictive Accuracy", JBES 13 (1995); the variance is that of Newey and West, Econometrica 55
    (1987), Bartlett's kernel over `lags` hours (`hac_lags` by default), corrected for its bias in small samples, and a Student's t with
    the degrees of freedom of such a variance, in the manner of Harvey, Leybourne and Newbold, IJF 13 (1997): `paired.bartlett`.
    With the same lags it is the test of `paired.mean_test`.
    """
    gain = reference - loss
    n = len(gain)
    lags = min(hac_lags(n, horizon) if lags is None else lags, n // 2)
    mean = float(gain.mean()) if n else float("nan")
    if n < 2 or not np.any(gain):
        return DieboldMariano(n, 0.0 if n else mean, 0.0, 0.5, lags)
    # Bartlett's weights are a box on a box: the weighted autocovariances are the squares of moving sums, in one pass.
    padded = np.concatenate([np.zeros(lags + 1), np.cumsum(gain - mean), np.zeros(lags)])
    padded[n + lags + 1 :] = padded[n + lags]
    moving = padded[lags + 1 :] - padded[: -lags - 1]
    variance = float(np.sum(moving**2)) / (lags + 1) / n
    if variance <= 1e-18 * mean**2:
        # Every hour gains alike: there is nothing to be unsure about.
        t = float("inf") if mean > 0 else float("-inf")
        return DieboldMariano(n, mean, t, 0.0 if mean > 0 else 1.0, lags)
    share, freedom = bartlett(n, lags)
    t = mean / sqrt(variance / share / n)
    return DieboldMariano(n, mean, t, student_tail(t, freedom), lags)


def ratio_interval(
    loss: FloatArray,
    reference: FloatArray,
    *,
    block_h: float = 168.0,
    draws: int = 2000,
    share: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of mean(loss) / mean(reference) by the stationary bootstrap, hours (n,) drawn in blocks, both series alike.

    Politis and Romano, "The Stationary Bootstrap", JASA 89 (1994): blocks begin anywhere, run around the end, and their lengths are
    geometric with mean `block_h` hours, a week, so that a block holds what hangs together (never more than an eighth of the
    series). The percentiles of `draws` resamples hold `share`. Sums of blocks come from cumulative sums, so that the cost goes with the number
    of blocks and not of hours.
    """
    n = len(loss)
    if n < 2:
        return Interval(float("nan"), float("nan"))
    block = min(block_h, max(n / 8, 1.0))
    rng = np.random.default_rng(seed)
    count = int(n / block + 8 * sqrt(n / block) + 16)
    ends = np.minimum(np.cumsum(rng.geometric(1 / block, (draws, count)), axis=1), n)
    # The last one fills up what chance left over, about never.
    ends[:, -1] = n
    first = rng.integers(0, n, (draws, count))
    last = first + np.diff(ends, axis=1, prepend=0)

    def totals(series: FloatArray) -> FloatArray:
        running = np.concatenate([[0.0], np.cumsum(np.concatenate([series, series]))])
        out: FloatArray = (running[last] - running[first]).sum(axis=1)
        return out

    ratios = totals(loss) / totals(reference)
    low, high = np.quantile(ratios, [(1 - share) / 2, (1 + share) / 2])
    return Interval(float(low), float(high))
