"""What was known when: revisions keep what they replaced, hours are closed once; on SQLite, and on MySQL alike."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hourcast.contracts import HOUR_S, Bars, fingerprint, to_epoch
from hourcast.store import Hour, SeriesState, Store

_NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
_EXAMPLES = count()
_Batch = dict[int, float]


def _bars(symbol: str, values: _Batch) -> Bars:
    """A bar an hour after 1970, its prices all the same."""
    opens = np.array(sorted(values), np.int64) * HOUR_S
    close = np.array([values[int(o) // HOUR_S] for o in opens])
    return Bars.of(symbol, opens, np.column_stack([close] * 4 + [np.ones(len(close))]).reshape(-1, 5))


def _hour(number: int, closed_at: datetime, model: str = "m", **series: SeriesState) -> Hour:
    return Hour(model, datetime.fromtimestamp(number * HOUR_S, UTC), closed_at, _NOW, series)


def _minutes(number: float) -> datetime:
    return _NOW + timedelta(minutes=number)


def test_a_revision_keeps_what_it_replaced(store: Store) -> None:
    """As of a moment before the revision the older value is read, from it on the newer; a bar of later is absent."""
    store.upsert_bars(_bars("T", {1: 10.0, 2: 20.0}), "a", _NOW)
    counted = store.upsert_bars(_bars("T", {2: 21.0, 3: 30.0}), "b", _minutes(5))
    assert (counted.inserted, counted.revised) == (1, 1)
    assert store.read_bars("T").close.tolist() == [10, 21, 30]
    assert store.read_bars("T", as_of=_minutes(4)).close.tolist() == [10, 20]
    assert store.read_bars("T", as_of=_minutes(5)).close.tolist() == [10, 21, 30]
    assert store.read_bars("T", as_of=_minutes(4), last=1).close.tolist() == [20]
    with store.engine.connect() as connection:
        kept = connection.execute(sa.text("SELECT close, source FROM bar_revisions")).all()
    assert [tuple(row) for row in kept] == [(20.0, "a")]


def test_known_at_and_as_of_are_two_questions(store: Store) -> None:
    """`known_at` is about when a bar closed, `as_of` about when it came; both hold, with a start and several symbols too."""
    store.upsert_bars(_bars("A", {1: 1.0}), "s", _NOW)
    store.upsert_bars(_bars("A", {2: 2.0, 3: 3.0}), "s", _minutes(5))
    store.upsert_bars(_bars("B", {1: 1.0, 2: 2.0, 3: 3.0}), "s", _NOW)
    closed = datetime.fromtimestamp(3 * HOUR_S, UTC)
    found = store.read_many(["A", "B"], known_at=closed, as_of=_minutes(4))
    assert {s: b.close.tolist() for s, b in found.items()} == {"A": [1], "B": [1, 2]}
    found = store.read_many(["A", "B"], known_at=closed, as_of=_minutes(5), last=1)
    assert {s: b.close.tolist() for s, b in found.items()} == {"A": [2], "B": [2]}
    start = datetime.fromtimestamp(2 * HOUR_S, UTC)
    assert store.read_bars("B", start=start, end=closed, as_of=_NOW).close.tolist() == [2]


def test_before_the_record_begins_history_counts_as_known(store: Store) -> None:
    """Nobody had anything before the first arrival: what was loaded later is a reconstruction, and only there."""
    store.upsert_bars(_bars("T", {2: 2.0}), "s", _NOW)
    store.upsert_bars(_bars("T", {1: 1.0, 2: 3.0}), "s", _minutes(5))
    assert store.read_bars("T", as_of=_minutes(-1)).close.tolist() == [1, 3]
    assert store.read_bars("T", as_of=_NOW).close.tolist() == [2]
    assert not len(store.read_bars("nothing", as_of=_NOW))


_BATCHES = st.lists(
    st.tuples(
        st.integers(-1, 2),
        st.dictionaries(st.integers(0, 12), st.floats(1, 9), max_size=6),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=_BATCHES)
def test_an_hour_that_was_closed_reads_the_same_ever_after(
    batches: Sequence[tuple[int, _Batch, bool]], store: Store
) -> None:
    """Whatever comes, revised or late, by a clock that runs, stands or goes back: as of a close is what was there at it."""
    number = next(_EXAMPLES)
    symbol, model, at = f"T{number}", f"m{number}", 0
    seen: list[tuple[datetime, Bars]] = []
    for place, (step, batch, closes) in enumerate(batches):
        at += step
        store.upsert_bars(_bars(symbol, batch), "s", _minutes(at))
        if closes and len(store.read_bars(symbol)):
            assert store.close_hour(_hour(place, _minutes(at), model, **{symbol: SeriesState("there", None)}))
            seen.append((store.hours(model)[-1].closed_at, store.read_bars(symbol)))
    for moment, was in seen:
        assert fingerprint({"T": store.read_bars(symbol, as_of=moment)}) == fingerprint({"T": was})
        newest = store.read_bars(symbol, as_of=moment, last=3)
        assert newest.close.tolist() == was.close.tolist()[-3:]


def test_a_closed_hour_is_never_changed(store: Store) -> None:
    """A second close of an hour says no and leaves the first as it was."""
    first = _hour(5, _NOW, T=SeriesState("there", _NOW), X=SeriesState("given_up", None))
    assert store.close_hour(first)
    assert not store.close_hour(_hour(5, _minutes(3), T=SeriesState("shut", None)))
    assert store.hours("m") == [first]
    assert first.given_up == ("X",)


def test_closes_have_an_order_by_a_clock_that_stands_still(store: Store) -> None:
    """Each close is later than the one before, and what comes after a close is later than it."""
    for number in (1, 2):
        assert store.close_hour(_hour(number, _NOW))
    assert [h.closed_at - _NOW for h in store.hours("m")] == [timedelta(), timedelta(microseconds=1)]
    store.upsert_bars(_bars("T", {1: 1.0}), "s", _NOW)
    store.upsert_bars(_bars("T", {2: 1.0}), "s", _minutes(1))
    assert store.read_bars("T", as_of=_NOW + timedelta(microseconds=2)).close.tolist() == [1]


def test_hours_are_found_by_stream_and_time(store: Store) -> None:
    """The newest of a stream, the newest at a moment, a span; of another stream none."""
    for number in (1, 2, 4):
        store.close_hour(_hour(number, _NOW, T=SeriesState("there", None)))
    at = [datetime.fromtimestamp(n * HOUR_S, UTC) for n in range(5)]
    newest, earlier = store.newest_hour("m"), store.newest_hour("m", at[3])
    assert newest is not None
    assert earlier is not None
    assert (newest.hour, earlier.hour) == (at[4], at[2])
    assert store.newest_hour("m", at[0]) is None
    assert store.newest_hour("other") is None
    assert [h.hour for h in store.hours("m", start=at[1], end=at[4])] == [at[1], at[2]]


def test_an_hour_knows_of_each_series_what_its_record_says() -> None:
    """Bars are cut at the newest close in the record, a series that it does not name at the hour."""
    bars = {s: _bars(s, {1: 1.0, 2: 2.0, 3: 3.0}) for s in ("T", "late", "none", "other")}
    at = [datetime.fromtimestamp(n * HOUR_S, UTC) for n in range(5)]
    series = {
        "T": SeriesState("there", at[3]), "late": SeriesState("given_up", at[2]), "none": SeriesState("shut", None),
    }  # fmt: skip
    known = Hour("m", at[3], _NOW, _NOW, series).known(bars)
    assert {s: len(b) for s, b in known.items()} == {"T": 2, "late": 1, "none": 0, "other": 2}


def test_reads_of_the_present_use_an_index(store: Store) -> None:
    """No read of the newest bars or hours, as of now or then, and no look for the record's beginning walks over history."""
    store.upsert_bars(_bars("T", dict.fromkeys(range(50), 1.0)), "s", _NOW)
    asked: list[tuple[str, object]] = []
    sa.event.listen(
        store.engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, parameters, _context, _many: asked.append((statement, parameters)),
    )
    start = datetime.fromtimestamp(40 * HOUR_S, UTC)
    store.read_many(["T"], start=start, known_at=_NOW, as_of=_NOW)
    store.read_bars("T", known_at=_NOW, as_of=_NOW, last=2)
    store.newest_hour("m", _NOW)
    store.upsert_bars(_bars("T", {49: 2.0}), "s", _minutes(1))
    queries = [(s, p) for s, p in asked if s.startswith("SELECT")]
    assert len(queries) >= 8
    with store.engine.connect() as connection:
        for statement, parameters in queries:
            if store.engine.dialect.name != "sqlite":
                rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).mappings()
                assert all(r["type"] != "ALL" or str(r["table"]).startswith("<") for r in rows), statement
                continue
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            told = [row[3] for row in plan]
            walks = [t for t in told if t.startswith("SCAN") and "INDEX" not in t and "anon" not in t]
            assert not walks, statement


@pytest.mark.parametrize("missing", [True, False])
def test_a_load_of_history_is_known_from_its_own_arrival(store: Store, missing: bool) -> None:
    """Bars of years ago that are loaded today were not there yesterday, where the record had begun by then."""
    if not missing:
        store.upsert_bars(_bars("T", {500: 1.0}), "s", _NOW - timedelta(days=2))
    store.upsert_bars(_bars("T", dict.fromkeys(range(3), 1.0)), "s", _NOW)
    yesterday = store.read_bars("T", as_of=_NOW - timedelta(days=1))
    assert yesterday.open_time.tolist() == ([n * HOUR_S for n in range(3)] if missing else [500 * HOUR_S])
    assert to_epoch(_NOW) > yesterday.close_time[-1]
