"""Where bars come from, behind one seam: exchanges, Yahoo, files, a seeded sample."""

from hourcast_etl.sources._interface import Source, SourceError
from hourcast_etl.sources.catalogue import PROVIDERS, Provider, probe, source_kind, sources_for

__all__ = ["PROVIDERS", "Provider", "Source", "SourceError", "probe", "source_kind", "sources_for"]
