"""A Deployment of Kubernetes."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hourcast.contracts import (
    ALIAS_ANNOTATION,
    DECIDED_ANNOTATION,
    HOLD_ANNOTATION,
    PIN_ANNOTATION,
    VERSION_ANNOTATION,
)
from hourcast.errors import UnavailableError
from hourcast_controller.job_state import (
    JOB_LABEL,
    PACKAGER_LABEL,
    Attempt,
    attempts,
    job_states,
    next_job,
)
from hourcast_controller.kube import Kube, MissingError, TakenError
from hourcast_controller.observed import Deployment, Job
from hourcast_controller.pods import Pod
from hourcast_controller.rollout_state import MANAGER, DeploymentState, rollout

__all__ = ["KubernetesTarget"]

_LOG = logging.getLogger("hourcast.controller.kubernetes")
_TELLER = "hourcast-controller-status"
_OPERATOR = "hourcast-cli"
_STATUS, _REASON = "hourcast.io/status", "hourcast.io/reason"
_KEPT_ATTEMPTS = 2
_TRIES = 3
_WARNINGS = frozenset({"blocked", "quarantined", "undone"})


@dataclass(frozen=True, slots=True)
class _Seen:
    """A Deployment as it was looked at: its version, and what a decision rests on."""

    resource_version: str
    wanted: tuple[object, ...]


def _seen(body: Mapping[str, Any]) -> _Seen:
    meta = body["metadata"]
    notes = meta.get("annotations") or {}
    # The generation counts changes of the specification alone.
    minded = (notes.get(name) for name in (PIN_ANNOTATION, HOLD_ANNOTATION, DECIDED_ANNOTATION))
    return _Seen(meta.get("resourceVersion", ""), (meta.get("uid"), meta.get("generation"), *minded))


class KubernetesTarget:
    """Rolls one Deployment of one namespace, and packages with Jobs made from one CronJob."""

    def __init__(self, kube: Kube, namespace: str, deployment: str, packager: str) -> None:
        self._kube, self._namespace = kube, namespace
        self._name, self._packager = deployment, packager
        self._selector: str | None = None
        self._uid = ""
        self._annotations: Mapping[str, str] = {}
        self._seen: _Seen | None = None
        self._pool = ThreadPoolExecutor(4, "kubernetes")

    def close(self) -> None:
        """Give connections back."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._kube.close()

    @property
    def _deployment_path(self) -> str:
        return f"/apis/apps/v1/namespaces/{self._namespace}/deployments/{self._name}"

    @property
    def _pods_path(self) -> str:
        return f"/api/v1/namespaces/{self._namespace}/pods"

    @property
    def _jobs_path(self) -> str:
        return f"/apis/batch/v1/namespaces/{self._namespace}/jobs"

    # -- the rollout ----------------------------------------------------------------------------

    def observe(self) -> Deployment:
        """What serves now and what should."""
        # The selector of a Deployment never changes, so from the second look on both are read at once.
        pods = self._pool.submit(self._pods, self._selector) if self._selector else None
        body = self._read()
        labels = body["spec"]["selector"].get("matchLabels") or {}
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        found = pods.result() if pods is not None and selector == self._selector else self._pods(selector)
        self._selector = selector
        self._uid = body["metadata"].get("uid", "")
        self._seen = _seen(body)
        state = DeploymentState.of(body)
        self._annotations = state.annotations
        return rollout(state, [Pod.of(item) for item in found], datetime.now(UTC))

    def _read(self) -> dict[str, Any]:
        try:
            return self._kube.call("GET", self._deployment_path)
        except MissingError:
            raise UnavailableError(
                f"there is no Deployment {self._name} in namespace {self._namespace}; "
                "install the chart, or check HOURCAST_KUBE_DEPLOYMENT and HOURCAST_NAMESPACE",
                retry_after_s=5,
            ) from None

    def _pods(self, selector: str) -> list[dict[str, Any]]:
        listed = self._kube.call("GET", self._pods_path, query={"labelSelector": selector})
        return list(listed.get("items") or [])

    def roll(self, version: int, alias: str) -> None:
        """Ask for a version; Kubernetes then starts its pods, waits until they are ready and drains the old."""
        template = {VERSION_ANNOTATION: str(version), ALIAS_ANNOTATION: alias}
        # Applied under a manager of our own: Helm does not know these two fields, and leaves them as they are.
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {"template": {"metadata": {"annotations": template}}},
        }
        self._fenced(body, {"fieldManager": MANAGER, "force": "true"}, "application/apply-patch+yaml")

    def annotate(self, values: Mapping[str, str | None]) -> None:
        """Set annotations of the Deployment, None removing one."""
        body = {"metadata": {"annotations": dict(values)}}
        self._fenced(body, {"fieldManager": _OPERATOR}, "application/merge-patch+json")

    def _fenced(self, body: dict[str, Any], query: Mapping[str, str], content_type: str) -> None:
        """Patch the Deployment only while it is what was seen: what is asked for, and people's annotations.

        A patch may be on its way for longer than the lease lasts, and arrive after that of a successor. With the
        resource version that was seen the API server refuses it then. The status, which changes all the time, moves the
        version too: where no more has changed, the patch is sent again with the new one.

        Raises:
            UnavailableError: when another has changed the Deployment since; it is looked at again.
        """
        seen = self._seen
        for _ in range(_TRIES if seen is not None else 0):
            assert seen is not None
            meta = {**body.get("metadata", {}), "resourceVersion": seen.resource_version}
            try:
                answer = self._kube.call(
                    "PATCH", self._deployment_path, {**body, "metadata": meta},
                    query=query, content_type=content_type,
                )  # fmt: skip
            except TakenError:
                now = _seen(self._read())
                if now.wanted != seen.wanted:
                    self._seen = None
                    break
                seen = now
            else:
                self._seen = _seen(answer)
                return
        raise UnavailableError(
            f"the Deployment {self._name} was changed by another since it was looked at; it is looked at again",
            retry_after_s=1,
        )

    def _merge(self, values: Mapping[str, str | None], manager: str) -> None:
        try:
            self._kube.call(
                "PATCH",
                self._deployment_path,
                {"metadata": {"annotations": dict(values)}},
                query={"fieldManager": manager},
                content_type="application/merge-patch+json",
            )
        except MissingError:
            self._read()

    # -- telling people -------------------------------------------------------------------------

    def explain(self, status: str, reason: str) -> None:
        """Keep the Deployment's annotations for people as they should be; `kubectl describe` shows them."""
        wanted = {_STATUS: status[:1000], _REASON: reason[:1000]}
        if any(self._annotations.get(key) != value for key, value in wanted.items()):
            self._merge(wanted, _TELLER)
            self._annotations = {**self._annotations, **wanted}

    def tell(self, kind: str, version: int | None, sentence: str) -> None:
        """A Kubernetes Event of the Deployment. Best effort: what cannot be told is in the journal."""
        now = datetime.now(UTC)
        reason = "".join(part.capitalize() for part in kind.split("_"))
        key = hashlib.sha256(f"{kind} {version} {sentence} {now}".encode()).hexdigest()[:16]
        stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{self._name}.{key}", "namespace": self._namespace},
            "involvedObject": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": self._name,
                "namespace": self._namespace,
                "uid": self._uid,
            },
            "reason": reason,
            "message": (f"version {version}: {sentence}" if version is not None else sentence)[:1000],
            "type": "Warning" if kind in _WARNINGS else "Normal",
            "source": {"component": MANAGER},
            "reportingComponent": f"hourcast.io/{MANAGER}",
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
        try:
            self._kube.call("POST", f"/api/v1/namespaces/{self._namespace}/events", event)
        except UnavailableError as error:
            _LOG.info("the event %r could not be told to Kubernetes: %s", reason, error)

    # -- packaging ------------------------------------------------------------------------------

    def jobs(self) -> dict[str, Job]:
        """Packaging jobs by name; of several with one name the newest counts."""
        return job_states(self._attempts(f"{PACKAGER_LABEL}={self._packager}"), datetime.now(UTC))

    def _attempts(self, selector: str) -> list[Attempt]:
        pods = self._pool.submit(self._pods, selector)
        listed = self._kube.call("GET", self._jobs_path, query={"labelSelector": selector})
        jobs = [item for item in listed.get("items") or [] if not item["metadata"].get("deletionTimestamp")]
        return attempts(jobs, pods.result())

    def start_job(self, name: str, version: int | None) -> None:
        """Start packaging a version, or writing the alias index (None), unless that job runs."""
        path = f"/apis/batch/v1/namespaces/{self._namespace}/cronjobs/{self._packager}"
        cronjob = self._pool.submit(self._kube.call, "GET", path)
        # Read again: a controller that has just taken over has not seen what its predecessor started.
        earlier = self._attempts(f"{PACKAGER_LABEL}={self._packager},{JOB_LABEL}={name}")
        args = ["package", "--index"] if version is None else ["package", str(version)]
        now = datetime.now(UTC)
        if job_states(earlier, now).get(name, Job("failed")).state == "running":
            return
        try:
            body = next_job(cronjob.result(), name, args, earlier)
        except MissingError:
            raise UnavailableError(
                f"there is no CronJob {self._packager} in namespace {self._namespace} to make packaging Jobs from; "
                "install the chart, or check HOURCAST_KUBE_PACKAGER",
                retry_after_s=10,
            ) from None
        try:
            self._kube.call("POST", self._jobs_path, body)
        except TakenError:
            _LOG.info("job %s is there already", body["metadata"]["name"])
        self._tidy(earlier)

    def _tidy(self, earlier: Sequence[Attempt]) -> None:
        """Delete attempts that pull an image in vain, and all but the newest of those that ended."""
        ended = sorted((a for a in earlier if not a.running), key=lambda a: a.serial)[:-_KEPT_ATTEMPTS]
        for attempt in [*(a for a in earlier if a.stuck), *ended]:
            try:
                self._kube.call(
                    "DELETE",
                    f"{self._jobs_path}/{attempt.name}",
                    {"propagationPolicy": "Background"},
                )
            except UnavailableError as error:
                _LOG.info("job %s is left behind: %s", attempt.name, error)
