"""Implementations of `RolloutTarget`, a module each, so that only the one that is used is imported."""

__all__: list[str] = []
