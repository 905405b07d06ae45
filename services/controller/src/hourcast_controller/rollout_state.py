"""What a Deployment and its pods say about a rollout. Pure: JSON of Kubernetes in, `plan.Deployment` out.

Whether it has failed and what that speaks against is `blame`'s to say.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hourcast.contracts import (
    ALIAS_ANNOTATION,
    DECIDED_ANNOTATION,
    HOLD_ANNOTATION,
    PIN_ANNOTATION,
    VERSION_ANNOTATION,
    version_number,
)
from hourcast_controller.blame import Verdict, fetches, of_pods
from hourcast_controller.observed import Deployment
from hourcast_controller.pods import Pod

__all__ = ["MANAGER", "DeploymentState", "rollout"]

_LONGEST_ALIAS = 64
MANAGER = "hourcast-controller"
"""Field manager under which the version is written."""


# A package comes from the bucket, or from the node's volume after the bucket was asked in vain, in less than this.
_FETCHES_WITHIN = timedelta(seconds=15)


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
            version=version_number(template.get(VERSION_ANNOTATION)),
            # Anyone may write an annotation; a record of it holds 64 characters.
            alias=template.get(ALIAS_ANNOTATION, "")[:_LONGEST_ALIAS] or None,
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


def rollout(state: DeploymentState, pods: Sequence[Pod], now: datetime | None = None) -> Deployment:
    """What serves now and what should, whether that is under way, and why it is not if it has failed.

    With `now`, a server that has just begun to fetch its package does not count as `fetching`.
    """
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
    failed: Verdict | None = None
    ours = [pod for pod in alive if pod.version == state.version]
    if state.version is not None and not complete:
        seen = state.observed_generation >= state.generation
        failed = of_pods(ours, state.deadline_passed if seen else None)
    alias = state.alias if serving == state.version else None
    if serving is not None and alias is None:
        alias = next((pod.alias for pod in ready if pod.version == serving), None)
    rolling = state.version is not None and not complete and failed is None
    return Deployment(
        desired_version=state.version,
        desired_alias=state.alias,
        serving_version=serving,
        serving_alias=alias if serving is not None else None,
        rolling=rolling,
        fetching=rolling and fetches(ours, None if now is None else now - _FETCHES_WITHIN) is not None,
        failed_version=state.version if failed else None,
        failure=failed.why if failed else None,
        fault=failed.fault if failed else None,
        proved=failed is not None and failed.proved,
        pin=version_number(state.annotations.get(PIN_ANNOTATION)),
        hold=state.annotations.get(HOLD_ANNOTATION) == "true",
        decided=version_number(state.annotations.get(DECIDED_ANNOTATION)) or 0,
    )


def _most(ready: Sequence[Pod], desired: int | None) -> int | None:
    """The version that most ready pods have; of two equally common ones the one that is being replaced."""
    counts = Counter(pod.version for pod in ready if pod.version is not None)
    if not counts:
        return None
    return max(counts, key=lambda version: (counts[version], version != desired, version))
