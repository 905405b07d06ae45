"""A checker of point in time: what comes after a moment must change nothing that was known at it."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from hourcast.contracts import Bars

__all__ = ["assert_no_leak", "futures"]

_PRICES = ("open", "high", "low", "close", "volume")


def futures(bars: Mapping[str, Bars], moment_s: int, seed: int = 0) -> Iterator[tuple[str, dict[str, Bars]]]:
    """The same bars with other ones after a moment: others in size, in another order, and none at all."""
    rng = np.random.default_rng(seed)
    yield "moved", {symbol: _moved(part, moment_s, rng) for symbol, part in bars.items()}
    yield "shuffled", {symbol: _shuffled(part, moment_s, rng) for symbol, part in bars.items()}
    yield "cut off", {symbol: part.take(part.close_time <= moment_s) for symbol, part in bars.items()}


def assert_no_leak(
    made: Callable[[Mapping[str, Bars]], Mapping[str, npt.ArrayLike]],
    bars: Mapping[str, Bars],
    moment_s: int,
    seed: int = 0,
) -> None:
    """Make sure that `made`, which gives named numbers known at a moment, gives the same bits for any future.

    Raises:
        AssertionError: naming what changed, and with which future.
    """
    if not any((part.close_time > moment_s).any() for part in bars.values()):
        raise AssertionError("there is no future to change after that moment")
    before = {name: np.asarray(values).copy() for name, values in made(bars).items()}
    for how, changed in futures(bars, moment_s, seed):
        after = made(changed)
        for name, values in before.items():
            if not np.array_equal(values, np.asarray(after[name]), equal_nan=values.dtype.kind == "f"):
                raise AssertionError(f"{name} changed when what comes later was {how}")


def _with(bars: Bars, prices: Mapping[str, npt.NDArray[np.float64]]) -> Bars:
    return Bars(bars.symbol, bars.open_time, bars.close_time, **{name: prices[name] for name in _PRICES})


def _moved(bars: Bars, moment_s: int, rng: np.random.Generator) -> Bars:
    level = np.exp(rng.normal(1, 0.5, len(bars)))
    factor = {
        "open": level,
        "high": level * 1.3,
        "low": level * 0.7,
        "close": level * 1.1,
        "volume": level * 9,
    }
    later = bars.close_time > moment_s
    return _with(bars, {n: np.where(later, getattr(bars, n) * factor[n], getattr(bars, n)) for n in _PRICES})


def _shuffled(bars: Bars, moment_s: int, rng: np.random.Generator) -> Bars:
    place = np.arange(len(bars))
    later = bars.close_time > moment_s
    place[later] = rng.permutation(place[later])
    return _with(bars, {name: getattr(bars, name)[place] for name in _PRICES})
