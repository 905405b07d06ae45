"""Live coverage, skill and calibration in words. Pure; numbers that say little are said to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

__all__ = ["EXPECTED", "Card", "calibration_card", "given_up", "issued", "live_cards", "live_table"]

EXPECTED = 0.9
_ENOUGH = 20


@dataclass(frozen=True, slots=True)
class Card:
    """One figure: what it is, its value, a sentence; `low`, `at`, `high` in 0 … 1 where it is a share with bounds."""

    title: str
    value: str
    note: str
    low: float | None = None
    at: float | None = None
    high: float | None = None


def _window(live: Sequence[Mapping[str, Any]], days: int, horizon: int) -> Mapping[str, Any] | None:
    found = (w for w in live if w["days"] == days and w["horizon"] == horizon and w["n"])
    return next(found, None)


def _percent(share: float, digits: int = 0, sign: bool = False) -> str:
    text = f"{100 * share:{'+' if sign else ''}.{digits}f}".replace("-", "−")
    return f"{text} %"


def live_cards(live: Sequence[Mapping[str, Any]], horizon: int) -> list[Card]:
    """Coverage and skill of the last 7 and 30 days at a horizon; one card that says so where nothing came yet."""
    made = []
    for days in (7, 30):
        window = _window(live, days, horizon)
        if window is not None:
            made += [_coverage(window), _skill(window)]
    ahead = "an hour" if horizon == 1 else f"{horizon} h"
    return made or [
        Card("Live forecasts", "–", f"No close has come yet for one that was made {ahead} before.")
    ]


def _coverage(window: Mapping[str, Any]) -> Card:
    """How many closes ended inside the 90 % interval that had been forecast for them."""
    title = f"Inside 90 %, last {window['days']} days"
    share, low, high = window["coverage_90"], window["coverage_90_low"], window["coverage_90_high"]
    forecasts = f"{window['n']:,} forecasts" if window["n"] != 1 else "1 forecast"
    if window["independent"] < _ENOUGH:
        weight = max(1, round(window["independent"]))
        much = "one" if weight == 1 else str(weight)
        note = (
            f"of {forecasts}, which overlap and tell as much as {much}: too little to judge. Expected: 90 %."
        )
        if window["horizon"] == 1:
            note = f"of {forecasts}: too little to judge. Expected: 90 %."
    elif low <= EXPECTED <= high:
        note = f"of {forecasts}. Expected: 90 %; the difference is within chance."
    else:
        side = "too narrow" if share < EXPECTED else "too wide"
        note = f"of {forecasts}. Expected: 90 %: the intervals were {side}."
    return Card(title, _percent(share), note, low, share, high)


def _skill(window: Mapping[str, Any]) -> Card:
    """How much lower the pinball loss was than that of "the price stays"."""
    title = f"Skill, last {window['days']} days"
    if window["skill"] is None:
        return Card(title, "–", "“The price stays” lacked the history to compare with.")
    skill, low, high = window["skill"], window["skill_low"], window["skill_high"]
    value = f"{_percent(abs(skill), 1)} {'better' if skill >= 0 else 'worse'}"
    if low is None:
        return Card(title, value, "than “the price stays”; too few days to tell it from chance.")
    between = f"than “the price stays”; 95 % sure of {_percent(low, 1, True)} to {_percent(high, 1, True)}"
    return Card(title, value, between + ("." if low > 0 or high < 0 else ", so it may be chance."))


def issued(present: dict[str, Any], health: dict[str, Any]) -> str:
    """Who made the forecast that is shown, and when it was issued."""
    alias, version = present.get("alias", health["alias"]), present.get("version", health["version"])
    kind = present.get("kind") or (health["kind"] if version == health["version"] else None)
    who = f"alias {alias} (v{version}{f', {kind}' if kind else ''})"
    if present.get("issued_at"):
        return f"{who}, issued {pd.Timestamp(present['issued_at']):%H:%M} UTC"
    # An older release tells no source.
    return f"{who}, not on record" if present.get("source") == "computed" else who


def given_up(hour: Mapping[str, Any] | None) -> str | None:
    """What the newest closed hour had to do without; None where it lacked nothing, or the API does not tell."""
    if hour is None or not hour["given_up"]:
        return None
    return (
        f"The hour {pd.Timestamp(hour['hour']):%Y-%m-%d %H:%M} UTC was closed without a bar of {' and '.join(hour['given_up'])}, "
        "which had not come by the deadline. The forecast uses what was known of it."
    )


def calibration_card(body: Mapping[str, Any] | None) -> Card | None:
    """How far closes have stretched the intervals since training; None where the API does not tell."""
    title = "Calibration"
    if body is None:
        return None
    if not body["adaptive"]:
        return Card(title, "off", f"The {body['kind']} floor is the reference and stays as it is.")
    since = f"{pd.Timestamp(body['since']):%d %b %H:%M} UTC"
    if not body["outcomes"]:
        return Card(title, "as trained", f"No close has come since {since} for a live forecast.")
    change = body["stretch_90"] / body["trained_stretch_90"] - 1
    learned = f"by {body['outcomes']:,} outcomes since {since}."
    if abs(change) < 0.005:
        return Card(title, "as trained", f"Nothing to correct, {learned}")
    value = f"{_percent(abs(change), 1)} {'wider' if change > 0 else 'narrower'}"
    return Card(title, value, f"than at training, {learned}")


def live_table(live: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a window and horizon that has closes; shares and skill as fractions."""
    names = [
        "days", "horizon", "n", "independent", "coverage_90", "coverage_90_low", "coverage_90_high", "coverage_50",
        "skill", "skill_low", "skill_high", "pinball", "pinball_naive",
    ]  # fmt: skip
    frame = pd.DataFrame([w for w in live if w["n"]], columns=names)
    frame["horizon"] = ["all" if pd.isna(h) else f"{int(h)} h" for h in frame["horizon"]]
    return frame.astype(dict.fromkeys(names[3:], "float64"))
