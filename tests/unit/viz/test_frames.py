"""Answers of the API become tables and figures."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from hourcast_viz import charts, frames
from hourcast_viz.api import sentence

_LEVELS = [round(0.05 * i, 2) for i in range(1, 20)]


def _candles(n: int = 48) -> dict[str, Any]:
    opens = pd.date_range("2025-01-01", periods=n, freq="1h", tz="UTC")
    return {
        "bars": [
            {
                "open_time": t.isoformat(), "close_time": (t + pd.Timedelta(hours=1)).isoformat(),
                "open": 100.0 + i, "high": 102.0 + i, "low": 99.0 + i, "close": 101.0 + i, "volume": 1.0,
            }
            for i, t in enumerate(opens)
        ]
    }  # fmt: skip


def _forecasts(n: int = 3) -> dict[str, Any]:
    times = pd.date_range("2025-01-03", periods=n, freq="1h", tz="UTC")
    return {
        "levels": _LEVELS, "alias": "20250101", "version": 4,
        "forecasts": [
            {
                "origin": "2025-01-02T23:00:00Z", "target_time": t.isoformat(), "horizon": i + 1, "last_close": 148.0,
                "point": 148.0, "quantiles": [148.0 + 10 * (level - 0.5) for level in _LEVELS], "actual": None,
            }
            for i, t in enumerate(times)
        ],
    }  # fmt: skip


def test_longer_candles_hold_the_shorter_ones() -> None:
    """First open, highest high, lowest low, last close, summed volume; empty spans stay out."""
    bars = frames.candles(_candles())
    bars = bars.drop(bars.index[4:8])
    joined = frames.aggregate(bars, "4h")
    assert len(joined) == 11
    first = joined.iloc[0]
    assert (first["open"], first["high"], first["low"], first["close"], first["volume"]) == (
        100,
        105,
        99,
        104,
        4,
    )


def test_quantiles_come_under_their_names() -> None:
    """p05 and p95 are the quantiles of those levels; each row knows its alias and version."""
    frame = frames.forecasts(_forecasts())
    assert frame["p05"].iloc[0] == pytest.approx(143.5)
    assert frame["p95"].iloc[0] == pytest.approx(152.5)
    assert frame["alias"].tolist() == ["20250101"] * 3
    assert np.isnan(frame["actual"]).all()


def test_empty_answers_give_empty_tables() -> None:
    """No bars, forecasts, events or skill yet: every table is there, without rows."""
    assert frames.candles({"bars": []}).empty
    assert frames.forecasts({**_forecasts(), "forecasts": []}).empty
    assert frames.skill({"rows": []}).empty
    assert frames.production({"in_production": []}, "2025-01-01T00:00:00Z").empty
    assert frames.events({"events": []}).empty


def test_the_chart_draws_what_was_asked_for_and_shades_gaps() -> None:
    """One line and one band an alias, the fan, candles, volume, a shade a gap; the revision keeps the zoom."""
    overlays = {"20250101": frames.forecasts(_forecasts()), "20250108": frames.forecasts(_forecasts())}
    gaps = [{"from": "2025-01-01T05:00Z", "to": "2025-01-01T07:00Z", "missing": 2}]
    figure = charts.candle_chart(
        frames.candles(_candles()), overlays, frames.forecasts(_forecasts()), gaps, "1W", 2
    )
    named = [trace.name for trace in figure.data if trace.name and trace.showlegend is not False]
    assert named == [
        "20250101", "20250108", "50 % expected inside", "80 % expected inside", "90 % expected inside", "median (stays)",
    ]  # fmt: skip
    assert [shape.type for shape in figure.layout.shapes] == ["rect"]
    assert figure.layout.annotations[0].text == "2 h missing"
    assert figure.layout.uirevision == "1W"


def test_what_is_reconstructed_is_dotted_and_named() -> None:
    """Issued rows are a solid line, others a dotted one with a name of its own, and neither crosses the other's hours."""
    body = _forecasts(4)
    for row, source in zip(
        body["forecasts"], ["reconstructed", "issued", "issued", "reconstructed"], strict=True
    ):
        row |= {"source": source, "issued_at": "2025-01-02T23:00:05Z" if source == "issued" else None}
    frame = frames.forecasts(body)
    assert frame["issued_at"].notna().tolist() == [False, True, True, False]
    figure = charts.candle_chart(frames.candles(_candles()), {"stitched": frame}, None, [], "1W", 1)
    solid, dotted = (t for t in figure.data if t.name and t.name.startswith("stitched"))
    assert (solid.name, solid.line.dash) == ("stitched", "solid")
    assert (dotted.name, dotted.line.dash) == ("stitched, reconstructed", "dot")
    assert np.isnan(np.asarray(solid.y, float)).tolist() == [True, False, False, True]
    assert np.isnan(np.asarray(dotted.y, float)).tolist() == [False, True, True, False]


def test_the_fan_shows_each_band_in_the_colour_of_its_legend() -> None:
    """Bands lie beside each other and never over: from the last close to their quantiles, the innermost the darkest."""
    present = frames.forecasts(_forecasts())
    figure = charts.candle_chart(frames.candles(_candles()), {}, present, [], "1W", 2)
    alphas = {}
    for share, names in (("50 %", ("p25", "p75")), ("80 %", ("p10", "p90")), ("90 %", ("p05", "p95"))):
        parts = [t for t in figure.data if t.legendgroup == share]
        assert sum(t.showlegend for t in parts) == 1
        assert len({t.fillcolor for t in parts}) == 1
        alphas[share] = float(parts[0].fillcolor.rstrip(")").split(",")[3])
        ends = [value for t in parts for value in t.y]
        assert (min(ends), max(ends)) == (present[names[0]].iloc[-1], present[names[1]].iloc[-1])
        assert all(t.y[0] == t.y[-1] == 148.0 for t in parts)
    inner, outer = (t for t in figure.data if t.legendgroup == "80 %")
    assert min(inner.y[1:-1]) >= present["p75"].min()
    assert max(outer.y[1:-1]) <= present["p25"].max()
    assert alphas["50 %"] > alphas["80 %"] > alphas["90 %"]


def test_the_chosen_hour_is_marked_in_the_fan() -> None:
    """A bracket from the 5 % to the 95 % quantile stands at the hour that was chosen; at none that is not forecast."""
    present = frames.forecasts(_forecasts())
    figure = charts.candle_chart(frames.candles(_candles()), {}, present, [], "1W", 2)
    (mark,) = [t for t in figure.data if t.name == "2 h"]
    assert mark.x[3] == present.index[1]
    assert (mark.y[3], mark.y[4]) == (present["p05"].iloc[1], present["p95"].iloc[1])
    without = charts.candle_chart(frames.candles(_candles()), {}, present, [], "1W", 12)
    assert not [t for t in without.data if t.name == "12 h"]


def test_production_reaches_to_the_present() -> None:
    """The version that serves now has no end yet: its bar ends now."""
    body = {
        "in_production": [
            {
                "version": 1, "alias": "20250101", "kind": "naive", "from": "2025-01-01T00:00:00Z",
                "to": None, "reason": "first",
            }
        ]
    }  # fmt: skip
    frame = frames.production(body, "2025-01-09T00:00:00Z")
    assert frame["to"].iloc[0] == pd.Timestamp("2025-01-09", tz="UTC")
    assert len(charts.timeline_chart(frame).data) == 1


@pytest.mark.parametrize(("text", "shown"), [("no bars", "No bars."), ("Gone.", "Gone."), ("", ".")])
def test_messages_are_sentences(text: str, shown: str) -> None:
    """A message of the API begins with a capital and ends with a stop."""
    assert sentence(text) == shown
