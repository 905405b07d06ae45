"""Answers of the API as tables. Pure."""

from typing import Any

import pandas as pd

__all__ = ["aggregate", "candles", "events", "forecasts", "freshness", "production", "skill"]

_PRICES = ["open", "high", "low", "close", "volume"]


def candles(body: dict[str, Any]) -> pd.DataFrame:
    """Bars by open time (UTC): open, high, low, close, volume."""
    frame = pd.DataFrame(body["bars"], columns=["open_time", "close_time", *_PRICES])
    frame["open_time"] = pd.to_datetime(frame["open_time"], utc=True)
    frame["close_time"] = pd.to_datetime(frame["close_time"], utc=True)
    return frame.set_index("open_time")


def aggregate(bars: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Bars joined into longer ones (`4h`, `1D`); hours without bars stay out."""
    if rule == "1h":
        return bars
    how = {
        "open": "first",
        "high": "max",
        "low": "min",
        "close": "last",
        "volume": "sum",
        "close_time": "last",
    }
    joined: pd.DataFrame = bars.resample(rule).agg(how).dropna(subset=["close"])
    return joined


def forecasts(body: dict[str, Any]) -> pd.DataFrame:
    """Forecasts by target time: origin, horizon, point, p05 … p95, actual, last_close, alias, version, source, issued_at.

    `source` is empty where serving of an earlier release answers, which does not tell it.
    """
    levels = body["levels"]
    at = {
        name: levels.index(level)
        for name, level in (
            ("p05", 0.05), ("p10", 0.1), ("p25", 0.25), ("p75", 0.75), ("p90", 0.9), ("p95", 0.95),
        )
    }  # fmt: skip
    rows = [
        {
            "target_time": f["target_time"],
            "origin": f["origin"],
            "horizon": f["horizon"],
            "last_close": f["last_close"],
            "point": f["point"],
            **{name: f["quantiles"][i] for name, i in at.items()},
            "actual": f["actual"],
            "alias": f.get("alias", body["alias"]),
            "version": f.get("version", body["version"]),
            "source": f.get("source", ""),
            "issued_at": f.get("issued_at", body.get("issued_at")),
        }
        for f in body["forecasts"]
    ]
    names = ["target_time", "origin", "horizon", "last_close", "point", *at, "actual", "alias", "version"]
    frame = pd.DataFrame(rows, columns=[*names, "source", "issued_at"])
    frame["target_time"] = pd.to_datetime(frame["target_time"], utc=True)
    frame["origin"] = pd.to_datetime(frame["origin"], utc=True)
    frame["issued_at"] = pd.to_datetime(frame["issued_at"], utc=True)
    frame["actual"] = frame["actual"].astype("float64")
    return frame.set_index("target_time")


def skill(body: dict[str, Any]) -> pd.DataFrame:
    """One row an alias and source, the newest first."""
    frame = pd.DataFrame(body["rows"])
    if frame.empty:
        return frame
    frame["skill"] = frame["skill_pinball"].astype("float64")
    frame["day"] = pd.to_datetime(
        frame["alias"].astype(str).str[-8:], format="%Y%m%d", errors="coerce", utc=True
    )
    return frame.sort_values(["day", "version"], ascending=False).reset_index(drop=True)


def production(body: dict[str, Any], now: str) -> pd.DataFrame:
    """What was in production, from when to when, and why."""
    frame = pd.DataFrame(body["in_production"], columns=["version", "alias", "kind", "from", "to", "reason"])
    frame["from"] = pd.to_datetime(frame["from"], utc=True)
    frame["to"] = pd.to_datetime(frame["to"].fillna(now), utc=True)
    return frame


def events(body: dict[str, Any]) -> pd.DataFrame:
    """What was done, the newest first."""
    frame = pd.DataFrame(body["events"], columns=["at", "kind", "version", "alias", "reason", "actor"])
    frame["at"] = pd.to_datetime(frame["at"], utc=True)
    frame["kind"] = frame["kind"].str.replace("_", " ")
    return frame


def freshness(body: dict[str, Any]) -> pd.DataFrame:
    """One row a series."""
    frame = pd.DataFrame(body["series"])
    frame["age_h"] = frame["age_s"].astype("float64") / 3600
    frame["state"] = ["stale" if stale else "fresh" for stale in frame["stale"]]
    frame["missing"] = [sum(g["missing"] for g in gaps) for gaps in frame["gaps"]]
    for name in ("first_open", "last_close"):
        frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame
