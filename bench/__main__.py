"""`make bench`: what Hourcast's ways are worth, as ratios measured in one run.

ARGS="--only etl,requests" measures parts; ARGS="--plain-weeks 55" does the plain back-test of every week instead of
five weeks spread over the year, times eleven.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from bench import requests
from bench.ground import DATA, Ground, ground, wait_for
from bench.report import Report
from hourcast.contracts import parse_hour
from hourcast.store import open_store
from tests.ports import find_port

_FROM, _TO = "2024-06-06", "2025-06-26"
_PARTS = ("etl", "start", "status", "backtest", "hour", "fan", "range", "requests", "alias")
_KEPT = Path(__file__).parents[1] / "tests" / "kept" / "0.1.0" / "bentos" / "hourcast"
_CONSOLE = Console()


def _etl(report: Report) -> None:
    """A first load of the 14,616 bars of Bitcoin, and a run with nothing new."""
    with ground(HOURCAST_SOURCE=f"files:{DATA}", HOURCAST_CLOCK="2025-08-01T00:00Z") as g:
        first, _ = g.run("etl", "run", "--symbol", "BTC/USDT")
        store = open_store(f"sqlite:///{g.state / 'hourcast.db'}")
        count = len(store.read_bars("BTC/USDT"))
        store.close()
        again = statistics.median(g.run("etl", "run", "--symbol", "BTC/USDT")[0] for _ in range(3))
        start = statistics.median(g.run("etl", "--help")[0] for _ in range(3))
    report.add(
        f"ETL, first load of {count:,} bars",
        f"{first:.2f} s",
        f"nothing new: {again:.2f} s",
        f"{first / again:.1f}×",
    )
    report.add(
        "ETL with nothing new", f"{again:.2f} s", f"start alone: {start:.2f} s", f"{again / start:.1f}×"
    )


def _start(report: Report, times: int = 5) -> None:
    """A server from the start of its process to ready, beside `bentoml serve` of the same package, in turns."""
    with ground() as g:
        packages = g.state / "bucket" / "bentos" / "hourcast"
        shutil.copytree(_KEPT, packages)
        g.run("db", "upgrade")
        with tarfile.open(packages / "2.bento") as archive:
            archive.extractall(g.folder / "bento", filter="data")
        more = {"HOURCAST_BUCKET_URL": (g.state / "bucket").as_uri(), "BENTOML_HOME": str(g.folder / "home")}
        ours = ["-m", "hourcast.cli", "serve", "--version", "2"]
        theirs = ["-m", "bentoml", "serve", str(g.folder / "bento"), "--host", "127.0.0.1"]
        took: dict[str, list[float]] = {}
        for command in (ours, theirs) * times:
            took.setdefault(command[1], []).append(_until_ready(g, command, more))
    our, their = (statistics.median(spans) for spans in took.values())
    report.add("start of a server", f"{our:.2f} s", f"`bentoml serve`: {their:.2f} s", f"{their / our:.1f}×")


def _until_ready(g: Ground, command: list[str], more: dict[str, str]) -> float:
    """Seconds from the start of a process until its `/readyz` is 200; it is ended then."""
    port = find_port()

    def ready() -> bool:
        try:
            url = f"http://127.0.0.1:{port}/readyz"
            return httpx.get(url, timeout=10, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    began = time.perf_counter()
    with (g.folder / "start.log").open("ab") as out:
        server = subprocess.Popen(
            [sys.executable, *command, "--port", str(port)],
            env=os.environ | g.environment | more, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        wait_for(lambda: ready() or server.poll() is not None, 60, "ready server", 0.01)
        if server.poll() is not None:
            sys.exit(f"the server ended:\n{(g.folder / 'start.log').read_text()[-3000:]}")
        return time.perf_counter() - began
    finally:
        server.terminate()
        server.wait(30)


def _status(report: Report, g: Ground) -> None:
    """`hourcast status` from the start of its process to its end, beside a Python that has nothing to do."""

    def bare() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        return time.perf_counter() - began

    ours = statistics.median(g.run("status")[0] for _ in range(5))
    nothing = statistics.median(bare() for _ in range(5))
    report.add(
        "`hourcast status`, start of Python counted",
        f"{ours:.2f} s",
        f"python -c pass: {nothing:.3f} s",
        f"{ours / nothing:.0f}×",
    )


def _backtest(report: Report, g: Ground, plain_weeks: int) -> None:
    """The whole command, registry and all, against the plain way without any."""
    from bench.plain import EPOCHS, plain_week
    from hourcast_trainer.lab.walk import folds
    from hourcast_trainer.settings import TrainerSettings
    from hourcast_trainer.training import read_bars

    took, out = g.run("backtest", "--from", _FROM, "--to", _TO, more={"HOURCAST_MODEL_KIND": "lstm"})
    _CONSOLE.print(out, highlight=False)
    settings = TrainerSettings()
    store = open_store(f"sqlite:///{g.state / 'hourcast.db'}")
    bars = read_bars(store, settings, parse_hour(_TO))
    store.close()
    steps = folds(parse_hour(_FROM), parse_hour(_TO), 7, settings)
    chosen = steps if plain_weeks >= len(steps) else steps[:: len(steps) // plain_weeks][:plain_weeks]
    plain = sum(plain_week(bars, settings, week) for week in chosen) * len(steps) / len(chosen)
    how = f"{len(steps)} weeks" if chosen == steps else f"{len(chosen)} weeks scaled to {len(steps)}"
    report.add(
        f"back-test of {len(steps)} weeks",
        f"{took:.1f} s",
        f"{EPOCHS} epochs a week, a call an hour ({how}): {plain:.1f} s",
        f"{plain / took:.1f}×",
    )
    again, _ = g.run("backtest", "--from", _FROM, "--to", _TO, more={"HOURCAST_MODEL_KIND": "lstm"})
    report.add(
        "the same back-test again", f"{again:.1f} s", f"first time: {took:.1f} s", f"{took / again:.0f}×"
    )


def _median_ms(ask: Callable[[], Any], times: int) -> float:
    """Median milliseconds of a call that has been made before."""
    ask()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        took.append(time.perf_counter() - began)
    return 1000 * statistics.median(took)


def _hour(report: Report, g: Ground) -> None:
    """The coming hour as it is asked for all day, against the same hour made anew: bars read, features, network."""
    end = parse_hour(_TO) + timedelta(hours=2)
    again = {"start": (end - timedelta(hours=1)).isoformat(), "end": end.isoformat(), "horizon": "1"}
    with httpx.Client(base_url=g.api, timeout=60, trust_env=False) as client:
        kept = _median_ms(lambda: client.get("/predict", params={"horizon": "1"}).raise_for_status(), 200)
        anew = _median_ms(lambda: client.get("/predict", params=again).raise_for_status(), 50)
        ours, theirs = (client.get("/predict", params=query).json() for query in ({"horizon": "1"}, again))
    # While the clock stands still the hour's forecast is that of the version that served first.
    if ours["version"] == theirs["version"]:
        assert ours["forecasts"][0]["quantiles"] == theirs["forecasts"][0]["quantiles"]
    report.add("forecast of one hour", f"{kept:.1f} ms", f"made anew: {anew:.1f} ms", f"{anew / kept:.1f}×")


def _fan(report: Report, g: Ground) -> None:
    """All 24 hours ahead in one request, against a request an hour ahead."""
    with httpx.Client(base_url=g.api, timeout=60, trust_env=False) as client:

        def ask(horizon: str) -> list[Any]:
            answer = client.get("/predict", params={"horizon": horizon})
            answer.raise_for_status()
            rows: list[Any] = answer.json()["forecasts"]
            return rows

        assert ask("1..24") == [row for h in range(1, 25) for row in ask(str(h))]
        whole = _median_ms(lambda: ask("1..24"), 100)
        each = _median_ms(lambda: [ask(str(h)) for h in range(1, 25)], 10)
    report.add("fan of 24 hours", f"{whole:.1f} ms", f"24 calls: {each:.0f} ms", f"{each / whole:.0f}×")


def _range(report: Report, g: Ground) -> None:
    """A thousand hours in one request, against a request an hour."""
    end = parse_hour(_TO)
    hours = 1000
    start = end - timedelta(hours=hours)

    def ask(client: httpx.Client, since: datetime, until: datetime) -> list[Any]:
        answer = client.get(
            "/predict", params={"start": since.isoformat(), "end": until.isoformat(), "horizon": 1}
        )
        answer.raise_for_status()
        rows: list[Any] = answer.json()["forecasts"]
        return rows

    with httpx.Client(base_url=g.api, timeout=60, trust_env=False) as client:
        ask(client, start, end)
        began = time.perf_counter()
        whole = ask(client, start, end)
        at_once = time.perf_counter() - began
        began = time.perf_counter()
        single = []
        for i in range(hours):
            single += ask(client, start + timedelta(hours=i), start + timedelta(hours=i + 1))
        each = time.perf_counter() - began
    assert [r["target_time"] for r in whole] == [r["target_time"] for r in single]
    report.add(
        f"range of {hours:,} hours",
        f"{at_once * 1000:.0f} ms",
        f"a call an hour: {each:.1f} s",
        f"{each / at_once:.0f}×",
    )


def _alias(report: Report, g: Ground, rolls: int = 10) -> None:
    """A newer alias is set in the registry; until the first answer of its version, packaging included."""
    client = httpx.Client(timeout=30, trust_env=False)

    def candidates() -> list[int]:
        answer = client.get(
            f"{g.mlflow}/api/2.0/mlflow/registered-models/get", params={"name": "hourcast"}
        ).json()
        aliases = answer["registered_model"]["aliases"]
        return sorted({int(a["version"]) for a in aliases if a["alias"].startswith("backtest_")})[:rolls]

    if len(candidates()) < rolls:
        g.run("backtest", "--from", "2025-04-10", "--to", "2025-06-19")
    versions = candidates()
    times = []
    for i, version in enumerate(versions):
        began = time.perf_counter()
        client.post(
            f"{g.mlflow}/api/2.0/mlflow/registered-models/alias",
            json={
                "name": "hourcast",
                "alias": f"2026{i // 28 + 1:02d}{i % 28 + 1:02d}",
                "version": str(version),
            },
        ).raise_for_status()
        wait_for(
            lambda v=version: g.served() == v,
            60,
            "answer of the new version",
            0.01,
        )
        times.append(time.perf_counter() - began)
    client.close()
    p50, p95 = statistics.median(times), statistics.quantiles(times, n=20)[18]
    report.add(
        f"alias set → first answer, {rolls} rolls",
        f"p50 {p50:.1f} s",
        f"p95 {p95:.1f} s",
        f"{p95 / p50:.2f}×",
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default=",".join(_PARTS), help=f"parts, of {','.join(_PARTS)}")
    parser.add_argument("--plain-weeks", type=int, default=5)
    asked = parser.parse_args()
    parts = asked.only.split(",")
    if unknown := sorted(set(parts) - set(_PARTS)):
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(_PARTS)}")
    if not Path(DATA).is_dir():
        parser.error(f"there is no {DATA}; HOURCAST_TEST_DATA names the folder that holds market/")
    report = Report()
    if "etl" in parts:
        _etl(report)
    if "start" in parts:
        _start(report)
    if set(parts) - {"etl", "start"}:
        with ground(HOURCAST_PACKAGE_BACKTESTS="false") as g:
            g.start("--source", f"files:{DATA}", "--as-of", _TO)
            wait_for(
                lambda: g.health().get("kind", "naive") != "naive",
                120,
                "model in production",
            )
            more = {"HOURCAST_SOURCE": f"files:{DATA}", "HOURCAST_CLOCK": f"{_TO}T00:00Z"}
            g.environment |= more
            if "status" in parts:
                _status(report, g)
            if "hour" in parts:
                _hour(report, g)
            if "fan" in parts:
                _fan(report, g)
            if "range" in parts:
                _range(report, g)
            if "requests" in parts:
                requests.measure(report, g)
            if "backtest" in parts:
                _backtest(report, g, asked.plain_weeks)
            if "alias" in parts:
                _alias(report, g)
    report.show()


if __name__ == "__main__":
    main()
