"""Training against MLflow's own server: what it gets, when nothing is due, what a kill leaves, walking forward."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from hourcast.conformal import Outcomes, advance
from hourcast.contracts import Bars, from_epoch, parse_hour
from hourcast.forecaster import load
from hourcast.store import Hour, SeriesState, open_store
from hourcast_trainer.lab.walk import walk_id
from hourcast_trainer.registry import Registry
from hourcast_trainer.settings import TrainerSettings
from tests.integration.conftest import NOW, World, environment_of, hourcast, load_bars

pytestmark = pytest.mark.integration
_names = iter(range(1, 1000))


def _api(url: str, endpoint: str, **query: Any) -> Any:
    return httpx.get(f"{url}/api/2.0/mlflow/{endpoint}", params=query, timeout=30, trust_env=False).json()


def _versions(world: World) -> dict[int, dict[str, str]]:
    url, model = world.environment["HOURCAST_MLFLOW_URL"], world.environment["HOURCAST_MODEL_NAME"]
    found = _api(url, "model-versions/search", filter=f"name='{model}'", max_results=1000)
    return {
        int(v["version"]): {t["key"]: t["value"] for t in v.get("tags", [])} | {"run_id": v["run_id"]}
        for v in found.get("model_versions", [])
    }


def _aliases(world: World) -> dict[str, int]:
    url, model = world.environment["HOURCAST_MLFLOW_URL"], world.environment["HOURCAST_MODEL_NAME"]
    found = _api(url, "registered-models/get", name=model)["registered_model"]
    return {a["alias"]: int(a["version"]) for a in found.get("aliases", [])}


@pytest.fixture
def fresh(tmp_path: Path, mlflow_server: str, market_bars: dict[str, Bars]) -> World:
    """Bars and an empty registry."""
    world = World(tmp_path, environment_of(tmp_path, mlflow_server, f"fresh-{next(_names)}"))
    with world.store() as store:
        load_bars(store, market_bars, NOW)
        store.set_clock(NOW)
    return world


def test_mlflow_gets_all_that_a_reader_needs(trained: World) -> None:
    """Dataset with fingerprint, parameters, metrics per epoch, plots, signature, input example, code version."""
    url = trained.environment["HOURCAST_MLFLOW_URL"]
    tags = _versions(trained)[3]
    assert (tags["kind"], tags["gate"], tags["alias"], tags["trained_through"]) == (
        "ensemble",
        "passed",
        "20240529",
        "2024-05-29",
    )
    assert tags["code_version"]
    run = _api(url, "runs/get", run_id=tags["run_id"])["run"]
    (given,) = run["inputs"]["dataset_inputs"]
    assert given["dataset"]["digest"] == tags["data_fingerprint"]
    parameters = {p["key"] for p in run["data"]["params"]}
    assert parameters >= {"seed", "lstm_hidden", "lstm_window_h"}
    history = _api(url, "metrics/get-history", run_id=tags["run_id"], metric_key="validation_loss")["metrics"]
    assert [m["step"] for m in history] == [1, 2]
    files = {f["path"] for f in _api(url, "artifacts/list", run_id=tags["run_id"])["files"]}
    plots = {
        f["path"] for f in _api(url, "artifacts/list", run_id=tags["run_id"], path="plots").get("files", [])
    }
    assert {Path(p).stem for p in plots | files} >= {"loss", "forecast", "calibration"}


def test_the_registered_model_predicts_by_mlflow_as_by_hourcast(trained: World, tmp_path: Path) -> None:
    """MLflow's own pyfunc, given the input example, gives the golden output; the model has a signature."""
    code = """
import json, sys, warnings
warnings.simplefilter("ignore")
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/trained/3")
assert model.metadata.signature is not None
example = model.input_example
print("RESULT", json.dumps(model.predict(example).to_dict("list"), default=str))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, trained.environment["HOURCAST_MLFLOW_URL"]],
        env=os.environ | dict(trained.environment), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(row for row in done.stdout.splitlines() if row.startswith("RESULT "))
    columns = json.loads(line.removeprefix("RESULT "))
    manifest = json.loads((trained.folder / "bucket/bentos/trained/3.json").read_text())
    golden = np.array(manifest["golden"]["quantiles"])
    median = next(values for name, values in columns.items() if "50" in str(name) or name == "point")
    np.testing.assert_allclose(np.array(median, float), golden[:, 9], rtol=1e-4)


def test_the_gates_figures_are_in_the_store(trained: World) -> None:
    """Each version's figures beside naive's, and the champion's where there was one, with the ratios that decided."""
    with trained.store() as store:
        rows = store.evaluations("trained", "gate")
    by = {(e.version, e.baseline.split(" ")[0]): e for e in rows}
    assert set(by) >= {(1, "naive"), (2, "naive"), (3, "naive"), (3, "champion")}
    made = by[(3, "naive")]
    assert made.passed
    assert made.figures["ratios"]["pinball 1 h / naive"] == pytest.approx(
        made.figures["candidate"]["next_hour"]["pinball"] / made.figures["baseline"]["next_hour"]["pinball"]
    )
    assert made.window_start == parse_hour("2024-05-30")
    assert made.window_end == parse_hour("2024-06-13")
    key = "pinball 1 h / naive"
    assert [by[version, "naive"].figures["tests"][key]["look"] for version in (2, 3)] == [1, 2]
    assert (
        made.figures["tests"][key]["pooled_days"]
        > made.figures["tests"][key]["days"]
        == len(made.figures["days"][key])
    )


def test_nothing_due_is_no_failure(trained: World) -> None:
    """A schedule that comes too early ends with 0 and says when the next training is due."""
    told = trained.run("train", "--as-of", "2024-06-14")
    assert told.strip().endswith("nothing due: the next training is due at 2024-06-20 00:00 UTC")
    assert set(_versions(trained)) == {1, 2, 3}


def test_too_few_bars_are_told(tmp_path: Path, mlflow_server: str, market_bars: dict[str, Bars]) -> None:
    """A training without enough history ends with 5 and says what is needed and what to run."""
    environment = environment_of(tmp_path, mlflow_server, f"fresh-{next(_names)}")
    world = World(tmp_path, environment)
    with world.store() as store:
        load_bars(store, {"BTC/USDT": market_bars["BTC/USDT"].take(slice(0, 200))}, parse_hour("2023-12-09"))
        store.set_clock(parse_hour("2023-12-09"))
    done = hourcast(environment, "train")
    assert done.returncode == 5
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "hourcast: not enough bars of BTC/USDT yet: a training as of 2023-12-09 00:00 UTC needs "
    )
    assert last.endswith("; run `hourcast etl run`")


def test_a_candidate_that_fails_gets_no_alias_and_the_floor_serves(fresh: World) -> None:
    """A network that learned nothing fails an honest gate: registered with its figures, no alias; the floor keeps it."""
    environment = {
        **fresh.environment,
        "HOURCAST_GATE_MARGIN": "0",
        "HOURCAST_GATE_P": "1e-9",
        "HOURCAST_LSTM_EPOCHS": "1",
        "HOURCAST_TRAIN_DAYS": "45",
    }
    done = hourcast(environment, "train", "--as-of", "2024-04-10")
    assert done.returncode == 0, done.stderr
    versions = _versions(fresh)
    assert (versions[1]["kind"], versions[1]["gate"]) == ("naive", "passed")
    assert (versions[2]["kind"], versions[2]["gate"]) == ("ensemble", "failed"), versions[2]["gate_reason"]
    assert versions[2]["gate_reason"].startswith("not shown to be at most 0 % worse: ")
    assert _aliases(fresh) == {"20240326": 1, "champion": 1}
    assert "version 2 failed its gate" in done.stdout


def test_a_training_that_is_killed_leaves_nothing_half(fresh: World) -> None:
    """Killed at four random moments: no version without a verdict, no alias without a gate, and then it is done."""
    rng = random.Random(11)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-m", "hourcast.cli", "train", "--as-of", "2024-06-06"],
            env=os.environ | dict(fresh.environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(rng.uniform(1.5, 5.5))
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    fresh.run("train", "--as-of", "2024-06-06")
    versions, aliases = _versions(fresh), _aliases(fresh)
    assert all(tags.get("gate") in ("passed", "failed") for tags in versions.values()), versions
    for alias, version in aliases.items():
        assert versions[version]["gate"] == "passed", alias
    served = versions[aliases["20240522"]]
    assert served["kind"] == "ensemble"
    assert [
        v for v, tags in versions.items() if tags.get("alias_set") == "true" and tags["kind"] == "ensemble"
    ] == [aliases["20240522"]]
    url = fresh.environment["HOURCAST_MLFLOW_URL"]
    experiment = _api(
        url, "experiments/get-by-name", experiment_name=fresh.environment["HOURCAST_MODEL_NAME"]
    )
    found = httpx.post(
        f"{url}/api/2.0/mlflow/runs/search",
        json={
            "experiment_ids": [experiment["experiment"]["experiment_id"]],
            "filter": "attributes.status = 'RUNNING'",
        },
        timeout=30,
        trust_env=False,
    ).json()
    assert found.get("runs", []) == []


def test_a_backtest_that_is_killed_goes_on_and_ends_the_same(
    fresh: World, tmp_path: Path, mlflow_server: str, market_bars: dict[str, Bars]
) -> None:
    """Killed while weeks are fitted and while they are decided, every row is what an unbroken run gives; again does nothing."""
    words = ["backtest", "--from", "2024-05-16", "--to", "2024-06-13", "--jobs", "1"]
    model = fresh.environment["HOURCAST_MODEL_NAME"]
    walk = walk_id(TrainerSettings(), 7)

    def killed_when(begun: Callable[[], int]) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "hourcast.cli", *words],
            env=os.environ | dict(fresh.environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + 90
        while not begun() and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert 1 <= begun() < 4

    with fresh.store() as store:
        killed_when(lambda: len(store.walk_folds(model, walk, "production", files=False)))
        assert store.evaluations(model, "backtest") == []
        killed_when(lambda: len(store.evaluations(model, "backtest")))
        figures = json.loads(fresh.run(*words, "--json"))
        broken = store.backtest_rows(model)
        made = _versions(fresh)
        assert json.loads(fresh.run(*words, "--json")) == figures
        assert _versions(fresh) == made
    assert figures["model"]["n"] == 28 * 24
    assert figures["naive"]["n"] == 28 * 24
    assert set(figures["months"]) == {"2024-05", "2024-06"}
    assert _aliases(fresh).keys() >= {
        "backtest_20240501", "backtest_20240508", "backtest_20240515", "backtest_20240522",
    }  # fmt: skip

    folder = tmp_path / "unbroken"
    folder.mkdir()
    whole = World(folder, environment_of(folder, mlflow_server, f"fresh-{next(_names)}"))
    with whole.store() as store:
        load_bars(store, market_bars, NOW)
        store.set_clock(NOW)
    assert json.loads(whole.run(*words[:-2], "--jobs", "2", "--json"))["model"] == figures["model"]
    with whole.store() as store:
        unbroken = store.backtest_rows(whole.environment["HOURCAST_MODEL_NAME"])
    assert [r.alias for r in broken] == [r.alias for r in unbroken]
    for ours, theirs in zip(broken, unbroken, strict=True):
        np.testing.assert_array_equal(ours.quantiles, theirs.quantiles)
        np.testing.assert_array_equal(ours.actual, theirs.actual)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--from", "2023-12-10", "--to", "2024-06-01"), "--from 2023-12-10 is too early: bars of BTC/USDT begin at 2023-12-01"),
        (("--from", "2024-06-01", "--to", "2030-01-01"), "--to 2030-01-01 00:00 is too late: the newest bar of BTC/USDT closed at 2024-06-13 00:00"),
        (("--from", "2024-06-09", "--to", "2024-06-02"), "--from 2024-06-09 must lie before --to 2024-06-02"),
        (("--from", "soon", "--to", "2024-06-02"), "'soon' is not a time; write it as 2025-06-26 or 2025-06-26T05:00Z"),
    ],
)  # fmt: skip
def test_a_backtest_that_cannot_be_says_why(trained: World, words: tuple[str, ...], message: str) -> None:
    """Spans without bars, the wrong way round, or no time at all."""
    done = hourcast(trained.environment, "backtest", *words)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_forecaster_from_the_registry_is_the_one_that_was_packaged(trained: World, tmp_path: Path) -> None:
    """The package carries the very network of the registry."""
    import tarfile

    with tarfile.open(trained.folder / "bucket/bentos/trained/3.bento") as archive:
        archive.extractall(tmp_path, filter="data")
    packaged = load(tmp_path / "src/model/forecaster")
    assert packaged.spec.kind == "ensemble"
    store = open_store(trained.store_url)
    bars = store.read_many(list(packaged.spec.symbols), known_at=NOW)
    assert packaged.predict(bars).quantiles.shape == (1, 24, 19)
    store.close()


def test_the_table_of_features_has_the_mark_that_forecasts_carry(world: World, tmp_path: Path) -> None:
    """What `hourcast features` writes of an hour is what serving forecast from, also after its bars were revised."""
    from pyarrow import parquet

    hours = {"--as-of": "2024-06-13", "--from": "2024-06-12T23:00", "--to": "2024-06-13T01:00"}
    words = [word for pair in hours.items() for word in pair]
    file = tmp_path / "features.parquet"
    with world.store() as store:
        newest = {s: from_epoch(store.read_bars(s, last=1).close_time[-1]) for s in ("BTC/USDT", "QQQ")}
        states = {
            s: SeriesState("there" if s == "BTC/USDT" else "shut", close) for s, close in newest.items()
        }
        assert store.close_hour(Hour("trained", NOW, NOW, NOW, states))
        with world.serve(3, HOURCAST_MODEL_ALIAS="20240529") as server:
            issued = server.get("/predict").json()
        last = store.read_bars("BTC/USDT", last=1)
        revised = replace(last, high=last.high * 1.5, volume=last.volume + 1)
        assert store.upsert_bars(revised, "files", NOW + timedelta(hours=1)).revised == 1
    assert world.run("features", *words, "--out", str(file)) == (
        f"{file}: 2 hours of version 3 (alias 20240529) as of 2024-06-13 00:00 UTC, 2 usable, "
        "1 of them as recorded, the others reconstructed\n"
    )
    table = parquet.read_table(file)
    assert table.column("fingerprint").to_pylist()[1] == issued["fingerprint"]
    assert table.column("last_close").to_pylist()[1] == issued["forecasts"][0]["last_close"]
    about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert (about["model"], about["version"], about["alias"]) == ("trained", "3", "20240529")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--alias", "20200101"), 6, "hourcast: there is no alias '20200101'; the newest are 20240529, 20240522"),
        (("--to", "2024-06-01"), 2, "--from 2024-06-12 00:00 must lie before --to 2024-06-01 00:00"),
    ],
)  # fmt: skip
def test_a_table_of_features_that_cannot_be_says_why(
    trained: World, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    """An alias that is not there, or a span the wrong way round; no file is written."""
    file = tmp_path / "features.parquet"
    span = ("--from", "2024-06-12", "--to", "2024-06-13", "--out", str(file))
    done = hourcast(trained.environment, "features", *span, *words)
    assert done.returncode == code
    assert message in done.stderr
    assert not file.exists()


def test_a_model_may_have_more_versions_than_a_page(
    tmp_path: Path, mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are read, page by page, or a training would be due again and again; one whose tags make no sense stops nobody."""
    name = f"many-{next(_names)}"
    monkeypatch.setattr("hourcast_trainer.registry._PAGE", 2)
    settings = TrainerSettings.load(
        mlflow_url=mlflow_server,
        model_name=name,
        state_dir=tmp_path,
        database_url=f"sqlite:///{tmp_path / 'x.db'}",
    )
    registry = Registry(settings)
    registry.ready()
    for number in range(5):
        told = {"stage": "production", "trained_through": "soon" if number == 3 else f"2025-06-0{number + 1}"}
        body = {
            "name": name,
            "source": f"s3://nowhere/{number}",
            "tags": [{"key": k, "value": v} for k, v in told.items()],
        }
        made = httpx.post(
            f"{mlflow_server}/api/2.0/mlflow/model-versions/create", json=body, timeout=30, trust_env=False
        )
        assert made.status_code == 200, made.text
    assert [(v.version, v.stage) for v in registry.versions()] == [
        (1, "production"), (2, "production"), (3, "production"), (4, "unknown"), (5, "production"),
    ]  # fmt: skip
    experiment = _api(mlflow_server, "experiments/get-by-name", experiment_name=name)["experiment"][
        "experiment_id"
    ]
    for _ in range(3):
        httpx.post(
            f"{mlflow_server}/api/2.0/mlflow/runs/create",
            json={"experiment_id": experiment},
            timeout=30,
            trust_env=False,
        ).raise_for_status()
    assert registry.clear_interrupted() == 3


def test_calibration_goes_on_over_weeks_of_the_floor(fresh: World) -> None:
    """The naive floor has none of its own; the model after it takes on what the one before it had learned."""
    fresh.run("train", "--as-of", "2024-06-06")
    url, name = fresh.environment["HOURCAST_MLFLOW_URL"], fresh.environment["HOURCAST_MODEL_NAME"]
    assert _versions(fresh)[1]["kind"] == "naive"
    httpx.post(
        f"{url}/api/2.0/mlflow/registered-models/alias",
        json={"name": name, "alias": "20240525", "version": "1"}, timeout=30, trust_env=False,
    ).raise_for_status()  # fmt: skip
    fresh.run("train", "--as-of", "2024-06-13")
    registry = Registry(
        TrainerSettings.load(
            mlflow_url=url, model_name=name, database_url=fresh.environment["HOURCAST_DATABASE_URL"]
        )
    )
    before, after = (load(registry.forecaster_of(version)).spec.conformal for version in (2, 3))
    assert before is not None
    assert after is not None
    assert after == advance(before, Outcomes.none(len(before.levels)), after.as_of)
