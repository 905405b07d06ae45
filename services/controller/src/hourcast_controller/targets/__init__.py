"""Implementations of `RolloutTarget`."""

from hourcast_controller.targets.kubernetes import KubernetesTarget
from hourcast_controller.targets.local import LocalTarget

__all__ = ["KubernetesTarget", "LocalTarget"]
