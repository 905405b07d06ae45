"""`hourcast etl` as an operator uses it."""

import json
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from hourcast.store import open_store
from tests.integration.conftest import hourcast, run_well
from tests.ports import find_port
from tests.servers import Process, wait_for

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(tmp_path: Path, market_dir: Path) -> dict[str, str]:
    """A store of its own, filled from the recorded bars up to an hour."""
    return {
        "HOURCAST_STATE_DIR": str(tmp_path), "HOURCAST_SOURCE": f"files:{market_dir}", "HOURCAST_CLOCK": "2025-06-26T00:00Z",
        "HOURCAST_LOG_LEVEL": "WARNING",
    }  # fmt: skip


def test_gaps_are_listed_and_filled_by_the_command_that_the_list_names(
    settings: dict[str, str], tmp_path: Path
) -> None:
    """Five hours of Bitcoin and a session of QQQ are missing: found by each market's hours, filled, gone."""
    run_well(settings, "etl", "run")
    before = json.loads(run_well(settings, "etl", "gaps", "--json", "--days", "20"))
    store = open_store(f"sqlite:///{tmp_path / 'hourcast.db'}")
    with store.engine.connect().execution_options(writes=True) as connection, connection.begin():
        for symbol, first, last in (
            ("BTC/USDT", "2025-06-20 03:00", "2025-06-20 08:00"),
            ("QQQ", "2025-06-18 00:00", "2025-06-19 00:00"),
        ):
            connection.execute(
                sa.text("DELETE FROM bars WHERE symbol = :s AND open_time >= :a AND open_time < :b"),
                {"s": symbol, "a": f"{first}:00.000000", "b": f"{last}:00.000000"},
            )
    found = json.loads(run_well(settings, "etl", "gaps", "--json", "--days", "20"))
    new = [g for g in found if g not in before]
    assert [(g["symbol"], g["missing"], g["start"], g["last"]) for g in new] == [
        ("BTC/USDT", 5, "2025-06-20T03:00:00+00:00", "2025-06-20T07:00:00+00:00"),
        ("QQQ", 7, "2025-06-18T13:30:00+00:00", "2025-06-18T19:30:00+00:00"),
    ]
    told = run_well(settings, "etl", "gaps", "--days", "20")
    command = told.strip().splitlines()[-1].removeprefix("fill them: hourcast ").split()
    out = run_well(settings, *command)
    assert "BTC/USDT: complete, 5 new, 0 revised of " in out
    assert "QQQ: complete, 7 new, 0 revised of " in out
    assert json.loads(run_well(settings, "etl", "gaps", "--json", "--days", "20")) == before
    store.close()


def test_status_tells_freshness_and_runs(settings: dict[str, str]) -> None:
    """Each series with its newest close, each run with what it did; for programs the same as JSON."""
    run_well(settings, "etl", "run")
    body = json.loads(run_well(settings, "etl", "status", "--json"))
    newest = {s["symbol"]: s["last_close"] for s in body["series"]}
    assert newest["BTC/USDT"] == "2025-06-26T00:00:00+00:00"
    assert {r["status"] for r in body["runs"]} == {"complete"}
    assert body["quarantined"] == []
    assert "BTC/USDT from files: complete, 13752 new, 0 revised" in run_well(settings, "etl", "status")


def test_a_partial_run_ends_with_3_and_the_reason(
    settings: dict[str, str], tmp_path: Path, market_dir: Path
) -> None:
    """A folder that lacks a series: the others are stored, the code is 3, the sentence names what is missing."""
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "btc_1h.csv").symlink_to(market_dir / "btc_1h.csv")
    done = hourcast({**settings, "HOURCAST_SOURCE": f"files:{folder}"}, "etl", "run")
    assert done.returncode == 3
    assert "BTC/USDT: complete, 13752 new" in done.stdout
    assert done.stderr.strip().splitlines()[-1].startswith("hourcast: the run is partial: files: nothing in ")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("run", "--symbol", "DOGE"), 6, "hourcast: there is no series 'DOGE'; there are BTC/USDT, QQQ, ^VIX, GC=F"),
        (("backfill", "--from", "2025-06-02", "--to", "2025-06-01"), 2, "--from 2025-06-02 00:00 must lie before --to 2025-06-01 00:00"),
        (("backfill", "--from", "soon", "--to", "2025-06-01"), 2, "'soon' is not a time; write it as 2025-06-26 or 2025-06-26T05:00Z"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_told(
    settings: dict[str, str], words: tuple[str, ...], code: int, message: str
) -> None:
    """A sentence and an exit code, nothing written."""
    done = hourcast(settings, "etl", *words)
    assert done.returncode == code
    assert message in done.stderr


def test_a_first_run_waits_for_what_is_missing(settings: dict[str, str], tmp_path: Path) -> None:
    """With --wait a partial run is tried again; each reason is told once, and it ends with 0 when all came."""
    folder = tmp_path / "bars"
    folder.mkdir()
    (folder / "btc_1h.csv").write_text("datetime,open,high,low,close,volume\n2025-06-25 22:00:00,1,1,1,1,1\n")
    wanted = {
        **settings, "HOURCAST_SOURCE": f"files:{folder}",
        "HOURCAST_SERIES": json.dumps([{"symbol": s, "role": r, "files": [f]} for s, r, f in (
            ("BTC/USDT", "target", "btc_1h.csv"), ("QQQ", "exogenous", "ndx_1h.csv"))]),
    }  # fmt: skip
    process = Process.start(
        "etl", [sys.executable, "-m", "hourcast.cli", "etl", "run", "--wait", "60"], tmp_path, wanted
    )  # fmt: skip
    process.wait_until(
        lambda: "waiting up to 60 s: the run is partial: files: nothing in " in process.text(), 30, "reason"
    )
    (folder / "ndx_1h.csv").write_text("datetime,open,high,low,close,volume\n2025-06-25 13:30:00,1,1,1,1,1\n")
    wait_for(lambda: process.popen.poll() is not None, 60, "end of the run")
    assert process.popen.returncode == 0, process.text()
    assert process.text().count("waiting up to 60 s") == 1
    assert "QQQ: complete, 1 new" in process.text()


def test_a_wait_ends_as_a_run_without_it(settings: dict[str, str], tmp_path: Path) -> None:
    """When the limit has passed: exit code 3 for a partial run, 5 for a store that does not answer."""
    folder = tmp_path / "none"
    folder.mkdir()
    partial = hourcast({**settings, "HOURCAST_SOURCE": f"files:{folder}"}, "etl", "run", "--wait", "1")
    assert partial.returncode == 3
    assert (
        partial.stderr.strip().splitlines()[-1].startswith("hourcast: the run is partial: files: nothing in ")
    )
    url = f"mysql+pymysql://nobody@127.0.0.1:{find_port()}/none"
    away = hourcast({**settings, "HOURCAST_DATABASE_URL": url}, "etl", "run", "--wait", "1")
    assert away.returncode == 5
    assert away.stderr.strip().splitlines()[-1].startswith(f"hourcast: the store at {url} does not answer (")


def test_a_run_that_is_told_to_stop_ends_cleanly(settings: dict[str, str], tmp_path: Path) -> None:
    """SIGTERM while it waits: exit code 143, no traceback."""
    folder = tmp_path / "none"
    folder.mkdir()
    process = Process.start(
        "etl", [sys.executable, "-m", "hourcast.cli", "etl", "run", "--wait", "60"], tmp_path,
        {**settings, "HOURCAST_SOURCE": f"files:{folder}"},
    )  # fmt: skip
    process.wait_until(lambda: "waiting up to 60 s" in process.text(), 30, "reason")
    assert process.end() == 143
    assert "Traceback" not in process.text()
