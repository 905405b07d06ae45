"""A forecaster is a directory that either loads whole or says what is wrong with it."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hourcast.contracts import Bars, to_epoch
from hourcast.errors import DataError
from hourcast.forecaster import (
    HORIZONS,
    LEVELS,
    Forecaster,
    ForecasterSpec,
    TrainingSpan,
    check_golden,
    load,
    make_golden,
    naive_quantiles,
    save,
)

_DAY = datetime(2024, 6, 1, tzinfo=UTC)


def _naive(**changes: object) -> ForecasterSpec:
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


def test_naive_points_at_the_last_close(market_bars: dict[str, Bars]) -> None:
    """The floor's median is exactly the last close, and its quantiles are ordered around it."""
    bars = market_bars["BTC/USDT"]
    made = Forecaster(_naive(), None).predict({"BTC/USDT": bars})
    assert made.origin.tolist() == [int(bars.close_time[-1])]
    np.testing.assert_allclose(made.point[0], bars.close[-1], rtol=1e-12)
    assert np.all(np.diff(made.quantiles, axis=2) >= 0)
    assert made.quantiles.shape == (1, len(HORIZONS), len(LEVELS))


def test_naive_quantiles_are_those_of_the_last_thirty_days(market_bars: dict[str, Bars]) -> None:
    """The floor agrees with the plain formula, written out for one origin."""
    bars = market_bars["BTC/USDT"]
    at = 5000
    prices, last, usable = naive_quantiles(bars, bars.close_time[[at]], (3,), LEVELS)
    close = bars.close[at - 720 - 3 + 1 : at + 1]
    change = np.log(close[3:] / close[:-3])
    spread = np.quantile(change, LEVELS) - np.quantile(change, 0.5)
    assert usable.all()
    np.testing.assert_allclose(prices[0, 0], last[0] * np.exp(spread), rtol=1e-12)


def test_a_range_is_the_single_forecasts_together(market_bars: dict[str, Bars]) -> None:
    """One batched call gives what a call an hour gives."""
    bars = {"BTC/USDT": market_bars["BTC/USDT"]}
    origins = bars["BTC/USDT"].close_time[3000:3010]
    forecaster = Forecaster(_naive(), None)
    together = forecaster.predict(bars, origins)
    for i, origin in enumerate(origins):
        alone = forecaster.predict(bars, np.array([origin]))
        np.testing.assert_allclose(alone.quantiles[0], together.quantiles[i], rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(0.2, 5))
def test_the_future_moves_no_forecast(factor: float, market_bars: dict[str, Bars]) -> None:
    """Bars after the origin leave the forecast as it is."""
    bars = market_bars["BTC/USDT"]
    origin = bars.close_time[[4000]]
    close = bars.close.copy()
    close[4001:] *= factor
    other = Bars(
        bars.symbol, bars.open_time, bars.close_time, bars.open, bars.high, bars.low, close, bars.volume
    )
    forecaster = Forecaster(_naive(), None)
    before = forecaster.predict({bars.symbol: bars}, origin)
    after = forecaster.predict({bars.symbol: other}, origin)
    assert np.array_equal(before.quantiles, after.quantiles)


def test_too_little_history_is_refused_with_what_is_needed(market_bars: dict[str, Bars]) -> None:
    """An origin without its history is an error that names the hours, or is left out when asked."""
    bars = market_bars["BTC/USDT"].take(slice(0, 300))
    forecaster = Forecaster(_naive(), None)
    with pytest.raises(DataError) as caught:
        forecaster.predict({"BTC/USDT": bars})
    assert str(caught.value) == (
        "a forecast from 2023-12-13T12:00:00+00:00 needs 745 hours of BTC/USDT before it; run `hourcast etl gaps`"
    )
    assert len(forecaster.predict({"BTC/USDT": bars}, bars.close_time, skip_unusable=True).origin) == 0


def test_an_unknown_horizon_is_refused(market_bars: dict[str, Bars]) -> None:
    """A horizon that the model does not have is named, with those that it has."""
    with pytest.raises(DataError) as caught:
        Forecaster(_naive(), None).predict({"BTC/USDT": market_bars["BTC/USDT"]}, horizons=(25,))
    assert str(caught.value) == "horizons [25] are unknown; this model forecasts 1 to 24 hours ahead"


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    """A directory that was saved loads with the same fingerprint."""
    save(tmp_path, _naive(), None)
    assert load(tmp_path).fingerprint == Forecaster(_naive(), None).fingerprint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "spec.json is missing; this is no forecaster"),
        ("{", "spec.json is not valid: spec: Invalid JSON: EOF while parsing an object at line 1 column 1"),
        ('{"schema_version": 2}', "spec.json is not valid: schema_version: Input should be 1"),
    ],
)
def test_a_broken_directory_says_what_is_wrong(tmp_path: Path, text: str | None, message: str) -> None:
    """A missing, unreadable or foreign specification is an error in one sentence."""
    if text is not None:
        (tmp_path / "spec.json").write_text(text)
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert str(caught.value) == message


def test_a_broken_network_is_refused(tmp_path: Path) -> None:
    """Bytes that are no ONNX do not become a forecaster, and a naive one has none."""
    save(tmp_path, _naive(), b"junk")
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert str(caught.value) == "a naive forecaster has no network, but network.onnx is there"


def test_golden_holds_only_the_known_and_is_checked(market_bars: dict[str, Bars]) -> None:
    """A golden prediction is repeated exactly, and another output is refused with its distance."""
    forecaster = Forecaster(_naive(), None)
    origin = to_epoch(datetime(2024, 6, 1, tzinfo=UTC))
    golden = make_golden(forecaster, market_bars, origin)
    assert max(Bars.from_json(part).close_time.max() for part in golden.bars.values()) <= origin
    check_golden(forecaster, golden)
    off = json.loads(golden.model_dump_json())
    off["quantiles"][0][0] *= 1.01
    with pytest.raises(DataError) as caught:
        check_golden(forecaster, type(golden).model_validate(off))
    assert str(caught.value) == "golden prediction differs by 9.90e-03 of the price, more than 1e-04"
