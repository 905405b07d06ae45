"""What a controller sends late, or an API server that is busy, does no harm."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourcast.contracts import PIN_ANNOTATION, VERSION_ANNOTATION
from hourcast.errors import UnavailableError
from hourcast_controller.kube import BusyError, Kube, asked_wait_s
from hourcast_controller.targets.kubernetes import KubernetesTarget
from tests.answering import Answer, Asked, answering


@dataclass
class _Api:
    """An API server with one Deployment: a patch with another resource version than its own is a conflict."""

    url: str = ""
    version: int = 1
    generation: int = 1
    annotations: dict[str, str] = field(default_factory=dict)
    template: dict[str, str] = field(default_factory=dict)
    busy: list[tuple[int, str]] = field(default_factory=list)
    calls: int = 0
    before_patch: Callable[[], None] = field(default=lambda: None)

    def deployment(self) -> dict[str, Any]:
        return {
            "metadata": {
                "name": "serving", "uid": "u", "resourceVersion": str(self.version), "generation": self.generation,
                "annotations": self.annotations,
            },
            "spec": {"selector": {"matchLabels": {"app": "serving"}}, "template": {"metadata": {"annotations": self.template}}},
            "status": {},
        }  # fmt: skip

    def ask_for(self, version: int) -> None:
        """What a successor does."""
        self.template = {VERSION_ANNOTATION: str(version)}
        self.version, self.generation = self.version + 1, self.generation + 1

    def report(self) -> None:
        """What Kubernetes itself does, all the time: the status changes."""
        self.version += 1

    def patch(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        hook, self.before_patch = self.before_patch, lambda: None
        hook()
        if body["metadata"].get("resourceVersion", str(self.version)) != str(self.version):
            return 409, {"message": "the object has been modified"}
        changes = body.get("spec", {}).get("template", {}).get("metadata", {}).get("annotations")
        self.annotations |= body["metadata"].get("annotations", {})
        self.version += 1
        if changes is not None:
            self.template, self.generation = changes, self.generation + 1
        return 200, self.deployment()


@pytest.fixture
def api() -> Iterator[_Api]:
    """At an address, for as long as the test runs."""
    seen = _Api()

    def answer(asked: Asked) -> Answer:
        seen.calls += 1
        if asked.method == "PATCH":
            status, body = seen.patch(asked.body)
        else:
            status, body = 200, {"items": []} if "/pods" in asked.path else seen.deployment()
        status, after = seen.busy.pop(0) if seen.busy else (status, "")
        return Answer(body, status, {"Retry-After": after} if after else {})

    with answering(answer) as seen.url:
        yield seen


@pytest.fixture
def kube(api: _Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kube]:
    """A client of that server."""
    told = {
        "clusters": [{"name": "c", "cluster": {"server": api.url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(told))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    made = Kube()
    yield made
    made.close()


@pytest.fixture
def target(kube: Kube) -> Iterator[KubernetesTarget]:
    """Its Deployment."""
    made = KubernetesTarget(kube, "ns", "serving", "packager")
    yield made
    made.close()


def test_a_patch_that_comes_after_a_successors_is_refused(api: _Api, target: KubernetesTarget) -> None:
    """The lease ran out while it was on its way, and another controller has asked for another version."""
    target.observe()
    api.before_patch = lambda: api.ask_for(6)
    with pytest.raises(UnavailableError) as caught:
        target.roll(5, "20250611")
    assert str(caught.value) == (
        "the Deployment serving was changed by another since it was looked at; it is looked at again"
    )
    assert api.template[VERSION_ANNOTATION] == "6"
    target.observe()
    target.roll(7, "20250618")
    assert api.template[VERSION_ANNOTATION] == "7"


def test_a_pin_that_a_person_sets_meanwhile_is_not_rolled_over(api: _Api, target: KubernetesTarget) -> None:
    """The decision did not know of it."""
    target.observe()

    def pin() -> None:
        api.annotations[PIN_ANNOTATION] = "3"
        api.version += 1

    api.before_patch = pin
    with pytest.raises(UnavailableError, match="was changed by another"):
        target.roll(5, "20250611")
    assert api.template == {}


def test_a_status_that_changes_is_in_nobodys_way(api: _Api, target: KubernetesTarget) -> None:
    """Pods come and go at all times; what is asked for is the same, so the patch is sent again."""
    target.observe()
    api.before_patch = api.report
    target.roll(5, "20250611")
    assert api.template[VERSION_ANNOTATION] == "5"


def test_several_patches_of_a_turn_follow_one_another(api: _Api, target: KubernetesTarget) -> None:
    """Each knows what the one before it made."""
    target.observe()
    target.annotate({PIN_ANNOTATION: "5"})
    target.roll(5, "20250611")
    target.annotate({PIN_ANNOTATION: "6"})
    assert (api.template[VERSION_ANNOTATION], api.annotations[PIN_ANNOTATION]) == ("5", "6")
    assert api.calls == 5


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_api_server_is_not_asked_until_its_time_is_over(api: _Api, kube: Kube, status: int) -> None:
    """The call fails at once, so that a lease does not run out in it, and so do those that follow."""
    api.busy = [(status, "50")]
    began_s = time.monotonic()
    for _ in range(3):
        with pytest.raises(BusyError) as caught:
            kube.call("GET", "/apis/apps/v1/namespaces/ns/deployments/serving")
        assert str(caught.value) == (
            "the Kubernetes API is busy and asks to wait (Retry-After); it is asked again after that"
        )
        assert 0 < (caught.value.retry_after_s or 0) <= 50
    assert time.monotonic() - began_s < 20
    assert api.calls == 1


def test_a_wait_that_is_over_is_over(api: _Api, kube: Kube) -> None:
    """It is asked again and answers."""
    api.busy = [(429, "0")]
    with pytest.raises(BusyError):
        kube.call("GET", "/apis/apps/v1/namespaces/ns/deployments/serving")
    assert kube.call("GET", "/apis/apps/v1/namespaces/ns/deployments/serving")["metadata"]["uid"] == "u"


@given(status=st.integers(100, 599), told=st.none() | st.text(max_size=20) | st.integers().map(str))
def test_any_answer_asks_for_a_bounded_wait_or_none(status: int, told: str | None) -> None:
    """429 always, 503 with seconds; a minute at most."""
    wait_s = asked_wait_s(status, told)
    assert wait_s is None or 0 <= wait_s <= 60
    assert (wait_s is not None) or status != 429
    assert wait_s is None or status in (429, 503)
