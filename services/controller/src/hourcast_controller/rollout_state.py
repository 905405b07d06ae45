"""What a Deployment and its pods say about a rollout. Pure: JSON of Kubernetes in, `plan.Deployment` out.

What counts against a version, and what does not:

- an image that cannot be pulled, a container that ended with 4 or 6 (corrupt package, wrong checksum, bad output),
  a crash loop, a rollout past its deadline: the roll has failed, with a reason;
- a container that ended with 5 or an init container that still fetches: something else is away, and the roll waits;
- a container that was killed once or twice by a signal: it says nothing, and Kubernetes starts it again.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from hourcast.contracts import ALIAS_ANNOTATION, HOLD_ANNOTATION, PIN_ANNOTATION, VERSION_ANNOTATION
from hourcast_controller.plan import Deployment

__all__ = ["MANAGER", "Container", "DeploymentState", "Pod", "last_words", "rollout"]

MANAGER = "hourcast-controller"
"""Field manager under which the version is written."""

_IMAGE_ERRORS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_AWAY, _VERSION_IS_BAD = 5, (4, 6)
_RESTARTS = 3
_SIGNALS_FROM = 128
_PREFIX = "hourcast: "


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a pod: what it does now, and how it last ended."""

    name: str
    init: bool = False
    image: str = ""
    ready: bool = False
    running: bool = False
    waiting: str | None = None
    waiting_message: str = ""
    exit_code: int | None = None
    ended_reason: str = ""
    message: str = ""
    restarts: int = 0

    @property
    def image_error(self) -> bool:
        """Whether its image cannot be had."""
        return self.waiting in _IMAGE_ERRORS


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod of the serving component."""

    name: str
    version: int | None = None
    alias: str | None = None
    ready: bool = False
    terminating: bool = False
    unschedulable: str = ""
    containers: tuple[Container, ...] = ()
    phase: str = ""
    node: str = ""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Pod":
        """From a pod's JSON."""
        meta, spec, status = body.get("metadata", {}), body.get("spec", {}), body.get("status", {})
        notes = meta.get("annotations") or {}
        conditions = {c["type"]: c for c in status.get("conditions") or []}
        scheduled = conditions.get("PodScheduled", {})
        return cls(
            name=meta.get("name", ""),
            version=_number(notes.get(VERSION_ANNOTATION)),
            alias=notes.get(ALIAS_ANNOTATION) or None,
            ready=conditions.get("Ready", {}).get("status") == "True",
            terminating=bool(meta.get("deletionTimestamp")),
            unschedulable=scheduled.get("message", "") if scheduled.get("status") == "False" else "",
            containers=tuple(
                _container(item, init=name == "initContainerStatuses")
                for name in ("initContainerStatuses", "containerStatuses")
                for item in status.get(name) or []
            ),
            phase=status.get("phase", ""),
            node=spec.get("nodeName", ""),
        )


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _container(item: Mapping[str, Any], *, init: bool) -> Container:
    state, last = item.get("state") or {}, item.get("lastState") or {}
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or last.get("terminated") or {}
    return Container(
        name=item.get("name", ""),
        init=init,
        image=item.get("image", ""),
        ready=bool(item.get("ready")),
        running="running" in state,
        waiting=waiting.get("reason"),
        waiting_message=waiting.get("message", ""),
        exit_code=ended.get("exitCode"),
        ended_reason=ended.get("reason", ""),
        message=ended.get("message", ""),
        restarts=int(item.get("restartCount") or 0),
    )


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """What the Deployment says of itself."""

    version: int | None = None
    alias: str | None = None
    wanted: int = 1
    replicas: int = 0
    updated: int = 0
    available: int = 0
    generation: int = 1
    observed_generation: int = 1
    deadline_passed: str | None = None
    paused: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "DeploymentState":
        """From a Deployment's JSON."""
        meta, spec, status = body.get("metadata", {}), body.get("spec", {}), body.get("status", {})
        template = (spec.get("template", {}).get("metadata") or {}).get("annotations") or {}
        wanted = spec.get("replicas")
        return cls(
            version=_number(template.get(VERSION_ANNOTATION)),
            alias=template.get(ALIAS_ANNOTATION) or None,
            wanted=1 if wanted is None else int(wanted),
            replicas=int(status.get("replicas") or 0),
            updated=int(status.get("updatedReplicas") or 0),
            available=int(status.get("availableReplicas") or 0),
            generation=int(meta.get("generation") or 0),
            observed_generation=int(status.get("observedGeneration") or 0),
            deadline_passed=_deadline(meta, status),
            paused=bool(spec.get("paused")),
            annotations=meta.get("annotations") or {},
        )


def _deadline(meta: Mapping[str, Any], status: Mapping[str, Any]) -> str | None:
    """The message of a deadline that passed in this rollout, not in one before it."""
    for condition in status.get("conditions") or []:
        if (
            condition.get("type") == "Progressing"
            and condition.get("status") == "False"
            and condition.get("reason") == "ProgressDeadlineExceeded"
        ):
            # For an instant after a roll back the condition is still that of the roll before.
            ours = [
                m.get("time", "")
                for m in meta.get("managedFields") or []
                if m.get("manager") == MANAGER and m.get("operation") == "Apply"
            ]
            if ours and not _later(condition.get("lastUpdateTime", ""), max(ours)):
                return None
            return str(condition.get("message") or "the deadline has passed")
    return None


def _later(left: str, right: str) -> bool:
    try:
        return datetime.fromisoformat(left) > datetime.fromisoformat(right)
    except ValueError:
        return True


def rollout(state: DeploymentState, pods: Sequence[Pod]) -> Deployment:
    """What serves now and what should, whether that is under way, and why it is not if it has failed."""
    alive = [pod for pod in pods if not pod.terminating]
    ready = [pod for pod in alive if pod.ready and pod.version is not None]
    complete = (
        state.observed_generation >= state.generation
        and state.updated == state.wanted == state.replicas
        and state.available >= state.wanted
        and not any(pod.version != state.version for pod in ready)
    )
    serving = _most(ready, state.version)
    if complete and state.wanted and state.version is not None:
        serving = state.version
    failure, fault = None, None
    if state.version is not None and not complete:
        failure, fault = _failure(state, [pod for pod in alive if pod.version == state.version])
    alias = state.alias if serving == state.version else None
    if serving is not None and alias is None:
        alias = next((pod.alias for pod in ready if pod.version == serving), None)
    return Deployment(
        desired_version=state.version,
        desired_alias=state.alias,
        serving_version=serving,
        serving_alias=alias if serving is not None else None,
        rolling=state.version is not None and not complete and failure is None,
        failed_version=state.version if failure else None,
        failure=failure,
        fault=fault,
        pin=_number(state.annotations.get(PIN_ANNOTATION)),
        hold=state.annotations.get(HOLD_ANNOTATION) == "true",
    )


def _most(ready: Sequence[Pod], desired: int | None) -> int | None:
    """The version that most ready pods have; of two equally common ones the one that is being replaced."""
    counts = Counter(pod.version for pod in ready if pod.version is not None)
    if not counts:
        return None
    return max(counts, key=lambda version: (counts[version], version != desired, version))


Fault = Literal["version", "place"]


def _failure(state: DeploymentState, pods: Sequence[Pod]) -> tuple[str | None, Fault | None]:
    """Why the pods of the desired version will not get ready, and whether the version is to blame or the place."""
    unready = [pod for pod in pods if not pod.ready]
    containers = [c for pod in unready for c in pod.containers if not (c.ready and not c.init)]
    for c in containers:
        if c.exit_code in _VERSION_IS_BAD:
            return f"{_named(c)} ended with {c.exit_code}: {last_words(c)}", "version"
    for c in containers:
        if c.image_error:
            return f"{_named(c)} cannot get its image {c.image}: {c.waiting_message or c.waiting}", "place"
    for c in containers:
        looping = c.waiting == "CrashLoopBackOff" or c.restarts >= _RESTARTS
        killed = c.exit_code is not None and c.exit_code > _SIGNALS_FROM and c.restarts < _RESTARTS
        if looping and not killed and c.exit_code != _AWAY and not (c.init and c.exit_code == 0):
            return (
                f"{_named(c)} was started {c.restarts + 1} times and ended with {c.exit_code}: {last_words(c)}",
                "version",
            )
    if state.deadline_passed is None or state.observed_generation < state.generation:
        return None, None
    if any(_waits_for_another(pod) for pod in unready):
        return None, None
    return f"the rollout did not end in time: {_plight(unready) or state.deadline_passed}", "place"


def _waits_for_another(pod: Pod) -> bool:
    return any(
        (c.exit_code == _AWAY and not c.ready) or (c.init and c.running and c.exit_code is None)
        for c in pod.containers
    )


def _plight(pods: Sequence[Pod]) -> str:
    """What the pods themselves say."""
    for pod in pods:
        if pod.unschedulable:
            return f"pod {pod.name} finds no node: {pod.unschedulable}"
        for c in pod.containers:
            if c.waiting not in (None, "PodInitializing", "ContainerCreating"):
                return f"{_named(c)} waits ({c.waiting}): {c.waiting_message or last_words(c)}"
            if c.exit_code not in (None, 0):
                return f"{_named(c)} ended with {c.exit_code}: {last_words(c)}"
    for pod in pods:
        for c in pod.containers:
            if c.running and not c.ready and not c.init:
                return f"{_named(c)} of pod {pod.name} runs and does not get ready"
    return ""


def _named(container: Container) -> str:
    return f"{'init container' if container.init else 'container'} {container.name}"


def last_words(container: Container) -> str:
    """The last sentence that a container said of its end: our own error where there is one."""
    lines = [line.strip() for line in container.message.splitlines() if line.strip()]
    ours = [line.removeprefix(_PREFIX) for line in lines if line.startswith(_PREFIX)]
    if ours:
        return ours[-1][:500]
    if lines:
        return lines[-1][:500]
    return container.ended_reason or "it said nothing"
