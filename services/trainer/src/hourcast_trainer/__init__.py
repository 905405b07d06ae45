"""Trains, checks and registers hourly forecasters."""

__all__: list[str] = []
