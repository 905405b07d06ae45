"""One leader: a Lease of coordination.k8s.io, held by whichever controller renews it.

The client library's own election blocks in sleeps, never lets go when told to stop, and compares clocks of two machines;
this one waits on an event, empties the Lease when it ends so that the other controller takes over at once, and judges
age by its own clock alone: a Lease is free when it has not changed for as long as it lasts.
"""

import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from hourcast.errors import HourcastError, UnavailableError
from hourcast_controller.kube import Kube, MissingError, TakenError

__all__ = ["Alone", "Leadership", "Lease", "Seen", "added", "deliveries_of", "may_take"]

_LOG = logging.getLogger("hourcast.controller.lease")
_HINTS = "hourcast.io/hints"
_STAMP = re.compile("[0-9]{1,15}")
_KEPT_HINTS, _HINTS_KEPT_S = 50, 330.0


class Leadership(Protocol):
    """Says whether this process may act."""

    def held(self) -> bool:
        """Whether it may act now; asked before each action."""
        ...


class Alone:
    """There is no other controller."""

    def held(self) -> bool:
        """Always."""
        return True


@dataclass(frozen=True, slots=True)
class Seen:
    """A Lease as it was seen, and since when (by our own clock) it has looked like that."""

    holder: str
    version: str
    since_s: float
    duration_s: float


def may_take(seen: Seen, identity: str, now_s: float) -> bool:
    """Whether a Lease is ours, nobody's, or has not been renewed for as long as it lasts."""
    return seen.holder in ("", identity) or now_s - seen.since_s >= seen.duration_s


def deliveries_of(lease: Mapping[str, Any]) -> dict[str, float]:
    """Webhook deliveries that the controllers have heard: a short hash of each, and when (epoch seconds)."""
    text = (lease["metadata"].get("annotations") or {}).get(_HINTS, "")
    found = {}
    for item in text.split():
        key, _, at = item.partition("@")
        if key and _STAMP.fullmatch(at):
            found[key] = float(at)
    return found


def added(heard: Mapping[str, float], key: str, now_s: float) -> str | None:
    """The deliveries with one more, the old ones forgotten; None when that one was heard before."""
    if key in heard:
        return None
    kept = {k: at for k, at in heard.items() if now_s - at < _HINTS_KEPT_S}
    newest = sorted(kept.items(), key=lambda item: item[1])[-(_KEPT_HINTS - 1) :]
    return " ".join(f"{k}@{at:.0f}" for k, at in [*newest, (key, now_s)])


class Lease:
    """Tries to hold a Lease, in a thread of its own. `start` it; `stop` lets go."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        identity: str,
        on_change: Callable[[], object],
        *,
        duration_s: float = 6.0,
        renew_s: float = 1.5,
        look_s: float = 0.5,
    ) -> None:
        self._kube, self._name, self._identity = kube, name, identity
        self._namespace = namespace
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._on_change = on_change
        self._duration_s, self._renew_s, self._look_s = duration_s, renew_s, look_s
        # We stop acting this long before another may start, for what is already on its way to the API.
        self._safety_s = duration_s / 3
        self._held_until_s = 0.0
        self._leading = False
        self._seen: Seen | None = None
        self._heard: frozenset[str] = frozenset()
        self._told = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def held(self) -> bool:
        """Whether we hold it and will for long enough to act."""
        return not self._stop.is_set() and time.monotonic() < self._held_until_s

    def start(self) -> None:
        """Begin to try."""
        self._thread.start()

    def stop(self) -> None:
        """Let go, so that another may take over at once."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.step()
                self._told = ""
            except HourcastError as error:
                if str(error) != self._told:
                    self._told = str(error)
                    _LOG.warning("lease %s: %s", self._name, error)
            leading = self.held()
            if leading != self._leading:
                self._leading = leading
                _LOG.info(
                    "%s %s",
                    self._identity,
                    "leads" if leading else "does not lead any more; another controller may",
                )
                self._on_change()
            self._stop.wait(self._renew_s if leading else self._look_s)
        self._let_go()

    def step(self) -> None:
        """Look at the Lease, and take or renew it where that is allowed.

        Raises:
            UnavailableError: when the API does not answer.
        """
        for _ in range(3):
            if self._looked():
                return

    def _looked(self) -> bool:
        """False when the Lease has changed between read and write, which a delivery does too."""
        try:
            lease = self._kube.call("GET", f"{self._path}/{self._name}")
        except MissingError:
            lease = self._create()
        now_s = time.monotonic()
        spec = lease.get("spec") or {}
        version = lease["metadata"]["resourceVersion"]
        renewed = str(spec.get("renewTime"))
        holder = str(spec.get("holderIdentity") or "")
        # A delivery that is written down changes the Lease too, and renews nothing.
        mark = f"{holder} {renewed}"
        if self._seen is None or self._seen.version != mark:
            self._seen = Seen(
                holder, mark, now_s, float(spec.get("leaseDurationSeconds") or self._duration_s)
            )
        heard = frozenset(deliveries_of(lease))
        if heard - self._heard:
            self._on_change()
        self._heard = heard
        if not may_take(self._seen, self._identity, now_s):
            if holder != self._identity:
                self._held_until_s = 0.0
            return True
        fields: dict[str, Any] = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": round(self._duration_s),
            "renewTime": _stamp(),
        }
        if holder != self._identity:
            fields["acquireTime"] = _stamp()
            fields["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        asked_s = time.monotonic()
        try:
            # With the version that was read: of two that take it at once, one is refused.
            self._patch({"metadata": {"resourceVersion": version}, "spec": fields})
        except TakenError:
            return False
        self._held_until_s = asked_s + self._duration_s - self._safety_s
        self._seen = None
        return True

    def _create(self) -> dict[str, Any]:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {"holderIdentity": "", "leaseDurationSeconds": round(self._duration_s)},
        }
        try:
            return self._kube.call("POST", self._path, body)
        except TakenError:
            return self._kube.call("GET", f"{self._path}/{self._name}")

    def _patch(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._kube.call(
            "PATCH", f"{self._path}/{self._name}", body, content_type="application/merge-patch+json"
        )

    def _let_go(self) -> None:
        if time.monotonic() >= self._held_until_s:
            return
        self._held_until_s = 0.0
        try:
            lease = self._kube.call("GET", f"{self._path}/{self._name}")
            if (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                version = lease["metadata"]["resourceVersion"]
                spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _stamp()}
                self._patch({"metadata": {"resourceVersion": version}, "spec": spec})
                _LOG.info("%s let go of the lease", self._identity)
        except UnavailableError as error:
            _LOG.warning("the lease could not be let go and ends by itself: %s", error)

    def hear(self, delivery_id: str) -> bool:
        """Write a webhook delivery down where every controller sees it; False when one has heard it before.

        The leader wakes from it. While the API is away it is True: a delivery is only a hint.
        """
        key = hashlib.sha256(delivery_id.encode()).hexdigest()[:12]
        try:
            for _ in range(5):
                lease = self._kube.call("GET", f"{self._path}/{self._name}")
                text = added(deliveries_of(lease), key, time.time())
                if text is None:
                    return False
                version = lease["metadata"]["resourceVersion"]
                try:
                    self._patch({"metadata": {"resourceVersion": version, "annotations": {_HINTS: text}}})
                except TakenError:
                    continue
                return True
        except UnavailableError as error:
            _LOG.warning("a webhook delivery could not be passed on: %s", error)
        return True


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
