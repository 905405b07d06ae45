"""Packages a registry version as a .bento and serves it: the only room that knows BentoML."""

__all__: list[str] = []
