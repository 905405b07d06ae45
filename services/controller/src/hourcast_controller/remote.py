"""Runs a command in a controller's pod, as `kubectl exec` would, from a laptop that has only a kubeconfig."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from hourcast.errors import ConfigurationError, RefusedError, UnavailableError
from hourcast_controller.kube import ForbiddenError, Kube

__all__ = ["choose", "run"]

_CONTAINER = "controller"
_LABELS = "app.kubernetes.io/instance={release},app.kubernetes.io/component=controller"


def choose(pods: Sequence[Mapping[str, Any]], release: str, namespace: str) -> str:
    """The name of a controller's pod that is ready.

    Raises:
        ConfigurationError: when the release has no controller at all.
        UnavailableError: when none of its pods is ready.
    """
    if not pods:
        raise ConfigurationError(
            f"there is no Hourcast release {release!r} in namespace {namespace!r}; "
            "name it with --release and --namespace (`helm list -A` shows them)"
        )
    ready = sorted(pod["metadata"]["name"] for pod in pods if _ready(pod))
    if not ready:
        names = ", ".join(sorted(pod["metadata"]["name"] for pod in pods))
        raise UnavailableError(
            f"no controller of release {release!r} in namespace {namespace!r} is ready ({names}); "
            f"see `kubectl -n {namespace} describe pod {pods[0]['metadata']['name']}`",
            retry_after_s=10,
        )
    return str(ready[0])


def _ready(pod: Mapping[str, Any]) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = pod.get("status", {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def run(command: Sequence[str], *, namespace: str | None, context: str | None, release: str) -> int:
    """Run `command` in a ready controller's pod; its output and errors are passed on, its exit code is returned.

    Raises:
        ConfigurationError: without a kubeconfig, or when there is no such release.
        RefusedError: when the kubeconfig's account may not do this.
        UnavailableError: when no controller is ready, or the cluster does not answer.
    """
    kube = Kube(context)
    try:
        chosen = namespace or kube.namespace
        try:
            listed = kube.call(
                "GET",
                f"/api/v1/namespaces/{chosen}/pods",
                query={"labelSelector": _LABELS.format(release=release)},
            )
        except ForbiddenError as error:
            raise RefusedError(
                f"your account may not list pods of namespace {chosen!r}; ask for pods/get, pods/list and pods/exec there"
            ) from error
        pod = choose(listed.get("items") or [], release, chosen)
        return _exec(kube, chosen, pod, command)
    finally:
        kube.close()


def _exec(kube: Kube, namespace: str, pod: str, command: Sequence[str]) -> int:
    from kubernetes.client.exceptions import ApiException
    from kubernetes.stream.ws_client import websocket_call

    # What the library's `stream` does, past its CoreV1Api: that imports 280 models, and 0.4 s are much for a `status`.
    wanted = {"container": _CONTAINER, "stdin": "false", "stdout": "true", "stderr": "true", "tty": "false"}
    client = kube.client
    try:
        method, url, headers, *_ = client.param_serialize(
            "GET",
            f"/api/v1/namespaces/{namespace}/pods/{pod}/exec",
            query_params=[*wanted.items(), *(("command", word) for word in command)],
            header_params={"Accept": "*/*"},
            auth_settings=["BearerToken"],
        )
        talk = websocket_call(
            client.configuration, method, url, headers=headers, binary=True, _preload_content=False
        )
    except ApiException as error:
        if error.status in (401, 403) or "403" in str(error.reason):
            raise RefusedError(
                f"your account may not run commands in pod {pod} of namespace {namespace!r}; ask for pods/exec there"
            ) from error
        raise UnavailableError(
            f"pod {pod} of namespace {namespace!r} does not run commands: {error.reason}"
        ) from error
    try:
        while talk.is_open():
            talk.update(timeout=1)
            _pass_on(talk)
        _pass_on(talk)
        return _exit_code(talk)
    finally:
        talk.close()


def _pass_on(talk: Any) -> None:
    for channel, to in ((1, sys.stdout), (2, sys.stderr)):
        said = talk.read_channel(channel)
        if said:
            to.buffer.write(said)
            to.flush()


def _exit_code(talk: Any) -> int:
    try:
        return int(talk.returncode)
    except (TypeError, KeyError, ValueError, IndexError) as error:
        raise UnavailableError(
            "the connection to the pod ended before the command did; look with `hourcast status` whether it was done"
        ) from error
