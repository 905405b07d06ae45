"""A golden prediction: an input and its output, by which a package proves that it still says what its version said."""

import json
from collections.abc import Mapping

import numpy as np
from pydantic import ValidationError

from hourcast.contracts import HOUR_S, Bars, Golden
from hourcast.errors import DataError
from hourcast.forecaster._forecaster import Forecaster

__all__ = ["check_golden", "golden_from_json", "make_golden"]


def make_golden(forecaster: Forecaster, bars: Mapping[str, Bars], origin_s: int) -> Golden:
    """An input (only the bars that the forecast needs) and the output that `forecaster` gives for it."""
    start = origin_s - (forecaster.history_h + 2) * HOUR_S
    needed: dict[str, Bars] = {}
    for symbol in forecaster.symbols:
        known = bars.get(symbol, Bars.empty(symbol)).known_at(origin_s)
        early = start if symbol == forecaster.spec.target else start - 7 * 24 * HOUR_S
        # With the bar that was the newest then: a forecast carries it over a hole.
        first = int(np.searchsorted(known.close_time, early, side="right")) - 1
        needed[symbol] = known.take(slice(max(first, 0), None))
    forecast = forecaster.predict(needed, np.array([origin_s], np.int64))
    return Golden(
        bars={symbol: part.to_json() for symbol, part in needed.items()},
        origin=origin_s,
        quantiles=forecast.quantiles[0].tolist(),
    )


def check_golden(forecaster: Forecaster, golden: Golden) -> None:
    """Make sure that `forecaster` still gives the golden output.

    Raises:
        DataError: naming the largest difference, when it does not.
    """
    bars = {symbol: Bars.from_json(part) for symbol, part in golden.bars.items()}
    got = forecaster.predict(bars, np.array([golden.origin], np.int64)).quantiles[0]
    want = np.asarray(golden.quantiles)
    if got.shape != want.shape:
        raise DataError(f"golden prediction has shape {got.shape}, but {want.shape} was recorded")
    off = np.abs(got - want) / np.abs(want)
    if not np.all(off <= golden.rtol):
        raise DataError(
            f"golden prediction differs by {float(off.max()):.2e} of the price, more than {golden.rtol:.0e}"
        )


def golden_from_json(text: str | bytes) -> Golden:
    """Read a golden file.

    Raises:
        DataError: when it is not one.
    """
    try:
        return Golden.model_validate(json.loads(text))
    except (ValueError, ValidationError):
        raise DataError("golden.json is not a golden prediction") from None
