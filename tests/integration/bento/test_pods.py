"""What a pod runs: a server that fetches its package, drains and ends."""

import http.client
import os
import signal
import sys
import tarfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from hourcast.store import open_store
from hourcast_bento.drain import flag
from tests.integration.conftest import World, hourcast, run_well
from tests.ports import find_port
from tests.servers import Process, answers, wait_for

pytestmark = pytest.mark.integration


class Pod:
    """A server with a temporary folder of its own."""

    def __init__(self, world: World, name: str, **more: str) -> None:
        self.temporary = world.folder / f"{name}-tmp"
        self.temporary.mkdir()
        self.port = find_port()
        self.environment: Mapping[str, str] = {
            **world.environment, "TMPDIR": str(self.temporary), "HOURCAST_MODEL_VERSION": "3", **more,
        }  # fmt: skip
        words = ["serve", "--port", str(self.port), "--cache", str(self.temporary / "packages")]
        self.process = Process.start(
            name, [sys.executable, "-m", "hourcast.cli", *words], world.folder / "logs", self.environment
        )

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url(path), timeout=30, trust_env=False)

    def ready(self) -> None:
        self.process.wait_until(lambda: answers(self.url("/readyz")), 60, "ready server")

    def drain(self) -> None:
        """What the chart's preStop command does."""
        (self.temporary / flag().name).touch()

    def end(self) -> int:
        """SIGTERM; the exit code."""
        self.process.popen.send_signal(signal.SIGTERM)
        return self.process.popen.wait(30)


class Client(threading.Thread):
    """Asks without a pause on one kept connection; opens the next one where `target` then points."""

    def __init__(self, target: list[int]) -> None:
        super().__init__(daemon=True)
        self.target, self.stop = target, threading.Event()
        self.answered: dict[int, int] = {}
        self.closed: dict[int, int] = {}
        self.failed: list[str] = []

    def run(self) -> None:
        connection, port = None, 0
        while not self.stop.is_set():
            if connection is None:
                port = self.target[0]
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                connection.request("GET", "/predict?horizon=1")
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(f"{port}: {type(error).__name__} {error}")
                connection = None
                continue
            if answer.status != 200:
                self.failed.append(f"{port}: {answer.status}")
            self.answered[port] = self.answered.get(port, 0) + 1
            if answer.getheader("connection") == "close":
                self.closed[port] = self.closed.get(port, 0) + 1
                connection.close()
                connection = None
        if connection is not None:
            connection.close()


def test_a_pod_that_drains_loses_no_request(world: World) -> None:
    """Clients that keep their connections go to the other pod while the first drains; SIGTERM then ends it with 0."""
    first, second = Pod(world, "first"), Pod(world, "second")
    try:
        first.ready()
        second.ready()
        target = [first.port]
        clients = [Client(target) for _ in range(4)]
        for client in clients:
            client.start()
        wait_for(
            lambda: all(c.answered.get(first.port, 0) > 20 for c in clients), 30, "load on the first pod"
        )
        # The Service names the other pod from the moment at which the first one is to end.
        target[0] = second.port
        first.drain()
        wait_for(lambda: all(first.port in c.closed for c in clients), 30, "last answer of the first pod")
        assert first.end() == 0
        wait_for(
            lambda: all(c.answered.get(second.port, 0) > 20 for c in clients), 30, "load on the second pod"
        )
        for client in clients:
            client.stop.set()
        for client in clients:
            client.join(30)
        assert [c.failed for c in clients] == [[]] * 4
        assert [c.closed for c in clients] == [{first.port: 1}] * 4
    finally:
        first.process.end()
        second.process.end()


def test_a_server_without_a_model_waits_and_ends_with_0(world: World) -> None:
    """An empty version: the pod lives, is not ready, says why, and leaves at SIGTERM."""
    pod = Pod(world, "pod", HOURCAST_MODEL_VERSION="")
    try:
        pod.process.wait_until(lambda: answers(pod.url("/livez")), 30, "living server")
        assert pod.get("/startedz").status_code == 200
        answer = pod.get("/readyz")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        assert pod.get("/predict").json()["detail"] == (
            "no model has passed its gate yet; the first training runs when bars are there"
        )
        assert pod.end() == 0
    finally:
        pod.process.end()


def test_a_server_writes_nothing_beside_its_temporary_folder(world: World) -> None:
    """The root of a pod may be read-only: bucket and working folder are afterwards as they were; /metrics counts all the same."""
    pod = Pod(world, "pod")
    bucket = world.folder / "bucket"
    try:
        before = {path: path.stat().st_mtime_ns for path in bucket.rglob("*")}
        pod.ready()
        assert pod.get("/predict?horizon=1").json()["version"] == 3
        metrics = pod.get("/metrics").text
        assert 'hourcast_model_info{alias="20240529"' in metrics
        assert {path: path.stat().st_mtime_ns for path in bucket.rglob("*")} == before
        # BentoML's client of itself keeps a folder there as well.
        assert {"packages", f"hourcast-serving-{os.getuid()}"} <= {p.name for p in pod.temporary.iterdir()}
    finally:
        pod.process.end()


def test_a_package_brings_its_sources_compiled(trained: World, tmp_path: Path) -> None:
    """Every module of a package has its compiled form beside it, valid wherever it is unpacked."""
    package = trained.folder / "bucket/bentos/trained/3.bento"
    with tarfile.open(package) as archive:
        archive.extractall(tmp_path, filter="data")
    for source in (tmp_path / "src/hourcast_bento").glob("*.py"):
        (compiled,) = (source.parent / "__pycache__").glob(f"{source.stem}.*.pyc")
        # PEP 552: the second word says that neither time nor source is looked at.
        assert compiled.read_bytes()[4:8] == b"\x01\x00\x00\x00"


def test_what_a_package_requires_is_what_serving_imports(trained: World, tmp_path: Path) -> None:
    """No requirement of the package is there for nothing."""
    package = trained.folder / "bucket/bentos/trained/3.bento"
    with tarfile.open(package) as archive:
        archive.extractall(tmp_path, filter="data")
    lines = (tmp_path / "env/python/requirements.txt").read_text().split()
    names = {line.split("==")[0] for line in lines}
    assert names == {
        "bentoml", "boto3", "cryptography", "fastapi", "httpx", "numpy", "onnxruntime", "prometheus-client",
        "pydantic", "pydantic-settings", "pymysql", "sqlalchemy", "stamina", "uvicorn",
    }  # fmt: skip


def test_the_packager_needs_no_database(world: World) -> None:
    """Without HOURCAST_DATABASE_URL, and with a state folder that cannot be, a version is packaged."""
    environment: dict[str, Any] = {
        k: v for k, v in world.environment.items() if k not in ("HOURCAST_DATABASE_URL", "HOURCAST_STATE_DIR")
    }
    environment["HOURCAST_STATE_DIR"] = "/proc/nowhere"
    (world.folder / "bucket/bentos/trained/3.json").unlink()
    assert "packaged trained version 3" in run_well(environment, "package", "3")


def test_the_packager_says_when_mlflow_is_away(world: World) -> None:
    """Exit code 5 and one sentence, after three attempts."""
    url = f"http://127.0.0.1:{find_port()}"
    done = hourcast({**world.environment, "HOURCAST_MLFLOW_URL": url}, "package", "3")
    assert done.returncode == 5
    assert done.stderr.strip().splitlines()[-1] == (
        f"hourcast: MLflow at {url} does not answer (ConnectError); check HOURCAST_MLFLOW_URL and that it runs"
    )


def test_a_server_waits_for_the_tables_of_its_release(world: World) -> None:
    """`helm upgrade` starts it before the setup has brought the tables up: the pods that run go on until it has."""
    url = f"sqlite:///{world.folder / 'earlier.db'}"
    with open_store(url) as store:
        store.upgrade("0004")
        pod = Pod(world, "waits", HOURCAST_DATABASE_URL=url)
        try:
            wait_for(lambda: answers(pod.url("/livez")), 30, "live server")
            reason = (
                "the store's tables are at revision 0004 and this Hourcast needs 0009; the setup job "
                "(`hourcast setup database`) brings them up"
            )
            wait_for(lambda: reason in pod.get("/startedz").text, 30, "reason")
            assert pod.get("/readyz").status_code == 503
            store.upgrade()
            pod.ready()
        finally:
            pod.end()
