"""Collects hourly bars from exchanges, Yahoo, files or a seeded sample into SQL."""

__all__: list[str] = []
