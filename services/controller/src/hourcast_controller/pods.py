"""Pods and their containers as Kubernetes tells of them. Pure: JSON in, values out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hourcast.contracts import ALIAS_ANNOTATION, VERSION_ANNOTATION, version_number

__all__ = ["Container", "Pod", "last_words"]

_IMAGE_ERRORS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_LOST = frozenset({"Evicted", "NodeLost", "NodeAffinity", "Preempting", "Shutdown", "Terminated"})
_PREFIX = "hourcast: "


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a pod: what it does now, since when it runs, and how it last ended."""

    name: str
    init: bool = False
    image: str = ""
    ready: bool = False
    running: bool = False
    started: bool = True
    waiting: str | None = None
    waiting_message: str = ""
    exit_code: int | None = None
    ended_reason: str = ""
    message: str = ""
    restarts: int = 0
    since: datetime | None = None

    @property
    def image_error(self) -> bool:
        """Whether its image cannot be had."""
        return self.waiting in _IMAGE_ERRORS


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod of the serving component.

    `lost` says why the pod, not what ran in it, has ended or is about to: evicted, preempted, its node gone.
    """

    name: str
    version: int | None = None
    alias: str | None = None
    ready: bool = False
    terminating: bool = False
    unschedulable: str = ""
    containers: tuple[Container, ...] = ()
    phase: str = ""
    node: str = ""
    lost: str = ""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Pod":
        """From a pod's JSON."""
        meta, spec, status = body.get("metadata", {}), body.get("spec", {}), body.get("status", {})
        notes = meta.get("annotations") or {}
        conditions = {c["type"]: c for c in status.get("conditions") or []}
        scheduled = conditions.get("PodScheduled", {})
        return cls(
            name=meta.get("name", ""),
            version=version_number(notes.get(VERSION_ANNOTATION)),
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
            lost=_lost(status, conditions.get("DisruptionTarget", {})),
        )


def _lost(status: Mapping[str, Any], disruption: Mapping[str, Any]) -> str:
    told = status.get("message") or status.get("reason") or ""
    if status.get("reason") in _LOST or status.get("phase") == "Failed":
        return str(told or "the pod has failed")
    if disruption.get("status") == "True":
        return str(disruption.get("message") or disruption.get("reason") or "the pod is disrupted")
    return ""


def _moment(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


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
        started=item.get("started") is not False,
        waiting=waiting.get("reason"),
        waiting_message=waiting.get("message", ""),
        exit_code=ended.get("exitCode"),
        ended_reason=ended.get("reason", ""),
        message=ended.get("message", ""),
        restarts=int(item.get("restartCount") or 0),
        since=_moment((state.get("running") or {}).get("startedAt")),
    )


def last_words(container: Container) -> str:
    """The last sentence that a container said of its end: our own error where there is one."""
    lines = [line.strip() for line in container.message.splitlines() if line.strip()]
    ours = [line.removeprefix(_PREFIX) for line in lines if line.startswith(_PREFIX)]
    if ours:
        return ours[-1][:500]
    if lines:
        return lines[-1][:500]
    return container.ended_reason or "it said nothing"
