"""Figures. Pure: tables in, Plotly out. Colours tell apart without red against green (Okabe and Ito 2008)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

__all__ = ["PALETTE", "candle_chart", "skill_chart", "timeline_chart"]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_UP, _DOWN = "#26a69a", "#e0704f"
_NOW = "#7c5cff"
# One hue that darkens towards the middle, drawn beside each other and not over, so that the legend shows what is drawn.
_FAN = (
    ("50 %", 0.62, (("p25", "p75"),)),
    ("80 %", 0.38, (("p75", "p90"), ("p10", "p25"))),
    ("90 %", 0.18, (("p90", "p95"), ("p05", "p10"))),
)
_QUIET = "rgba(128,140,160,.95)"
_GRID = "rgba(128,140,160,.16)"


def _rgba(colour: str, alpha: float) -> str:
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{alpha})"


def _calm(figure: go.Figure, height: int, revision: str) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 4, "r": 4, "t": 8, "b": 4},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="x unified",
        dragmode="pan",
        # The same revision keeps zoom and hidden traces while data move on.
        uirevision=revision,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"size": 12}},
        font={"size": 12},
    )
    figure.update_xaxes(gridcolor=_GRID, zeroline=False, showspikes=True, spikethickness=1, spikedash="dot")
    figure.update_yaxes(gridcolor=_GRID, zeroline=False, side="right", tickformat=",.0f")
    return figure


def _band(
    figure: go.Figure, frame: pd.DataFrame, low: str, high: str, colour: str, alpha: float, group: str
) -> None:
    for name, fill in ((high, None), (low, "tonexty")):
        figure.add_trace(
            go.Scatter(
                x=frame.index, y=frame[name], mode="lines", line={"width": 0}, fill=fill,
                fillcolor=_rgba(colour, alpha), hoverinfo="skip", showlegend=False, legendgroup=group,
            ),
            row=1, col=1,
        )  # fmt: skip


def _fan(figure: go.Figure, present: pd.DataFrame, horizon: int) -> None:
    """The present forecast: bands of 50, 80 and 90 % from the last close on, and the median as a thin line."""
    start = present.iloc[0]
    names = ["point", "p05", "p10", "p25", "p75", "p90", "p95"]
    head = pd.DataFrame({name: [start["last_close"]] for name in names}, index=[start["origin"]])
    fan = pd.concat([head, present[names]])
    back = fan.index[::-1]
    for share, alpha, rings in _FAN:
        for i, (low, high) in enumerate(rings):
            figure.add_trace(
                go.Scatter(
                    x=[*fan.index, *back], y=[*fan[high], *fan[low][::-1]], mode="lines", line={"width": 0},
                    fill="toself", fillcolor=_rgba(_NOW, alpha), hoverinfo="skip", legendgroup=share,
                    name=f"{share} expected inside", showlegend=i == 0, legendrank=2000,
                ),
                row=1, col=1,
            )  # fmt: skip
    hover = "<br>".join(
        f"{share} %: %{{customdata[{i}]:,.0f}} – %{{customdata[{i + 1}]:,.0f}}"
        for share, i in ((50, 0), (80, 2), (90, 4))
    )
    stays = bool((fan["point"] == start["last_close"]).all())
    figure.add_trace(
        go.Scatter(
            x=fan.index, y=fan["point"], mode="lines", name="median (stays)" if stays else "median", legendrank=2001,
            line={"color": _QUIET, "width": 1, "dash": "dot"},
            customdata=fan[["p25", "p75", "p10", "p90", "p05", "p95"]].to_numpy(),
            hovertemplate=f"%{{y:,.0f}}<br>{hover}",
        ),
        row=1, col=1,
    )  # fmt: skip
    chosen = present[present["horizon"] == horizon]
    if len(chosen):
        row, at, cap = chosen.iloc[0], chosen.index[0], pd.Timedelta(minutes=25)
        low, high = row["p05"], row["p95"]
        figure.add_trace(
            go.Scatter(
                x=[at - cap, at + cap, None, at, at, None, at - cap, at + cap],
                y=[low, low, None, low, high, None, high, high],
                mode="lines", line={"color": _NOW, "width": 1.5}, name=f"{horizon} h", showlegend=False, hoverinfo="skip",
            ),
            row=1, col=1,
        )  # fmt: skip


def _overlay(figure: go.Figure, alias: str, frame: pd.DataFrame, colour: str) -> None:
    """Forecasts of an alias with their band: a solid line of what was issued, a dotted one of what is reconstructed."""
    _band(figure, frame, "p05", "p95", colour, 0.16, alias)
    made_later = frame["source"] == "reconstructed"
    for name, which, dash in (
        (alias, ~made_later, "solid"),
        (f"{alias}, reconstructed", made_later, "dot"),
    ):
        if not which.any():
            continue
        # Rows of the other kind are gaps, so that no line is drawn across them.
        part = frame[["point", "p05", "p95"]].where(which)
        figure.add_trace(
            go.Scatter(
                x=part.index, y=part["point"], mode="lines", name=name, legendgroup=alias,
                line={"color": colour, "width": 1.4, "dash": dash}, connectgaps=False,
                customdata=part[["p05", "p95"]].to_numpy(),
                hovertemplate="%{y:,.0f} (%{customdata[0]:,.0f} – %{customdata[1]:,.0f})",
            ),
            row=1, col=1,
        )  # fmt: skip


def candle_chart(
    bars: pd.DataFrame,
    overlays: Mapping[str, pd.DataFrame],
    present: pd.DataFrame | None,
    gaps: Sequence[Mapping[str, Any]],
    revision: str,
    horizon: int = 1,
) -> go.Figure:
    """Candles with volume, forecasts of aliases over them with their 90 % bands, and the present fan.

    What was issued is a solid line; what is reconstructed is dotted and has a name of its own in the legend.

    The fan's interval `horizon` hours ahead is marked with its ends.
    """
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.84, 0.16], vertical_spacing=0.02)
    for i, (alias, frame) in enumerate(overlays.items()):
        _overlay(figure, alias, frame, PALETTE[i % len(PALETTE)])
    figure.add_trace(
        go.Candlestick(
            # A candle stands at its close: the hour that a forecast is for.
            x=bars["close_time"], open=bars["open"], high=bars["high"], low=bars["low"], close=bars["close"],
            increasing={"line": {"color": _UP, "width": 1}, "fillcolor": _UP},
            decreasing={"line": {"color": _DOWN, "width": 1}, "fillcolor": _DOWN},
            name="price", showlegend=False,
        ),
        row=1, col=1,
    )  # fmt: skip
    if present is not None and len(present):
        _fan(figure, present, horizon)
    rising = bars["close"] >= bars["open"]
    figure.add_trace(
        go.Bar(
            x=bars["close_time"], y=bars["volume"], name="volume", showlegend=False,
            marker={"color": [_rgba(_UP, 0.55) if up else _rgba(_DOWN, 0.55) for up in rising], "line": {"width": 0}},
            hovertemplate="%{y:,.0f}",
        ),
        row=2, col=1,
    )  # fmt: skip
    for gap in gaps:
        figure.add_vrect(
            x0=gap["from"], x1=gap["to"], fillcolor="rgba(230,159,0,.22)", line_width=0, row=1, col=1,
            annotation_text=f"{gap['missing']} h missing", annotation_font_size=10,
        )  # fmt: skip
    figure.update_xaxes(rangeslider_visible=False)
    _calm(figure, 540, revision)
    figure.update_yaxes(row=2, col=1, showgrid=False, showticklabels=False)
    return figure


def skill_chart(frame: pd.DataFrame) -> go.Figure:
    """Pinball skill of each alias against naive, by the day that it was trained through."""
    figure = go.Figure()
    shown = frame.dropna(subset=["day", "skill"])
    for i, (source, part) in enumerate(shown.groupby("source")):
        figure.add_trace(
            go.Scatter(
                x=part["day"], y=100 * part["skill"], mode="markers", name=str(source),
                marker={"size": 9, "color": PALETTE[i % len(PALETTE)], "opacity": 0.85},
                text=part["alias"], hovertemplate="%{text}: %{y:+.1f} %<extra></extra>",
            )
        )  # fmt: skip
    figure.add_hline(y=0, line={"color": "rgba(128,140,160,.7)", "width": 1, "dash": "dash"})
    _calm(figure, 260, "skill")
    figure.update_layout(hovermode="closest", showlegend=True)
    figure.update_yaxes(title="better than naive, %", side="left", tickformat="+.0f")
    if len(shown):
        # A single day would be stretched to fractions of a second.
        margin = pd.Timedelta(days=4)
        figure.update_xaxes(
            range=[shown["day"].min() - margin, shown["day"].max() + margin], tickformat="%d %b %Y"
        )
    return figure


def timeline_chart(frame: pd.DataFrame) -> go.Figure:
    """Which version was in production when."""
    figure = go.Figure()
    kinds = {kind: PALETTE[i % len(PALETTE)] for i, kind in enumerate(sorted(frame["kind"].unique()))}
    seen: set[str] = set()
    for row in frame.to_dict("records"):
        kind = str(row["kind"])
        begin = pd.Timestamp(row["from"])
        # What began just now is seen as well.
        end = max(pd.Timestamp(row["to"]), begin + pd.Timedelta(hours=2))
        figure.add_trace(
            go.Bar(
                y=["production"], x=[(end - begin).total_seconds() * 1000], base=[begin], orientation="h", width=0.6,
                marker={"color": _rgba(kinds[kind], 0.8), "line": {"color": "rgba(255,255,255,.8)", "width": 1.5}},
                name=kind, legendgroup=kind, showlegend=kind not in seen, text=f"v{row['version']}",
                textposition="inside", insidetextanchor="middle",
                hovertemplate=f"v{row['version']} · {row['alias']}<br>{begin:%d %b %H:%M} – {end:%d %b %H:%M}<br>{row['reason']}<extra></extra>",
            )
        )  # fmt: skip
        seen.add(kind)
    _calm(figure, 130, "timeline")
    figure.update_layout(barmode="overlay", hovermode="closest")
    figure.update_xaxes(type="date")
    figure.update_yaxes(visible=False)
    return figure
