"""`python -m bench.overload`: more requests than a server can answer, three and ten times as many, from an open loop.

A release's kept package serves recorded bars, with 1,024 open files as a shell of Ubuntu has; --node puts `hourcast up`'s way in
before it. First what it can do is measured, with eight callers that wait for their answers; then `GET /predict` comes at three and
ten times that rate, while /livez is asked five times a second. Told is what share of what it can do is still answered with 200,
how long all answers took, what probes took, and how it does a second later.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from bench.ground import DATA, ground, wait_for
from tests.flood import flood
from tests.ports import find_port

_CLOCK, _KEPT = (
    "2025-06-20T00:00Z",
    Path(__file__).parents[1] / "tests" / "kept" / "0.1.0" / "bentos" / "hourcast",
)
_CLIENTS = 8
_CONSOLE = Console(width=160)


def _ready(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/predict", timeout=10, trust_env=False).status_code == 200
    return False


@contextlib.contextmanager
def _server() -> Iterator[str]:
    """One server; gives its URL."""
    with tempfile.TemporaryDirectory(prefix="hourcast-overload-") as name:
        state, port = Path(name), find_port()
        shutil.copytree(_KEPT, state / "bucket" / "bentos" / "hourcast")
        environment = os.environ | {
            "HOURCAST_STATE_DIR": name, "HOURCAST_SOURCE": f"files:{DATA}", "HOURCAST_CLOCK": _CLOCK,
        }  # fmt: skip
        hourcast = [sys.executable, "-m", "hourcast.cli"]
        for words in (("db", "upgrade"), ("etl", "run")):
            subprocess.run([*hourcast, *words], env=environment, capture_output=True, check=True)
        with (state / "server.log").open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", 'ulimit -S -n 1024; exec "$@"', "bash", *hourcast, "serve", "--version", "2", "--port", str(port)],
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for(lambda: _ready(url) or process.poll() is not None, 120, "forecast")
            yield url
        finally:
            process.terminate()
            process.wait(60)
            if trace := [
                line for line in (state / "server.log").read_text().splitlines() if "Traceback" in line
            ]:
                _CONSOLE.print(f"{len(trace)} tracebacks in the server's log")


@contextlib.contextmanager
def _node() -> Iterator[str]:
    """`hourcast up`'s way in, with its first version; gives its URL."""
    with ground(HOURCAST_CLOCK=_CLOCK, HOURCAST_SOURCE=f"files:{DATA}") as g:
        g.start("--source", f"files:{DATA}")
        wait_for(lambda: _ready(g.api), 240, "forecast")
        yield g.api


def _capacity(url: str, seconds: float) -> float:
    """Answers with 200 a second, of callers that wait for theirs."""
    counts = [0] * _CLIENTS
    end = time.monotonic() + seconds

    def ask(i: int) -> None:
        with httpx.Client(timeout=30, trust_env=False) as client:
            while time.monotonic() < end:
                counts[i] += client.get(f"{url}/predict").status_code == 200

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


@contextlib.contextmanager
def _probes(url: str) -> Iterator[list[tuple[float, bool]]]:
    """Ask /livez five times a second meanwhile: seconds, and whether it was answered with 200."""
    told: list[tuple[float, bool]] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=10, trust_env=False) as client:
            while not stop.wait(0.2):
                began = time.monotonic()
                with contextlib.suppress(httpx.HTTPError):
                    told.append((0.0, client.get(f"{url}/livez").status_code == 200))
                    told[-1] = (time.monotonic() - began, told[-1][1])
                    continue
                told.append((time.monotonic() - began, False))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield told
    finally:
        stop.set()
        thread.join()


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument(
        "--node", action="store_true", help="with the way in of `hourcast up` before the server"
    )
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--times", type=float, nargs="+", default=[3, 10])
    asked = parser.parse_args()
    with _node() if asked.node else _server() as url:
        capacity = _capacity(url, 8)
        table = Table(title=f"GET /predict; {capacity:.0f} a second can be answered", title_justify="left")
        for name in ("times", "a second", "answers", "of what it can do", "p50", "p99", "longest", "probes late or lost", "slowest", "a second later"):  # fmt: skip
            table.add_column(name, justify="right")
        for times in asked.times:
            with _probes(url) as probes:
                told = flood(f"{url}/predict", capacity * times, asked.seconds)
            time.sleep(1)
            began = time.monotonic()
            after = httpx.get(f"{url}/predict", timeout=30, trust_env=False).status_code
            table.add_row(
                f"{times:g}", f"{capacity * times:.0f}", ", ".join(f"{n} × {s or 'none'}" for s, n in sorted(told.answers.items())),
                f"{told.rate / capacity:.0%}", *(f"{1000 * s:.0f} ms" for s in (told.p50_s, told.p99_s, told.longest_s)),
                f"{sum(not good or took > 1 for took, good in probes)} of {len(probes)}", f"{1000 * max(p[0] for p in probes):.0f} ms",
                f"{after} in {1000 * (time.monotonic() - began):.0f} ms",
            )  # fmt: skip
    _CONSOLE.print(table)


if __name__ == "__main__":
    main()
