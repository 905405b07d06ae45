"""The store keeps every bar once, whoever writes and however often: on SQLite, and on MySQL alike."""

import logging
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hourcast.contracts import HOUR_S, Bars
from hourcast.errors import ConfigurationError, UnavailableError
from hourcast.store import Store, _base, open_store
from hourcast.store._base import newest_revision
from tests.servers import wait_for

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


on_mysql = pytest.mark.parametrize(
    "store_url", [pytest.param("mysql", marks=pytest.mark.integration)], indirect=True
)


@on_mysql
def test_an_exclusive_name_outlives_the_servers_patience(store: Store) -> None:
    """MySQL ends connections that are silent for `wait_timeout`, and frees their locks; a training may be silent for hours."""

    def impatient(connection: Any, _record: object) -> None:
        connection.cursor().execute("SET SESSION wait_timeout = 1")

    sa.event.listen(store.engine, "connect", impatient)
    store.engine.dispose()
    with store.engine.connect() as silent, store.exclusive("train"):
        number = silent.scalar(sa.text("SELECT CONNECTION_ID()"))
        alive = sa.text("SELECT COUNT(*) FROM information_schema.processlist WHERE id = :id")

        def ended() -> bool:
            with store.engine.connect() as looking:
                return looking.scalar(alive, {"id": number}) == 0

        wait_for(ended, 20, "end of a silent connection")
        with pytest.raises(UnavailableError, match="another `train` on this store"), store.exclusive("train"):
            pass
        silent.invalidate()


@on_mysql
def test_a_lock_that_is_lost_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever waits for the end of the work reads in its log that it was not alone for all of it."""
    monkeypatch.setattr("hourcast.store._base._BEAT_S", 0.02)
    numbers: list[int] = []
    store.engine.dispose()
    sa.event.listen(
        store.engine, "connect", lambda connection, _record: numbers.append(connection.thread_id())
    )
    with caplog.at_level(logging.WARNING), store.exclusive("train"):
        (held,) = numbers
        with store.engine.connect() as other:
            other.exec_driver_sql(f"KILL {held}")
        wait_for(lambda: bool(caplog.messages), 10, "word of the lost lock")
    assert caplog.messages == [
        "the connection that holds the lock of `train` is lost; from now on another may be started"
    ]


@pytest.mark.parametrize("revision", ["0001", "0002", "0003", "0004"])
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


def test_whether_the_tables_are_those_of_an_earlier_release_is_told(store_url: str) -> None:
    """None yet, older, as needed, and newer, as after a `helm rollback`: only the first two are in the way."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(_base.__file__).parent / "migrations"))
    assert newest_revision() == ScriptDirectory.from_config(config).get_current_head()
    with open_store(store_url) as store:
        for at in ("none", "0004"):
            assert store.behind() == (
                f"the store's tables are at revision {at} and this Hourcast needs {newest_revision()}; the setup job "
                "(`hourcast setup database`) brings them up"
            )
            store.upgrade("0004")
        store.upgrade()
        assert store.behind() is None
        with store.engine.connect().execution_options(writes=True) as connection, connection.begin():
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        assert store.behind() is None
