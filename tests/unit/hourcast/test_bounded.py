"""What is asked of the store all day gives what a long look at everything would give."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from hourcast.contracts import Bars, from_epoch
from hourcast.decisions import Decision
from hourcast.store import BacktestRows, Evaluation, Freshness, Quarantined, Store, open_store
from tests.specs import START, random_walk

_START = from_epoch(START)
_HOUR = timedelta(hours=1)
_BARS = random_walk("A", 40)


@pytest.fixture(scope="module")
def one_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that many examples share; each has a symbol of its own."""
    with open_store(f"sqlite:///{tmp_path_factory.mktemp('one') / 'store.db'}") as opened:
        opened.upgrade()
        yield opened


_symbols = (f"S{n}" for n in count())


def _evaluation(version: int, stage: str = "gate", baseline: str = "naive", kind: str = "lstm") -> Evaluation:
    return Evaluation(
        "m", version, None, kind, stage, baseline, _START, _START, True, {"n": version}, "", _START  # type: ignore[arg-type]
    )  # fmt: skip


def test_freshness_names_first_and_newest_bar_of_the_symbols_that_are_asked_for(store: Store) -> None:
    """Of symbols without a bar there is nothing, and of no symbols in particular all are told."""
    store.upsert_bars(_BARS, "files", _START)
    store.upsert_bars(random_walk("B", 3), "sample", _START)
    a = Freshness("A", _START, _START + 40 * _HOUR, "files")
    b = Freshness("B", _START, _START + 3 * _HOUR, "sample")
    assert store.freshness() == [a, b]
    assert store.freshness(["B", "C"]) == [b]
    assert store.freshness(["A"], known_at=_START + 90 * timedelta(minutes=1)) == [
        Freshness("A", _START, _START + _HOUR, "files")
    ]
    assert store.freshness(known_at=_START) == []
    assert store.bar_counts(["A", "C"], known_at=_START + 5 * _HOUR) == {"A": 5, "C": 0}


@settings(max_examples=60, deadline=None)
@given(
    gone=st.sets(st.integers(0, 39), max_size=20),
    start=st.none() | st.integers(-2, 41),
    end=st.none() | st.integers(-2, 41),
    known=st.none() | st.integers(-120, 2500),
    n=st.integers(1, 45),
)
def test_the_ends_of_a_range_are_those_of_all_of_it(
    one_store: Store, gone: set[int], start: int | None, end: int | None, known: int | None, n: int
) -> None:
    """The oldest and the newest n bars of any range are the ends of what is read without a number, gaps or not."""
    there = [i for i in range(40) if i not in gone]
    symbol = next(_symbols)
    one_store.upsert_bars(replace(_BARS.take(np.array(there)), symbol=symbol), "files", _START)
    query = {
        "start": None if start is None else _START + start * _HOUR,
        "end": None if end is None else _START + end * _HOUR,
        "known_at": None if known is None else _START + timedelta(minutes=known),
    }
    whole = one_store.read_bars(symbol, **query)
    assert whole.open_time.tolist() == [
        START + 3600 * i for i in there
        if (start is None or i >= start) and (end is None or i < end) and (known is None or 60 * (i + 1) <= known)
    ]  # fmt: skip
    for place, part in (("first", slice(0, n)), ("last", slice(-n, None))):
        assert (
            one_store.read_bars(symbol, **query, **{place: n}).open_time.tolist()
            == whole.open_time[part].tolist()
        )  # type: ignore[arg-type]


def test_bars_that_take_no_whole_hour_are_known_from_their_close(store: Store) -> None:
    """A market's last bar of a day may close half an hour after it opens, and is read from then on."""
    short = Bars.of("Q", [START, START + 3600], [[1.0] * 5] * 2, [START + 3600, START + 3600 + 1800])
    store.upsert_bars(short, "files", _START)
    half = timedelta(minutes=30)
    assert len(store.read_bars("Q", known_at=_START + _HOUR + half - timedelta(seconds=1))) == 1
    assert len(store.read_bars("Q", known_at=_START + _HOUR + half)) == 2


def test_the_first_bars_as_known_are_those_of_what_was_known(store: Store) -> None:
    """`first` goes with `as_of`, too."""
    store.upsert_bars(_BARS, "files", _START)
    found = store.read_bars("A", start=_START + 3 * _HOUR, as_of=_START + _HOUR, first=2)
    assert found.open_time.tolist() == [START + 3 * 3600, START + 4 * 3600]


@pytest.mark.parametrize(
    ("start", "end", "versions"),
    [
        (0, 1, []),
        (2, 5, [1]),
        (5, 6, [2]),
        (4, 21, [1, 2, 3]),
        (20, 30, [3]),
        (25, 30, [3]),
        (0, 99, [1, 2, 3]),
    ],
)
def test_what_was_decided_in_a_span_begins_with_what_held_before(
    store: Store, start: int, end: int, versions: list[int]
) -> None:
    """The last decision of a kind at the beginning and those up to the end; not of other kinds, models or moments."""
    for version, hour in ((1, 1), (2, 5), (3, 20)):
        at = _START + hour * _HOUR
        for kind, model in (("rolled", "m"), ("rolled", "other"), ("roll_started", "m")):
            store.decide(Decision(at, "controller", kind, model, version, None, "", datetime.now(UTC)))  # type: ignore[arg-type]
    found = store.decided("m", "rolled", start=_START + start * _HOUR, end=_START + end * _HOUR)
    assert [(d.model, d.kind, d.version) for d in found] == [("m", "rolled", v) for v in versions]


def test_the_newest_evaluations_of_a_stage_and_baseline(store: Store) -> None:
    """They come in the order in which they were made, whatever others were made meanwhile."""
    for version in range(1, 6):
        store.save_evaluation(_evaluation(version))
        store.save_evaluation(_evaluation(version, baseline="v1"))
        store.save_evaluation(_evaluation(version, "champion", kind="boosting" if version == 2 else "lstm"))
    newest = store.evaluations("m", "gate", baseline="naive", limit=2)
    assert [(e.version, e.stage, e.baseline) for e in newest] == [(4, "gate", "naive"), (5, "gate", "naive")]
    assert [e.version for e in store.evaluations("m", "champion")] == [1, 2, 3, 4, 5]
    assert len(store.evaluations("m")) == 15
    assert store.kinds("m", {4, 5, 9}) == {4: "lstm", 5: "lstm"}
    assert store.kinds("m", set()) == store.kinds("other", {4}) == {}


def test_back_tests_are_read_by_their_aliases(store: Store) -> None:
    """Of those that are asked for, by alias; without a word all of them."""
    hours = np.array([START, START + 3600])
    one, level = np.ones(2), np.ones((2, 3))
    for alias in ("c", "a", "b"):
        store.save_backtest(BacktestRows("m", alias, 1, hours, hours + 3600, one, one, level, level))
    assert [rows.alias for rows in store.backtest_rows("m")] == ["a", "b", "c"]
    assert [rows.alias for rows in store.backtest_rows("m", {"c", "a", "z"})] == ["a", "c"]
    assert store.backtest_rows("m", []) == []


def test_only_what_came_well_leaves_quarantine(store: Store) -> None:
    """Rows of other hours stay, whether they lie before, between or after the good ones."""
    rows = [Quarantined("A", _START + h * _HOUR, "bad", {}, "files", _START) for h in (0, 2, 3, 4, 9)]
    store.quarantine([*rows, Quarantined("B", _START + 2 * _HOUR, "bad", {}, "files", _START)])
    assert store.leave_quarantine("A", [_START + h * _HOUR for h in (1, 2, 4, 5)]) == 2
    assert [(q.open_time - _START) // _HOUR for q in store.quarantined("A")] == [0, 3, 9]
    assert len(store.quarantined("B")) == 1


def test_an_upgrade_that_was_killed_between_two_indexes_is_begun_again(store_url: str) -> None:
    """MySQL commits each of them: one that is there is left alone, and the others are made."""
    with open_store(store_url) as store:
        store.upgrade("0007")
        with store.engine.begin() as connection:
            connection.exec_driver_sql("CREATE INDEX ix_events_model ON events (model, id)")
        store.upgrade()
        names = {index["name"] for index in sa.inspect(store.engine).get_indexes("events")}
        assert names == {"ix_events_at", "ix_events_kind", "ix_events_model", "ix_events_wall_at"}
