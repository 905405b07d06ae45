"""Names and values that travel between services."""

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from hourcast.bucket import FolderBucket, open_bucket
from hourcast.clock import FrozenClock, clock_from
from hourcast.contracts import (
    Bars,
    alias_date,
    alias_kind,
    backtest_alias,
    date_alias,
    fingerprint,
    parse_hour,
)
from hourcast.errors import ConfigurationError, DataError
from hourcast.settings import CoreSettings


@pytest.mark.parametrize(
    ("alias", "kind", "day"),
    [
        ("20240601", "date", date(2024, 6, 1)),
        ("backtest_20240601", "backtest", date(2024, 6, 1)),
        ("champion", "champion", None),
        ("20240631", "unknown", None),
        ("latest", "unknown", None),
        ("20240601x", "unknown", None),
        ("Backtest_20240601", "unknown", None),
    ],
)
def test_an_alias_is_what_its_name_says(alias: str, kind: str, day: date | None) -> None:
    """Date, back-test and champion aliases are told apart; anything else, an impossible day too, is unknown."""
    assert alias_kind(alias) == kind
    assert alias_date(alias) == day


def test_alias_names_read_back() -> None:
    """An alias made from a day names that day."""
    day = date(2025, 2, 28)
    assert alias_date(date_alias(day)) == alias_date(backtest_alias(day)) == day


def test_bars_travel_as_json_unchanged() -> None:
    """Bars read back from their JSON form have the same fingerprint; broken forms are refused."""
    bars = Bars.of("T", [0, 3600], [[1, 2, 0.5, 1.1, 3], [1.1, 2, 1, 1.3, 4]])
    again = Bars.from_json(bars.to_json())
    assert fingerprint({"T": bars}) == fingerprint({"T": again})
    short = bars.to_json() | {"close": [1.0]}
    with pytest.raises(DataError) as caught:
        Bars.from_json(short)
    assert str(caught.value) == "bars of T have columns of different lengths"


def test_the_fingerprint_sees_one_changed_value() -> None:
    """One other volume is another fingerprint."""
    bars = Bars.of("T", [0], [[1, 2, 0.5, 1.1, 3]])
    other = Bars.of("T", [0], [[1, 2, 0.5, 1.1, 3.0000001]])
    assert fingerprint({"T": bars}) != fingerprint({"T": other})


def test_known_at_goes_by_close_time() -> None:
    """A bar is known from its close on, not from its open."""
    bars = Bars.of("T", [0, 3600], np.ones((2, 5)))
    assert len(bars.known_at(3599)) == 0
    assert len(bars.known_at(3600)) == 1
    assert len(bars.between(3600, 7200)) == 1


@pytest.mark.parametrize("text", ["2025-06-26", "2025-06-26T00:00Z", "2025-06-26 02:00+02:00"])
def test_hours_are_read_as_utc(text: str) -> None:
    """A day, an hour with Z and one with an offset are the same moment."""
    assert parse_hour(text) == datetime(2025, 6, 26, tzinfo=UTC)


def test_a_wrong_hour_says_how_to_write_it() -> None:
    """A text that is no time names itself and the right form."""
    with pytest.raises(
        ValueError, match=r"^'soon' is not a time; write it as 2025-06-26 or 2025-06-26T05:00Z$"
    ):
        parse_hour("soon")


def test_the_clock_is_a_setting() -> None:
    """An hour freezes the clock, `store` reads it, and anything else is refused."""
    moment = datetime(2025, 6, 26, tzinfo=UTC)
    assert isinstance(clock_from("2025-06-26", lambda: moment), FrozenClock)
    assert clock_from("store", lambda: moment).now() == moment
    with pytest.raises(ConfigurationError) as caught:
        clock_from("soon", lambda: moment)
    assert str(caught.value) == (
        "HOURCAST_CLOCK: 'soon' is not a time; write it as 2025-06-26 or 2025-06-26T05:00Z; or set it to `wall` or `store`"
    )


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong value is told with the variable's name, and secrets are not shown."""
    monkeypatch.setenv("HOURCAST_MODEL_NAME", "my model")
    with pytest.raises(ConfigurationError) as caught:
        CoreSettings.load()
    assert str(caught.value) == (
        "HOURCAST_MODEL_NAME: String should match pattern '^[A-Za-z0-9_-]{1,64}$' (given: 'my model')"
    )


def test_a_bucket_folder_keeps_to_itself(tmp_path: Path) -> None:
    """What is put is got, lists are sorted, and a key that climbs out is refused."""
    bucket = FolderBucket(tmp_path / "b")
    assert bucket.get("a/1") is None
    bucket.put("a/2", b"two")
    bucket.put("a/1", b"one")
    bucket.put("a/1", b"uno")
    assert bucket.get("a/1") == b"uno"
    assert bucket.keys("a/") == ["a/1", "a/2"]
    with pytest.raises(ConfigurationError) as caught:
        bucket.put("../x", b"")
    assert str(caught.value) == "key '../x' leaves the bucket; use a relative key without `..`"


def test_a_bucket_is_a_folder_or_s3() -> None:
    """Another scheme is refused with the two forms."""
    with pytest.raises(ConfigurationError) as caught:
        open_bucket("ftp://x")
    assert str(caught.value) == (
        "HOURCAST_BUCKET_URL: 'ftp://x' is not a bucket; use file:///folder or s3://bucket/prefix"
    )
