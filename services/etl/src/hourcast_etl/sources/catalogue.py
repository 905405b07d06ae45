"""Which sources a setting means."""

import threading
from pathlib import Path

from hourcast.errors import UnavailableError
from hourcast.settings import Series
from hourcast_etl.settings import EtlSettings
from hourcast_etl.sources._interface import Source, SourceError
from hourcast_etl.sources.exchange import ExchangeSource
from hourcast_etl.sources.files import FileSource
from hourcast_etl.sources.sample import SampleSource
from hourcast_etl.sources.yahoo import YahooSource

__all__ = ["no_market_data", "probe", "source_kind", "sources_for"]


def source_kind(name: str) -> str:
    """`live`, `files` or `sample`: kinds whose bars must not mix under one roof."""
    return name if name in ("files", "sample") else "live"


def sources_for(settings: EtlSettings, stop: threading.Event) -> dict[str, list[Source]]:
    """By provider, the sources in order of preference. Nothing is contacted."""
    if settings.source == "sample":
        sample: list[Source] = [SampleSource(settings.sample_seed)]
        return {"ccxt": sample, "yfinance": sample}
    if settings.source.startswith("files:"):
        files: list[Source] = [FileSource(Path(settings.source.removeprefix("files:")).expanduser())]
        return {"ccxt": files, "yfinance": files}
    return {
        "ccxt": [ExchangeSource(name, settings, stop) for name in settings.exchanges],
        "yfinance": [YahooSource(settings, stop)],
    }


def no_market_data(reasons: str) -> str:
    """The sentence for a live source that cannot be reached; it names the other two."""
    return (
        f"no live market data can be reached ({reasons}); check the network, or use SOURCE=files:DIR with your own bars, "
        "or SOURCE=sample for synthetic ones"
    )


def probe(settings: EtlSettings, series: Series, timeout_s: float = 6.0) -> None:
    """Make sure that at least one live exchange answers; each is asked once.

    Raises:
        UnavailableError: when none does.
    """
    quick = settings.model_copy(update={"etl_attempts": 1, "etl_timeout_s": timeout_s})
    reasons = []
    for name in quick.exchanges:
        try:
            ExchangeSource(name, quick, threading.Event()).reachable(series)
        except SourceError as error:
            reasons.append(str(error).removesuffix(" (1 attempts)"))
            continue
        return
    raise UnavailableError(no_market_data("; ".join(reasons)), retry_after_s=60)
