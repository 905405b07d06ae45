"""The page."""

import contextlib
import html
import re
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import streamlit as st

from hourcast_viz import charts, frames, live, style, tabs
from hourcast_viz.api import Api, ApiError
from hourcast_viz.settings import VizSettings

_RANGES = {"1D": (1, "1h"), "1W": (7, "1h"), "1M": (31, "1h"), "3M": (92, "4h"), "1Y": (366, "1D")}
_PRODUCTION = "in production"
_MAX_DRAWN_DAYS = 92


@st.cache_resource
def _settings() -> VizSettings:
    return VizSettings()


def _api() -> Api:
    settings = _settings()
    return Api(settings.api_url.rstrip("/"), settings.viz_timeout_s)


@st.cache_data(ttl=600, max_entries=64, show_spinner=False)
def _candles(days: int, newest: str) -> pd.DataFrame:
    """Bars of the newest days; `newest` names them in the cache."""
    del newest
    return frames.candles(_api().get("/btc-info", limit=min(10_000, days * 24)))


@st.cache_data(ttl=600, max_entries=128, show_spinner=False)
def _overlay(
    alias: str, version: int, start: datetime, end: datetime, horizon: int, newest: str
) -> pd.DataFrame:
    """Forecasts of an alias; `version` and `newest` name them in the cache."""
    del version, newest
    if alias == _PRODUCTION:
        return frames.forecasts(_api().get("/predict-production", start=start, end=end, horizon=horizon))
    return frames.forecasts(_api().get("/predict", alias=alias, start=start, end=end, horizon=horizon))


# Not for long: what could not be recorded is issued later.
@st.cache_data(ttl=60, max_entries=16, show_spinner=False)
def _present(newest: str, version: int) -> dict[str, Any]:
    """The present forecast; it changes with the newest hour and with the served version, which name it in the cache."""
    del newest, version
    return _api().get("/predict")


def _money(value: float) -> str:
    digits = 0 if abs(value) >= 1000 else 2 if abs(value) >= 1 else 6
    return f"{value:,.{digits}f}"


def _card(card: live.Card) -> str:
    track = ""
    if card.low is not None and card.at is not None and card.high is not None:
        # The track shows 50 … 100 %: what is lower is told by the number.
        low, at, high, expected = (
            100 * max(0.0, 2 * x - 1) for x in (card.low, card.at, card.high, live.EXPECTED)
        )
        track = (
            f'<div class="hc-track" title="50 % to 100 %; the bar is what chance allows, the dashed line what is expected">'
            f'<i class="hc-bounds" style="left:{low:.1f}%;width:{high - low:.1f}%"></i>'
            f'<i class="hc-mark" style="left:{expected:.1f}%"></i><i class="hc-dot" style="left:{at:.1f}%"></i></div>'
        )
    return f'<div class="hc-card"><span>{card.title}</span><b>{card.value}</b>{track}<p>{card.note}</p></div>'


def _live(skill: dict[str, Any], calibration: dict[str, Any] | None, horizon: int) -> None:
    """How the forecasts of the last weeks held, and how to read more."""
    cards = live.live_cards(skill.get("live", []), horizon)
    told = live.calibration_card(calibration)
    link = (
        '<div class="hc-card"><span>How good is it?</span><p><a href="?page=report" target="_self">Back-test report</a>: '
        "every figure, out of sample.</p></div>"
    )
    st.markdown(
        f'<div class="hc-sub">How live forecasts {horizon} h ahead held, whichever version made them</div>'
        f'<div class="hc-cards" data-testid="live">{"".join(map(_card, [*cards, *([told] if told else [])]))}{link}</div>',
        unsafe_allow_html=True,
    )


def _headline(health: dict[str, Any], present: dict[str, Any], horizon: int) -> None:
    row = next(f for f in present["forecasts"] if f["horizon"] == horizon)
    last, point = row["last_close"], row["point"]
    low, high = row["quantiles"][0], row["quantiles"][-1]
    change = point / last - 1
    way = "hc-flat" if abs(change) < 5e-5 else "hc-up" if change > 0 else "hc-down"
    sign = "stays" if way == "hc-flat" else f"{change:+.2%}"
    until = pd.Timestamp(row["target_time"])
    st.markdown(
        f'<div class="hc-line" data-testid="headline">{health["symbol"]} {_money(last)} → {_money(point)} '
        f'<small class="{way}">{sign}</small> <small>in {horizon} h</small></div>'
        f'<div class="hc-sub">90 % between <b>{_money(low)}</b> and <b>{_money(high)}</b> at {until:%H:%M} UTC on '
        f"{until:%d %b %Y} · {live.issued(present, health)}</div>",
        unsafe_allow_html=True,
    )


def _warn(text: str) -> None:
    told = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
    st.markdown(f'<div class="hc-warn" role="status">{told}</div>', unsafe_allow_html=True)


def _clear() -> None:
    st.session_state["aliases"] = []
    st.session_state["production"] = False


def _controls(aliases: list[dict[str, Any]]) -> tuple[str, int, list[str]]:
    left, middle, right = st.columns([3, 3, 7], vertical_alignment="bottom")
    chosen_range = left.segmented_control("Range", list(_RANGES), default="1W", key="range") or "1W"
    horizon = middle.segmented_control(
        "Hours ahead", [1, 6, 12, 24], default=1, key="horizon", format_func=lambda h: f"{h} h"
    )
    names = [a["alias"] for a in aliases if a["available"] and a["alias_kind"] != "champion"]
    # A choice survives while its alias does, also when newer ones come.
    kept = [a for a in st.session_state.get("aliases", []) if a in names]
    if kept != st.session_state.get("aliases", []):
        st.session_state["aliases"] = kept
    with right:
        picker, produced, clear = st.columns([6, 4, 2], vertical_alignment="bottom")
        chosen = picker.multiselect("Forecasts of", names, key="aliases", placeholder="choose aliases")
        on = produced.toggle(
            "In production",
            key="production",
            help="what users got; dotted where it had to be reconstructed",
        )
        clear.button("Clear", on_click=_clear, width="stretch")
    return chosen_range, horizon or 1, [*chosen, *([_PRODUCTION] if on else [])]


def _chart(
    health: dict[str, Any],
    present: dict[str, Any] | None,
    fresh: dict[str, Any],
    aliases: list[dict[str, Any]],
    chosen_range: str,
    horizon: int,
    wanted: list[str],
) -> dict[str, pd.DataFrame]:
    newest = health["newest_bar_close"]
    days, rule = _RANGES[chosen_range]
    bars = _candles(days, newest)
    if bars.empty:
        _warn("There are no bars yet; the first load is under way.")
        return {}
    end = pd.Timestamp(newest).to_pydatetime() + timedelta(hours=1)
    start = max(bars.index[0].to_pydatetime(), end - timedelta(days=min(days, _MAX_DRAWN_DAYS)))
    versions = {a["alias"]: a["version"] for a in aliases}
    overlays: dict[str, pd.DataFrame] = {}
    for alias in wanted:
        try:
            overlays[alias] = _overlay(alias, versions.get(alias, 0), start, end, horizon, newest)
        except ApiError as error:
            _warn(f"{alias}: {error}")
    target: dict[str, Any] = next(
        (s for s in fresh["series"] if s["symbol"] == health["symbol"]), {"gaps": []}
    )
    gaps = [g for g in target["gaps"] if pd.Timestamp(g["to"]) > bars.index[0]]
    fan = frames.forecasts(present) if present is not None and days <= 31 else None
    figure = charts.candle_chart(
        frames.aggregate(bars, rule), overlays, fan, gaps, f"{chosen_range}", horizon
    )
    if rule != "1h":
        st.caption(f"Candles of {rule}: the range is long for hourly ones.")
    st.plotly_chart(
        figure, key="candles", width="stretch",
        config={"displayModeBar": False, "scrollZoom": True, "responsive": True},
    )  # fmt: skip
    return overlays


def _read() -> dict[str, Any]:
    """Everything that the page shows, from one look; raises ApiError."""
    api = _api()
    health = api.get("/health")
    out = {
        "health": health,
        "aliases": api.get("/aliases")["aliases"],
        "freshness": api.get("/freshness"),
        "skill": api.get("/skill"),
        "history": api.get("/history", limit=300),
        "present": None,
        "calibration": None,
    }
    # Serving of an older release knows no calibration, and the page is worth having without it.
    with contextlib.suppress(ApiError):
        out["calibration"] = api.get("/calibration")
    if not health["stale"]:
        # The hour is closed a little after its bar has come.
        newest = (health.get("hour") or {}).get("closed_at", health["newest_bar_close"])
        out["present"] = _present(newest, health["version"])
    return out


@st.fragment(run_every=_settings().viz_refresh_s)
def _page() -> None:
    problem = None
    try:
        st.session_state["seen"] = _read()
    except ApiError as error:
        problem = str(error)
    seen = st.session_state.get("seen")
    if problem is not None:
        also = " What was seen last is shown meanwhile." if seen else ""
        _warn(f"{problem}{also} The page tries again every {_settings().viz_refresh_s:g} s.")
    if seen is None:
        return
    health, present = seen["health"], seen["present"]
    if health["synthetic"]:
        st.markdown(
            '<span class="hc-badge">SYNTHETIC SAMPLE BARS – no market data</span>', unsafe_allow_html=True
        )
    if present is not None:
        _headline(health, present, st.session_state.get("horizon") or 1)
        if present.get("note") and problem is None:
            _warn(f"{present['note'][:1].upper()}{present['note'][1:]}.")
    if health["reason"] and problem is None:
        _warn(f"No present forecast: {health['reason']}.")
    # Serving of an older release knows none of these two.
    if (sentence := live.given_up(health.get("hour"))) is not None and problem is None:
        _warn(sentence)
    for failing in health.get("failing", []) if problem is None else []:
        since = pd.Timestamp(failing["since"])
        _warn(
            f"The {failing['part']} cannot work since {since:%Y-%m-%d %H:%M} UTC; what is served goes on. {failing['reason']}"
        )
    # An older release's knows none of this either.
    blocked = seen["history"].get("blocked")
    if blocked is not None and problem is None:
        _warn(f"{blocked['reason'][:1].upper()}{blocked['reason'][1:]}. What is served goes on.")
    chosen_range, horizon, wanted = _controls(seen["aliases"])
    try:
        overlays = _chart(health, present, seen["freshness"], seen["aliases"], chosen_range, horizon, wanted)
    except ApiError as error:
        overlays = {}
        if problem is None:
            _warn(str(error))
    _live(seen["skill"], seen["calibration"], horizon)
    table, skill, history, fresh = st.tabs(["Forecasts", "Skill", "Production", "Freshness"])
    with table:
        tabs.forecasts_tab(overlays, present)
    with skill:
        tabs.skill_tab(seen["skill"])
    with history:
        tabs.production_tab(seen["history"], health["now"] or pd.Timestamp.now("UTC").isoformat())
    with fresh:
        tabs.freshness_tab(seen["freshness"])


def _report() -> None:
    """The back-test report of the API, which the browser may have no way to."""
    st.markdown(style.REPORT + '<a href="?" target="_self">← Dashboard</a>', unsafe_allow_html=True)
    try:
        st.iframe(_api().page("/report"), height=800)
    except ApiError as error:
        _warn(str(error))


st.set_page_config(page_title="Hourcast", layout="wide", initial_sidebar_state="collapsed")
st.markdown(style.PAGE, unsafe_allow_html=True)
st.markdown('<div class="hc-brand">Hourcast</div>', unsafe_allow_html=True)
if st.query_params.get("page") == "report":
    _report()
else:
    _page()
