"""Back-tests in shards side by side, and trainings that wait: on a real MySQL and MLflow."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import numpy as np
import pytest

from hourcast.contracts import Bars, parse_hour
from hourcast.store import BacktestRows, open_store
from hourcast_trainer.lab.walk import walk_id
from hourcast_trainer.registry import Registry
from hourcast_trainer.settings import TrainerSettings
from tests.integration.conftest import NOW, environment_of, hourcast, load_bars, run_well
from tests.ports import find_port
from tests.servers import Process, wait_for

pytestmark = pytest.mark.integration
_models = (f"shards-{n}" for n in itertools.count(1))
_SPAN = ("backtest", "--from", "2024-05-16", "--to", "2024-06-13", "--jobs", "1")


def _environment(
    folder: Path, url: str, mlflow_server: str, market_bars: Mapping[str, Bars]
) -> dict[str, str]:
    environment = {
        **environment_of(folder, mlflow_server, next(_models)), "HOURCAST_DATABASE_URL": url,
        "HOURCAST_CLOCK": "2024-06-13T00:00Z",
    }  # fmt: skip
    store = open_store(url)
    load_bars(store, market_bars, NOW)
    store.close()
    return environment


def _rows(environment: Mapping[str, str]) -> list[BacktestRows]:
    store = open_store(environment["HOURCAST_DATABASE_URL"])
    try:
        return store.backtest_rows(environment["HOURCAST_MODEL_NAME"])
    finally:
        store.close()


def _fitted(environment: Mapping[str, str]) -> dict[str, int]:
    """The weeks that are fitted, by their start, and their versions."""
    store = open_store(environment["HOURCAST_DATABASE_URL"])
    try:
        kept = store.walk_folds(
            environment["HOURCAST_MODEL_NAME"], walk_id(TrainerSettings(), 7), "production", files=False
        )
        return {f"{fold.start:%Y-%m-%d}": fold.lineage["version"] for fold in kept}
    finally:
        store.close()


def test_two_shards_at_once_give_the_rows_of_one_run(
    tmp_path: Path, mysql_url: str, mlflow_server: str, market_bars: dict[str, Bars]
) -> None:
    """Two processes on one MySQL and one MLflow do half of the weeks each, byte for byte as one process; the last reports."""
    environment = _environment(tmp_path, mysql_url, mlflow_server, market_bars)
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "hourcast.cli", *_SPAN, "--shard", f"{i}/2"],
            env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    told = [out for out, _ in outputs]
    reports = [out for out in told if "Pinball loss against naive" in out]
    assert reports, told
    for i, out in enumerate(told):
        assert "Pinball loss" in out or out.startswith(f"shard {i} of 2 is done; "), out
    sharded = _rows(environment)

    url = f"{environment['HOURCAST_MLFLOW_URL']}/api/2.0/mlflow"
    model = environment["HOURCAST_MODEL_NAME"]
    found = httpx.get(
        f"{url}/model-versions/search", params={"filter": f"name='{model}'"}, timeout=30, trust_env=False
    ).json()["model_versions"]
    assert len(found) == 4
    assert {tag["value"] for v in found for tag in v["tags"] if tag["key"] == "gate"} == {"passed"}

    folder = tmp_path / "whole"
    folder.mkdir()
    whole = _environment(folder, f"sqlite:///{folder / 'store.db'}", mlflow_server, market_bars)
    run_well(whole, *_SPAN)
    for ours, theirs in zip(sharded, _rows(whole), strict=True):
        assert ours.alias == theirs.alias
        for name in ("origin", "quantiles", "naive_quantiles", "actual"):
            assert getattr(ours, name).tobytes() == getattr(theirs, name).tobytes(), name
    np.testing.assert_array_equal(sharded[0].quantiles, _rows(whole)[0].quantiles)


def test_a_shard_goes_on_where_it_was_and_says_what_is_left(
    tmp_path: Path, mysql_url: str, mlflow_server: str, market_bars: dict[str, Bars]
) -> None:
    """One shard alone says how many weeks are left; again it does nothing; a second holder of it is refused."""
    environment = _environment(tmp_path, mysql_url, mlflow_server, market_bars)
    told = "shard 1 of 3 is done; 3 weeks of other shards are left, and the last prints the report\n"
    assert run_well(environment, *_SPAN, "--shard", "1/3") == told
    before = _fitted(environment)
    assert list(before) == ["2024-05-23"]
    assert run_well(environment, *_SPAN, "--shard", "1/3") == told
    assert _fitted(environment) == before
    assert _rows(environment) == []
    store = open_store(mysql_url)
    with store.exclusive("backtest-1-of-3"):
        done = hourcast(environment, *_SPAN, "--shard", "1/3")
        assert done.returncode == 5
        assert done.stderr.strip().splitlines()[-1] == (
            "hourcast: another `backtest-1-of-3` on this store is running; try again when it has ended"
        )
    store.close()


@pytest.mark.parametrize("shard", ["2/2", "1", "-1/2", "a/b", "0/0"])
def test_a_shard_that_is_none_is_refused(shard: str) -> None:
    """I/N with I from 0 to N-1; anything else is told."""
    done = hourcast({}, *_SPAN, "--shard", shard)
    assert done.returncode == 2
    assert f"{shard!r} is not a shard; write it as I/N with I from 0 to N-1, such as 0/4" in done.stderr


def test_a_training_leaves_what_a_shard_has_begun(
    mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what the same holder left is closed as interrupted: another's run may be at work."""
    for name, value in environment_of(tmp_path, mlflow_server, next(_models)).items():
        monkeypatch.setenv(name, value)
    settings = TrainerSettings.load()
    theirs, ours = Registry(settings, "backtest-0-of-2"), Registry(settings)
    theirs.ready()
    ours.ready()
    client = theirs._client
    run = client.create_run(str(theirs._experiment_id), tags={"holder": "backtest-0-of-2"})
    assert ours.clear_interrupted() == 0
    assert client.get_run(run.info.run_id).info.status == "RUNNING"
    assert theirs.clear_interrupted() == 1
    assert client.get_run(run.info.run_id).info.status == "KILLED"


def test_a_training_waits_for_mlflow_and_for_bars(
    tmp_path: Path, mlflow_server: str, market_bars: dict[str, Bars]
) -> None:
    """Started before all else it tells each reason once and trains when bars have come."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    environment = {
        **environment_of(tmp_path, mlflow_server, next(_models)), "HOURCAST_DATABASE_URL": url,
        "HOURCAST_CLOCK": "2024-06-13T00:00Z", "HOURCAST_LSTM_EPOCHS": "1",
    }  # fmt: skip
    process = Process.start(
        "train", [sys.executable, "-m", "hourcast.cli", "train", "--wait", "120"], tmp_path, environment
    )
    process.wait_until(
        lambda: "waiting up to 120 s: the store has no tables yet" in process.text(), 60, "first reason"
    )
    store = open_store(url)
    load_bars(store, {"BTC/USDT": market_bars["BTC/USDT"].take(slice(0, 200))}, parse_hour("2023-12-09"))
    process.wait_until(
        lambda: "waiting up to 120 s: not enough bars of BTC/USDT yet" in process.text(), 60, "second reason"
    )
    load_bars(store, market_bars, NOW)
    store.close()
    wait_for(lambda: process.popen.poll() is not None, 120, "end of the training")
    assert process.popen.returncode == 0, process.text()
    assert "its gate" in process.text().splitlines()[-1]
    assert process.text().count("the store has no tables yet") == 1


def test_a_training_that_is_told_to_stop_ends_at_once_and_cleanly(
    tmp_path: Path, market_bars: dict[str, Bars]
) -> None:
    """SIGTERM while it waits: exit code 143, no traceback."""
    environment = {
        **environment_of(tmp_path, f"http://127.0.0.1:{find_port()}", "m"), "HOURCAST_CLOCK": "2024-06-13T00:00Z",
    }  # fmt: skip
    store = open_store(environment["HOURCAST_DATABASE_URL"])
    load_bars(store, market_bars, NOW)
    store.close()
    process = Process.start(
        "train", [sys.executable, "-m", "hourcast.cli", "train", "--wait", "120"], tmp_path, environment
    )
    process.wait_until(lambda: "waiting up to 120 s: MLflow at" in process.text(), 60, "reason")
    assert process.end(signal.SIGTERM) == 143
    assert "Traceback" not in process.text()
