"""One model trained for real, once a session: bars, registry, packages. Tests that change things work on a copy."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from hourcast.contracts import Bars, parse_hour
from hourcast.store import Store, open_store
from tests.ports import find_port
from tests.servers import Process, answers

NOW = parse_hour("2024-06-13T00:00Z")
# A short training whose gate is wide: these tests are about what happens around it.
QUICK = {
    "HOURCAST_LSTM_EPOCHS": "2",
    "HOURCAST_LSTM_HIDDEN": "8",
    "HOURCAST_BOOSTING_ROUNDS": "6",
    "HOURCAST_GATE_MARGIN": "0.5",
}


def hourcast(
    environment: Mapping[str, str], *words: str, limit_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run the command line; output and errors as text."""
    return subprocess.run(
        [sys.executable, "-m", "hourcast.cli", *words],
        env=os.environ | dict(environment), capture_output=True, text=True, timeout=limit_s, check=False,
    )  # fmt: skip


def run_well(environment: Mapping[str, str], *words: str) -> str:
    """Run the command line; it must end with 0."""
    done = hourcast(environment, *words)
    assert done.returncode == 0, f"hourcast {' '.join(words)} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout


def load_bars(store: Store, market_bars: Mapping[str, Bars], until: datetime) -> None:
    """Recorded bars that closed by `until`, as the ETL would have written them."""
    store.upgrade()
    for bars in market_bars.values():
        store.upsert_bars(bars.known_at(int(until.timestamp())), "files", until)


@dataclass(frozen=True)
class World:
    """Settings, and the folder with store and bucket."""

    folder: Path
    environment: Mapping[str, str]

    @property
    def store_url(self) -> str:
        """URL of the store."""
        return self.environment["HOURCAST_DATABASE_URL"]

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        """The store, open."""
        opened = open_store(self.store_url)
        try:
            yield opened
        finally:
            opened.close()

    def run(self, *words: str) -> str:
        """Run the command line; it must end with 0."""
        return run_well(self.environment, *words)

    @contextlib.contextmanager
    def serve(self, version: int, **more: str) -> Iterator["Served"]:
        """A server of a version, ready; ended afterwards."""
        port = find_port()
        process = Process.start(
            f"server-{version}",
            [sys.executable, "-m", "hourcast.cli", "serve", "--version", str(version), "--port", str(port)],
            self.folder / "logs",
            {**self.environment, **more},
        )
        try:
            process.wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), 60, "ready server")
            yield Served(f"http://127.0.0.1:{port}", process)
        finally:
            process.end()


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str
    process: Process

    def get(self, path: str, **query: Any) -> httpx.Response:
        """A GET."""
        return httpx.get(self.url + path, params=query or None, timeout=30, trust_env=False)

    def post(self, path: str, body: Any) -> httpx.Response:
        """A POST of JSON."""
        return httpx.post(self.url + path, json=body, timeout=30, trust_env=False)


def environment_of(folder: Path, mlflow_url: str, model: str) -> dict[str, str]:
    """Settings of a world in `folder`."""
    return {
        "HOURCAST_STATE_DIR": str(folder), "HOURCAST_DATABASE_URL": f"sqlite:///{folder / 'hourcast.db'}",
        "HOURCAST_BUCKET_URL": (folder / "bucket").as_uri(), "HOURCAST_MLFLOW_URL": mlflow_url,
        "HOURCAST_MODEL_NAME": model, "HOURCAST_CLOCK": "store", "HOURCAST_RECORD_POLL_S": "0.1", **QUICK,
    }  # fmt: skip


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, mlflow_server: str, market_bars: dict[str, Bars]
) -> World:
    """Versions 1 (naive), 2 and 3 (ensemble) with aliases 20240522 and 20240529, all packaged. Read only."""
    folder = tmp_path_factory.mktemp("world")
    world = World(folder, environment_of(folder, mlflow_server, "trained"))
    with world.store() as store:
        load_bars(store, market_bars, NOW)
        store.set_clock(NOW)
    for moment in ("2024-06-06", "2024-06-13"):
        assert "passed its gate" in world.run("train", "--as-of", moment)
    for version in ("1", "2", "3"):
        assert f"packaged trained version {version}" in world.run("package", version)
    return world


_copies = iter(range(1, 10_000))


@pytest.fixture
def world(trained: World, tmp_path: Path) -> World:
    """A copy of the trained world, to be changed at will; the registry is shared."""
    folder = tmp_path / f"world-{next(_copies)}"
    shutil.copytree(trained.folder, folder, ignore=shutil.ignore_patterns("logs"))
    return World(folder, environment_of(folder, trained.environment["HOURCAST_MLFLOW_URL"], "trained"))


@pytest.fixture(scope="session")
def served(trained: World) -> Iterator[Served]:
    """Version 3 as alias 20240529, for tests that only ask."""
    with trained.serve(3, HOURCAST_MODEL_ALIAS="20240529") as server:
        yield server


@pytest.fixture
def as_json() -> Callable[[str], Any]:
    """Read what a command printed with --json."""
    return json.loads
