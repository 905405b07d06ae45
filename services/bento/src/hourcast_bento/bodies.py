"""The bodies and headers of answers."""

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np

from hourcast.contracts import Bars
from hourcast_bento.calibrating import Calibration
from hourcast_bento.forecasting import Made
from hourcast_bento.serving import Serving

__all__ = ["calibration_body", "candle_rows", "forecast_body", "forecast_headers", "to_json"]


def to_json(value: Any) -> Any:
    """Times as ISO with Z, numbers as JSON has them."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, dict):
        return {key: to_json(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def to_text(epoch_s: Any) -> list[str]:
    """ISO texts with Z of epoch seconds (n,)."""
    return [f"{t}Z" for t in np.datetime_as_string(np.asarray(epoch_s).astype("datetime64[s]"), unit="s")]


def _rows(made: Made) -> list[dict[str, Any]]:
    """A row for each origin and horizon that was asked for."""
    forecasts = made.forecasts
    scale = float(np.median(forecasts.last_close)) if len(forecasts.last_close) else 1.0
    # Ten significant digits: cents of a bitcoin and fractions of a cheap coin alike.
    digits = max(2, 9 - math.floor(math.log10(max(scale, 1e-12))))
    quantiles = np.round(forecasts.quantiles, digits).tolist()
    point = np.round(forecasts.point, digits).tolist()
    target, origin = forecasts.target_time, to_text(forecasts.origin)
    target_text = [to_text(row) for row in target] if len(origin) else []
    asked = made.asked
    rows = []
    for i, begun in enumerate(origin):
        for j, horizon in enumerate(forecasts.horizons):
            if asked is not None and not asked[i, j]:
                continue
            actual = float(made.actual[i, j])
            row = {
                "origin": begun,
                "target_time": target_text[i][j],
                "horizon": horizon,
                "last_close": float(forecasts.last_close[i]),
                "point": point[i][j],
                "quantiles": quantiles[i][j],
                "actual": actual if math.isfinite(actual) else None,
            }
            if made.aliases:
                at = made.issued_at[i]
                row |= {"alias": made.aliases[i], "version": made.versions[i], "issued_at": to_json(at)}
            row["source"] = made.source if not made.aliases else "issued" if at else "reconstructed"
            rows.append(row)
    return rows


def forecast_body(serving: Serving, made: Made) -> dict[str, Any]:
    """What `/predict` and its like answer."""
    forecasts = made.forecasts
    fan = made.fan
    # What was issued is told as it was then: every server gives the same bytes, at whatever moment of the hour.
    now, newest = (made.now, made.newest_close) if fan is None else (fan.issued_at, fan.origin)
    of = fan or made.info
    return {
        "model": serving.settings.model_name,
        "symbol": serving.settings.target.symbol,
        "alias": made.alias,
        "version": of.version if of else None,
        "run_id": of.run_id if of else None,
        "kind": of.kind if of else None,
        "data_fingerprint": of.data_fingerprint if of else None,
        "synthetic": serving.models.info.synthetic,
        "source": made.source,
        "issued_at": to_json(fan.issued_at) if fan and fan.source == "issued" else None,
        "fingerprint": fan.fingerprint if fan else None,
        "calibration": dict(sorted(fan.calibration.items())) if fan and fan.calibration else None,
        "note": made.note,
        "now": to_json(now),
        "newest_bar_close": to_json(newest),
        "bar_age_s": (now - newest).total_seconds() if newest else None,
        "levels": list(forecasts.levels),
        "forecasts": _rows(made),
    }


def forecast_headers(serving: Serving, made: Made, body: dict[str, Any]) -> dict[str, str]:
    """Who made the forecast and who answers; the age is that of the moment of the answer."""
    age = (made.now - made.newest_close).total_seconds() if made.newest_close else None
    named = {
        "X-Hourcast-Served-Version": serving.models.info.version,
        "X-Hourcast-Model-Version": body["version"],
        "X-Hourcast-Model-Alias": body["alias"],
        "X-Hourcast-Run-Id": body["run_id"],
        "X-Hourcast-Data-Fingerprint": body["data_fingerprint"],
        "X-Hourcast-Bar-Age-S": age,
        "X-Hourcast-Synthetic": str(body["synthetic"]).lower(),
    }
    if len(body["forecasts"]) > 0:
        named["X-Hourcast-Target-Time"] = body["forecasts"][0]["target_time"]
    return {name: str(value) for name, value in named.items() if value is not None}


def candle_rows(bars: Bars) -> list[dict[str, Any]]:
    """A row a bar, as `/btc-info` answers them."""
    opened, closed = to_text(bars.open_time), to_text(bars.close_time)
    columns = [getattr(bars, c).tolist() for c in ("open", "high", "low", "close", "volume")]
    return [
        {"open_time": o, "close_time": c, "open": a, "high": b, "low": d, "close": e, "volume": f}
        for o, c, a, b, d, e, f in zip(opened, closed, *columns, strict=True)
    ]


def calibration_body(serving: Serving, now: Calibration | None) -> dict[str, Any]:
    """What `/calibration` answers."""
    info = serving.models.info
    body: dict[str, Any] = {
        "model": info.model, "symbol": serving.settings.target.symbol, "version": info.version, "alias": serving.models.alias,
        "kind": info.kind, "synthetic": info.synthetic, "adaptive": now is not None, "outcomes": 0, "since": None,
        "as_of": None, "stretch_90": None, "trained_stretch_90": None, "horizons": [],
    }  # fmt: skip
    if now is None:
        return body
    ends = np.exp(now.state.table[:, [now.state.levels.index(level) for level in (0.05, 0.95)]])
    return body | {
        "outcomes": now.outcomes, "since": now.trained.as_of, "as_of": now.state.as_of,
        "stretch_90": now.stretch_90, "trained_stretch_90": now.trained_stretch_90,
        "horizons": [
            {"horizon": h, "stretch_05": a, "stretch_95": b}
            for h, (a, b) in zip(now.state.horizons, ends.tolist(), strict=True)
        ],
    }  # fmt: skip
