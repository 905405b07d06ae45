"""Nothing is lost and nothing doubled: killed amid a batch, two at once, a reader beside the writer."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hourcast.contracts import Bars
from hourcast.store import open_store
from tests.servers import wait_for

pytestmark = pytest.mark.integration


def _etl(store_url: str, market_dir: Path, tmp_path: Path, chunk: int) -> subprocess.Popen[bytes]:
    settings = {
        "HOURCAST_DATABASE_URL": store_url, "HOURCAST_SOURCE": f"files:{market_dir}", "HOURCAST_STATE_DIR": str(tmp_path),
        "HOURCAST_CLOCK": "2025-06-26T00:00Z", "HOURCAST_ETL_CHUNK_BARS": str(chunk), "HOURCAST_LOG_LEVEL": "WARNING",
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "hourcast.cli", "etl", "run"],
        env=os.environ | settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _whole(store_url: str, market_bars: dict[str, Bars]) -> None:
    store = open_store(store_url)
    until = 1750896000  # 2025-06-26
    for symbol, recorded in market_bars.items():
        expected = recorded.take(recorded.open_time + 3600 <= until)
        stored = store.read_bars(symbol)
        np.testing.assert_array_equal(stored.open_time, expected.open_time)
        np.testing.assert_array_equal(stored.close, expected.close)
    store.close()


def test_a_load_that_is_killed_again_and_again_ends_whole(
    store_url: str, market_dir: Path, tmp_path: Path, market_bars: dict[str, Bars]
) -> None:
    """Five kills amid batches of 100 bars leave whole batches only, and the next run brings the rest."""
    rng = random.Random(5)
    reader = open_store(store_url)
    reader.upgrade()
    seen = 0
    for _ in range(5):
        process = _etl(store_url, market_dir, tmp_path, 100)
        goal = seen + rng.randrange(150, 2500)

        def stored() -> int:
            return sum(reader.bar_counts([f.symbol for f in reader.freshness()]).values())

        wait_for(lambda goal=goal: stored() >= goal, 60, "progress of the load")  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
        assert process.stdout is not None
        process.stdout.close()
        seen = stored()
        btc = reader.read_bars("BTC/USDT")
        expected = market_bars["BTC/USDT"].take(slice(0, len(btc)))
        np.testing.assert_array_equal(btc.open_time, expected.open_time)
    reader.close()
    last = _etl(store_url, market_dir, tmp_path, 2000)
    output, _ = last.communicate(timeout=90)
    assert last.returncode == 0, output.decode()
    _whole(store_url, market_bars)


def test_two_loads_at_once_and_a_reader_beside_them(
    store_url: str, market_dir: Path, tmp_path: Path, market_bars: dict[str, Bars]
) -> None:
    """Two loads of one store end well together; whoever reads meanwhile sees a growing, gapless history."""
    reader = open_store(store_url)
    reader.upgrade()
    both = [_etl(store_url, market_dir, tmp_path, 300) for _ in range(2)]
    sizes = []
    while any(p.poll() is None for p in both):
        bars = reader.read_bars("BTC/USDT")
        np.testing.assert_array_equal(bars.open_time, market_bars["BTC/USDT"].open_time[: len(bars)])
        sizes.append(len(bars))
    assert sizes == sorted(sizes)
    outputs = [p.communicate(timeout=60)[0].decode() for p in both]
    assert [p.returncode for p in both] == [0, 0], outputs
    reader.close()
    _whole(store_url, market_bars)


def test_a_run_with_nothing_new_writes_nothing(store_url: str, market_dir: Path, tmp_path: Path) -> None:
    """The second of two runs inserts and revises nothing."""
    first = _etl(store_url, market_dir, tmp_path, 5000)
    output, _ = first.communicate(timeout=90)
    assert first.returncode == 0, output.decode()
    second = _etl(store_url, market_dir, tmp_path, 5000)
    output, _ = second.communicate(timeout=90)
    assert second.returncode == 0
    for line in output.decode().splitlines():
        assert ": complete, 0 new, 0 revised of " in line
