"""The real controller, node, packager and servers: rolls under load, quarantine, and what operators may say."""

import contextlib
import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

import httpx
import pytest

from hourcast.contracts import ALIAS_ANNOTATION, VERSION_ANNOTATION, Bars
from tests.integration.conftest import NOW, World, hourcast
from tests.ports import find_port
from tests.servers import Process, wait_for

pytestmark = pytest.mark.integration


@dataclass
class Node:
    """A running node, its way in and its control interface."""

    process: Process
    api: str
    control: str
    environment: dict[str, str]

    def status(self) -> dict[str, Any]:
        """What it says of itself."""
        body: dict[str, Any] = httpx.get(f"{self.control}/v1/deployment", timeout=10, trust_env=False).json()
        return body

    def serving(self) -> int | None:
        """The served version."""
        version: int | None = self.status()["status"]["serving_version"]
        return version

    def roll(self, version: int, alias: str) -> None:
        """Ask for a version, as the controller does."""
        template = {VERSION_ANNOTATION: str(version), ALIAS_ANNOTATION: alias}
        httpx.patch(
            f"{self.control}/v1/deployment",
            json={"pod_template": {"annotations": template}}, timeout=10, trust_env=False,
        ).raise_for_status()  # fmt: skip


@pytest.fixture
def node(world: World) -> Iterator[Node]:
    """A node on free ports."""
    api, control = find_port(), find_port()
    environment = {
        **world.environment, "HOURCAST_API_PORT": str(api), "HOURCAST_NODE_PORT": str(control),
        "HOURCAST_NODE_URL": f"http://127.0.0.1:{control}", "HOURCAST_READY_TIMEOUT_S": "20",
        "HOURCAST_CONTROLLER_INTERVAL_S": "0.2",
    }  # fmt: skip
    process = Process.start(
        "node", [sys.executable, "-m", "hourcast_local.node"], world.folder / "logs", environment
    )
    started = Node(process, f"http://127.0.0.1:{api}", f"http://127.0.0.1:{control}", environment)

    def up() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return bool(started.status())
        return False

    process.wait_until(up, 20, "node")
    yield started
    process.end()


@contextlib.contextmanager
def _controller(world: World, node: Node, **more: str) -> Iterator[Process]:
    process = Process.start(
        "controller",
        [sys.executable, "-m", "hourcast.cli", "controller"],
        world.folder / "logs",
        {**node.environment, **more},
    )
    try:
        yield process
    finally:
        process.end()


@dataclass
class Load:
    """Steady requests from several threads, bounded, and how they were answered."""

    url: str
    threads: int = 4
    answers: Counter[int] = field(default_factory=Counter)
    versions: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._running = [threading.Thread(target=self._ask) for _ in range(self.threads)]
        for thread in self._running:
            thread.start()
        return self

    def _ask(self) -> None:
        with httpx.Client(timeout=30, trust_env=False) as client:
            for _ in range(20_000):
                if self._stop.is_set():
                    return
                try:
                    answer = client.get(f"{self.url}/predict?horizon=1")
                except httpx.HTTPError as error:
                    with self._lock:
                        self.errors.append(repr(error))
                    continue
                with self._lock:
                    self.answers[answer.status_code] += 1
                    if answer.status_code == 200:
                        self.versions.append(int(answer.headers["X-Hourcast-Served-Version"]))

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._running:
            thread.join()


def test_no_request_fails_while_versions_roll(node: Node) -> None:
    """Four clients ask without a pause through six rolls: all answers are 200, and the last is of the last version."""
    node.roll(1, "20240522")
    wait_for(lambda: node.serving() == 1, 30, "first server")
    with Load(node.api) as load:
        for version, alias in ((2, "20240522"), (3, "20240529"), (1, "20240522")) * 2:
            node.roll(version, alias)
            wait_for(lambda v=version: node.serving() == v, 30, f"roll to version {version}")  # type: ignore[misc]
            # Counted from here on: what was asked of the server before may still be answered.
            before = sum(load.answers.values())
            wait_for(lambda n=before: sum(load.answers.values()) > n + 20, 30, "answers after the roll")  # type: ignore[misc]
    assert load.errors == []
    assert set(load.answers) == {200}
    assert set(load.versions) == {1, 2, 3}
    assert load.versions[-1] == 1
    assert len(load.versions) > 200


def test_a_version_that_never_gets_ready_leaves_traffic_alone(world: World, node: Node) -> None:
    """A corrupt package fails its roll with the reason; every request is answered by the version before."""
    package = world.folder / "bucket/bentos/trained/3.bento"
    body = bytearray(package.read_bytes())
    body[1000] ^= 0xFF
    package.write_bytes(body)
    node.roll(2, "20240522")
    wait_for(lambda: node.serving() == 2, 30, "first server")
    with Load(node.api, threads=2) as load:
        node.roll(3, "20240529")
        wait_for(lambda: node.status()["status"]["failed_version"] == 3, 40, "failed roll")
    status = node.status()["status"]
    assert "the package of trained version 3 is corrupt" in status["failure"]
    assert (status["serving_version"], status["rolling"]) == (2, False)
    assert load.errors == []
    assert set(load.answers) == {200}
    assert set(load.versions) == {2}


def test_a_server_that_is_killed_is_started_again(node: Node) -> None:
    """Kill -9 of the server: requests wait and are answered by its successor."""
    import os
    import signal

    node.roll(2, "20240522")
    wait_for(lambda: node.serving() == 2, 30, "first server")
    (replica,) = node.status()["status"]["replicas"]
    os.kill(replica["pid"], signal.SIGKILL)
    answer = httpx.get(f"{node.api}/predict?horizon=1", timeout=30, trust_env=False)
    assert answer.status_code == 200
    (again,) = node.status()["status"]["replicas"]
    assert again["pid"] != replica["pid"]


def test_a_server_that_is_killed_amid_its_roll_is_tried_again(node: Node) -> None:
    """Kill -9 before it is ready says nothing against a version: the roll goes on and does not fail."""
    import os
    import signal

    import psutil

    node.roll(2, "20240522")
    wait_for(lambda: node.serving() == 2, 30, "first server")
    node.roll(3, "20240529")

    def starting() -> list[int]:
        family = psutil.Process(node.process.popen.pid).children(recursive=True)
        return [p.pid for p in family if "--version 3" in " ".join(p.cmdline())]

    wait_for(lambda: bool(starting()), 40, "server of version 3")
    os.kill(starting()[0], signal.SIGKILL)
    wait_for(lambda: node.serving() == 3, 40, "roll in spite of the kill")
    assert node.status()["status"]["failed_version"] is None
    assert "version 3 was killed before it was ready and is started again" in node.process.text()


def test_a_node_that_restarts_serves_what_it_served(world: World, node: Node) -> None:
    """The desired version is on disk: a new node serves it without a controller."""
    node.roll(2, "20240522")
    wait_for(lambda: node.serving() == 2, 30, "first server")
    node.process.end()
    process = Process.start(
        "node-again", [sys.executable, "-m", "hourcast_local.node"], world.folder / "logs", node.environment
    )
    try:

        def served() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return node.serving() == 2
            return False

        process.wait_until(served, 30, "served version")
        answer = httpx.get(f"{node.api}/health", timeout=30, trust_env=False).json()
        assert (answer["version"], answer["alias"]) == (2, "20240522")
    finally:
        process.end()


def test_nothing_served_yet_is_told(node: Node) -> None:
    """Before the first version: 503 with a sentence and Retry-After."""
    answer = httpx.get(f"{node.api}/predict", timeout=30, trust_env=False)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
    assert answer.json()["detail"] == (
        "no model is served yet: the first one is being trained and packaged; `hourcast status` tells more"
    )


def test_the_controller_serves_the_newest_and_operators_have_the_last_word(world: World, node: Node) -> None:
    """Newest first; pin, unpin, hold, release, undo and their words; everything is in the history with who did it."""

    def say(*words: str, code: int = 0) -> str:
        done = hourcast(node.environment, *words)
        assert done.returncode == code, done.stderr
        return (done.stdout if code == 0 else done.stderr).strip()

    assert say("undo", code=1).endswith("hourcast: nothing is served, so there is nothing to undo")
    with _controller(world, node):
        wait_for(lambda: node.serving() == 3, 40, "newest version")
        assert say("pin", "1") == "pinned to version 1; `hourcast unpin` gives the choice back"
        wait_for(lambda: node.serving() == 1, 40, "pinned version")
        assert say("pin", "77", code=6).endswith("version 77 of trained does not exist; versions are 1, 2, 3")
        assert "version 1 (naive)" in say("status")
        assert say("unpin") == "version 1 is no longer pinned"
        assert say("unpin") == "nothing was pinned"
        wait_for(lambda: node.serving() == 3, 40, "newest version again")
        assert say("hold") == "held: nothing is rolled until `hourcast release`"
        assert json.loads(say("status", "--json"))["deployment"]["hold"] is True
        assert say("release") == "released: the policy decides again"
        assert say("undo") == (
            "version 3 is undone and in quarantine, and version 1 takes its place; "
            "`hourcast release --version 3` would let it back"
        )
        wait_for(lambda: node.serving() == 1, 40, "version before")
        status = json.loads(say("status", "--json"))
        assert status["quarantine"]["3"]["reason"] == "undone by an operator"
        assert say("release", "--version", "2", code=6).endswith(
            "version 2 is not in quarantine; in it are 3"
        )
        assert say("release", "--version", "3") == "version 3 may be served again"
        wait_for(lambda: node.serving() == 3, 40, "released version")

        def told() -> bool:
            return json.loads(say("history", "--json"))[0]["kind"] == "rolled"

        wait_for(told, 40, "event of the last roll")
    events = [
        (e["kind"], e["version"], e["actor"])
        for e in reversed(json.loads(say("history", "--json", "--limit", "500")))
        if e["kind"] != "roll_started"
    ]
    assert events == [
        ("champion_moved", 1, "controller"), ("rolled", 3, "controller"), ("pinned", 1, "operator"), ("rolled", 1, "controller"),
        ("unpinned", 1, "operator"), ("rolled", 3, "controller"), ("held", 3, "operator"),
        ("released", None, "operator"), ("undone", 3, "operator"), ("rolled", 1, "controller"),
        ("unquarantined", 3, "operator"), ("rolled", 3, "controller"),
    ]  # fmt: skip
    assert "pinned v1" in say("history")


def test_what_was_in_production_is_what_users_got(
    world: World, node: Node, market_bars: dict[str, Bars]
) -> None:
    """Through a pin amid an hour, an unpin, an undo and a policy of `champion`: each hour's row is what was answered in it."""
    said: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}

    def ask() -> dict[str, Any]:
        answer = httpx.get(f"{node.api}/predict?horizon=1", timeout=30, trust_env=False)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def next_hour() -> tuple[int, str]:
        now = NOW + timedelta(hours=len(said) + 1)
        with world.store() as store:
            store.upsert_bars(market_bars["BTC/USDT"].known_at(int(now.timestamp())), "files", now)
            store.set_clock(now)
        body = ask()
        (row,) = body["forecasts"]
        said[row["origin"]] = row, body
        return body["version"], body["alias"]

    def say(*words: str, then: int) -> None:
        done = hourcast(node.environment, *words)
        assert done.returncode == 0, done.stderr
        alone(then)

    def alone(version: int) -> None:
        """Wait until no earlier server is left, which might issue the next hour as well."""

        def held() -> bool:
            status = node.status()["status"]
            return status["serving_version"] == version and len(status["replicas"]) == 1

        wait_for(held, 40, f"version {version} alone")

    with _controller(world, node):
        alone(3)
        assert next_hour() == (3, "20240529")
        say("pin", "2", then=2)
        amid = ask()
        assert amid["version"] == 3
        assert "issued at 2024-06-13 01:00:00 UTC by version 3; version 2, which answers" in amid["note"]
        pinned = next_hour()
        assert pinned[0] == 2
        say("unpin", then=3)
        assert next_hour() == (3, "20240529")
        say("undo", then=2)
        assert next_hour()[0] == 2
    with _controller(world, node, HOURCAST_POLICY="champion"):
        alone(1)
        assert next_hour() == (1, "champion")
    span = {"start": (NOW + timedelta(hours=2)).isoformat(), "end": (NOW + timedelta(hours=9)).isoformat()}
    rows = httpx.get(f"{node.api}/predict-production", params=span, timeout=30, trust_env=False).json()[
        "forecasts"
    ]
    assert [r["origin"] for r in rows] == list(said)
    for row in rows:
        told, body = said[row["origin"]]
        assert (row["quantiles"], row["point"]) == (told["quantiles"], told["point"])
        assert (row["version"], row["alias"]) == (body["version"], body["alias"])
        assert (row["source"], row["issued_at"]) == ("issued", body["issued_at"])


def test_an_undo_moves_on_the_first_day_in_spite_of_a_hold_and_without_mlflow(
    world: World, node: Node
) -> None:
    """No other version has served and nothing else answers: the floor takes the place of what was undone."""
    with _controller(world, node):
        wait_for(lambda: node.serving() == 3, 40, "newest version")
        served = "rolled"
        wait_for(lambda: served in hourcast(node.environment, "history", "--json").stdout, 40, "its event")
    gone = {"HOURCAST_MLFLOW_URL": f"http://127.0.0.1:{find_port()}"}
    with _controller(world, node, **gone):
        for word in ("hold", "undo"):
            done = hourcast({**node.environment, **gone}, word)
            assert done.returncode == 0, done.stderr
        wait_for(lambda: node.serving() == 1, 40, "the floor")
        pinned = hourcast({**node.environment, **gone}, "pin", "2")
        assert pinned.returncode == 0, pinned.stderr
        wait_for(lambda: node.serving() == 2, 40, "pinned version")
        unknown = hourcast({**node.environment, **gone}, "pin", "77")
        assert unknown.returncode == 1
        assert "version 77 has no package in the bucket, and nobody else can say" in unknown.stderr


def test_moves_of_the_champion_are_in_the_history(world: World, node: Node) -> None:
    """What was proved with its proof, what a person did as done by hand; once each, also when a controller starts anew."""
    url = f"{world.environment['HOURCAST_MLFLOW_URL']}/api/2.0/mlflow/registered-models/alias"

    def move(version: int) -> None:
        body = {"name": "trained", "alias": "champion", "version": str(version)}
        httpx.post(url, json=body, timeout=30, trust_env=False).raise_for_status()

    def told() -> list[dict[str, Any]]:
        found = json.loads(hourcast(node.environment, "history", "--json", "--limit", "500").stdout)
        return [e for e in reversed(found) if e["kind"] == "champion_moved"]

    hourcast(node.environment, "hold")
    try:
        with _controller(world, node):
            wait_for(lambda: len(told()) == 1, 40, "event of the first champion")
            move(2)
            wait_for(lambda: len(told()) == 2, 40, "event of a move by hand")
        move(1)
        with _controller(world, node):
            wait_for(lambda: len(told()) == 3, 40, "event of a move that nobody watched")
    finally:
        move(1)
    first, by_hand, back = told()
    assert (first["version"], first["alias"], first["actor"]) == (1, "champion", "controller")
    assert first["reason"] == "the first champion: there was none to compare it with"
    assert (first["evidence"]["challenger"], first["evidence"]["champion"]) == (1, None)
    assert (by_hand["version"], by_hand["reason"]) == (2, "moved by hand from version 1, no evidence")
    assert by_hand["evidence"] == {"by_hand": True, "before": 1}
    assert back["version"] == 1
    assert back["reason"].startswith(
        "moved by hand from version 2; its evidence is an earlier one, of 2024-06-06"
    )
    shown = hourcast(node.environment, "history").stdout
    assert "champion moved v2" in shown
    assert "moved by hand from version 1, no evidence" in shown


def test_a_version_whose_package_is_corrupt_is_quarantined_and_not_tried_again(
    world: World, node: Node
) -> None:
    """The newest package is broken: the version before serves, the reason is in events, and nothing flaps."""
    package = world.folder / "bucket/bentos/trained/3.bento"
    package.write_bytes(package.read_bytes()[:-2000])
    with _controller(world, node):
        wait_for(lambda: node.serving() == 2, 60, "version before")
        generation = node.status()["generation"]

        def quarantined() -> list[dict[str, Any]]:
            history = json.loads(hourcast(node.environment, "history", "--json").stdout)
            return [e for e in history if e["kind"] == "quarantined"]

        wait_for(lambda: len(quarantined()) == 1, 20, "event of the quarantine")
        assert "the package of trained version 3 is corrupt" in quarantined()[0]["reason"]
        assert node.status()["generation"] == generation
    status = hourcast(node.environment, "status").stdout
    assert "quarantine" in status


def test_a_missing_package_is_made_and_then_served(world: World, node: Node) -> None:
    """The controller finds an alias without a package, has it packaged by a job, and rolls."""
    for name in ("3.bento", "3.json", "aliases.json"):
        (world.folder / "bucket/bentos/trained" / name).unlink()
    with _controller(world, node):
        wait_for(lambda: node.serving() == 3, 60, "packaged and served version")
        wait_for((world.folder / "bucket/bentos/trained/aliases.json").exists, 20, "alias index")


def test_an_outage_of_mlflow_moves_nothing(world: World, node: Node) -> None:
    """With MLflow away nothing rolls, requests are answered, and the controller says what it waits for."""
    node.roll(2, "20240522")
    wait_for(lambda: node.serving() == 2, 30, "first server")
    gone = f"http://127.0.0.1:{find_port()}"
    with _controller(world, node, HOURCAST_MLFLOW_URL=gone) as process:
        process.wait_until(lambda: "nothing is changed meanwhile" in process.text(), 20, "sentence")
        answer = httpx.get(f"{node.api}/predict?horizon=1", timeout=30, trust_env=False)
        assert (answer.status_code, answer.headers["X-Hourcast-Served-Version"]) == (200, "2")
        assert f"MLflow at {gone} does not answer" in process.text()
    assert node.serving() == 2


def test_mlflows_own_webhook_wakes_the_controller(world: World, node: Node) -> None:
    """A delivery that MLflow signs and sends makes a controller that polls once an hour look at once."""
    from mlflow import MlflowClient

    secret, port = "a-secret-of-the-tests", find_port()
    url = world.environment["HOURCAST_MLFLOW_URL"]
    client = MlflowClient(url, url)
    more = {
        "HOURCAST_WEBHOOK_SECRET": secret, "HOURCAST_WEBHOOK_PORT": str(port), "HOURCAST_CONTROLLER_INTERVAL_S": "3600",
    }  # fmt: skip
    node.roll(2, "20240522")
    wait_for(lambda: node.serving() == 2, 30, "first server")
    hourcast(node.environment, "hold")
    with _controller(world, node, **more) as process:
        process.wait_until(lambda: "version 2" in process.text(), 20, "first turn")
        hourcast(node.environment, "release")
        assert node.serving() == 2
        hook = client.create_webhook(
            "tests", f"http://127.0.0.1:{port}/webhook", ["model_version_alias.created"], secret=secret
        )
        try:
            assert client.test_webhook(hook.webhook_id).success
            wait_for(lambda: node.serving() == 3, 30, "roll after the knock")
        finally:
            client.delete_webhook(hook.webhook_id)
