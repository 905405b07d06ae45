"""Which sources a setting means."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hourcast.errors import ConfigurationError, UnavailableError
from hourcast.settings import Series
from hourcast_etl.settings import EtlSettings
from hourcast_etl.sources._interface import Source, SourceError
from hourcast_etl.sources.exchange import ExchangeSource
from hourcast_etl.sources.files import FileSource
from hourcast_etl.sources.sample import SampleSource
from hourcast_etl.sources.yahoo import YahooSource

__all__ = ["PROVIDERS", "Provider", "no_market_data", "probe", "source_kind", "sources_for"]


@dataclass(frozen=True, slots=True)
class Provider:
    """What the `provider` of a series means: its live sources, the first that answers first, made without contacting them.

    `on_the_hour`: whether its bars open on the hour, so that one that does not is quarantined.
    """

    sources: Callable[[EtlSettings, threading.Event], Sequence[Source]]
    on_the_hour: bool = False


PROVIDERS: dict[str, Provider] = {
    "ccxt": Provider(
        lambda s, stop: [ExchangeSource(name, s, stop) for name in s.exchanges], on_the_hour=True
    ),
    "yfinance": Provider(lambda s, stop: [YahooSource(s, stop)]),
}
"""By the word that a series has for it. A further provider is a module with a `Source` and a line in here."""


def source_kind(name: str) -> str:
    """`live`, `files` or `sample`: kinds whose bars must not mix under one roof."""
    return name if name in ("files", "sample") else "live"


def sources_for(settings: EtlSettings, stop: threading.Event) -> dict[str, Sequence[Source]]:
    """By provider of the settings' series, the sources in order of preference. Nothing is contacted.

    Raises:
        ConfigurationError: when a series has a provider that does not exist.
    """
    for series in settings.series:
        if series.provider not in PROVIDERS:
            raise ConfigurationError(
                f"HOURCAST_SERIES: {series.symbol} has provider {series.provider!r}; there are {', '.join(PROVIDERS)}"
            )
    names = dict.fromkeys(series.provider for series in settings.series)
    if settings.source == "sample":
        return dict.fromkeys(names, (SampleSource(settings.sample_seed),))
    if settings.source.startswith("files:"):
        return dict.fromkeys(names, (FileSource(Path(settings.source.removeprefix("files:")).expanduser()),))
    return {name: PROVIDERS[name].sources(settings, stop) for name in names}


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
