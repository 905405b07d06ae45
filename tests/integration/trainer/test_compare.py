"""`hourcast compare` as a person calls it, with its rows on a real MySQL."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from hourcast.contracts import Bars
from hourcast.store import open_store
from hourcast_trainer.lab.walk.rows import read_parquet
from tests.integration.conftest import NOW, environment_of, hourcast, load_bars, run_well
from tests.servers import wait_for

pytestmark = pytest.mark.integration
_models = (f"compare-{n}" for n in itertools.count(1))
_SPAN = ("compare", "--from", "2024-05-23", "--to", "2024-06-13", "--jobs", "1")


def _world(folder: Path, url: str, market_bars: Mapping[str, Bars]) -> dict[str, str]:
    """A store with bars; no MLflow is there, and none is asked."""
    environment = environment_of(folder, "http://127.0.0.1:9", next(_models))
    store = open_store(url)
    load_bars(store, market_bars, NOW)
    store.close()
    return environment | {"HOURCAST_DATABASE_URL": url, "HOURCAST_CLOCK": "2024-06-13T00:00Z"}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, market_bars: dict[str, Bars]) -> dict[str, str]:
    """A world with SQLite."""
    folder = tmp_path_factory.mktemp("compare")
    return _world(folder, f"sqlite:///{folder / 'store.db'}", market_bars)


def test_shards_share_the_folds_and_the_last_tells_the_figures(
    tmp_path: Path, mysql_url: str, market_bars: dict[str, Bars]
) -> None:
    """Each shard does its own; the last prints kinds, promises and what a series is worth; a repetition only reads."""
    kinds = ("--kinds", "volatility,boosting,boosting-QQQ")
    more = _world(tmp_path, mysql_url, market_bars) | {"HOURCAST_BOOSTING_ROUNDS": "6"}
    assert run_well(more, *_SPAN, *kinds, "--shard", "0/2") == (
        "shard 0 of 2 is done; 1 folds of other shards are left, and the last prints the figures\n"
    )
    out = run_well(more, *_SPAN, *kinds, "--shard", "1/2", "--untouched-from", "2024-06-06")
    assert "BTC/USDT, whole span 2024-05-23 to 2024-06-13, 504 hours" in out
    for word in (
        "naive",
        "volatility",
        "boosting",
        "chosen on span",
        "untouched span",
        "Winkler score",
    ):
        assert word in out, out
    assert "QQQ in boosting lowers the pinball loss by: whole: 1 h " in out
    again = json.loads(run_well(more, *_SPAN, *kinds, "--json", "--export", str(tmp_path / "rows")))
    assert again["reference"] == "naive"
    assert set(again["spans"][0]["kinds"]) == {"naive", "volatility", "boosting"}
    files = sorted((tmp_path / "rows").glob("*.parquet"))
    assert len(files) == 4 * 3
    assert read_parquet(files[0].read_bytes()).returns.shape == (168, 24, 19)


def test_workers_end_with_the_process_that_started_them(local: Mapping[str, str]) -> None:
    """`kill -9` of a comparison leaves no worker behind; what it had kept is kept."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hourcast.cli", *_SPAN[:-1], "2", "--kinds", "boosting", "--every", "3d"],
        env=os.environ | dict(local), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    parent = psutil.Process(process.pid)
    wait_for(lambda: len(_workers(parent)) == 2 or process.poll() is not None, 60, "two workers")
    workers = _workers(parent)
    assert len(workers) == 2
    process.kill()
    process.wait(10)
    wait_for(lambda: not any(worker.is_running() for worker in workers), 20, "end of the workers")


def _workers(parent: psutil.Process) -> list[psutil.Process]:
    """Its children but for multiprocessing's own, which cleans up after it."""
    return [child for child in parent.children() if "resource_tracker" not in " ".join(child.cmdline())]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--kinds", "gru"), 2, "hourcast: there is no kind of model 'gru'; there are "),
        (
            ("--kinds", "lstm+SPY"),
            2,
            "hourcast: there is no exogenous series 'SPY'; there are QQQ, ^VIX, GC=F",
        ),
        (("--from", "2023-12-09"), 2, "hourcast: --from 2023-12-09 is too early: bars of BTC/USDT begin at "),
        (
            ("--to", "2024-07-09"),
            2,
            "hourcast: --to 2024-07-09 00:00 is too late: the newest bar of BTC/USDT closed at ",
        ),
    ],
)
def test_a_comparison_that_cannot_be_says_why(
    local: Mapping[str, str], words: tuple[str, ...], code: int, message: str
) -> None:
    """One sentence that names what is wrong and what there is."""
    done = hourcast(local, *_SPAN, *words)
    assert done.returncode == code, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(message)
