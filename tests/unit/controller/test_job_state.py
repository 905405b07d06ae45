"""Packaging Jobs: which counts, what it says, and when it is tried again."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hourcast_controller.job_state import Attempt, attempts, job_states, next_job
from hourcast_controller.observed import Job

_NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
_LABELS = {"hourcast.io/job": "package-7", "hourcast.io/attempt": "1"}


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _job(serial: int = 1, condition: str | None = None, ended_s: float = 0, **labels: str) -> dict[str, Any]:
    conditions = []
    if condition is not None:
        at = _stamp(_NOW - timedelta(seconds=ended_s))
        conditions = [{"type": condition, "status": "True", "lastTransitionTime": at, "message": "because"}]
    return {
        "metadata": {
            "name": f"hourcast-packager-package-7-{serial}",
            "creationTimestamp": _stamp(_NOW - timedelta(seconds=100)),
            "labels": {**_LABELS, **{f"hourcast.io/{k}": v for k, v in labels.items()}},
        },
        "status": {"conditions": conditions},
    }


def _pod(serial: int = 1, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "p",
            "labels": {"batch.kubernetes.io/job-name": f"hourcast-packager-package-7-{serial}"},
        },
        "status": {"containerStatuses": [{"name": "packager", "image": "i", **status}]},
    }


def _ended(code: int, message: str = "") -> dict[str, Any]:
    return {"state": {"terminated": {"exitCode": code, "message": message}}}


def _seen(jobs: list[dict[str, Any]], pods: list[dict[str, Any]] | None = None) -> Job:
    return job_states(attempts(jobs, pods or []), _NOW)["package-7"]


def test_a_job_without_an_end_runs() -> None:
    """Neither complete nor failed: running."""
    assert _seen([_job()], [_pod(state={"running": {}})]) == Job("running", None, "")


def test_a_failed_job_tells_exit_code_and_last_words() -> None:
    """The plan needs the code to tell a corrupt model from an outage."""
    seen = _seen([_job(condition="Failed")], [_pod(**_ended(4, "log\nhourcast: golden prediction differs"))])
    assert (seen.state, seen.exit_code, seen.message) == ("failed", 4, "golden prediction differs")


def test_a_job_whose_pod_was_deleted_failed_without_a_code_and_is_soon_due() -> None:
    """It says nothing against the version: a second is enough."""
    seen = _seen([_job(condition="Failed", ended_s=1)])
    assert (seen.exit_code, seen.message) == (None, "its pod was deleted or never ran (because)")
    assert seen.retry_due


@pytest.mark.parametrize(
    ("code", "attempt", "ended_s", "due"),
    [(5, 1, 9, False), (5, 1, 10, True), (5, 3, 39, False), (5, 3, 40, True), (5, 30, 300, True), (137, 1, 1, True), (137, 2, 1, False)],
)  # fmt: skip
def test_the_pause_before_another_attempt_grows(code: int, attempt: int, ended_s: float, due: bool) -> None:
    """Ten seconds, doubled each time, five minutes at most; a second for one that was killed."""
    job = _job(condition="Failed", ended_s=ended_s, attempt=str(attempt))
    assert _seen([job], [_pod(**_ended(code))]).retry_due is due


def test_the_newest_attempt_counts() -> None:
    """An earlier failure is history once another attempt runs."""
    jobs = [_job(1, "Failed"), _job(2)]
    assert _seen(jobs, [_pod(1, **_ended(4))]).state == "running"


def test_a_job_that_cannot_pull_its_image_runs_for_a_minute_and_then_has_failed() -> None:
    """Kubernetes would pull on for ever; a new Job would take a mended image."""
    job, pod = _job(), _pod(state={"waiting": {"reason": "ImagePullBackOff", "message": "no host"}})
    seen = _seen([job], [pod])
    assert (seen.state, seen.message) == ("failed", "the image i cannot be pulled: no host")
    job["metadata"]["creationTimestamp"] = _stamp(_NOW - timedelta(seconds=30))
    assert _seen([job], [pod]).state == "running"


_CRONJOB = {
    "metadata": {"name": "hourcast-packager", "namespace": "ns", "uid": "u"},
    "spec": {
        "jobTemplate": {
            "metadata": {"labels": {"app": "x"}},
            "spec": {
                "backoffLimit": 6,
                "template": {
                    "metadata": {"labels": {"component": "packager"}},
                    "spec": {"containers": [{"name": "packager", "image": "i", "args": ["none"]}]},
                },
            },
        }
    },
}


def _attempt(serial: int, **changes: Any) -> Attempt:
    values: dict[str, Any] = {
        "name": "n", "work": "package-7", "serial": serial, "attempt": serial, "created_at": _NOW, "failed": True,
    }  # fmt: skip
    return Attempt(**{**values, **changes})


def test_a_job_is_made_from_the_template_with_its_arguments() -> None:
    """Arguments, labels, owner and limits; the template itself is left as it is."""
    body = next_job(_CRONJOB, "package-7", ["package", "7"], [])
    labels = {
        "hourcast.io/job": "package-7", "hourcast.io/packager": "hourcast-packager", "hourcast.io/attempt": "1",
    }  # fmt: skip
    assert body["metadata"]["name"] == "hourcast-packager-package-7-1"
    assert body["metadata"]["labels"] == {"app": "x", **labels}
    assert body["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert body["metadata"]["ownerReferences"][0]["controller"] is False
    pod = body["spec"]["template"]
    assert pod["metadata"]["labels"] == {"component": "packager", **labels}
    assert pod["spec"]["containers"][0]["args"] == ["package", "7"]
    assert (body["spec"]["backoffLimit"], body["spec"]["ttlSecondsAfterFinished"]) == (0, 3600)
    assert _CRONJOB["spec"]["jobTemplate"]["spec"]["backoffLimit"] == 6  # type: ignore[index]


def test_two_controllers_that_want_a_job_make_one() -> None:
    """The name follows from the attempts before it, so the second is refused as taken."""
    earlier = [_attempt(1), _attempt(2)]
    one, two = (next_job(_CRONJOB, "package-7", ["package", "7"], earlier) for _ in range(2))
    assert one["metadata"]["name"] == two["metadata"]["name"] == "hourcast-packager-package-7-3"
    assert one["metadata"]["labels"]["hourcast.io/attempt"] == "3"


def test_attempts_are_counted_anew_after_a_success() -> None:
    """The pause grows with failures in a row."""
    body = next_job(_CRONJOB, "index", ["package", "--index"], [_attempt(4, failed=False, succeeded=True)])
    assert body["metadata"]["name"].endswith("-5")
    assert body["metadata"]["labels"]["hourcast.io/attempt"] == "1"


def test_a_long_release_name_still_gives_a_name_that_kubernetes_takes() -> None:
    """63 characters, and none of the work's own are cut off."""
    long = {**_CRONJOB, "metadata": {**_CRONJOB["metadata"], "name": "x" * 52}}  # type: ignore[dict-item]
    name = next_job(long, "package-12345", ["package", "12345"], [])["metadata"]["name"]
    assert len(name) == 63
    assert name.endswith("-package-12345-1")
