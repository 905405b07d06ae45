"""The Kubernetes API, plain values in and out: one connection pool, short timeouts, errors that are sentences.

Answers stay JSON. The client library's models are left alone: checking every field of every pod costs more than a
turn of the controller may take, and importing them a second.
"""

import json
import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hourcast.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from kubernetes.client.api_client import ApiClient

__all__ = ["BusyError", "ForbiddenError", "Kube", "MissingError", "TakenError", "asked_wait_s"]

_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_NAMESPACE = _TOKEN.with_name("namespace")
_CONNECT_S, _READ_S = 2.0, 3.0
_SECONDS = re.compile("[0-9]{1,6}")
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_BUSY = "the Kubernetes API is busy and asks to wait (Retry-After); it is asked again after that"


class MissingError(UnavailableError):
    """The object that was named does not exist."""


class ForbiddenError(UnavailableError):
    """The account lacks the right. Trying again helps once it has it, as after an upgrade of the chart."""


class TakenError(UnavailableError):
    """An object of that name exists, or it has changed since it was read."""


class BusyError(UnavailableError):
    """The API server asks to wait before it is asked again."""


class Kube:
    """Calls the API server of the cluster that this pod runs in, or that the kubeconfig names. Safe among threads."""

    def __init__(self, context: str | None = None) -> None:
        self._context = context
        self._client: ApiClient | None = None
        self._lock = threading.Lock()
        self._quiet_until_s = 0.0

    def close(self) -> None:
        """Give connections back."""
        if self._client is not None:
            self._client.close()

    @property
    def client(self) -> "ApiClient":
        """The library's client, made at first use.

        Raises:
            ConfigurationError: when there is no cluster to talk to.
        """
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> "ApiClient":
        import urllib3
        from kubernetes import config
        from kubernetes.client.api_client import ApiClient
        from kubernetes.client.configuration import Configuration

        configuration = Configuration()
        try:
            if self._context is None and os.environ.get("KUBERNETES_SERVICE_HOST") and _TOKEN.exists():
                config.load_incluster_config(client_configuration=configuration)
            else:
                # The client remembers what KUBECONFIG was when it was imported.
                files = os.environ.get("KUBECONFIG") or "~/.kube/config"
                config.load_kube_config(files, self._context, configuration)
        except (config.ConfigException, OSError) as error:
            raise ConfigurationError(
                f"no cluster can be reached: {_sentence(str(error))}; set KUBECONFIG, or name a context that it has with --context"
            ) from error
        # Once more at most: what fails longer is told, and the next turn tries again.
        # A Retry-After is obeyed by `call`, and not asleep in here, where a lease would run out meanwhile.
        configuration.retries = urllib3.Retry(
            1, redirect=0, status=0, backoff_factor=0, respect_retry_after_header=False
        )
        return ApiClient(configuration)

    @property
    def namespace(self) -> str:
        """The pod's own namespace, or that of the kubeconfig's context: `default` where it names none."""
        from kubernetes import config

        if self._context is None and _NAMESPACE.exists():
            return _NAMESPACE.read_text().strip()
        try:
            contexts, active = config.list_kube_config_contexts()
        except config.ConfigException as error:
            raise ConfigurationError(
                f"no cluster can be reached: {_sentence(str(error))}; set KUBECONFIG"
            ) from error
        chosen = next((c for c in contexts if c["name"] == self._context), active)
        return str(chosen["context"].get("namespace") or "default")

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """One call; the answer's JSON.

        Raises:
            MissingError: when there is no such object.
            ForbiddenError: when the account lacks the right.
            TakenError: when one of that name exists, or the object has changed meanwhile.
            BusyError: when the API asks to wait, or has asked and the time is not over; then it is not asked.
            UnavailableError: for whatever else fails.
        """
        import urllib3
        from kubernetes.client.exceptions import ApiException

        left_s = self._quiet_until_s - time.monotonic()
        if left_s > 0:
            raise BusyError(_BUSY, retry_after_s=left_s)
        client = self.client
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            request = client.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = client.call_api(*request, _request_timeout=(_CONNECT_S, _READ_S))
            raw = answer.read()
        except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            raise UnavailableError(
                f"the Kubernetes API does not answer ({type(error).__name__}); nothing is lost, it is asked again",
                retry_after_s=2,
            ) from error
        wait_s = asked_wait_s(answer.status, answer.headers.get("Retry-After"))
        if wait_s is not None:
            self._quiet_until_s = time.monotonic() + wait_s
            raise BusyError(_BUSY, retry_after_s=wait_s)
        return _checked(method, path, answer.status, raw)


def asked_wait_s(status: int, retry_after: str | None) -> float | None:
    """Seconds that an answer asks to wait, a minute at most; None where it does not.

    The API server's priority and fairness answers 429, and one that starts or ends 503, each with seconds.
    """
    told = (retry_after or "").strip()
    if status == 429:
        return min(_LONGEST_WAIT_S, float(told)) if _SECONDS.fullmatch(told) else _SHORTEST_WAIT_S
    return min(_LONGEST_WAIT_S, float(told)) if status == 503 and _SECONDS.fullmatch(told) else None


def _checked(method: str, path: str, status: int, raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError:
        value = {}
    if not isinstance(value, dict):
        value = {}
    if 200 <= status < 300:
        return value
    said = _sentence(str(value.get("message") or f"status {status}"))
    if status == 404:
        raise MissingError(f"Kubernetes has no {path.rsplit('/', 1)[-1]}: {said}", retry_after_s=5)
    if status == 409:
        raise TakenError(f"Kubernetes refuses to change {path.rsplit('/', 1)[-1]}: {said}", retry_after_s=1)
    if status in (401, 403):
        raise ForbiddenError(
            f"Kubernetes forbids {method} {path}: {said}; give the account that right (the chart's Role has it)",
            retry_after_s=30,
        )
    raise UnavailableError(f"Kubernetes answers {status} to {method} {path}: {said}", retry_after_s=2)


def _sentence(text: str) -> str:
    return " ".join(text.split()).rstrip(".")[:400]
