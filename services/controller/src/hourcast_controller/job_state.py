"""What Jobs of Kubernetes and their pods say about packaging. Pure: JSON in, `plan.Job` out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hourcast.contracts import version_number
from hourcast_controller.blame import killed
from hourcast_controller.observed import Job
from hourcast_controller.pods import Pod, last_words

__all__ = [
    "ATTEMPT_LABEL",
    "JOB_LABEL",
    "PACKAGER_LABEL",
    "Attempt",
    "attempts",
    "job_of",
    "job_states",
    "next_job",
]

JOB_LABEL = "hourcast.io/job"
"""`package-<version>` or `index`."""
PACKAGER_LABEL = "hourcast.io/packager"
"""Name of the CronJob that the Job was made from."""
ATTEMPT_LABEL = "hourcast.io/attempt"
"""How often in a row this was tried."""

_STUCK_AFTER_S = 60.0
_RETRY_S, _RETRY_KILLED_S, _LONGEST_RETRY_S = 10.0, 1.0, 300.0
_NAME_LIMIT = 63


@dataclass(frozen=True, slots=True)
class Attempt:
    """One Job: which work, the how-manieth, and how it went."""

    name: str
    work: str
    serial: int
    attempt: int
    created_at: datetime
    ended_at: datetime | None = None
    succeeded: bool = False
    failed: bool = False
    exit_code: int | None = None
    message: str = ""
    stuck: bool = False

    @property
    def running(self) -> bool:
        """Whether it may still end well."""
        return not (self.succeeded or self.failed)


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def attempts(jobs: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]]) -> list[Attempt]:
    """Every Job of ours, with what its pod says."""
    by_job: dict[str, list[Pod]] = {}
    for body in pods:
        labels = body.get("metadata", {}).get("labels") or {}
        owner = labels.get("batch.kubernetes.io/job-name") or labels.get("job-name") or ""
        by_job.setdefault(owner, []).append(Pod.of(body))
    return [_attempt(body, by_job.get(body["metadata"]["name"], [])) for body in jobs]


def _attempt(body: Mapping[str, Any], pods: Sequence[Pod]) -> Attempt:
    meta, status = body["metadata"], body.get("status") or {}
    labels = meta.get("labels") or {}
    name = meta["name"]
    true = {c["type"]: c for c in status.get("conditions") or [] if c.get("status") == "True"}
    failed, complete = true.get("Failed"), true.get("Complete")
    ended = [c for pod in pods for c in pod.containers if c.exit_code is not None and not c.running]
    exit_code, message = None, ""
    if failed is not None:
        wrong = [c for c in ended if c.exit_code != 0]
        if wrong:
            exit_code, message = wrong[-1].exit_code, last_words(wrong[-1])
        else:
            message = "its pod was deleted or never ran" + (
                f" ({failed['message']})" if failed.get("message") else ""
            )
    image = next((c for pod in pods for c in pod.containers if c.image_error), None)
    unschedulable = next((pod.unschedulable for pod in pods if pod.unschedulable), "")
    if failed is None and complete is None:
        if image is not None:
            message = f"the image {image.image} cannot be pulled: {image.waiting_message or image.waiting}"
        elif unschedulable:
            message = f"it finds no node: {unschedulable}"
    end = failed or complete or {}
    serial = name.rsplit("-", 1)[-1]
    attempt = labels.get(ATTEMPT_LABEL, "1")
    return Attempt(
        name=name,
        work=labels.get(JOB_LABEL, ""),
        serial=version_number(serial) or 0,
        attempt=version_number(attempt) or 1,
        created_at=_moment(meta.get("creationTimestamp")) or datetime.min.replace(tzinfo=UTC),
        ended_at=_moment(end.get("lastTransitionTime") or status.get("completionTime")),
        succeeded=complete is not None,
        failed=failed is not None,
        exit_code=0 if complete is not None else exit_code,
        message=message,
        stuck=failed is None and complete is None and image is not None,
    )


def _newest(found: Sequence[Attempt]) -> Attempt:
    return max(found, key=lambda a: (a.serial, a.created_at))


def job_of(newest: Attempt, now: datetime) -> Job:
    """What the plan is to know of the newest attempt."""
    if newest.succeeded:
        # An index that was just written is not written again at once: aliases come in bursts.
        age = (now - (newest.ended_at or newest.created_at)).total_seconds()
        return Job("succeeded", 0, "", retry_due=age >= _RETRY_KILLED_S, ended_at=newest.ended_at)
    if newest.running:
        waited = (now - newest.created_at).total_seconds()
        if not newest.stuck or waited < _STUCK_AFTER_S:
            return Job("running", None, newest.message)
        # Kubernetes would go on pulling for as long as the Job may live; a new Job takes a mended image.
        pause = _pause(_RETRY_S, newest.attempt)
        return Job("failed", None, newest.message, retry_due=waited - _STUCK_AFTER_S >= pause)
    pause = _pause(_RETRY_KILLED_S if killed(newest.exit_code) else _RETRY_S, newest.attempt)
    waited = (now - (newest.ended_at or newest.created_at)).total_seconds()
    return Job(
        "failed", newest.exit_code, newest.message, retry_due=waited >= pause, ended_at=newest.ended_at
    )


def _pause(first_s: float, attempt: int) -> float:
    return float(min(_LONGEST_RETRY_S, first_s * 2 ** min(attempt - 1, 10)))


def job_states(found: Sequence[Attempt], now: datetime) -> dict[str, Job]:
    """Work to its newest attempt."""
    by_work: dict[str, list[Attempt]] = {}
    for attempt in found:
        if attempt.work:
            by_work.setdefault(attempt.work, []).append(attempt)
    return {work: job_of(_newest(those), now) for work, those in by_work.items()}


def next_job(
    cronjob: Mapping[str, Any], work: str, args: Sequence[str], earlier: Sequence[Attempt]
) -> dict[str, Any]:
    """The Job that does `work`, from the CronJob's template.

    Its name follows from the attempts before it, so that two controllers that both want it make one Job.
    """
    meta, template = cronjob["metadata"], cronjob["spec"]["jobTemplate"]
    newest = _newest(earlier) if earlier else None
    serial = newest.serial + 1 if newest else 1
    attempt = newest.attempt + 1 if newest and not newest.succeeded else 1
    suffix = f"-{work}-{serial}"
    labels = {JOB_LABEL: work, PACKAGER_LABEL: meta["name"], ATTEMPT_LABEL: str(attempt)}
    before = template.get("metadata") or {}
    spec = dict(template["spec"])
    pod = dict(spec["template"])
    pod_meta = dict(pod.get("metadata") or {})
    pod_meta["labels"] = {**(pod_meta.get("labels") or {}), **labels}
    pod_spec = dict(pod["spec"])
    first, *others = pod_spec["containers"]
    pod_spec["containers"] = [{**first, "args": list(args)}, *others]
    pod["metadata"], pod["spec"] = pod_meta, pod_spec
    spec["template"] = pod
    spec["backoffLimit"] = 0
    spec.setdefault("ttlSecondsAfterFinished", 3600)
    spec.setdefault("activeDeadlineSeconds", 900)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": meta["name"][: _NAME_LIMIT - len(suffix)].rstrip("-.") + suffix,
            "namespace": meta["namespace"],
            "labels": {**(before.get("labels") or {}), **labels},
            "annotations": dict(before.get("annotations") or {}),
            # Not its controller: a CronJob tidies away the Jobs that it controls by limits of its own.
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": "CronJob",
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": False,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": spec,
    }
