"""A data source is a class and a line: a toy, registered from here alone, fills a store."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from hourcast.clock import clock_from
from hourcast.contracts import to_epoch
from hourcast.errors import ConfigurationError
from hourcast.settings import Series
from hourcast.store import Store
from hourcast_etl.checks import RawBar
from hourcast_etl.engine import Engine
from hourcast_etl.settings import EtlSettings
from hourcast_etl.sources import PROVIDERS, Provider, sources_for

_NOW = datetime(2024, 6, 13, 12, tzinfo=UTC)
_SERIES = (Series(symbol="TOY/COIN", role="target", provider="toy"),)


class _ToySource:
    """A price that does not move; one bar of each day opens amid an hour."""

    name = "toy"
    reach: timedelta | None = None

    def pages(self, series: Series, start: datetime, end: datetime) -> Iterator[list[RawBar]]:
        opens = range(to_epoch(start), to_epoch(end), 3600)
        yield [RawBar(at + (60 if at % 86_400 == 0 else 0), 1.0, 1.0, 1.0, 1.0, 5.0) for at in opens]


@pytest.fixture
def settings() -> EtlSettings:
    """A stream whose one series comes from the toy."""
    return EtlSettings.load(
        series=_SERIES, feature_series=(), source="live", etl_days=45, clock=_NOW.isoformat()
    )


def test_a_source_that_nobody_knew_fills_the_store(
    store: Store, settings: EtlSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bars are fetched, checked by what its line says of them, and stored under its name."""
    monkeypatch.setitem(PROVIDERS, "toy", Provider(lambda _settings, _stop: [_ToySource()], on_the_hour=True))
    report = Engine(settings, store, clock_from(settings.clock, store.clock)).run()
    (known,) = store.freshness(["TOY/COIN"])
    assert (known.last_close, known.source) == (_NOW, "toy")
    assert len(store.read_bars("TOY/COIN")) == 45 * 24 - 45
    assert report.series[0].quarantined == 45


@pytest.mark.parametrize("source", ["live", "sample"])
def test_a_provider_that_does_not_exist_is_refused(settings: EtlSettings, source: str) -> None:
    """Before anything is asked, with the series and the providers that there are."""
    with pytest.raises(ConfigurationError) as caught:
        sources_for(settings.model_copy(update={"source": source}), threading.Event())
    assert str(caught.value) == "HOURCAST_SERIES: TOY/COIN has provider 'toy'; there are ccxt, yfinance"
