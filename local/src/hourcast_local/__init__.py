"""The same services as processes on one machine."""

__all__: list[str] = []
