"""The node of one machine, over HTTP."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from hourcast.contracts import (
    ALIAS_ANNOTATION,
    DECIDED_ANNOTATION,
    HOLD_ANNOTATION,
    PIN_ANNOTATION,
    VERSION_ANNOTATION,
    version_number,
)
from hourcast.errors import UnavailableError
from hourcast_controller.blame import Verdict, of_server
from hourcast_controller.observed import Deployment, Job

__all__ = ["LocalTarget"]

_RETRY_JOB_AFTER_S = 10.0


class LocalTarget:
    """Talks to `hourcast_local.node`."""

    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        self._url = url.rstrip("/")
        # Reading the certificate authorities takes 15 ms, and plain HTTP needs none.
        self._client = httpx.Client(
            timeout=timeout_s, trust_env=False, verify=not self._url.startswith("http:")
        )

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            answer = self._client.request(method, self._url + path, json=body)
            answer.raise_for_status()
            return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise UnavailableError(
                f"the node at {self._url} does not answer ({type(error).__name__}); start it with `make up`",
                retry_after_s=2,
            ) from error

    def observe(self) -> Deployment:
        """What serves now and what should."""
        body = self._call("GET", "/v1/deployment")
        annotations, status = body["annotations"], body["status"]
        template = body["pod_template"].get("annotations", {})
        failed: Verdict | None = None
        if status["failed_version"] is not None:
            code = status.get("failed_exit_code")
            failed = of_server(code, status["failure"], ran=code is None)
        return Deployment(
            desired_version=version_number(template.get(VERSION_ANNOTATION)),
            desired_alias=template.get(ALIAS_ANNOTATION),
            serving_version=status["serving_version"],
            serving_alias=status["serving_alias"],
            rolling=status["rolling"],
            failed_version=status["failed_version"],
            failure=status["failure"],
            fault=failed.fault if failed else None,
            proved=failed is not None and failed.proved,
            pin=version_number(annotations.get(PIN_ANNOTATION)),
            hold=annotations.get(HOLD_ANNOTATION) == "true",
            decided=version_number(annotations.get(DECIDED_ANNOTATION)) or 0,
        )

    def roll(self, version: int, alias: str) -> None:
        """Ask for a version."""
        template = {VERSION_ANNOTATION: str(version), ALIAS_ANNOTATION: alias}
        self._call("PATCH", "/v1/deployment", {"pod_template": {"annotations": template}})

    def annotate(self, values: Mapping[str, str | None]) -> None:
        """Set annotations, None removing one."""
        self._call("PATCH", "/v1/deployment", {"annotations": dict(values)})

    def explain(self, status: str, reason: str) -> None:
        """Nobody describes a node; `hourcast status` asks it."""

    def tell(self, kind: str, version: int | None, sentence: str) -> None:
        """The journal and the log say it already."""

    def jobs(self) -> dict[str, Job]:
        """Packaging jobs by name."""
        now = datetime.now(UTC)
        return {
            item["name"]: Job(
                state=item["state"],
                exit_code=item["exit_code"],
                message=item["message"],
                retry_due=item["ended_for_s"] is None or item["ended_for_s"] >= _RETRY_JOB_AFTER_S,
                ended_at=None
                if item["ended_for_s"] is None
                else now - timedelta(seconds=item["ended_for_s"]),
            )
            for item in self._call("GET", "/v1/jobs")
        }

    def start_job(self, name: str, version: int | None) -> None:
        """Start packaging, unless that job runs."""
        args = ["package", "--index"] if version is None else ["package", str(version)]
        self._call("POST", "/v1/jobs", {"name": name, "args": args})
