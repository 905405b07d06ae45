"""Implementations of `RolloutTarget`."""

from hourcast_controller.targets.local import LocalTarget

__all__ = ["LocalTarget"]
