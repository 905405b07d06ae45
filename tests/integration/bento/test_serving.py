"""Serving answers from a package alone, says what it knows, and refuses well."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from hourcast.contracts import Bars, parse_hour
from hourcast.forecaster import LEVELS
from hourcast.store import ForecastRow
from tests.fans import fans_of
from tests.flood import flood
from tests.integration.conftest import NOW, Served, World
from tests.ports import find_port
from tests.servers import Process, answers, wait_for

pytestmark = pytest.mark.integration


def _close_at(bars: Bars, moment: str) -> float:
    at = int(np.searchsorted(bars.close_time, int(parse_hour(moment).timestamp())))
    return float(bars.close[at])


def test_the_present_forecast_says_what_it_is_for_and_where_it_is_from(
    served: Served, market_bars: dict[str, Bars]
) -> None:
    """24 hours of ordered quantiles around the last close, with alias, version, run, data and age in body and headers."""
    answer = served.get("/predict")
    assert answer.status_code == 200
    body = answer.json()
    rows = body["forecasts"]
    assert [r["horizon"] for r in rows] == list(range(1, 25))
    assert rows[0]["target_time"] == "2024-06-13T01:00:00Z"
    assert rows[23]["target_time"] == "2024-06-14T00:00:00Z"
    assert rows[0]["last_close"] == _close_at(market_bars["BTC/USDT"], "2024-06-13T00:00Z")
    for row in rows:
        assert row["quantiles"] == sorted(row["quantiles"])
        assert row["point"] == row["quantiles"][9]
        assert row["actual"] is None
    widths = [r["quantiles"][-1] - r["quantiles"][0] for r in rows]
    assert widths[23] > 2 * widths[0]
    assert (body["alias"], body["version"], body["kind"], body["bar_age_s"]) == ("20240529", 3, "ensemble", 0)
    assert body["synthetic"] is False
    headers = answer.headers
    assert headers["X-Hourcast-Model-Version"] == "3"
    assert headers["X-Hourcast-Model-Alias"] == "20240529"
    assert headers["X-Hourcast-Run-Id"] == body["run_id"]
    assert headers["X-Hourcast-Data-Fingerprint"] == body["data_fingerprint"]
    assert headers["X-Hourcast-Target-Time"] == "2024-06-13T01:00:00Z"
    assert headers["X-Hourcast-Bar-Age-S"] == "0.0"


def test_a_range_is_what_each_hour_alone_would_have_been(
    served: Served, market_bars: dict[str, Bars]
) -> None:
    """One run over two days gives the same numbers as calls for single hours, beside the closes that came."""
    whole = served.get("/predict", start="2024-06-10", end="2024-06-12", horizon=6).json()["forecasts"]
    assert len(whole) == 48
    for row in (whole[0], whole[17], whole[47]):
        end = parse_hour(row["target_time"]) + timedelta(hours=1)
        (alone,) = served.get("/predict", start=row["target_time"], end=end.isoformat(), horizon=6).json()[
            "forecasts"
        ]
        assert alone["quantiles"] == pytest.approx(row["quantiles"], rel=1e-6)
        assert parse_hour(row["target_time"]) - parse_hour(row["origin"]) == timedelta(hours=6)
        assert row["actual"] == _close_at(market_bars["BTC/USDT"], row["target_time"])


def test_a_fan_is_its_hours_together(served: Served) -> None:
    """A range and a list of horizons give the rows that each horizon alone gives, ascending; without one all 24 come."""
    fan = served.get("/predict", horizon="1..24").json()
    assert fan["forecasts"] == served.get("/predict").json()["forecasts"]
    some = served.get("/predict", horizon="24,1,6").json()["forecasts"]
    assert some == [r for r in fan["forecasts"] if r["horizon"] in (1, 6, 24)]
    assert served.get("/predict", horizon=6).json()["forecasts"] == [some[1]]


def test_a_range_at_several_horizons_answers_each_close_at_each(served: Served) -> None:
    """Every close of the range at every horizon, none beside it, each as if it had been asked for alone."""
    span = {"start": "2024-06-10T06:00Z", "end": "2024-06-10T18:00Z"}
    for path in ("/predict", "/predict-production"):
        both = served.get(path, horizon="1,24", **span).json()["forecasts"]
        assert len(both) == 24
        for horizon in (1, 24):
            alone = served.get(path, horizon=horizon, **span).json()["forecasts"]
            mine = [r for r in both if r["horizon"] == horizon]
            assert [r["target_time"][11:13] for r in mine] == [f"{hour:02d}" for hour in range(6, 18)]
            for row, other in zip(mine, alone, strict=True):
                assert row | {"quantiles": None, "point": None} == other | {"quantiles": None, "point": None}
                assert row["quantiles"] == pytest.approx(other["quantiles"], rel=1e-6)


def test_what_was_in_production_follows_the_recorded_lineage(served: Served) -> None:
    """Each hour is forecast by the version that had been decided on by then, not by a name."""
    rows = served.get("/predict-production", start="2024-06-12T20:00", end="2024-06-13T02:00").json()[
        "forecasts"
    ]
    assert [(r["target_time"][11:16], r["alias"], r["version"]) for r in rows] == [
        ("20:00", "20240522", 2),
        ("21:00", "20240522", 2),
        ("22:00", "20240522", 2),
        ("23:00", "20240522", 2),
        ("00:00", "20240522", 2),
        ("01:00", "20240529", 3),
    ]


def test_other_aliases_come_from_their_own_packages(served: Served) -> None:
    """An alias that is not the served one is answered by its version, under its own run."""
    ours, other = (
        served.get("/predict", alias=alias, horizon=1).json() for alias in ("20240529", "20240522")
    )
    assert (other["version"], other["alias"]) == (2, "20240522")
    assert other["run_id"] != ours["run_id"]
    assert served.get("/predict", alias="champion", horizon=1).status_code == 200


def test_state_is_told(served: Served) -> None:
    """Health, aliases, freshness, history and skill answer, and name what is served."""
    health = served.get("/health").json()
    assert (health["status"], health["version"], health["stale"]) == ("ok", 3, False)
    aliases = served.get("/aliases").json()
    assert next((a["alias"], a["version"], a["available"]) for a in aliases["aliases"]) == (
        "20240529",
        3,
        True,
    )
    assert {a["alias"] for a in aliases["aliases"]} >= {"20240522", "20240529", "champion"}
    fresh = served.get("/freshness").json()["series"]
    assert [s["symbol"] for s in fresh] == ["BTC/USDT", "QQQ", "^VIX", "GC=F"]
    assert fresh[0]["last_close"] == "2024-06-13T00:00:00Z"
    gate = [r for r in served.get("/skill").json()["rows"] if r["source"] == "gate"]
    assert {r["version"] for r in gate} == {1, 2, 3}
    assert all(r["rmse_naive"] > 0 for r in gate)


def test_candles_are_the_recorded_bars(served: Served, market_bars: dict[str, Bars]) -> None:
    """The newest `limit`, or the first `limit` from a start; other series by symbol; never a bar of the future."""
    newest = served.get("/btc-info", limit=3).json()["bars"]
    assert [b["open_time"][11:13] for b in newest] == ["21", "22", "23"]
    assert newest[-1]["close"] == _close_at(market_bars["BTC/USDT"], "2024-06-13T00:00Z")
    some = served.get("/btc-info", start="2024-06-01", limit=5).json()
    assert some["truncated"] is True
    assert some["bars"][0]["open_time"] == "2024-06-01T00:00:00Z"
    assert served.get("/btc-info", symbol="QQQ", limit=1).json()["symbol"] == "QQQ"
    assert served.get("/btc-info", start="2024-06-13").json()["bars"] == []


def own_bars(bars: dict[str, Bars], hours: int = 900, until_time: datetime = NOW) -> dict[str, Any]:
    """The body of a `POST /predict_bars`."""
    until = int(until_time.timestamp())
    out: dict[str, Any] = {}
    for symbol, part in bars.items():
        known = part.known_at(until)
        known = known.take(known.open_time >= until - hours * 3600)
        out[symbol] = [
            {
                "open_time": datetime.fromtimestamp(int(t), NOW.tzinfo).isoformat(),
                "open": o, "high": h, "low": low, "close": c, "volume": v,
            }
            for t, o, h, low, c, v in zip(
                known.open_time.tolist(), known.open.tolist(), known.high.tolist(), known.low.tolist(),
                known.close.tolist(), known.volume.tolist(), strict=True,
            )
        ]  # fmt: skip
    return {"bars": out}


def test_a_callers_own_bars_give_the_same_forecast(served: Served, market_bars: dict[str, Bars]) -> None:
    """The bars that the store holds, sent by a caller, are forecast alike."""
    body = own_bars(market_bars) | {"horizons": [1, 24]}
    answer = served.post("/predict_bars", body)
    assert answer.status_code == 200, answer.text
    mine = {r["horizon"]: r["quantiles"] for r in answer.json()["forecasts"]}
    theirs = {r["horizon"]: r["quantiles"] for r in served.get("/predict").json()["forecasts"]}
    assert set(mine) == {1, 24}
    for horizon in (1, 24):
        assert mine[horizon] == pytest.approx(theirs[horizon], rel=1e-6)


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ("/predict?horizon=25", 422, "horizon: 25 h is not forecast; give 1 to 24"),
        ("/predict?horizon=soon", 422, "horizon: 'soon' is not a number of hours; write 6, a range as 1..24, or a list as 1,6,24"),
        ("/predict?horizon=24..1", 422, "horizon: the range 24..1 is empty; write 1..24"),
        ("/predict?horizon=1&horizon=6", 422, "horizon is given 2 times; give it once"),
        ("/predict-production?horizon=0", 422, "horizon: 0 h is not forecast; give 1 to 24"),
        ("/predict?start=2024-01-01&end=2024-06-01&horizon=1..24", 422, "the range has 3648 hours at 24 horizons, 87552 forecasts; at most 10000 are answered; ask for parts of it, or for fewer horizons"),
        ("/predict?start=yesterday", 422, "start: 'yesterday' is not a time; write it as 2025-06-26 or 2025-06-26T05:00Z"),
        ("/predict?start=2024-06-02&end=2024-06-01", 422, "start 2024-06-02T00:00Z must lie before end 2024-06-01T00:00Z"),
        ("/predict?start=2020-01-01&end=2024-06-01", 422, "the range has 38712 hours, at most 10000 are answered; ask for parts of it"),
        ("/predict?horizons=3", 422, "unknown argument 'horizons'; /predict takes alias, callback_url, end, horizon, start"),
        ("/predict?callback_url=http://x.example/", 403, "callback_url: host 'x.example' is not on the allow-list; an operator adds it to HOURCAST_CALLBACK_HOSTS"),
        ("/btc-info?symbol=DOGE", 404, "there is no symbol 'DOGE'; there are BTC/USDT, QQQ, ^VIX, GC=F"),
        ("/btc-info?limit=0", 422, "limit: Input should be greater than or equal to 1 (given: '0')"),
        ("/nothing", 404, "there is no /nothing; /docs lists what there is"),
    ],
)  # fmt: skip
def test_bad_input_gets_a_sentence_that_says_what_would_be_right(
    served: Served, query: str, status: int, detail: str
) -> None:
    """Each is a 4xx with one sentence."""
    answer = served.get(query)
    assert (answer.status_code, answer.json()["detail"]) == (status, detail)


def test_an_unknown_alias_gets_the_newest_that_there_are(served: Served) -> None:
    """404, with aliases that exist in their order."""
    known = [a["alias"] for a in served.get("/aliases").json()["aliases"]]
    answer = served.get("/predict", alias="20200101")
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        f"there is no alias '20200101'; the newest are {', '.join(known)}; /aliases lists all",
    )


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"bars": {}}, "there are no bars of BTC/USDT"),
        ({"horizons": [99]}, "horizons [99] are unknown; this model forecasts 1 to 24 hours ahead"),
        ({"extra": 1}, "extra: Extra inputs are not permitted"),
    ],
)
def test_bad_bars_are_refused(
    served: Served, market_bars: dict[str, Bars], change: dict[str, Any], detail: str
) -> None:
    """A caller's bars that cannot be forecast from get 422 and the reason."""
    answer = served.post("/predict_bars", own_bars(market_bars, 800) | change)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(detail), answer.json()


def test_a_bar_that_contradicts_itself_is_named(served: Served, market_bars: dict[str, Bars]) -> None:
    """Low above close: which bar of which symbol, and the values."""
    body = own_bars(market_bars, 800)
    row = body["bars"]["BTC/USDT"][3]
    row |= {"open": 10.0, "high": 12.0, "low": 11.0, "close": 11.5}
    answer = served.post("/predict_bars", body)
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "bars['BTC/USDT'][3]: low 11 and high 12 must enclose open 10 and close 11.5",
    )


def test_a_wrong_method_is_told(served: Served) -> None:
    """POST where only GET is."""
    answer = served.post("/predict", {})
    assert (answer.status_code, answer.json()["detail"]) == (405, "/predict does not take POST")


def test_documentation_and_metrics_are_there(served: Served) -> None:
    """The page, the OpenAPI document with every endpoint, and Prometheus metrics that name the version."""
    assert "Hourcast API" in served.get("/docs").text
    paths = served.get("/openapi.json").json()["paths"]
    assert set(paths) >= {
        "/health",
        "/aliases",
        "/btc-info",
        "/predict",
        "/predict-production",
        "/predict_bars",
        "/calibration",
        "/report",
    }
    horizon = next(
        p
        for p in served.get("/openapi.json").json()["paths"]["/predict"]["get"]["parameters"]
        if p["name"] == "horizon"
    )
    assert horizon["schema"]["examples"] == ["6", "1..24", "1,6,24"]
    metrics = served.get("/metrics").text
    assert re.search(r'hourcast_model_info\{[^}]*version="3"[^}]*\} 1\.0', metrics)
    assert served.get("/livez").status_code == 200


def test_each_new_bar_is_forecast_before_its_hour_comes(world: World, market_bars: dict[str, Bars]) -> None:
    """As hours pass, forecasts of all horizons are recorded; the close that comes makes them skill."""
    with world.store() as store:
        # A server of another test may have issued the first hour before the store was copied.
        before = len(store.forecasts("trained", "BTC/USDT"))
    with world.store() as store, world.serve(3, HOURCAST_MODEL_ALIAS="20240529") as server:
        for hour in range(4):
            now = NOW + timedelta(hours=hour)
            store.upsert_bars(market_bars["BTC/USDT"].known_at(int(now.timestamp())), "files", now)
            store.set_clock(now)
            wait_for(
                lambda n=hour: len(store.forecasts("trained", "BTC/USDT")) == 24 * (n + 1),  # type: ignore[misc]
                60,
                "recorded forecast",
            )
        for row in store.forecasts("trained", "BTC/USDT"):
            assert row.version == 3
            assert row.made_at < row.target_time
            assert row.origin + timedelta(hours=row.horizon) == row.target_time
        live = [r for r in server.get("/skill").json()["rows"] if r["source"] == "live"]
        assert [(r["version"], r["n"]) for r in live] == [(3, 3)]
        # Counted after they are stored.
        counted = f"hourcast_forecasts_recorded_total {24.0 * 4 - before}"
        wait_for(lambda: counted in server.get("/metrics").text, 60, counted)


def _width(row: dict[str, Any]) -> float:
    return float(row["quantiles"][-1] - row["quantiles"][0])


def test_forecasts_that_were_too_narrow_make_the_next_ones_wider(
    world: World, market_bars: dict[str, Bars]
) -> None:
    """Two days of misses: served intervals grow beyond the model's own, and calibration, skill and metrics say so."""
    now = NOW + timedelta(hours=48)
    target = market_bars["BTC/USDT"].known_at(int(now.timestamp()))
    with world.store() as store:
        for bars in market_bars.values():
            store.upsert_bars(bars.known_at(int(now.timestamp())), "files", now)
        store.set_clock(now)
        narrow = []
        for hour in range(48):
            origin = NOW + timedelta(hours=hour)
            last = _close_at(target, origin.isoformat())
            for horizon in range(1, 25):
                spread = 1e-4 * (np.array(LEVELS) - 0.5)
                narrow.append(
                    ForecastRow(
                        "trained", 2, "BTC/USDT", origin, horizon, origin + timedelta(hours=horizon), origin, "20240522",
                        last, LEVELS, tuple((last * np.exp(spread)).tolist()),
                    )
                )  # fmt: skip
        store.issue(fans_of(narrow))
    with world.serve(3, HOURCAST_MODEL_ALIAS="20240529") as server:
        served = server.get("/predict").json()["forecasts"]
        own = server.post("/predict_bars", own_bars(market_bars, until_time=now)).json()["forecasts"]
        grown = [_width(a) / _width(b) for a, b in zip(served, own, strict=True)]
        assert min(grown) > 1.005
        assert grown[0] > 1.05
        told = server.get("/calibration").json()
        assert (told["adaptive"], told["version"], told["as_of"]) == (True, 3, "2024-06-15T00:00:00Z")
        assert told["outcomes"] == sum(48 - (h - 1) for h in range(1, 25))
        assert told["stretch_90"] / told["trained_stretch_90"] == pytest.approx(
            float(np.mean(grown)), rel=0.03
        )
        windows = {(w["days"], w["horizon"]): w for w in server.get("/skill").json()["live"]}
        assert set(windows) == {(days, h) for days in (7, 30) for h in (1, 6, 12, 24, None)}
        assert windows[7, 1]["n"] == 48
        assert windows[7, 1]["coverage_90"] <= 0.1 < windows[7, 24]["coverage_90_high"]
        assert windows[7, 1]["skill"] < 0
        wait_for(
            lambda: 'hourcast_live_coverage_90{days="7",horizon="1"' in server.get("/metrics").text,
            60,
            "live coverage among the metrics",
        )
        assert f"hourcast_calibration_outcomes {told['outcomes']:.1f}" in server.get("/metrics").text


def test_the_report_is_served_when_there_is_one(world: World) -> None:
    """Before: 404 and the command that makes it. Then the page as it was kept, which may reach no other host."""
    with world.serve(3) as server:
        missing = server.get("/report")
        assert (missing.status_code, missing.json()["detail"]) == (
            404,
            "there is no back-test report of trained yet; `hourcast report` writes one",
        )
        page = "<!doctype html><title>Back-test</title><p>Skill – 5 % better</p>"
        with world.store() as store:
            store.save_report("trained", NOW, "Back-test", page)
        answer = server.get("/report")
        assert (answer.status_code, answer.text) == (200, page)
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["X-Hourcast-Made-At"] == "2024-06-13T00:00:00Z"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_a_stale_store_is_told_and_forecasts_are_refused(world: World) -> None:
    """Four hours without a bar: 503 with the reason and Retry-After; health is degraded, the server stays ready."""
    with world.store() as store, world.serve(3) as server:
        store.set_clock(NOW + timedelta(hours=4))
        answer = server.get("/predict")
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "60"
        assert answer.json()["detail"] == (
            "the newest bar of BTC/USDT closed at 2024-06-13 00:00 UTC, 4.0 h ago; forecasts are refused beyond 3 h"
        )
        assert server.get("/health").json()["status"] == "degraded"
        assert server.get("/readyz").status_code == 200
        assert server.get("/predict", start="2024-06-01", end="2024-06-02").status_code == 200


def test_a_store_that_vanishes_is_503_without_a_leak(world: World) -> None:
    """No tables: the reason and Retry-After, no SQL, no path, no trace; the model stays ready."""
    with world.serve(3, HOURCAST_DATABASE_URL=f"sqlite:///{world.folder / 'empty.db'}") as server:
        answer = server.get("/predict")
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
        for word in ("Traceback", "SELECT", str(world.folder), "sqlite", "no such table"):
            assert word not in answer.text
        assert answer.json()["detail"]
        assert server.get("/readyz").status_code == 200


def test_serving_needs_neither_mlflow_nor_torch_and_unpickles_nothing(world: World) -> None:
    """With both made impossible to import and unpickling forbidden, a package loads and forecasts."""
    code = """
import sys
sys.modules["torch"] = sys.modules["mlflow"] = None
def watch(event, args):
    if event == "pickle.find_class":
        raise RuntimeError(f"unpickles {args}")
from pathlib import Path
import hourcast_bento.service
from hourcast.bucket import open_bucket
from hourcast_bento.package import fetch, load_model, unpack
from hourcast_bento.serving import Serving
from hourcast_bento.settings import ServingSettings
sys.addaudithook(watch)
settings = ServingSettings.load()
folder = Path(sys.argv[1])
unpack(fetch(open_bucket(settings.resolved_bucket_url), settings.model_name, 3), folder)
made = Serving(settings, *load_model(folder / "src" / "model")).forecasting.present(None, (1,))
print("forecast", made.forecasts.quantiles.shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(world.folder / "unpacked")],
        env=os.environ | dict(world.environment), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "forecast (1, 1, 19)" in done.stdout


@pytest.mark.parametrize("breakage", ["bytes", "golden", "network"])
def test_a_corrupt_package_never_gets_ready(world: World, breakage: str) -> None:
    """Flipped bytes, another golden output, a broken network: the server ends with 4 and one sentence."""
    import hashlib

    package = world.folder / "bucket/bentos/trained/3.bento"
    manifest = package.with_suffix(".json")
    if breakage == "bytes":
        body = bytearray(package.read_bytes())
        body[len(body) // 2] ^= 0xFF
        package.write_bytes(body)
    else:
        folder = world.folder / "opened"
        with tarfile.open(package) as archive:
            archive.extractall(folder, filter="data")
        model = folder / "src" / "model"
        if breakage == "golden":
            golden = json.loads((model / "golden.json").read_text())
            golden["quantiles"][0][9] *= 1.01
            (model / "golden.json").write_text(json.dumps(golden))
        else:
            (model / "forecaster" / "network.onnx").write_bytes(b"not a network")
        with tarfile.open(package, "w") as archive:
            archive.add(folder, ".")
        whole = json.loads(manifest.read_text())
        whole["sha256"] = hashlib.sha256(package.read_bytes()).hexdigest()
        manifest.write_text(json.dumps(whole))
    done = subprocess.run(
        [sys.executable, "-m", "hourcast.cli", "serve", "--version", "3", "--port", str(find_port())],
        env=os.environ | dict(world.environment), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 4
    last = done.stderr.strip().splitlines()[-1]
    expected = {
        "bytes": r"the package of trained version 3 is corrupt: its SHA-256 is \w+…, the manifest says \w+…; delete it and package it again",
        "golden": r"golden",
        "network": r"network\.onnx",
    }
    assert re.search(expected[breakage], last), done.stderr[-2000:]


def test_bentoml_serves_the_same_package_alike(world: World, served: Served, tmp_path: Any) -> None:
    """`bentoml serve` of the unpacked package runs the sources in it, and gives the numbers that our server gives."""
    folder = tmp_path / "bento"
    with tarfile.open(world.folder / "bucket/bentos/trained/3.bento") as archive:
        archive.extractall(folder, filter="data")
    # The sources in the package are those that are installed here; this tells them apart.
    shutil.rmtree(folder / "src/hourcast/__pycache__")
    with (folder / "src/hourcast/__init__.py").open("a") as source:
        source.write('__version__ += "-packaged"\n')
    port = find_port()
    process = Process.start(
        "bentoml",
        [sys.executable, "-m", "bentoml", "serve", str(folder), "--port", str(port), "--host", "127.0.0.1"],
        tmp_path,
        {**world.environment, "BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"},
    )
    try:
        process.wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), 60, "ready BentoML server")
        alone = Served(f"http://127.0.0.1:{port}", process)
        theirs = alone.get("/predict", horizon=3).json()
        assert alone.get("/openapi.json").json()["info"]["version"].endswith("-packaged")
        assert theirs["forecasts"] == served.get("/predict", horizon=3).json()["forecasts"]
    finally:
        process.end()
    shutil.rmtree(folder)


def test_a_package_in_s3_is_packaged_and_served_alike(world: World, served: Served, s3: Any) -> None:
    """The bucket is S3: package, index and server work as with a folder."""
    environment = {
        **world.environment,
        "HOURCAST_BUCKET_URL": s3.url,
        "HOURCAST_S3_ENDPOINT_URL": s3.endpoint,
    }
    there = World(world.folder, environment)
    assert "packaged trained version 3" in there.run("package", "3")
    assert "packaged trained version 2" in there.run("package", "2")
    with there.serve(3, HOURCAST_MODEL_ALIAS="20240529") as server:
        ours = server.get("/predict").json()
        assert ours["forecasts"] == served.get("/predict").json()["forecasts"]
        assert server.get("/predict", alias="20240522").json()["version"] == 2


def test_more_requests_than_can_be_answered_are_all_told_and_probes_pass(trained: World) -> None:
    """From an open loop, far beyond what two processors do: each gets a forecast or 503 at once, and calm follows."""
    probes: list[bool] = []
    with trained.serve(3) as server:
        over = threading.Event()

        def probe() -> None:
            while not over.wait(0.2):
                probes.append(answers(f"{server.url}/livez"))

        thread = threading.Thread(target=probe)
        thread.start()
        told = flood(f"{server.url}/predict", 1000, 5)
        over.set()
        thread.join()
        assert set(told.answers) == {200, 503}, told
        assert set(probes) == {True}
        assert server.get("/predict").status_code == 200
        assert "Traceback" not in server.process.text()


def test_packaging_twice_changes_nothing_and_a_version_without_gate_is_refused(world: World) -> None:
    """The same manifest comes back; a version that does not exist ends with 6 and a sentence."""
    manifest = (world.folder / "bucket/bentos/trained/3.json").read_bytes()
    world.run("package", "3")
    assert (world.folder / "bucket/bentos/trained/3.json").read_bytes() == manifest
    from tests.integration.conftest import hourcast

    done = hourcast(world.environment, "package", "99")
    assert done.returncode == 6
    assert done.stderr.strip().splitlines()[-1] == (
        "hourcast: trained has no version 99 in MLflow; `hourcast status` lists those that it has"
    )


def test_a_result_is_posted_to_an_allowed_host(world: World) -> None:
    """`callback_url` on the allow-list gets the very answer that the caller got."""
    got: list[Any] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name that http.server uses
            """Silent."""

    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{receiver.server_address[1]}"
    allowed = {"HOURCAST_CALLBACK_HOSTS": json.dumps([host]), "HOURCAST_CALLBACK_PRIVATE": "true"}
    try:
        with world.serve(3, **allowed) as server:
            answer = server.get("/predict", horizon=2, callback_url=f"http://{host}/here")
            assert answer.status_code == 200
            wait_for(lambda: bool(got), 60, "callback")
            assert got == [answer.json()]
            other = server.get("/predict", callback_url="http://127.0.0.1:9/here")
            assert other.status_code == 403
    finally:
        receiver.shutdown()
        receiver.server_close()


def test_other_packages_are_kept_within_a_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for one other version, the second one takes the place of the first, and both are answered."""
    from hourcast.bucket import open_bucket
    from hourcast_bento.package import fetch, load_model, unpack
    from hourcast_bento.serving import Serving
    from hourcast_bento.settings import ServingSettings

    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    settings = ServingSettings.load(lru_packages=1)
    folder = world.folder / "unpacked"
    unpack(fetch(open_bucket(settings.resolved_bucket_url), "trained", 1), folder)
    serving = Serving(settings, *load_model(folder / "src" / "model"))
    try:
        for alias, version in (("20240522", 2), ("20240529", 3), ("20240522", 2)):
            assert serving.models.resolve(alias)[1].version == version
            assert list(serving.models._others) == [version]
    finally:
        serving.store.close()


def test_without_its_bucket_a_server_still_knows_its_own_alias(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that does not answer leaves the served alias served, by name too; others are 503's business."""
    from hourcast.bucket import open_bucket
    from hourcast.errors import UnavailableError
    from hourcast_bento.package import fetch, load_model, unpack
    from hourcast_bento.serving import Serving
    from hourcast_bento.settings import ServingSettings

    folder = world.folder / "unpacked"
    unpack(fetch(open_bucket(world.environment["HOURCAST_BUCKET_URL"]), "trained", 3), folder)
    gone = {
        "HOURCAST_BUCKET_URL": "s3://gone", "HOURCAST_S3_ENDPOINT_URL": f"http://127.0.0.1:{find_port()}",
        "AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests",
    }  # fmt: skip
    for name, value in {**world.environment, **gone}.items():
        monkeypatch.setenv(name, value)
    serving = Serving(ServingSettings.load(model_alias="20240529"), *load_model(folder / "src" / "model"))
    try:
        assert serving.models.resolve("20240529")[1].version == 3
        with pytest.raises(UnavailableError):
            serving.models.resolve("20240522")
    finally:
        serving.stop()
