"""`hourcast up` as a whole: it comes up, says what stands in its way, survives kills, and leaves nothing behind."""

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from hourcast.store import open_store
from tests.ports import find_port
from tests.servers import S3, Process, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@dataclass
class Ground:
    """A state folder and ports of one test's own."""

    folder: Path
    environment: dict[str, str]
    started: list[Process] = field(default_factory=list)

    @property
    def api(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.environment['HOURCAST_API_PORT']}"

    def start(self, *words: str) -> Process:
        """`hourcast up` with further options."""
        self.started.append(
            Process.start(
                "up",
                [sys.executable, "-m", "hourcast.cli", "up", "--state-dir", self.folder / "state", *words],
                self.folder,
                self.environment,
            )
        )
        return self.started[-1]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`hourcast up` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "hourcast.cli", "up", "--state-dir", str(self.folder / "state"), *words],
            env=os.environ | self.environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def command(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Another command, as in another terminal."""
        return subprocess.run(
            [sys.executable, "-m", "hourcast.cli", *words],
            env=os.environ | self.environment | more, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def left(self) -> list[psutil.Process]:
        """Processes that still work on this state folder."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if str(self.folder) in process.environ().get("HOURCAST_UP_STATE", ""):
                    found.append(process)
        return found

    def predict(self) -> Any:
        """The present forecast, or None."""
        with contextlib.suppress(httpx.HTTPError, ValueError):
            answer = httpx.get(f"{self.api}/predict?horizon=1", timeout=10, trust_env=False)
            return answer.json() if answer.status_code == 200 else None
        return None

    def health(self) -> dict[str, Any]:
        """What is served, or nothing."""
        with contextlib.suppress(httpx.HTTPError, ValueError):
            answer = httpx.get(f"{self.api}/health", timeout=10, trust_env=False)
            return dict(answer.json()) if answer.status_code == 200 else {}
        return {}


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    """Free ports for everything; whatever is left afterwards is killed and fails the test."""
    names = ("API", "NODE", "MLFLOW", "VIZ")
    environment = {f"HOURCAST_{name}_PORT": str(find_port()) for name in names}
    made = Ground(tmp_path, environment)
    yield made
    # A test that failed amid `up` would have it start again whatever is killed below.
    for process in made.started:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.wait()
    left = made.left()
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    assert not left, f"these outlived their test: {left}"


def _up(process: Process) -> None:
    process.wait_until(lambda: "Hourcast is up after" in process.text(), 120, "welcome")


def test_it_comes_up_stops_with_ctrl_c_and_comes_up_again(ground: Ground, market_dir: Path) -> None:
    """A forecast is served; a command elsewhere finds it by its folder; Ctrl-C ends all; the second start trains nothing."""
    process = ground.start("--source", f"files:{market_dir}")
    _up(process)
    body = ground.predict()
    assert body["forecasts"][0]["target_time"] == "2025-08-01T01:00:00Z"
    process.wait_until(lambda: ground.health().get("kind") == "ensemble", 60, "model in production")
    version = ground.health()["version"]
    store = open_store(f"sqlite:///{ground.folder / 'state' / 'hourcast.db'}")
    trained = store.evaluations("hourcast", "gate")
    for name in ("API", "MLFLOW", "VIZ"):
        port = ground.environment[f"HOURCAST_{name}_PORT"]
        assert port in process.text()
    told = ground.command("hold", "--json", HOURCAST_STATE_DIR=str(ground.folder / "state"))
    assert told.returncode == 0, told.stderr
    held = store.events("hourcast", kind="held")
    assert [e.at.isoformat() for e in held] == ["2025-08-01T00:00:00+00:00"]
    assert process.end(signal.SIGINT, 40) == 0
    assert ground.left() == []

    again = ground.start("--source", f"files:{market_dir}")
    again.wait_until(lambda: again.text().count("Hourcast is up after") == 2, 60, "second welcome")
    assert ground.health()["version"] == version
    again.wait_until(
        lambda: "nothing due" in (ground.folder / "state/logs/trainer.log").read_text(), 30, "verdict"
    )
    assert store.evaluations("hourcast", "gate") == trained
    store.close()
    assert again.end(signal.SIGINT, 40) == 0


def test_ctrl_c_ends_it_also_when_a_child_hangs_and_another_is_dead(ground: Ground, market_dir: Path) -> None:
    """One child stopped by SIGSTOP, one killed: Ctrl-C still ends everything."""
    process = ground.start("--source", f"files:{market_dir}", "--no-dashboard")
    _up(process)
    children = {" ".join(p.cmdline()): p for p in psutil.Process(process.popen.pid).children(recursive=False)}
    trainer = next(p for line, p in children.items() if "train --watch" in line)
    mlflow = next(p for line, p in children.items() if "mlflow server" in line)
    trainer.send_signal(signal.SIGSTOP)
    mlflow.kill()
    assert process.end(signal.SIGINT, 40) == 0


def test_a_kill_of_up_itself_leaves_nothing_that_the_next_cannot_end(
    ground: Ground, market_dir: Path
) -> None:
    """Kill -9 of `hourcast up`: its children end by themselves or are ended by the next start."""
    process = ground.start("--source", f"files:{market_dir}", "--no-dashboard")
    _up(process)
    process.popen.kill()
    process.popen.wait()
    again = ground.start("--source", f"files:{market_dir}", "--no-dashboard")
    again.wait_until(lambda: again.text().count("Hourcast is up after") == 2, 60, "second welcome")
    assert again.end(signal.SIGINT, 40) == 0


def test_a_taken_port_is_named_before_anything_starts(ground: Ground, market_dir: Path) -> None:
    """The port, what it is for, who has it, and what to do; nothing was started, nothing was written."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", int(ground.environment["HOURCAST_API_PORT"])))
        held.listen()
        done = ground.run("--source", f"files:{market_dir}")
    assert done.returncode == 2
    port = ground.environment["HOURCAST_API_PORT"]
    assert re.search(
        rf"hourcast: port {port} for the API is taken by .+ \(process {os.getpid()}\): stop that, "
        rf"or choose another with HOURCAST_API_PORT=\d+",
        done.stderr,
    )
    assert not (ground.folder / "state" / "hourcast.db").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--source", "tape"), "tape"),
        (("--source", "files:/nowhere"), "hourcast: SOURCE=files:/nowhere: there is no folder /nowhere"),
        (("--source", "sample", "--replay", "soon"), "--replay 'soon' is not a span; write it as 8w or 10d"),
        (("--source", "sample", "--as-of", "noon"), "--as-of: 'noon' is not a time; write it as 2025-06-26 or 2025-06-26T05:00Z"),
        (("--source", "sample", "--as-of", "2025-01-01", "--replay", "2w"), "--as-of and --replay exclude each other: a replay moves the clock itself"),
    ],
)  # fmt: skip
def test_wrong_options_are_told(ground: Ground, words: tuple[str, ...], message: str) -> None:
    """Exit code 2 and one sentence."""
    done = ground.run(*words)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr


def test_live_without_a_network_names_the_other_two(ground: Ground) -> None:
    """One clear sentence where live was asked for; never a silent fallback."""
    _unplug(ground)
    done = ground.run("--source", "live")
    assert done.returncode == 5
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("hourcast: no live market data can be reached (binance: ")
    assert last.endswith(
        "; check the network, or use SOURCE=files:DIR with your own bars, or SOURCE=sample for synthetic ones"
    )


def _unplug(ground: Ground) -> None:
    gone = f"http://127.0.0.1:{find_port()}"
    ground.environment |= {
        "HOURCAST_EXCHANGE_URL": gone,
        "HOURCAST_YAHOO_URL": gone,
        "HOURCAST_ETL_BACKOFF_S": "0",
    }


def test_without_a_network_it_goes_on_with_a_labelled_sample_of_its_own(ground: Ground) -> None:
    """Where nothing was asked for and nothing is there: said, labelled, in a folder of its own; live stays empty."""
    _unplug(ground)
    # Paths of tests are long, and the box would break its lines.
    ground.environment["COLUMNS"] = "250"
    process = ground.start("--no-dashboard")
    _up(process)
    sample = ground.folder / "state" / "sample"
    flat = " ".join(process.text().split())
    assert "no live market data can be reached (binance: " in flat
    assert f"Going on with SYNTHETIC BARS in {sample}." in flat.replace("\n", "")
    assert "SYNTHETIC BARS: a seeded sample" in flat
    assert f"HOURCAST_STATE_DIR={sample} .venv/bin/hourcast status" in flat
    assert ground.predict()["synthetic"] is True
    told = ground.command("status", HOURCAST_STATE_DIR=str(sample))
    assert told.returncode == 0, told.stderr
    assert "version 1" in told.stdout
    assert process.end(signal.SIGINT, 40) == 0
    # What would be live is untouched, so that the next start with a network begins there.
    assert sorted(p.name for p in (ground.folder / "state").iterdir()) == ["sample"]
    ground.environment["HOURCAST_DATABASE_URL"] = f"sqlite:///{ground.folder / 'own.db'}"
    assert ground.run("--no-dashboard").returncode == 5


def test_usual_ports_that_are_taken_move_and_the_box_says_so(ground: Ground, market_dir: Path) -> None:
    """Nobody asked for 8000: the API takes the next free one, and commands in another terminal find it."""
    for name in ("API", "NODE"):
        del ground.environment[f"HOURCAST_{name}_PORT"]
    with contextlib.ExitStack() as held:
        # Where another has it already, that will do.
        with contextlib.suppress(OSError):
            server = held.enter_context(socket.socket())
            server.bind(("127.0.0.1", 8000))
            server.listen()
        process = ground.start("--source", f"files:{market_dir}", "--no-dashboard")
        _up(process)
        found = re.search(r"API +http://127\.0\.0\.1:(\d+)/docs +8000 is taken", process.text())
        assert found is not None, process.text()
        assert int(found[1]) not in (8000, 8001)
        ground.environment["HOURCAST_API_PORT"] = found[1]
        assert ground.predict()["version"] >= 1
        told = ground.command("status", HOURCAST_STATE_DIR=str(ground.folder / "state"))
        assert told.returncode == 0, told.stderr
        assert process.end(signal.SIGINT, 40) == 0


def test_a_trainer_that_cannot_work_leaves_serving_up_and_is_told(ground: Ground, market_dir: Path) -> None:
    """What was served goes on; terminal, `status` and the API say what is the matter."""
    process = ground.start("--source", f"files:{market_dir}", "--no-dashboard")
    _up(process)
    assert process.end(signal.SIGINT, 40) == 0
    ground.environment["HOURCAST_TRAIN_POLL_S"] = "-1"
    process = ground.start("--source", f"files:{market_dir}", "--no-dashboard")
    process.wait_until(lambda: "trainer ends again and again" in process.text(), 120, "word of the trainer")
    reason = "HOURCAST_TRAIN_POLL_S: Input should be greater than 0 (given: '-1')"
    assert reason in " ".join(process.text().split())
    assert ground.predict()["version"] >= 1

    def health() -> Any:
        return httpx.get(f"{ground.api}/health", timeout=10, trust_env=False).json()

    wait_for(lambda: bool(health()["failing"]), 20, "word of it from the API")
    (failing,) = health()["failing"]
    assert (failing["part"], failing["reason"]) == ("trainer", reason)
    assert health()["status"] == "degraded"
    told = ground.command("status", HOURCAST_STATE_DIR=str(ground.folder / "state"))
    assert f"the trainer cannot work since {failing['since'][:10]}" in " ".join(told.stdout.split())
    assert process.end(signal.SIGINT, 40) == 0


def test_the_first_start_ends_when_a_part_that_it_waits_for_cannot_work(
    ground: Ground, market_dir: Path
) -> None:
    """Nothing would ever be served: it says why and ends with 1."""
    ground.environment["HOURCAST_TRAIN_POLL_S"] = "-1"
    done = ground.run("--source", f"files:{market_dir}", "--no-dashboard")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "hourcast: trainer ends again and again: HOURCAST_TRAIN_POLL_S: Input should be greater than 0 (given: '-1'); "
        f"its log: {ground.folder / 'state' / 'logs' / 'trainer.log'}"
    )


def test_a_sample_is_labelled_as_one(ground: Ground, market_dir: Path) -> None:
    """Synthetic bars are labelled in the terminal, in body and headers; a second `up` on the folder is refused."""
    process = ground.start("--source", "sample", "--as-of", "2025-03-01", "--no-dashboard")
    _up(process)
    assert "SYNTHETIC BARS" in process.text()
    answer = httpx.get(f"{ground.api}/predict?horizon=1", timeout=10, trust_env=False)
    assert answer.json()["synthetic"] is True
    assert answer.headers["X-Hourcast-Synthetic"] == "true"
    second = ground.run("--source", "sample")
    assert second.returncode == 6
    assert f"(process {process.popen.pid}); stop it with Ctrl-C, or use another folder" in second.stderr
    assert process.end(signal.SIGINT, 40) == 0
    other = ground.run("--source", f"files:{market_dir}")
    assert other.returncode == 6
    assert "holds bars of SOURCE=sample, and SOURCE=files would mix others among them" in other.stderr


def test_it_runs_on_mysql_and_s3_unchanged(ground: Ground, market_dir: Path, mysql_url: str, s3: S3) -> None:
    """The same services with a MySQL store and an S3 bucket: nothing assumed a shared disk."""
    ground.environment |= {
        "HOURCAST_DATABASE_URL": mysql_url, "HOURCAST_BUCKET_URL": s3.url, "HOURCAST_S3_ENDPOINT_URL": s3.endpoint,
        **s3.environment,
    }  # fmt: skip
    process = ground.start("--source", f"files:{market_dir}", "--no-dashboard")
    _up(process)
    process.wait_until(lambda: ground.health().get("kind") == "ensemble", 60, "model in production")
    assert not (ground.folder / "state" / "hourcast.db").exists()
    assert not (ground.folder / "state" / "bucket").exists()
    store = open_store(mysql_url)
    assert len(store.read_bars("BTC/USDT")) == 14_616
    wait_for(lambda: bool(store.fans("hourcast", "BTC/USDT")), 30, "recorded forecast")
    store.close()
    assert process.end(signal.SIGINT, 40) == 0


def test_a_replay_survives_kills_and_all_stays_whole(ground: Ground, market_dir: Path) -> None:
    """Six random kill -9 during a replayed fortnight: it reaches its end; bars, forecasts, aliases, events are whole."""
    rng = random.Random(3)
    process = ground.start("--source", f"files:{market_dir}", "--replay", "2w", "--no-dashboard")
    _up(process)
    store = open_store(f"sqlite:///{ground.folder / 'state' / 'replay' / 'hourcast.db'}")
    for _ in range(6):
        clock = store.clock()
        wait_for(lambda c=clock: store.clock() > c, 90, "movement of the clock")  # type: ignore[misc]
        family = psutil.Process(process.popen.pid).children(recursive=True)
        victim = rng.choice([p for p in family if p.is_running()])
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    process.wait_until(lambda: "the replay has reached its end" in process.text(), 240, "end of the replay")
    assert "ends again and again" not in process.text()
    wait_for(lambda: ground.predict() is not None, 60, "forecast after the replay")
    bars = store.read_bars("BTC/USDT")
    assert len(bars) == len(set(bars.open_time.tolist())) == 14_616
    kinds = [e.kind for e in reversed(store.events("hourcast", limit=5000))]
    rolls = [kind for kind in kinds if kind in ("roll_started", "rolled")]
    assert rolls[:2] == ["roll_started", "rolled"]
    served = next(e.version for e in store.events("hourcast", limit=5000) if e.kind == "rolled")
    wait_for(lambda: ground.health().get("version") == served, 30, "served version as in the events")
    store.close()
    assert process.end(signal.SIGINT, 40) == 0
