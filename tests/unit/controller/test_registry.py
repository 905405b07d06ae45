"""Whatever the registry says, the controller goes on: what cannot be understood is skipped and named."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hourcast.bucket import FolderBucket, manifest_key
from hourcast.clock import WallClock
from hourcast.contracts import (
    ALIAS_ANNOTATION,
    CHAMPION_EVIDENCE,
    DECIDED_ANNOTATION,
    HOLD_ANNOTATION,
    PIN_ANNOTATION,
    VERSION_ANNOTATION,
)
from hourcast.decisions import Standing
from hourcast.errors import UnavailableError
from hourcast.store import open_store
from hourcast_controller.actions import RefreshIndex
from hourcast_controller.champion import evidence_in_words, moves
from hourcast_controller.journal import Journal
from hourcast_controller.lease import deliveries_of
from hourcast_controller.loop import Controller
from hourcast_controller.observed import Observed
from hourcast_controller.plan import plan
from hourcast_controller.pods import Pod
from hourcast_controller.policy import candidates, misread
from hourcast_controller.registry import Registry, proof_of
from hourcast_controller.rollout_state import DeploymentState, rollout
from hourcast_controller.settings import ControllerSettings
from hourcast_controller.targets.local import LocalTarget
from hourcast_controller.webhook import verify
from hourcast_trainer.gate import Decision
from hourcast_trainer.registry import _gate_tags
from tests.answering import Answer, Asked, answering

_TAGS = ("kind", "stage", "trained_through", "decided_at", "alias", "alias_set", CHAMPION_EVIDENCE)
_MARKED = ("2026-01-05T00:00:00+00:00", "2026-01-05", "9999-12-31T23:59:59-14:00", "[/red]", "²", "", "null")
_ANY_TEXT = st.text(max_size=60) | st.sampled_from(_MARKED)
_ANY_TAGS = st.fixed_dictionaries({"gate": st.sampled_from(["passed", "failed"]) | _ANY_TEXT}, optional=dict.fromkeys(_TAGS, _ANY_TEXT))  # fmt: skip
_GOOD = {"gate": "passed", "kind": "lstm"}


@dataclass
class _Outside:
    """MLflow with versions 1 … by their tags, each behind an alias of its own day, and a node that serves version 1."""

    url: str = ""
    tags: dict[int, Mapping[str, str]] = field(default_factory=dict)
    template: dict[str, str] = field(default_factory=dict)
    whole: dict[str, Any] | None = None

    def answer(self, path: str, asked: Mapping[str, list[str]]) -> Any:
        if path == "/v1/jobs":
            return []
        if path == "/v1/deployment":
            status = {"serving_version": 1, "serving_alias": "20250601", "rolling": False}
            status |= dict.fromkeys(("failed_version", "failed_exit_code", "failure"))
            return {"annotations": {}, "pod_template": {"annotations": self.template}, "status": status}
        if self.whole is not None:
            return self.whole
        if path.endswith("registered-models/get"):
            aliases = [{"alias": f"202506{v:02d}", "version": str(v)} for v in self.tags]
            return {"registered_model": {"aliases": aliases}}
        if path.endswith("model-versions/get"):
            return {"model_version": self._version(int(asked["version"][0]))}
        newest, size = sorted(self.tags, reverse=True), int(asked["max_results"][0])
        first = int(asked.get("page_token", ["0"])[0])
        token = {"next_page_token": str(first + size)} if first + size < len(newest) else {}
        return {"model_versions": [self._version(v) for v in newest[first : first + size]], **token}

    def _version(self, number: int) -> dict[str, Any]:
        tags = [{"key": k, "value": v} if v else {"key": k} for k, v in self.tags[number].items()]
        return {"version": str(number), "run_id": f"r{number}", "tags": tags}


@contextmanager
def _answering() -> Iterator[_Outside]:
    seen = _Outside(tags={1: _GOOD}, template={VERSION_ANNOTATION: "1", ALIAS_ANNOTATION: "20250601"})

    def answer(asked: Asked) -> Answer:
        if asked.method == "GET":
            return Answer(seen.answer(asked.path, asked.query))
        if asked.method == "PATCH":
            seen.template |= asked.body.get("pod_template", {}).get("annotations", {})
        return Answer({})

    with answering(answer) as seen.url:
        yield seen


@pytest.fixture
def outside() -> Iterator[_Outside]:
    """At one address, for as long as the test runs."""
    with _answering() as seen:
        yield seen


@pytest.fixture(scope="module")
def outside_of_properties() -> Iterator[_Outside]:
    """The same for every example of a property."""
    with _answering() as seen:
        yield seen


@pytest.fixture
def controller(outside: _Outside, tmp_path: Path) -> Iterator[Controller]:
    """A controller of that node; versions 1 to 3 are packaged."""
    settings = ControllerSettings(
        database_url=f"sqlite:///{tmp_path / 'store.db'}",
        bucket_url=f"file://{tmp_path / 'bucket'}",
        mlflow_url=outside.url,
        node_url=outside.url,
    )
    bucket, target = FolderBucket(tmp_path / "bucket"), LocalTarget(outside.url)
    for version in (1, 2, 3):
        bucket.put(manifest_key("hourcast", version), b"{}")
    with open_store(settings.resolved_database_url) as store, Registry(outside.url, "hourcast") as registry:
        store.upgrade()
        journal = Journal(store, WallClock(), "hourcast", "controller")
        yield Controller(settings, registry, bucket, store, target, journal)
    target.close()


def test_a_version_with_a_tag_that_is_no_time_is_skipped_and_named_once(
    outside: _Outside, controller: Controller, caplog: pytest.LogCaptureFixture
) -> None:
    """The next best version is rolled out, and the log says once which was skipped and why."""
    outside.tags |= {2: _GOOD, 3: _GOOD | {"decided_at": "soon"}}
    with caplog.at_level(logging.WARNING, "hourcast.controller"):
        for _ in range(3):
            controller.turn()
    assert outside.template[VERSION_ANNOTATION] == "2"
    told = [r.getMessage() for r in caplog.records if "skipped" in r.getMessage()]
    assert told == ["version 3 is skipped: its tag decided_at cannot be understood: 'soon'"]


def test_a_tag_that_was_mended_is_taken_at_the_next_look(outside: _Outside, controller: Controller) -> None:
    """What could not be understood is not remembered."""
    outside.tags[3] = _GOOD | {"trained_through": "the day before"}
    controller.turn()
    assert outside.template[VERSION_ANNOTATION] == "1"
    outside.tags[3] = _GOOD | {"trained_through": "2025-06-03", "decided_at": "2025-06-18T00:05:00+00:00"}
    controller.turn()
    assert outside.template[VERSION_ANNOTATION] == "3"


def test_a_version_that_is_not_decided_yet_is_taken_when_it_is(outside: _Outside) -> None:
    """A back-test decides its weeks when all are fitted: until then a version is neither passed nor failed, nor remembered as either."""
    outside.tags = {1: _GOOD | _gate_tags(None, "backtest_20250601")}
    with Registry(outside.url, "m") as registry:
        assert not registry.read().versions[1].usable
        outside.tags = {1: _GOOD | _gate_tags(Decision(True, "good", {}), "backtest_20250601")}
        assert registry.read().versions[1].usable


def test_an_index_without_a_skipped_version_is_whole(outside: _Outside) -> None:
    """The packager leaves its alias out, so the controller does not have the index written again and again."""
    outside.tags[2] = _GOOD | {"decided_at": "soon"}
    with Registry(outside.url, "hourcast") as registry:
        seen = registry.read()
    deployment = rollout(DeploymentState(1, "20250601", 1, 1, 1, 1), [])
    observed = Observed(seen, frozenset({1}), {"20250601": 1}, deployment, {}, Standing())
    assert not [action for action in plan(observed) if isinstance(action, RefreshIndex)]


def test_a_model_may_have_more_versions_than_a_page(outside: _Outside) -> None:
    """MLflow gives them a thousand at a time; a command that lists them lists all."""
    outside.tags = dict.fromkeys(range(1, 2502), _GOOD)
    with Registry(outside.url, "hourcast") as registry:
        assert registry.numbers() == list(range(1, 2502))


def test_status_names_what_is_skipped(outside: _Outside, tmp_path: Path) -> None:
    """With the reason, in the table and for programs, whatever brackets a tag holds."""
    outside.tags = {1: _GOOD | {"kind": "[/red]"}, 2: _GOOD | {"decided_at": "[/soon]"}}
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        store.upgrade()

    def status(*words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "hourcast.cli", "status", *words],
            env=os.environ | {
                "HOURCAST_DATABASE_URL": f"sqlite:///{tmp_path / 'store.db'}", "HOURCAST_NODE_URL": outside.url,
                "HOURCAST_MLFLOW_URL": outside.url, "COLUMNS": "200",
            },
            cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
        ).stdout  # fmt: skip

    why = "its tag decided_at cannot be understood: '[/soon]'"
    assert f"version 2: {why}" in status()
    assert json.loads(status("--json"))["skipped"] == {"2": why}


@given(tags=_ANY_TAGS)
@example(tags={"gate": "passed", "decided_at": "0001-01-01T00:00:00+14:00"})
def test_no_tag_stops_a_look(outside_of_properties: _Outside, tags: dict[str, str]) -> None:
    """Any text in any tag: the other version stays a candidate, and this one is a candidate or named."""
    outside_of_properties.tags, outside_of_properties.whole = {1: _GOOD, 2: tags}, None
    with Registry(outside_of_properties.url, "hourcast") as registry:
        seen = registry.read()
        registry.champion_evidence(2)
    found = {candidate.version for candidate in candidates(seen, "newest")}
    assert 1 in found
    assert (2 in found) is (tags["gate"] == "passed" and 2 not in misread(seen))


@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["registered_model", "model_versions", "aliases", "version", "tags", "key"]), inner, max_size=4),
        max_leaves=12,
    )
)  # fmt: skip
def test_an_answer_that_is_not_mlflows_is_an_outage(outside_of_properties: _Outside, body: Any) -> None:
    """Any JSON at all: the read gives something, or says that MLflow does not answer as it does."""
    outside_of_properties.whole = body
    with Registry(outside_of_properties.url, "hourcast") as registry, suppress(UnavailableError):
        registry.read()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_PROOF = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("reason", "challenger", "champion", "decided_at", "loss", "start", "without_best_week", "champion_refitted"), _JSON
    ),
)  # fmt: skip


@given(proof=_PROOF, text=st.text(max_size=60))
@example(proof={}, text="[" * 5000)
@example(proof={}, text='{"reason": "\\ud800"}')
def test_no_proof_stops_the_telling_of_a_move(proof: dict[str, Any], text: str) -> None:
    """Evidence of any shape is a proof that can be stored, or none; the move is told either way, and so is its event."""
    for told in (json.dumps(proof), json.dumps(proof | {"reason": "better", "challenger": 7}), text):
        found = proof_of(told)
        for move in moves(7, 3, lambda _: found, []):  # noqa: B023  # called at once
            json.dumps(dict(move.evidence), allow_nan=False, ensure_ascii=False).encode()
            assert move.reason.encode()
            assert isinstance(evidence_in_words(move.evidence), str)


@given(text=_ANY_TEXT | st.integers().map(str) | st.just("9" * 5000))
@example("²")
@example("0")
@example("2147483648")
def test_no_annotation_stops_a_look(text: str) -> None:
    """Whatever people write on the Deployment or a pod, a version there is a number that a record can hold, or none."""
    names = (VERSION_ANNOTATION, ALIAS_ANNOTATION, PIN_ANNOTATION, HOLD_ANNOTATION, DECIDED_ANNOTATION)
    notes = dict.fromkeys(names, text)
    body = {"metadata": {"annotations": notes}, "spec": {"template": {"metadata": {"annotations": notes}}}}
    pod = Pod.of({"metadata": {"name": "p", "annotations": notes}, "spec": {}, "status": {}})
    seen = rollout(DeploymentState.of(body), [pod])
    for number in (seen.desired_version, seen.pin, seen.decided or None):
        assert number is None or 0 < number < 2**31
    assert seen.desired_alias is None or len(seen.desired_alias) <= 64
    deliveries_of({"metadata": {"annotations": {"hourcast.io/hints": f"a@{text} b@1"}}})
    assert verify("secret", "id", text, "v1,x", b"", 0.0)
