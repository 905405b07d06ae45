"""`python -m bench.large`: five years of ten symbols through the walk-forward engine, and what memory it takes.

Bars are simulated: ten hourly series whose volatility clusters (GARCH(1,1), Student t), one the target and nine that
the models look at. The last weeks are walked with all five years as training span; then four years with small ones.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import psutil

from hourcast.contracts import HOUR_S, Bars, from_epoch, parse_hour, to_epoch
from hourcast.store import open_store

_END = parse_hour("2025-01-01")
_YEARS, _SYMBOLS = 5, 10


def simulated(symbol: str, seed: int, hours: int, end_s: int) -> Bars:
    """Hourly bars whose returns are GARCH(1,1) with Student t innovations of 5 degrees of freedom."""
    rng = np.random.default_rng(seed)
    steps = 4
    shock = rng.standard_t(5, (hours, steps)) / np.sqrt(5 / 3 * steps)
    variance, returns = 2.5e-5, np.empty((hours, steps))
    for i in range(hours):
        returns[i] = np.sqrt(variance) * shock[i]
        variance = 2.5e-7 + 0.08 * returns[i].sum() ** 2 + 0.91 * variance
    path = np.exp(np.log(100.0) + np.cumsum(returns.ravel()).reshape(hours, steps))
    opens = np.concatenate([[100.0], path[:-1, -1]])
    both = np.concatenate([opens[:, None], path], axis=1)
    closes = end_s - HOUR_S * np.arange(hours - 1, -1, -1, dtype=np.int64)
    prices = np.stack(
        [opens, both.max(axis=1), both.min(axis=1), path[:, -1], rng.gamma(2.0, 50.0, hours)], axis=1
    )
    return Bars.of(symbol, closes - HOUR_S, prices)


def _peak_while(command: list[str], environment: dict[str, str]) -> tuple[float, float, str]:
    """Seconds, the most MiB that the command and its children held at once, and what it printed."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            try:
                root = psutil.Process(process.pid)
                # Pages that processes share count once.
                held = sum(p.memory_full_info().pss for p in [root, *root.children(recursive=True)])
            except psutil.Error:
                continue
            peak[0] = max(peak[0], held / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = process.communicate()
    done.set()
    watcher.join()
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{out[-3000:]}")
    return time.perf_counter() - began, peak[0], out


def main() -> None:
    """Simulate, walk, and print what it took."""
    parser = argparse.ArgumentParser(prog="python -m bench.large", description=__doc__)
    parser.add_argument("--weeks", type=int, default=8, help="weeks with five years as training span")
    parser.add_argument("--kinds", default="volatility,boosting,lstm", help="kinds for those weeks")
    asked = parser.parse_args()
    hours = _YEARS * 365 * 24
    symbols = [f"S{i}" for i in range(_SYMBOLS)]
    with tempfile.TemporaryDirectory(prefix="hourcast-large-") as folder:
        url = f"sqlite:///{Path(folder) / 'store.db'}"
        store = open_store(url)
        store.upgrade()
        for i, symbol in enumerate(symbols):
            store.upsert_bars(simulated(symbol, i, hours, to_epoch(_END)), "simulated", _END)
        store.close()
        series = ",".join(
            f'{{"symbol": "{s}", "role": "{"exogenous" if i else "target"}", "provider": "ccxt"}}'
            for i, s in enumerate(symbols)
        )
        looked_at = ",".join(f'"{s}"' for s in symbols[1:])
        environment = {
            "HOURCAST_DATABASE_URL": url, "HOURCAST_SERIES": f"[{series}]", "HOURCAST_SYNTHETIC": "true",
            "HOURCAST_FEATURE_SERIES": f"[{looked_at}]", "HOURCAST_TRAIN_WINDOW": "expanding",
        }  # fmt: skip
        first = from_epoch(to_epoch(_END) - hours * HOUR_S)
        command = [sys.executable, "-m", "hourcast.cli", "compare", "--to", f"{_END:%Y-%m-%d}", "--json"]
        runs = (
            (f"{asked.weeks} weeks, {asked.kinds}", _END - timedelta(weeks=asked.weeks), asked.kinds),
            ("four years, volatility", first + timedelta(days=365), "volatility"),
        )
        print(f"{_SYMBOLS} symbols x {hours:,} hours, all nine others as features, two processes")
        for name, start, kinds in runs:
            took, peak, _out = _peak_while(
                [*command, "--from", f"{start:%Y-%m-%d}", "--kinds", kinds], environment
            )
            print(f"{name}: {took:.0f} s, at most {peak:,.0f} MiB in all processes together")


if __name__ == "__main__":
    main()
