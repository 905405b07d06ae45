"""What is kept how long: no table is left out, the newest stays, and what has gone is told."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hourcast.contracts import Bars
from hourcast.store import RETENTION, RIGHTS, Fan, Store, WalkFold
from hourcast.store._schema import metadata

_NOW = datetime(2026, 6, 1, tzinfo=UTC)
_FAN = Fan(
    model="m", role="served", symbol="B", origin=_NOW, version=1, alias=None, issued_at=_NOW, wall_at=_NOW,
    last_close=1.0, levels=(0.5,), horizons=(1,), quantiles=((1.0,),), source="issued",
)  # fmt: skip


def _fans(store: Store, days: list[int], model: str = "m") -> None:
    store.issue([replace(_FAN, model=model, origin=_NOW - timedelta(days=d)) for d in sorted(days)])


def test_every_table_has_its_rule_and_its_right() -> None:
    """A table that is added must say how long its rows are kept; the one who deletes may do it there alone."""
    assert set(RETENTION) == set(metadata.tables)
    for table, rule in RETENTION.items():
        of = metadata.tables[table]
        assert (rule.keeping is None) == (rule.column == "")
        assert {rule.column, *rule.prefix} - {""} <= set(of.c.keys())
        deleted = rule.keeping is not None or table == "backtest_rows"
        assert ("DELETE" in RIGHTS["tidy"].get(table, ())) == deleted


def test_the_docs_tell_every_rule() -> None:
    """Operations has a row for each table that says how long and why."""
    text = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, re.MULTILINE))
    for table, rule in RETENTION.items():
        how_long = f"`HOURCAST_{rule.keeping.upper()}_KEEP_DAYS`" if rule.keeping else ""
        assert how_long in rows[table], table


def test_old_rows_go_in_batches_and_the_newest_of_each_stays(store: Store) -> None:
    """Of 2,500 hours those before the moment; of another model whose forecasts ended long ago, the last."""
    _fans(store, list(range(2500)))
    _fans(store, [4000, 5000], "ended")
    before = _NOW - timedelta(days=100)
    assert store.forgotten("fans") is None
    assert store.forget("fans", before, dry_run=True) == 2400
    assert len(store.fans("m", "B")) == 2500
    assert store.forget("fans", before) == 2400
    assert next(f.origin for f in store.fans("m", "B")) == before
    assert [f.origin for f in store.fans("ended", "B")] == [_NOW - timedelta(days=4000)]
    assert store.forgotten("fans") == before
    assert store.forget("fans", before) == 0


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    days=st.lists(st.integers(0, 40), min_size=1, max_size=15, unique=True),
    moments=st.lists(st.integers(-5, 45), min_size=1, max_size=4),
)
def test_what_stays_depends_on_the_latest_moment_alone(
    tmp_path: Path, days: list[int], moments: list[int]
) -> None:
    """Any order of moments leaves the same rows: those from the latest moment on, and the newest."""
    from hourcast.store import open_store

    with open_store(f"sqlite:///{tmp_path / 'one.db'}") as store:
        store.upgrade()
        with store.engine.begin() as connection:
            connection.execute(sa.delete(metadata.tables["fans"]))
        _fans(store, days)
        for moment in moments:
            store.forget("fans", _NOW - timedelta(days=moment))
        left = {(_NOW - f.origin).days for f in store.fans("m", "B")}
        assert left == {d for d in days if d <= min(moments)} | {min(days)}


def test_a_walk_goes_whole_and_the_newest_of_a_kind_stays(store: Store) -> None:
    """Folds made over three days in an old walk go together; a walk that is still added to stays whole."""

    def fold(walk: str, kind: str, start: int, age: int) -> WalkFold:
        moment = _NOW - timedelta(days=start)
        return WalkFold(
            model="m", walk=walk, kind=kind, start=moment, end=moment + timedelta(days=7), recipe="r", sha256="s",
            lineage={}, parquet=b"p", made_at=_NOW - timedelta(days=age),
        )  # fmt: skip

    store.save_walk_folds([fold("old", "lstm", s, 500 - s) for s in range(3)])
    store.save_walk_folds([fold("grown", "lstm", s, 500 - 200 * s) for s in range(3)])
    store.save_walk_folds([fold("only", "naive", 0, 900)])
    before = _NOW - timedelta(days=365)
    assert store.forget("walk_folds", before) == 3
    left = {walk: len(store.walk_folds("m", walk, kind)) for walk, kind in (("old", "lstm"), ("grown", "lstm"), ("only", "naive"))}  # fmt: skip
    assert left == {"old": 0, "grown": 3, "only": 1}


def test_revisions_that_are_kept_still_say_what_was_known(store: Store) -> None:
    """Yesterday's bar as it was stays readable after what is older has gone."""

    def bars(close: float) -> Bars:
        opens = np.array([int((_NOW - timedelta(days=d)).timestamp()) for d in (900, 1)], np.int64)
        values = np.full(2, close)
        return Bars("B", opens, opens + 3600, values, values, values, values, values)

    for day, close in ((800, 1.0), (700, 2.0), (1, 3.0), (0, 4.0)):
        store.upsert_bars(bars(close), "s", _NOW - timedelta(days=day))
    assert store.forget("bar_revisions", _NOW - timedelta(days=365)) == 2
    then = store.read_bars("B", as_of=_NOW - timedelta(hours=12))
    assert then.close.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("table", sorted(t for t, rule in RETENTION.items() if rule.keeping is None))
def test_what_is_kept_for_ever_is_not_forgotten(store: Store, table: str) -> None:
    """Not by mistake either."""
    with pytest.raises(ValueError, match=f"^rows of {table} are not forgotten by their age: "):
        store.forget(table, _NOW)
