"""The store keeps every bar once, whoever writes and however often: on SQLite, and on MySQL alike."""

from datetime import UTC, datetime, timedelta
from itertools import count

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hourcast.contracts import HOUR_S, Bars
from hourcast.errors import ConfigurationError, UnavailableError
from hourcast.store import Store, open_store

_NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
_EXAMPLES = count()


def test_a_store_without_tables_says_what_to_run(store_url: str) -> None:
    """Reading before the first upgrade names the command that makes the tables."""
    bare = open_store(store_url)
    with pytest.raises(UnavailableError) as caught:
        bare.read_bars("T")
    assert str(caught.value) == "the store has no tables yet; run `hourcast db upgrade`"
    bare.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "HOURCAST_DATABASE_URL is not a database URL; use sqlite:///path or mysql+pymysql://user:password@host/database"),
        ("postgresql://u:p@h/d", "HOURCAST_DATABASE_URL: driver 'postgresql' is not supported; use sqlite:///path or mysql+pymysql://user:password@host/database"),
    ],
)  # fmt: skip
def test_another_database_is_refused(url: str, message: str) -> None:
    """A URL that is not SQLite or MySQL is an error that shows both forms and no password."""
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert str(caught.value) == message


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.tuples(st.integers(0, 30), st.floats(1, 9)), max_size=20), max_size=5))
def test_upserts_in_any_order_leave_the_last_value_of_each_hour(
    batches: list[list[tuple[int, float]]], store: Store
) -> None:
    """Whatever is written, however often and overlapping, each hour is there once with its newest value."""
    symbol = f"T{next(_EXAMPLES)}"
    expected: dict[int, float] = {}
    for batch in batches:
        hours = dict(batch)
        opens = np.array(sorted(hours), np.int64) * HOUR_S
        close = np.array([hours[int(o) // HOUR_S] for o in opens])
        bars = Bars.of(symbol, opens, np.column_stack([close] * 4 + [np.ones(len(close))]).reshape(-1, 5))
        counted = store.upsert_bars(bars, "test", _NOW)
        before = {h: v for h, v in hours.items() if h in expected}
        assert counted.inserted == len(hours) - len(before)
        assert counted.revised == sum(expected[h] != v for h, v in before.items())
        expected |= hours
        again = store.upsert_bars(bars, "test", _NOW)
        assert (again.inserted, again.revised) == (0, 0)
    stored = store.read_bars(symbol)
    assert dict(zip((stored.open_time // HOUR_S).tolist(), stored.close.tolist(), strict=True)) == expected


def test_the_clock_is_unset_until_a_replay_sets_it(store: Store) -> None:
    """The store's clock says that nobody set it, and then gives back what was set."""
    with pytest.raises(UnavailableError) as caught:
        store.clock()
    assert str(caught.value) == "the store's clock is not set; start a replay, or set HOURCAST_CLOCK=wall"
    store.set_clock(_NOW)
    store.set_clock(_NOW + timedelta(hours=1))
    assert store.clock() == _NOW + timedelta(hours=1)


def test_naive_moments_are_refused(store: Store) -> None:
    """A moment without a zone never reaches a table."""
    with pytest.raises(sa.exc.StatementError, match="takes aware moments only"):
        store.begin_ingest("T", "s", _NOW.replace(tzinfo=None))


def test_an_exclusive_name_is_held_once(store: Store) -> None:
    """A second holder of a name is told that the first one runs, and may have it afterwards."""
    with store.exclusive("train"):
        with pytest.raises(UnavailableError) as caught, store.exclusive("train"):
            pass
        assert str(caught.value) == "another `train` on this store is running; try again when it has ended"
    with store.exclusive("train"):
        pass


@pytest.mark.parametrize("revision", ["0001", "0002", "0003"])
def test_every_earlier_schema_upgrades_and_keeps_its_bars(store_url: str, revision: str) -> None:
    """A store left at any revision comes to the newest one with its rows."""
    old = open_store(store_url)
    old.upgrade(revision)
    with old.engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(
            sa.text(
                "INSERT INTO bars VALUES ('T', '2024-01-01 00:00:00', '2024-01-01 01:00:00', 1, 1, 1, 1, 1, 's', '2024-01-01 01:00:00')"
            )
        )
    old.upgrade()
    assert len(old.read_bars("T")) == 1
    assert old.events("m") == []
    old.close()


def test_migrations_make_the_tables_that_the_code_knows(store: Store) -> None:
    """The schema after all migrations and the declared tables do not differ."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from hourcast.store._schema import metadata

    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
