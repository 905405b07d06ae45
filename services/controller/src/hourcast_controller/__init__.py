"""Rolls the served version over when the registry changes."""

__all__: list[str] = []
