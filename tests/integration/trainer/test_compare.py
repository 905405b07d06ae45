"""`hourcast compare` as a person calls it, with its rows on a real MySQL."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from hourcast.contracts import Bars
from hourcast.store import open_store
from hourcast_trainer.walk.rows import read_parquet
from tests.integration.conftest import NOW, environment_of, hourcast, load_bars, run_well

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
    kinds = ("--kinds", "volatility,boosting,boosting+QQQ")
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
        "Winkler score at 90 %",
    ):
        assert word in out, out
    assert "QQQ in boosting lowers the pinball loss by: whole: 1 h " in out
    again = json.loads(run_well(more, *_SPAN, *kinds, "--json", "--export", str(tmp_path / "rows")))
    assert again["reference"] == "naive"
    assert set(again["spans"][0]["kinds"]) == {"naive", "volatility", "boosting"}
    files = sorted((tmp_path / "rows").glob("*.parquet"))
    assert len(files) == 4 * 3
    assert read_parquet(files[0].read_bytes()).returns.shape == (168, 24, 19)


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
