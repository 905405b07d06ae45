"""The tabs below the chart: forecasts, skill, production, freshness."""

from typing import Any

import pandas as pd
import streamlit as st

from hourcast_viz import charts, frames, live

__all__ = ["forecasts_tab", "freshness_tab", "production_tab", "skill_tab"]


def forecasts_tab(overlays: dict[str, pd.DataFrame], present: dict[str, Any] | None) -> None:
    """The rows behind the chart, and all of them as a file."""
    parts = [frame.reset_index().assign(shown_as=alias) for alias, frame in overlays.items()]
    if present is not None:
        parts.append(frames.forecasts(present).reset_index().assign(shown_as="present forecast"))
    if not parts:
        st.caption("Choose aliases above to see their forecasts here.")
        return
    table = pd.concat(parts, ignore_index=True).sort_values(
        ["shown_as", "target_time"], ascending=[True, False]
    )
    names = [
        "shown_as",
        "target_time",
        "horizon",
        "point",
        "p05",
        "p95",
        "actual",
        "alias",
        "version",
        "source",
        "issued_at",
    ]
    if table["actual"].isna().all():
        names.remove("actual")
    prices = {
        name: st.column_config.NumberColumn(format="%.2f") for name in ("point", "p05", "p95", "actual")
    }
    st.dataframe(
        table[names], hide_index=True, width="stretch", height=320,
        column_config={
            "shown_as": "forecast of", "horizon": "hours ahead",
            "issued_at": st.column_config.DatetimeColumn("issued (UTC)", format="YYYY-MM-DD HH:mm"),
            "target_time": st.column_config.DatetimeColumn("for (UTC)", format="YYYY-MM-DD HH:mm"), **prices,
        },
    )  # fmt: skip
    st.download_button(
        "Download CSV", table.to_csv(index=False), "hourcast-forecasts.csv", "text/csv", key="csv"
    )


def _windows(body: dict[str, Any]) -> None:
    table = live.live_table(body.get("live", []))
    if table.empty:
        st.caption("No close has come yet for a live forecast.")
        return
    st.caption(
        "Live: recorded before the hour came, whichever version made it. Neighbouring forecasts share hours, so that they "
        "tell as much as fewer independent ones; low and high are bounds of 95 %."
    )
    share = st.column_config.NumberColumn
    columns: dict[str, Any] = {"horizon": "ahead", "n": share("closes", format="localized")}
    columns["independent"] = share("worth", format="%.0f")
    for name, label in {
        "coverage_90": "in 90 %", "coverage_90_low": "low", "coverage_90_high": "high", "coverage_50": "in 50 %",
        "skill": "better", "skill_low": "low ", "skill_high": "high ",
    }.items():  # fmt: skip
        columns[name] = share(label, format="percent")
    columns |= {"pinball": share(format="%.1f"), "pinball_naive": share("pinball, naive", format="%.1f")}
    st.dataframe(table, hide_index=True, width="stretch", column_config=columns)


def skill_tab(body: dict[str, Any]) -> None:
    """How good live forecasts were, and each version where it was measured."""
    _windows(body)
    frame = frames.skill(body)
    if frame.empty:
        st.caption("No forecast has been measured yet.")
        return
    st.caption(
        "Against “the price stays” with the spread of the last 30 days. gate: the held-out window that decided; "
        "live: recorded before the hour came; recorded: made later from what was known then; backtest: walk-forward."
    )
    st.plotly_chart(charts.skill_chart(frame), key="skill", width="stretch", config={"displayModeBar": False})
    prices = {"rmse": "RMSE", "mae": "MAE", "pinball": "pinball"}
    shares = {"coverage_90": "in 90 %", "skill": "better"}
    columns: dict[str, Any] = {"n": "hours"}
    for names_of, form in ((prices, "%.1f"), (shares, "percent")):
        for name, label in names_of.items():
            columns[name] = st.column_config.NumberColumn(label, format=form)
            columns[f"{name}_naive"] = st.column_config.NumberColumn(f"{label}, naive", format=form)
    names = [
        "alias", "version", "kind", "source", "n", "skill", "rmse", "rmse_naive", "mae", "mae_naive",
        "pinball", "pinball_naive", "coverage_90", "coverage_90_naive",
    ]  # fmt: skip
    st.dataframe(
        frame[names], hide_index=True, width="stretch",
        column_config=columns,
    )  # fmt: skip


def production_tab(body: dict[str, Any], now: str) -> None:
    """What was in production when, and why it changed."""
    production = frames.production(body, now)
    if len(production):
        st.plotly_chart(
            charts.timeline_chart(production),
            key="timeline",
            width="stretch",
            config={"displayModeBar": False},
        )
    else:
        st.caption("Nothing has been in production yet.")
    st.dataframe(
        frames.events(body), hide_index=True, width="stretch", height=300,
        column_config={
            "at": st.column_config.DatetimeColumn("when (UTC)", format="YYYY-MM-DD HH:mm"),
            "reason": st.column_config.TextColumn("why", width="large"),
            "kind": "what",
            "actor": "who",
        },
    )  # fmt: skip


def freshness_tab(body: dict[str, Any]) -> None:
    """How old each series is, and which bars it lacks."""
    frame = frames.freshness(body)
    st.dataframe(
        frame[["symbol", "state", "age_h", "last_close", "first_open", "missing", "source"]],
        hide_index=True, width="stretch",
        column_config={
            "age_h": st.column_config.NumberColumn("age, h", format="%.1f"),
            "last_close": st.column_config.DatetimeColumn("newest close (UTC)", format="YYYY-MM-DD HH:mm"),
            "first_open": st.column_config.DatetimeColumn("since (UTC)", format="YYYY-MM-DD"),
            "missing": "missing, 30 d",
        },
    )  # fmt: skip
    for series in body["series"]:
        for gap in series["gaps"]:
            st.caption(f"{series['symbol']}: {gap['missing']} h missing from {gap['from']} to {gap['to']}")
