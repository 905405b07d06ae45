"""What a command talks to: store, registry, rollout target and journal. Opened late, since each import costs time."""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hourcast.store import Store
    from hourcast_controller.journal import Journal
    from hourcast_controller.kube import Kube
    from hourcast_controller.lease import Lease
    from hourcast_controller.registry import Registry
    from hourcast_controller.rollout import RolloutTarget
    from hourcast_controller.settings import ControllerSettings

__all__ = ["Room", "lease_of", "open_room"]


@dataclass(slots=True)
class Room:
    """Everything that a command talks to."""

    settings: "ControllerSettings"
    store: "Store"
    registry: "Registry"
    target: "RolloutTarget"
    journal: "Journal"
    kube: "Kube | None"
    namespace: str


@contextmanager
def open_room(actor: str) -> Iterator[Room]:
    """Everything, as the settings say, for decisions in the name of `actor`."""
    from hourcast.clock import clock_from
    from hourcast.store import open_store
    from hourcast_controller.journal import Journal
    from hourcast_controller.registry import Registry
    from hourcast_controller.settings import ControllerSettings

    settings = ControllerSettings.load()
    logging.getLogger().setLevel(settings.log_level)
    target, kube, namespace = _target(settings)
    store = open_store(settings.resolved_database_url)
    journal = Journal(store, clock_from(settings.clock, store.clock), settings.model_name, actor)
    with Registry(settings.mlflow_url, settings.model_name) as registry:
        try:
            yield Room(settings, store, registry, target, journal, kube, namespace)
        finally:
            target.close()
            store.close()


def _target(settings: "ControllerSettings") -> "tuple[RolloutTarget, Kube | None, str]":
    if settings.rollout_target == "local":
        from hourcast_controller.targets.local import LocalTarget

        return LocalTarget(settings.node_url), None, ""
    from hourcast_controller.kube import Kube
    from hourcast_controller.targets.kubernetes import KubernetesTarget

    kube = Kube()
    namespace = settings.namespace or kube.namespace
    return (
        KubernetesTarget(kube, namespace, settings.kube_deployment, settings.kube_packager),
        kube,
        namespace,
    )


def lease_of(room: Room, on_change: Callable[[], object]) -> "Lease | None":
    """The lease of a cluster; on one machine there is one controller, and none is needed."""
    if room.kube is None:
        return None
    from hourcast_controller.lease import Lease

    # Imported and connected now, so that the first turn need not.
    _ = room.kube.client
    identity = room.settings.pod_name or f"{socket.gethostname()}-{os.getpid()}"
    return Lease(room.kube, room.namespace, room.settings.kube_lease, identity, on_change)
