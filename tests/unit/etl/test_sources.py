"""Files in every form that people have, the seeded sample, and patience."""

import threading
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hourcast.clock import FrozenClock
from hourcast.errors import ConfigurationError, RefusedError
from hourcast.settings import DEFAULT_SERIES
from hourcast.store import open_store
from hourcast_etl.engine import Engine
from hourcast_etl.settings import EtlSettings
from hourcast_etl.sources import SourceError
from hourcast_etl.sources.files import FileSource, last_close
from hourcast_etl.sources.retry import Blocked, Retryable, attempt
from hourcast_etl.sources.sample import SampleSource

_BTC = DEFAULT_SERIES[0]
_EARLY, _LATE = datetime(1970, 1, 2, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
_HEADER = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"


def _dump(opens: list[int], unit: int, header: bool) -> str:
    rows = [
        f"{t * unit},42283.58,42554.57,42261.02,42475.23,1271.68108,{(t + 3600) * unit - 1},53957248.9,47134,682.5,28957416.8,0"
        for t in opens
    ]
    return "\n".join([*([_HEADER] if header else []), *rows]) + "\n"


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("unit", [1000, 1_000_000])
def test_binances_dumps_in_every_form(tmp_path: Path, zipped: bool, header: bool, unit: int) -> None:
    """Monthly dumps, zipped or not, with and without header, in milliseconds and microseconds, give the same bars."""
    months = {"2024-12": 1733011200, "2025-01": 1735689600}
    for month, first in months.items():
        text = _dump([first, first + 3600], unit, header)
        path = tmp_path / f"BTCUSDT-1h-{month}.csv"
        if zipped:
            with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
                archive.writestr(path.name, text)
        else:
            path.write_text(text)
    (rows,) = FileSource(tmp_path).pages(_BTC, _EARLY, _LATE)
    assert [r.open_time for r in rows] == [1733011200, 1733014800, 1735689600, 1735693200]
    assert float(rows[0].close) == 42475.23
    assert last_close(tmp_path, _BTC) == datetime(2025, 1, 1, 2, tzinfo=UTC)


def test_hourcasts_own_files(market_dir: Path) -> None:
    """The recorded CSVs are read whole, and the newest bar's close is what time it is there."""
    (rows,) = FileSource(market_dir).pages(_BTC, _EARLY, _LATE)
    assert len(rows) == 14_616
    assert last_close(market_dir, _BTC) == datetime(2025, 8, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("btc_1h.csv", "datetime,open,high,low,close,volume\nsoon,1,1,1,1,1\n", "files: btc_1h.csv, line 2: 'soon' is not a time; write it as 2025-06-26 or 2025-06-26T05:00Z"),
        ("btc_1h.csv", "datetime,open,high,low,close,volume\n2025-01-01,1,1\n", "files: btc_1h.csv, line 2: 3 columns where 6 are expected"),
        ("btc_1h.csv", "a,b\n1,2\n", "files: btc_1h.csv, line 1: neither Hourcast's columns (datetime,open,high,low,close,volume) nor the 12 of Binance's kline dumps"),
        ("BTCUSDT-1h-2024-01.zip", "no zip", "files: BTCUSDT-1h-2024-01.zip is no zip file"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_understood_is_named(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    """File, line and value are in the message."""
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError) as caught:
        list(FileSource(tmp_path).pages(_BTC, _EARLY, _LATE))
    assert str(caught.value) == message


def test_rows_that_come_twice_are_counted_and_stored_once(tmp_path: Path) -> None:
    """An hour that stands in the file twice is one bar, and the run says how many came twice."""
    rows = ["2025-01-01T00:00Z,1,1,1,1,1", "2025-01-01T01:00Z,1,1,1,1,1", "2025-01-01T01:00Z,1,1,1,1,2"]
    (tmp_path / "btc_1h.csv").write_text("\n".join(["datetime,open,high,low,close,volume", *rows]) + "\n")
    store = open_store(f"sqlite:///{tmp_path / 's.db'}")
    store.upgrade()
    clock = FrozenClock(datetime(2025, 1, 2, tzinfo=UTC))
    (report,) = Engine(EtlSettings(source=f"files:{tmp_path}"), store, clock).run(("BTC/USDT",)).series
    assert (report.inserted, report.duplicates) == (2, 1)
    assert store.read_bars("BTC/USDT").volume.tolist() == [1, 2]
    store.close()


def test_a_folder_without_the_series_is_an_error_that_names_both(tmp_path: Path) -> None:
    """What was looked for, and where."""
    with pytest.raises(ConfigurationError) as caught:
        last_close(tmp_path, _BTC)
    assert str(caught.value) == (
        f"SOURCE=files:{tmp_path}: nothing in {tmp_path} matches btc_1h.csv or BTCUSDT-1h-* for BTC/USDT"
    )


def test_sources_of_different_kinds_do_not_mix(tmp_path: Path, market_dir: Path) -> None:
    """A store with bars from files refuses sample bars, and says what to do."""
    store = open_store(f"sqlite:///{tmp_path / 's.db'}")
    store.upgrade()
    clock = FrozenClock(datetime(2024, 1, 1, tzinfo=UTC))
    Engine(EtlSettings(source=f"files:{market_dir}"), store, clock).run(("BTC/USDT",))
    with pytest.raises(RefusedError) as caught:
        Engine(EtlSettings(source="sample"), store, clock).run()
    assert str(caught.value) == (
        "the store holds bars of 'files', and SOURCE=sample would mix others among them; "
        "run `make clean-state`, or set HOURCAST_STATE_DIR to another folder"
    )
    store.close()


def test_the_sample_is_the_same_whenever_it_is_asked_for() -> None:
    """An hour's bar depends on seed, symbol and hour alone."""
    start = datetime(2024, 3, 1, tzinfo=UTC)
    (whole,) = SampleSource(1).pages(_BTC, start, start + timedelta(days=90))
    (part,) = SampleSource(1).pages(_BTC, start + timedelta(days=30), start + timedelta(days=31))
    assert part == whole[30 * 24 : 31 * 24]
    (other,) = SampleSource(2).pages(_BTC, start, start + timedelta(days=90))
    assert other != whole


def test_the_sample_passes_the_data_contract(tmp_path: Path) -> None:
    """Synthetic bars of every series are whole, on their market's hours, and none is quarantined."""
    store = open_store(f"sqlite:///{tmp_path / 's.db'}")
    store.upgrade()
    clock = FrozenClock(datetime(2025, 6, 26, tzinfo=UTC))
    report = Engine(EtlSettings(source="sample", etl_days=60), store, clock).run()
    assert report.complete
    assert [s.quarantined for s in report.series] == [0, 0, 0, 0]
    assert len(store.read_bars("BTC/USDT")) == 60 * 24
    store.close()


def _attempt(outcomes: list[Exception | str], attempts: int = 3, longest: float = 10) -> str:
    def work() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return attempt(
        work, "x", attempts=attempts, backoff_s=0.001, longest_wait_s=longest, stop=threading.Event()
    )


def test_patience_ends_with_the_last_reason() -> None:
    """After the last attempt the source's error carries the reason and the number of attempts."""
    assert _attempt([Retryable("a"), Retryable("b"), "fine"]) == "fine"
    with pytest.raises(SourceError, match=r"^x: c \(3 attempts\)$"):
        _attempt([Retryable("a"), Retryable("b"), Retryable("c")])


def test_a_block_and_a_long_wait_end_it_at_once() -> None:
    """451 and a Retry-After beyond the limit are no reason to knock again."""
    left: list[Exception | str] = [Blocked("no"), "never asked"]
    with pytest.raises(SourceError, match="^x: no$"):
        _attempt(left)
    assert left == ["never asked"]
    with pytest.raises(SourceError, match="^x: slow down, and asks to wait 11 s$"):
        _attempt([Retryable("slow down", 11)])


def test_a_stop_ends_the_wait() -> None:
    """Who is told to stop does not sit out a pause."""
    stop = threading.Event()
    stop.set()

    def work() -> str:
        raise Retryable("a", 9)

    with pytest.raises(SourceError, match="^x: stopped$"):
        attempt(work, "x", attempts=3, backoff_s=9, longest_wait_s=10, stop=stop)
