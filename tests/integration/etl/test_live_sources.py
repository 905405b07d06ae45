"""The real ccxt and yfinance against a local server that answers, and misbehaves, as Binance and Yahoo do."""

import threading
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import yfinance  # noqa: F401  # its import puts a filter of warnings before ours, which pytest takes back here

from hourcast.clock import FrozenClock, StoreClock
from hourcast.contracts import HOUR_S, Bars
from hourcast.store import SeriesState, Store
from hourcast_etl.engine import Engine
from hourcast_etl.settings import EtlSettings
from tests.market_server import MarketServer

pytestmark = pytest.mark.integration
_NOW = datetime(2025, 6, 26, 10, 20, tzinfo=UTC)


def _engine(store: Store, market: MarketServer, now: datetime = _NOW, **more: object) -> Engine:
    settings = EtlSettings.load(
        **{
            "exchanges": ("binance", "binanceus"), "exchange_url": market.url, "yahoo_url": market.url,
            "etl_days": 60, "etl_attempts": 3, "etl_backoff_s": 0.01, "etl_timeout_s": 1.0, **more,
        }
    )  # fmt: skip
    return Engine(settings, store, FrozenClock(now), threading.Event())


def _recorded(market: MarketServer, symbol: str, now: datetime = _NOW) -> Bars:
    """What a whole load must leave."""
    start = int((now - timedelta(days=60)).replace(minute=0).timestamp())
    bars = market.bars[symbol]
    return bars.take((bars.open_time >= start) & (bars.open_time + HOUR_S <= int(now.timestamp())))


def _same(stored: Bars, expected: Bars) -> None:
    np.testing.assert_array_equal(stored.open_time, expected.open_time)
    for name in ("open", "high", "low", "close"):
        np.testing.assert_allclose(getattr(stored, name), getattr(expected, name), rtol=1e-7)


def test_a_first_load_stores_exactly_the_closed_bars(store: Store, market: MarketServer) -> None:
    """Every series arrives whole over several pages, and no bar that is still open."""
    report = _engine(store, market).run()
    assert report.complete, report.reason
    for symbol in ("BTC/USDT", "QQQ", "^VIX", "GC=F"):
        _same(store.read_bars(symbol), _recorded(market, symbol))
    runs = {r.symbol: r for r in store.ingest_runs()}
    assert (runs["BTC/USDT"].status, runs["BTC/USDT"].source) == ("complete", "binance")
    assert (runs["QQQ"].status, runs["QQQ"].source) == ("complete", "yahoo")


def test_a_second_run_asks_only_for_what_is_new(store: Store, market: MarketServer) -> None:
    """An hour later one kline request brings the new bar and a small overlap, and nothing is written twice."""
    _engine(store, market).run(("BTC/USDT",))
    count = len(store.read_bars("BTC/USDT"))
    market.asked.clear()
    report = _engine(store, market, _NOW + timedelta(hours=1)).run(("BTC/USDT",))
    asked = [query for path, query in market.asked if "klines" in path]
    assert len(asked) == 1
    overlap = datetime.fromtimestamp(int(asked[0]["startTime"]) / 1000, UTC)
    assert overlap == datetime(2025, 6, 26, 7, tzinfo=UTC)
    assert (report.series[0].inserted, report.series[0].revised) == (1, 0)
    assert len(store.read_bars("BTC/USDT")) == count + 1


def test_a_revised_bar_is_updated_and_counted(store: Store, market: MarketServer) -> None:
    """A close that the exchange corrects within the overlap is taken over once."""
    _engine(store, market).run(("BTC/USDT",))
    bars = market.bars["BTC/USDT"]
    at = int(np.searchsorted(bars.open_time, int(datetime(2025, 6, 26, 8, tzinfo=UTC).timestamp())))
    close = bars.close.copy()
    close[at] = float((bars.high[at] + bars.low[at]) / 2)
    market.bars["BTC/USDT"] = Bars(
        bars.symbol, bars.open_time, bars.close_time, bars.open, bars.high, bars.low, close, bars.volume
    )
    report = _engine(store, market).run(("BTC/USDT",))
    assert (report.series[0].inserted, report.series[0].revised) == (0, 1)
    assert _engine(store, market).run(("BTC/USDT",)).series[0].revised == 0


@pytest.mark.parametrize("fault", ["429", "418", "500", "html", "truncated", "empty", "shuffled", "drop"])
def test_one_fault_amid_paging_loses_and_doubles_nothing(
    store: Store, market: MarketServer, fault: str
) -> None:
    """Whatever goes wrong with the second page once, the load is whole in the end, from the first exchange."""
    market.faults["klines"].extend(["", fault])
    report = _engine(store, market).run(("BTC/USDT",))
    assert report.complete, report.reason
    assert report.series[0].source == "binance"
    _same(store.read_bars("BTC/USDT"), _recorded(market, "BTC/USDT"))


@pytest.mark.parametrize("fault", ["429", "500", "html", "truncated", "shuffled", "drop"])
def test_one_fault_of_yahoo_loses_and_doubles_nothing(store: Store, market: MarketServer, fault: str) -> None:
    """Yahoo's faults are tried again as well, and not answered from what yfinance keeps."""
    # Of one bad status it asks again by itself.
    market.faults["chart"].extend([fault] * 2)
    report = _engine(store, market).run(("QQQ",))
    assert report.complete, report.reason
    assert not market.faults["chart"]
    _same(store.read_bars("QQQ"), _recorded(market, "QQQ"))


def test_a_slow_answer_is_tried_again(store: Store, market: MarketServer) -> None:
    """An answer beyond the time-out counts as a fault, and the second one as the answer."""
    market.faults["klines"].append("slow")
    report = _engine(store, market).run(("BTC/USDT",))
    assert report.complete, report.reason
    _same(store.read_bars("BTC/USDT"), _recorded(market, "BTC/USDT"))


def test_a_refused_place_goes_to_the_next_exchange_at_once(store: Store, market: MarketServer) -> None:
    """451 is not tried again: the next exchange in the list gives the bars, and the run names it."""
    market.faults["info"].append("451")
    report = _engine(store, market).run(("BTC/USDT",))
    assert report.complete
    assert report.series[0].source == "binanceus"
    assert report.series[0].reasons[0].startswith("binance: refuses this place (")
    _same(store.read_bars("BTC/USDT"), _recorded(market, "BTC/USDT"))


def test_an_exchange_that_fails_amid_its_pages_is_taken_over(store: Store, market: MarketServer) -> None:
    """The next exchange goes on where the first one stopped; what was stored stays."""
    market.faults["klines"].extend(["", "500", "500", "500"])
    report = _engine(store, market).run(("BTC/USDT",))
    assert report.complete
    assert report.series[0].source == "binanceus"
    _same(store.read_bars("BTC/USDT"), _recorded(market, "BTC/USDT"))


def test_a_retry_after_is_obeyed_up_to_its_limit(store: Store, market: MarketServer) -> None:
    """A longer wait than allowed gives the exchange up for now, and the reason says how long it asked for."""
    market.faults["klines"].append("429:300")
    report = _engine(store, market).run(("BTC/USDT",))
    assert report.series[0].source == "binanceus"
    assert report.series[0].reasons[0].endswith(", and asks to wait 300 s")


def test_when_every_source_fails_the_rest_is_stored_and_the_run_is_partial(
    store: Store, market: MarketServer
) -> None:
    """Without any exchange the other series arrive all the same; the run says why it is partial."""
    market.faults["info"].extend(["451"] * 2)
    report = _engine(store, market).run()
    assert not report.complete
    assert "binance: refuses this place" in report.reason
    assert "binanceus: refuses this place" in report.reason
    assert not len(store.read_bars("BTC/USDT"))
    for symbol in ("QQQ", "^VIX", "GC=F"):
        _same(store.read_bars(symbol), _recorded(market, symbol))
    run = next(r for r in store.ingest_runs() if r.symbol == "BTC/USDT")
    assert run.status == "partial"
    assert run.reason is not None
    assert "use SOURCE=files:DIR with your own bars, or SOURCE=sample for synthetic ones" in run.reason


def test_a_partial_load_is_finished_by_the_next_run(store: Store, market: MarketServer) -> None:
    """What a partial run has stored is not asked for again, and the next run brings the rest."""
    market.faults["klines"].extend(["", *["500"] * 6])
    first = _engine(store, market).run(("BTC/USDT",))
    assert not first.complete
    assert len(store.read_bars("BTC/USDT")) == 1000
    second = _engine(store, market).run(("BTC/USDT",))
    assert second.complete
    _same(store.read_bars("BTC/USDT"), _recorded(market, "BTC/USDT"))


def test_a_retry_after_within_its_limit_is_waited_for(store: Store, market: MarketServer) -> None:
    """The exchange asks for a second: the next attempt comes no earlier, and the load is whole."""
    market.faults["klines"].append("429:1")
    began = time.monotonic()
    report = _engine(store, market).run(("BTC/USDT",))
    assert report.complete
    assert report.series[0].source == "binance"
    assert time.monotonic() - began >= 1.0


def test_a_broken_tick_is_quarantined_and_leaves_when_it_is_put_right(
    store: Store, market: MarketServer
) -> None:
    """A close ten times too high never reaches `bars`; the corrected bar takes its place and ends the quarantine."""
    good = market.bars["BTC/USDT"]
    at = int(np.searchsorted(good.open_time, int(datetime(2025, 6, 26, 8, tzinfo=UTC).timestamp())))
    high, close = good.high.copy(), good.close.copy()
    high[at] = close[at] = 10 * good.close[at]
    market.bars["BTC/USDT"] = Bars(
        good.symbol, good.open_time, good.close_time, good.open, high, good.low, close, good.volume
    )
    assert _engine(store, market).run(("BTC/USDT",)).series[0].quarantined == 1
    (held,) = store.quarantined("BTC/USDT")
    assert held.open_time == datetime(2025, 6, 26, 8, tzinfo=UTC)
    assert held.source == "binance"
    assert int(held.open_time.timestamp()) not in store.read_bars("BTC/USDT").open_time
    market.bars["BTC/USDT"] = good
    assert _engine(store, market).run(("BTC/USDT",)).series[0].inserted == 1
    assert store.quarantined("BTC/USDT") == []
    _same(store.read_bars("BTC/USDT"), _recorded(market, "BTC/USDT"))


def test_a_bar_that_comes_late_closes_its_hour_late(store: Store, market: MarketServer) -> None:
    """An hour that lacks gold's bar stays open and says until when; the bar of a minute later closes it, not the next hour."""
    gold, hour = market.bars["GC=F"], datetime(2025, 6, 26, 10, tzinfo=UTC)
    market.bars["GC=F"] = gold.take(gold.close_time < int(hour.timestamp()))
    store.set_clock(hour + timedelta(seconds=2))
    settings = EtlSettings.load(
        exchanges=("binance",), exchange_url=market.url, yahoo_url=market.url, etl_days=60, etl_backoff_s=0.01
    )
    engine = Engine(settings, store, StoreClock(store.clock))
    report = engine.run()
    assert report.complete, report.reason
    assert (report.closed, report.lacking) == ((), ("GC=F",))
    assert report.deadline == hour + timedelta(seconds=300)
    store.set_clock(hour + timedelta(seconds=62))
    market.bars["GC=F"] = gold
    (closed,) = engine.run(report.lacking).closed
    assert (closed.hour, closed.closed_at) == (hour, hour + timedelta(seconds=62))
    assert {s.state for s in closed.series.values()} == {"there", "shut"}
    assert closed.series["GC=F"].newest == hour


def test_a_bar_that_does_not_come_is_given_up(store: Store, market: MarketServer) -> None:
    """At the deadline the hour is closed without gold, and says what was known of it."""
    gold, hour = market.bars["GC=F"], datetime(2025, 6, 26, 10, tzinfo=UTC)
    market.bars["GC=F"] = gold.take(gold.close_time < int(hour.timestamp()))
    store.set_clock(hour + timedelta(seconds=300))
    settings = EtlSettings.load(
        exchanges=("binance",), exchange_url=market.url, yahoo_url=market.url, etl_days=60, etl_backoff_s=0.01
    )
    report = Engine(settings, store, StoreClock(store.clock)).run()
    (closed,) = report.closed
    assert (report.lacking, closed.given_up) == ((), ("GC=F",))
    assert closed.series["GC=F"] == SeriesState("given_up", hour - timedelta(hours=1))


def _newest_alone(market: MarketServer, hours: int = 720) -> None:
    """Let the market end at the present, and the next klines be the newest alone, as Kraken gives them."""
    bars = market.bars["BTC/USDT"]
    market.bars["BTC/USDT"] = bars.take(bars.open_time < int(_NOW.timestamp()))
    market.faults["klines"].append(f"newest:{hours}")


def test_a_first_load_without_its_head_is_partial_and_says_so(store: Store, market: MarketServer) -> None:
    """Of sixty days an exchange gives thirty: no complete load, whatever it calls itself; the next hour asks again."""
    _newest_alone(market)
    engine = _engine(store, market, exchanges=("binance",))
    report = engine.run(("BTC/USDT",))
    reason = (
        "BTC/USDT lacks 721 hours before 2025-05-27 11:00 UTC, which no source gave; "
        "bars from 2025-04-27 on are asked for (HOURCAST_ETL_DAYS=60)"
    )
    assert (report.complete, report.failed, report.reason) == (False, False, reason)
    (run,) = store.ingest_runs()
    assert (run.status, run.reason) == ("partial", reason)
    later = _engine(store, market, exchanges=("binance",)).run(("BTC/USDT",))
    assert later.complete, later.reason
    _same(store.read_bars("BTC/USDT"), _recorded(market, "BTC/USDT"))


def test_a_head_that_one_exchange_lacks_is_asked_of_the_next(store: Store, market: MarketServer) -> None:
    """The second exchange has it, so the load is whole."""
    _newest_alone(market)
    report = _engine(store, market).run(("BTC/USDT",))
    assert report.complete, report.reason
    _same(store.read_bars("BTC/USDT"), _recorded(market, "BTC/USDT"))


def test_a_head_that_no_source_has_is_asked_for_once_an_hour(store: Store, market: MarketServer) -> None:
    """A watch looks more often, and goes on saying that the load is partial."""
    bars = market.bars["BTC/USDT"]
    market.bars["BTC/USDT"] = bars.take(bars.open_time >= int((_NOW - timedelta(days=30)).timestamp()))
    engine = _engine(store, market)
    assert not engine.run(("BTC/USDT",)).complete
    assert not engine.run(("BTC/USDT",)).complete
    market.asked.clear()
    assert not engine.run(("BTC/USDT",)).complete
    assert len([path for path, _ in market.asked if "klines" in path]) == 1


def test_a_series_that_no_model_looks_at_leaves_a_run_complete(store: Store, market: MarketServer) -> None:
    """Gold and ^VIX get nothing, as their own rows say; QQQ is looked at, and without it a run is partial."""
    market.faults["chart"].extend(["451"] * 40)
    report = _engine(store, market).run(("BTC/USDT", "^VIX", "GC=F"))
    assert (report.complete, report.reason) == (True, "")
    assert {s.symbol: s.status for s in report.series} == {"BTC/USDT": "complete", "^VIX": "partial", "GC=F": "partial"}  # fmt: skip
    assert {r.symbol: r.status for r in store.ingest_runs()}["^VIX"] == "partial"
    assert not _engine(store, market).run(("QQQ",)).complete


def test_a_series_that_no_model_looks_at_fails_no_run(
    store: Store, market: MarketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its client raises, the others get their bars; of a series that is looked at the error is not hidden."""
    monkeypatch.setattr("hourcast_etl.sources.yahoo.attempt", lambda *_args, **_more: {"Open": 1})
    report = _engine(store, market).run(("^VIX", "BTC/USDT"))
    assert (report.complete, [s.status for s in report.series]) == (True, ["complete", "partial"])
    with pytest.raises(AttributeError):
        _engine(store, market).run(("QQQ",))
