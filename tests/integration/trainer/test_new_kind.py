"""A toy kind of model, registered from here alone, lives as any other: trained, gated, compared, walked, packaged."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from hourcast.contracts import HOUR_S, from_epoch
from tests.integration.conftest import World, environment_of, load_bars
from tests.markets import START, market

pytestmark = pytest.mark.integration
_ROOT = Path(__file__).parents[3]
_HOURS = 3600
_NOW = from_epoch((START + _HOURS * HOUR_S) // 86_400 * 86_400)
# All that a stranger adds beside the module: the line that registers it.
_WITH_TOY = """
from hourcast_trainer.models import Kind, register
from tests.toys import ToyModel
register(Kind(ToyModel(), title="Toy", spoken="the toy"))
from hourcast.cli import main
main()
"""


def test_a_kind_that_nobody_knew_goes_all_the_way(tmp_path: Path, mlflow_server: str) -> None:
    """Training puts it through its gate, compare, report and back-test take it, and packaging needs no code of it."""
    environment = environment_of(tmp_path, mlflow_server, "toys")
    environment |= {"HOURCAST_MODEL_KIND": "toy", "HOURCAST_FEATURE_SERIES": "none"}
    world = World(tmp_path, environment)

    def hourcast(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", _WITH_TOY, *words],
            env=os.environ | environment, cwd=_ROOT, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    with world.store() as store:
        load_bars(store, {"BTC/USDT": market(_HOURS)}, _NOW)
        store.set_clock(_NOW)
    assert "version 2 passed its gate" in hourcast("train")
    with world.store() as store:
        gates = {(e.version, e.kind, e.baseline, e.passed) for e in store.evaluations("toys", "gate")}
    assert {(1, "naive", "naive", True), (2, "toy", "naive", True), (2, "toy", "champion v1", True)} == gates

    span = ("--from", f"{_NOW - timedelta(days=14):%Y-%m-%d}", "--to", f"{_NOW:%Y-%m-%d}")
    compared = json.loads(hourcast("compare", *span, "--kinds", "volatility,toy", "--jobs", "1", "--json"))
    assert set(compared["spans"][0]["kinds"]) == {"naive", "volatility", "toy"}
    page = tmp_path / "report.html"
    hourcast("report", "--headline", "toy", "--out", str(page), "--no-mlflow")
    assert "The toy" in page.read_text()
    tested = json.loads(hourcast("backtest", *span, "--jobs", "1", "--json"))
    assert (tested["weeks_by_model"], tested["weeks_by_floor"]) == (2, 0)

    # What packages, and so what serves, has never heard of it.
    assert "packaged toys version 2 (toy)" in world.run("package", "2")
    golden = json.loads((tmp_path / "bucket/bentos/toys/2.json").read_text())["golden"]
    assert np.isfinite(np.array(golden["quantiles"])).all()
