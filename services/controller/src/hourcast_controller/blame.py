"""Whose fault it is that something failed: the version's, the place's where it runs, or a setting's. Pure.

- The version's: its own checks say so (a corrupt package, a wrong checksum, another golden output: 4; refused: 6), its
  server crashes by itself again and again, or runs and never gets ready.
- A setting's: a process that ended with 2, a container that cannot be made because of what it refers to.
- The place's: everything else. Any signal (137 is the memory limit), an image that cannot be had, a node that is lost or
  not found, an eviction, a full disk, a bucket or a store that does not answer (5, or a server that waits for its package
  when the time of the rollout is over).

Only the first quarantines, and not even that where two versions fail alike in a row: then it is the place's as well.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from hourcast.errors import ConfigurationError, DataError, RefusedError, UnavailableError
from hourcast_controller.pods import Container, Pod, last_words

__all__ = [
    "Fault",
    "Verdict",
    "fetches",
    "killed",
    "likeness",
    "of_end",
    "of_packaging",
    "of_pods",
    "of_server",
]

Fault = Literal["version", "place", "setting"]

_CHECKED = (DataError.exit_code, RefusedError.exit_code)
_AWAY, _SETTING = UnavailableError.exit_code, ConfigurationError.exit_code
_RESTARTS = 3
_SIGNALS_FROM = 128
# 126 and 127: the shell found no program in the image; 128: the runtime could not start the container.
_NOT_STARTED = (126, 127, 128)
_FULL = ("no space left on device", "disk quota exceeded", "read-only file system")
_OF_A_SETTING = frozenset({"CreateContainerConfigError"})
_STARTING = (None, "PodInitializing", "ContainerCreating")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failure speaks against, and why; `proved` where the version's own checks have said so."""

    fault: Fault
    why: str
    proved: bool = False


def likeness(why: str) -> str:
    """What two failures have in common: the words, without names, numbers and sums of their own."""
    return " ".join("#" if re.search(r"\d", word) else word for word in why.lower().split())


def killed(code: int | None) -> bool:
    """Whether a process was ended by a signal, or nobody saw it end."""
    return code is None or code < 0 or code > _SIGNALS_FROM


def of_end(code: int | None, words: str = "") -> Fault | None:
    """What a process that ended speaks against; None where it ended well.

    Args:
        code: as the operating system gives it; None where nobody saw it end. Signals are negative, or above 128.
        words: the last that it said.
    """
    if code == 0:
        return None
    if any(full in words.lower() for full in _FULL):
        return "place"
    if code == _SETTING:
        return "setting"
    if killed(code) or code in (_AWAY, *_NOT_STARTED):
        return "place"
    return "version"


def of_packaging(code: int | None, words: str) -> Verdict | None:
    """What a packaging job that failed says; None where it is simply tried again."""
    if code in _CHECKED and of_end(code, words) == "version":
        return Verdict("version", f"packaging failed: {words}", proved=True)
    return None


def of_server(code: int | None, words: str, *, ran: bool) -> Verdict:
    """What a server of one machine says that never got ready: it ended with `code`, or `ran` on until its time was over."""
    fault = "version" if ran else of_end(code, words) or "version"
    return Verdict(fault, words, proved=not ran and fault == "version" and code in _CHECKED)


def of_pods(pods: Sequence[Pod], deadline: str | None) -> Verdict | None:
    """Why the pods of one version do not get ready; None while that may still come.

    Args:
        pods: all of the version's that are not about to end.
        deadline: what Kubernetes says when the rollout's time is over.
    """
    unready = [pod for pod in pods if not pod.ready]
    for found in (_of_checks(unready), _of_images(unready), _of_what_is_away(unready), _of_loops(unready)):
        if found is not None:
            return found
    if deadline is None:
        return None
    fault, plight = _plight(unready)
    return Verdict(fault, f"the rollout did not end in time: {plight or deadline}")


def _containers(pods: Sequence[Pod]) -> list[Container]:
    return [c for pod in pods for c in pod.containers if not (c.ready and not c.init)]


def _of_checks(pods: Sequence[Pod]) -> Verdict | None:
    """What a process has said of itself by the code that it ended with: trying again cannot help."""
    for code in (*_CHECKED, _SETTING):
        for c in _containers(pods):
            if c.exit_code == code:
                fault = of_end(code, c.message)
                if fault in ("version", "setting"):
                    return Verdict(fault, f"{_named(c)} ended with {code}: {last_words(c)}", code in _CHECKED)
    return None


def _of_images(pods: Sequence[Pod]) -> Verdict | None:
    for c in _containers(pods):
        if c.image_error:
            return Verdict(
                "place", f"{_named(c)} cannot get its image {c.image}: {c.waiting_message or c.waiting}"
            )
    return None


def _of_what_is_away(pods: Sequence[Pod]) -> Verdict | None:
    """What a server has waited for in vain; it is no matter any more once the server has it."""
    for c in _containers(pods):
        there = c.running and c.started and not c.init
        if c.exit_code == _AWAY and not there:
            return Verdict("place", f"{_named(c)} ended with {_AWAY}: {last_words(c)}")
    return None


def _of_loops(pods: Sequence[Pod]) -> Verdict | None:
    for c in _containers(pods):
        looping = c.waiting == "CrashLoopBackOff" or c.restarts >= _RESTARTS
        once = c.exit_code is not None and killed(c.exit_code) and c.restarts < _RESTARTS
        if not looping or once or (c.init and c.exit_code == 0):
            continue
        # A server that ends by itself, even well, does not serve.
        fault = of_end(c.exit_code, c.message) or "version"
        return Verdict(
            fault,
            f"{_named(c)} was started {c.restarts + 1} times and ended with {c.exit_code}: {last_words(c)}",
        )
    return None


def fetches(pods: Sequence[Pod], since: datetime | None = None) -> Pod | None:
    """One of these pods that waits for its package still, or None; with `since`, that does so since then at least."""
    for pod in pods:
        if not pod.ready and not pod.lost and any(_fetches(c, since) for c in pod.containers):
            return pod
    return None


def _fetches(c: Container, since: datetime | None) -> bool:
    # A server that has not started fetches its package; in a pod of release 0.1.0 an init container does.
    waits = c.running and (c.init or not c.started) and c.exit_code is None
    return waits and (since is None or c.since is None or c.since <= since)


def _plight(pods: Sequence[Pod]) -> tuple[Fault, str]:
    """What the pods themselves say when the time is over, and what it speaks against."""
    waits = fetches(pods)
    if waits is not None:
        where = f"pod {waits.name}" + (f" on node {waits.node}" if waits.node else "")
        return (
            "place",
            f"{where} has not got its package from the bucket; `kubectl logs {waits.name}` says why",
        )
    for pod in pods:
        for c in pod.containers:
            # One that was killed and runs again has lost its time to the place.
            by_itself = c.exit_code is None or of_end(c.exit_code, c.message) == "version"
            if c.running and c.started and not c.ready and not c.init and by_itself and not pod.lost:
                return "version", f"{_named(c)} of pod {pod.name} runs and does not get ready"
    for pod in pods:
        if pod.lost:
            return "place", f"pod {pod.name} was lost: {pod.lost}"
        if pod.unschedulable:
            return "place", f"pod {pod.name} finds no node: {pod.unschedulable}"
        for c in pod.containers:
            if c.waiting not in _STARTING:
                fault: Fault = "setting" if c.waiting in _OF_A_SETTING else "place"
                return fault, f"{_named(c)} waits ({c.waiting}): {c.waiting_message or last_words(c)}"
            if c.exit_code not in (None, 0):
                return "place", f"{_named(c)} ended with {c.exit_code}: {last_words(c)}"
    return "place", ""


def _named(container: Container) -> str:
    return f"{'init container' if container.init else 'container'} {container.name}"
