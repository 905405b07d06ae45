"""The loop and the commands store what they decide before they act on it, against a node and a registry that answer over HTTP."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hourcast.bucket import FolderBucket, S3Bucket, manifest_key
from hourcast.clock import WallClock
from hourcast.decisions import Decision
from hourcast.errors import UnavailableError
from hourcast.store import Store, open_store
from hourcast_controller.journal import Journal
from hourcast_controller.loop import Controller
from hourcast_controller.metrics import Metrics
from hourcast_controller.observed import Deployment
from hourcast_controller.registry import Registry
from hourcast_controller.settings import ControllerSettings
from hourcast_controller.targets.local import LocalTarget
from tests.answering import Answer, Asked, answering
from tests.servers import account_of, read_only

_AT = datetime(2026, 1, 1, tzinfo=UTC)
_TAGS = [{"key": "gate", "value": "passed"}, {"key": "kind", "value": "lstm"}]


@dataclass
class _Outside:
    """A node that serves version 1 and a registry whose newest alias names version 2; a patch is refused where `refuses`."""

    url: str = ""
    refuses: bool = False
    annotations: dict[str, str] = field(default_factory=dict)
    template: dict[str, str] = field(default_factory=dict)
    patches: int = 0
    aliases: dict[str, str] = field(default_factory=lambda: {"20250604": "1", "20250611": "2"})

    def answer(self, path: str) -> Any:
        if path == "/v1/jobs":
            return []
        if path == "/v1/deployment":
            status = {
                "serving_version": 1, "serving_alias": "20250604", "rolling": False, "failed_version": None,
                "failed_exit_code": None, "failure": None,
            }  # fmt: skip
            return {
                "annotations": self.annotations,
                "pod_template": {"annotations": self.template},
                "status": status,
            }
        if path.endswith("registered-models/get"):
            aliases = [{"alias": alias, "version": version} for alias, version in self.aliases.items()]
            return {"registered_model": {"aliases": aliases}}
        if path.endswith("model-versions/get"):
            return {"model_version": {"version": "2", "run_id": "r2", "tags": _TAGS}}
        return {"model_versions": [{"version": str(v), "run_id": f"r{v}", "tags": _TAGS} for v in (1, 2)]}


@pytest.fixture
def outside() -> Iterator[_Outside]:
    """At one address, for as long as the test runs."""
    seen = _Outside(template={"hourcast.io/model-version": "1", "hourcast.io/model-alias": "20250604"})

    def answer(asked: Asked) -> Answer:
        if asked.method == "GET":
            return Answer(seen.answer(asked.path))
        seen.patches += 1
        if seen.refuses:
            return Answer({}, 500)
        for name, value in asked.body.get("annotations", {}).items():
            seen.annotations.pop(name, None)
            if value is not None:
                seen.annotations[name] = value
        seen.template |= asked.body.get("pod_template", {}).get("annotations", {})
        return Answer({})

    with answering(answer) as seen.url:
        yield seen


def _settings(outside: _Outside, folder: Path) -> ControllerSettings:
    return ControllerSettings(
        database_url=f"sqlite:///{folder / 'store.db'}",
        bucket_url=f"file://{folder / 'bucket'}",
        mlflow_url=outside.url,
        node_url=outside.url,
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store in SQLite."""
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        opened.upgrade()
        yield opened


@pytest.fixture
def controller(outside: _Outside, store: Store, tmp_path: Path) -> Iterator[Controller]:
    """A controller of that node; versions 1 and 2 are packaged, and 1 has served."""
    settings = _settings(outside, tmp_path)
    store.decide(Decision(_AT, "controller", "rolled", "hourcast", 1, "20250604", "first", _AT))
    bucket = FolderBucket(tmp_path / "bucket")
    for version in (1, 2):
        bucket.put(manifest_key("hourcast", version), b"{}")
    target = LocalTarget(outside.url)
    journal = Journal(store, WallClock(), "hourcast", "controller")
    with Registry(outside.url, "hourcast") as registry:
        yield Controller(settings, registry, bucket, store, target, journal)
    target.close()


def test_a_patch_that_keeps_failing_is_one_decision(
    controller: Controller, outside: _Outside, tmp_path: Path
) -> None:
    """It is tried at every turn and written down once; a quarantine is not buried under it."""
    outside.refuses = True
    for _ in range(5):
        with pytest.raises(UnavailableError, match="does not answer"):
            controller.turn()
    assert outside.patches == 5
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        assert [e.kind for e in store.events("hourcast")] == ["roll_started", "rolled"]
    outside.refuses = False
    controller.turn()
    assert outside.template["hourcast.io/model-version"] == "2"
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        assert [e.kind for e in store.events("hourcast")] == ["roll_started", "rolled"]


def test_a_roll_tells_of_the_newest_aliases_and_the_champion_alone(
    controller: Controller, outside: _Outside, store: Store
) -> None:
    """What it was chosen from is written down; not every alias that ever was, in each roll's decision again."""
    old = {f"2024{month:02d}01": "1" for month in range(1, 13)}
    outside.aliases |= {**old, "backtest_20240101": "1", "champion": "1"}
    controller.turn()
    (started,) = store.decisions("hourcast", kind="roll_started")
    newest = {f"2024{month:02d}01": 1 for month in range(5, 13)}
    assert started.evidence["aliases"] == {"20250604": 1, "20250611": 2, "champion": 1, **newest}


def test_what_cannot_be_stored_is_not_done(controller: Controller, outside: _Outside, store: Store) -> None:
    """With a store that can be read and not written nothing is rolled; when it can be again, it is."""
    read_only = ["ON"]

    def checkout(connection: sqlite3.Connection, _record: object, _proxy: object) -> None:
        connection.execute(f"PRAGMA query_only = {read_only[-1]}")

    sa.event.listen(store.engine, "checkout", checkout)
    with pytest.raises(UnavailableError, match="is read-only, so nothing can be stored in it"):
        controller.turn()
    assert outside.patches == 0
    read_only.append("OFF")
    controller.turn()
    assert outside.template["hourcast.io/model-version"] == "2"


class _Fetching(LocalTarget):
    """A node whose servers of version 2 are being started, and wait for their package."""

    def observe(self) -> Deployment:
        return replace(super().observe(), rolling=True, fetching=True)


def test_a_bucket_that_is_away_amid_a_roll_is_a_decision_a_metric_and_no_roll(
    outside: _Outside, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three turns while it does not answer write it down once, with the bucket's sentence; `status` tells the same."""
    store.decide(Decision(_AT, "controller", "rolled", "hourcast", 1, "20250604", "first", _AT))
    outside.template |= {"hourcast.io/model-version": "2", "hourcast.io/model-alias": "20250611"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    away = S3Bucket("b", "", "http://127.0.0.1:1", attempts=1)
    target, metrics = _Fetching(outside.url), Metrics()
    with Registry(outside.url, "hourcast") as registry:
        controller = Controller(
            _settings(outside, tmp_path), registry, away, store, target,
            Journal(store, WallClock(), "hourcast", "controller"), metrics=metrics,
        )  # fmt: skip
        for _ in range(3):
            controller.turn()
    target.close()
    told = [e for e in store.events("hourcast") if e.kind == "blocked"]
    assert [(e.version, e.evidence) for e in told] == [(2, {"fault": "place", "of": "rollout"})]
    assert told[0].reason.startswith(
        "version 2 is not served, and the place is at fault: its servers wait for their package, and bucket 'b' does not answer"
    )
    assert b"hourcast_controller_blocked 1.0" in metrics.text()
    assert b"hourcast_controller_rolling 0.0" in metrics.text()
    assert store.standing("hourcast").quarantine == {}
    code, said = _hourcast(outside, tmp_path, "status", COLUMNS="500")
    assert code == 0
    assert [line.split()[0] for line in said.splitlines()][:2] == ["serving", "wanted"]
    assert "and bucket 'b' does not answer" in said


def _hourcast(outside: _Outside, folder: Path, *words: str, **more: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "hourcast.cli", *words],
        env=os.environ | {
            "HOURCAST_DATABASE_URL": f"sqlite:///{folder / 'store.db'}", "HOURCAST_BUCKET_URL": f"file://{folder / 'bucket'}",
            "HOURCAST_NODE_URL": outside.url, "HOURCAST_MLFLOW_URL": outside.url,
        } | more,
        cwd=folder,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.returncode, (done.stdout + done.stderr).strip()


@pytest.mark.parametrize(
    "words", [("pin", "2"), ("hold",), ("release",), ("release", "--version", "3"), ("undo",), ("unpin",)], ids=" ".join
)  # fmt: skip
def test_a_command_that_could_not_store_its_decision_says_so_and_fails(
    controller: Controller, outside: _Outside, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """One sentence and exit code 1; neither the decisions nor the Deployment have changed."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with open_store(url) as store:
        store.decide(Decision(_AT, "operator", "quarantined", "hourcast", 3, None, "why", _AT))
        if words[0] == "undo":
            store.decide(Decision(_AT, "controller", "rolled", "hourcast", 2, None, "why", _AT))
            store.decide(Decision(_AT, "controller", "rolled", "hourcast", 1, None, "why", _AT))
        if words[0] == "unpin":
            store.decide(Decision(_AT, "operator", "pinned", "hourcast", 1, None, "why", _AT))
        before = store.decisions("hourcast")
    locked = f"sqlite:///file:{tmp_path / 'store.db'}?mode=ro&uri=true"
    code, said = _hourcast(outside, tmp_path, *words, HOURCAST_DATABASE_URL=locked)
    assert (code, said) == (
        1,
        "hourcast: this could not be stored, and nothing has changed: "
        f"the store at {locked.replace('file:/', 'file%3A/')} is read-only, so nothing can be stored in it",
    )
    with open_store(url) as store:
        assert store.decisions("hourcast") == before
    assert outside.patches == 0


@pytest.mark.integration
def test_commands_fail_while_the_database_server_is_read_only(
    outside: _Outside, mysql_url: str, tmp_path: Path
) -> None:
    """`pin`, `hold` and `undo` end with 1 and the server's plight; nothing is stored, and the Deployment stays as it is."""
    FolderBucket(tmp_path / "bucket").put(manifest_key("hourcast", 2), b"{}")
    with open_store(mysql_url) as store:
        store.upgrade()
        for version in (2, 1):
            store.decide(Decision(_AT, "controller", "rolled", "hourcast", version, None, "why", _AT))
        before = store.decisions("hourcast")
    where = sa.make_url(mysql_url)
    with account_of("controller", mysql_url) as url, read_only(mysql_url):
        for words in (("pin", "2"), ("hold",), ("undo",)):
            assert _hourcast(outside, tmp_path, *words, HOURCAST_DATABASE_URL=url) == (
                1,
                "hourcast: this could not be stored, and nothing has changed: the database server at "
                f"{where.host}:{where.port} is read-only now (1290), so nothing can be stored in {where.database!r}",
            )
    with open_store(mysql_url) as store:
        assert store.decisions("hourcast") == before
        assert len(store.events("hourcast")) == 2
    assert outside.patches == 0


def test_an_undo_is_a_decision_that_the_next_turn_acts_on(
    controller: Controller, outside: _Outside, tmp_path: Path
) -> None:
    """It is stored with where it goes; held or not, the controller asks for that at its next look, and twice is harmless."""
    controller.turn()
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        store.decide(Decision(_AT, "operator", "held", "hourcast", 1, None, "why", _AT))
    for _ in range(2):
        code, said = _hourcast(outside, tmp_path, "undo")
        assert (code, said.splitlines()[-1]) == (
            0,
            "version 2 is undone and in quarantine, and version 1 takes its place; "
            "`hourcast release --version 2` would let it back",
        )
    controller.turn()
    assert outside.template["hourcast.io/model-version"] == "1"
    assert outside.annotations["hourcast.io/hold"] == "true"
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        assert [d.kind for d in store.decisions("hourcast")].count("undone") == 1
