"""Where bars come from, behind one seam: exchanges, Yahoo, files, a seeded sample."""

from hourcast_etl.sources._interface import Source, SourceError
from hourcast_etl.sources.catalogue import probe, source_kind, sources_for

__all__ = ["Source", "SourceError", "probe", "source_kind", "sources_for"]
