"""Requests a second of one server: ours against `mlflow models serve`, the same bars forecast by the same version."""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

from bench.ground import Ground, wait_for
from bench.report import Report
from hourcast.contracts import Bars, parse_hour
from hourcast.store import open_store
from tests.ports import find_port

__all__ = ["measure"]

_TO = "2025-06-26"
_NAMES = ("open", "high", "low", "close", "volume")


class _Rate(NamedTuple):
    """Requests a second, p99 in milliseconds, and requests for each second in which the server kept a core busy."""

    rate: float
    p99_ms: float
    per_core: float

    def __str__(self) -> str:
        return f"{self.rate:.0f} (p99 {self.p99_ms:.0f} ms; {self.per_core:.0f} a core)"


def _busy_s(pid: int) -> float:
    """Seconds for which a process and its children have kept cores busy."""
    process = psutil.Process(pid)
    return sum(sum(p.cpu_times()[:2]) for p in (process, *process.children(recursive=True)))


def _rate(ask: Callable[[httpx.Client], object], pid: int, seconds: float = 8.0, clients: int = 4) -> _Rate:
    """What the server `pid` answers to some clients in some seconds."""
    times: list[float] = []
    busy_s = _busy_s(pid)
    lock = threading.Lock()
    end = time.perf_counter() + seconds

    def work() -> None:
        mine = []
        with httpx.Client(timeout=60, trust_env=False) as client:
            while time.perf_counter() < end:
                began = time.perf_counter()
                ask(client)
                mine.append(time.perf_counter() - began)
        with lock:
            times.extend(mine)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    busy_s = _busy_s(pid) - busy_s
    return _Rate(
        len(times) / seconds, 1000 * statistics.quantiles(times, n=100)[98], len(times) / max(busy_s, 0.01)
    )


def _bars_of(g: Ground, hours: int = 760) -> dict[str, Bars]:
    store = open_store(f"sqlite:///{g.state / 'hourcast.db'}")
    since = parse_hour(_TO) - timedelta(hours=hours)
    bars = store.read_many(("BTC/USDT", "QQQ", "^VIX", "GC=F"), start=since, known_at=parse_hour(_TO))
    store.close()
    return bars


def _own(bars: dict[str, Bars]) -> dict[str, Any]:
    """Body of `POST /predict_bars`."""
    return {
        "bars": {
            symbol: [
                {
                    "open_time": f"{datetime.fromtimestamp(int(t), parse_hour(_TO).tzinfo):%Y-%m-%dT%H:%M:%SZ}",
                    **dict(zip(_NAMES, row, strict=True)),
                }
                for t, *row in zip(
                    part.open_time.tolist(), *(getattr(part, n).tolist() for n in _NAMES), strict=True
                )
            ]
            for symbol, part in bars.items()
        }
    }


def _rows(bars: dict[str, Bars]) -> dict[str, Any]:
    """The same as `POST /invocations` of MLflow wants it."""
    rows = [
        [symbol, o, c, *row]
        for symbol, part in bars.items()
        for o, c, *row in zip(
            part.open_time.tolist(),
            part.close_time.tolist(),
            *(getattr(part, n).tolist() for n in _NAMES),
            strict=True,
        )
    ]
    return {"dataframe_split": {"columns": ["symbol", "open_time", "close_time", *_NAMES], "data": rows}}


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def _models_serve(g: Ground) -> Iterator[tuple[int, int]]:
    """Port and process of an `mlflow models serve` that answers."""
    version, port, log = g.served(), find_port(), g.folder / "models-serve.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [
                sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/hourcast/{version}",
                "--env-manager", "local", "--port", str(port), "--host", "127.0.0.1", "--workers", "1",
            ],
            env=os.environ | g.environment | {
                "MLFLOW_TRACKING_URI": g.mlflow, "MLFLOW_DISABLE_TELEMETRY": "true",
                # It calls uvicorn by its name.
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        ping = f"http://127.0.0.1:{port}/ping"
        wait_for(lambda: _answers(ping) or server.poll() is not None, 90, "answer of `mlflow models serve`")
        if server.poll() is not None:
            sys.exit(f"`mlflow models serve` ended:\n{log.read_text()[-3000:]}")
        yield port, server.pid
    finally:
        server.terminate()
        server.wait(20)


def _post(url: str, body: Any) -> Callable[[httpx.Client], None]:
    content = json.dumps(body).encode()

    def once(client: httpx.Client) -> None:
        answer = client.post(url, content=content, headers={"Content-Type": "application/json"})
        answer.raise_for_status()

    return once


def measure(report: Report, g: Ground) -> None:
    """`POST /predict_bars` and `mlflow models serve`, and `GET /predict` from the store."""
    bars = _bars_of(g)
    with _models_serve(g) as (port, pid):
        # Ours is asked at its own port, as theirs is: the way in that rolls need is in front of neither.
        node = httpx.get(f"{g.environment['HOURCAST_NODE_URL']}/v1/deployment", trust_env=False).json()
        (replica,) = node["status"]["replicas"]
        base = f"http://127.0.0.1:{replica['port']}"
        ours = _post(f"{base}/predict_bars", _own(bars))
        other = _post(f"http://127.0.0.1:{port}/invocations", _rows(bars))
        for warm, whose in ((ours, replica["pid"]), (other, pid)):
            _rate(warm, whose, 1.0)
        our = _rate(ours, replica["pid"])
        their = _rate(other, pid)
        get = _rate(lambda client: client.get(f"{base}/predict?horizon=1").raise_for_status(), replica["pid"])
    count = sum(len(part) for part in bars.values())
    report.add(
        f"requests a second, {count:,} bars each",
        str(our),
        f"mlflow models serve: {their}",
        f"{our.rate / their.rate:.1f}×, a core {our.per_core / their.per_core:.1f}×",
    )
    report.add(
        "requests a second, GET /predict from the store",
        str(get),
        f"mlflow models serve: {their.rate:.0f}",
        f"{get.rate / their.rate:.1f}×",
    )
