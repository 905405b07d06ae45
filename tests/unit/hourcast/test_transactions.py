"""A transaction that the database asks for again is run again; every other fault is told at once."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from hourcast.errors import UnavailableError
from hourcast.store._engine import create_engine, run_transaction

_LOCKED = OperationalError("", None, sqlite3.OperationalError("database is locked"))
_DEADLOCK = OperationalError("", None, pymysql.err.OperationalError(1213, "Deadlock found"))
_LOCK_WAIT = OperationalError("", None, pymysql.err.OperationalError(1205, "Lock wait timeout exceeded"))
_GONE = OperationalError("", None, pymysql.err.OperationalError(2006, "MySQL server has gone away"))
_WRONG = ProgrammingError(
    "", None, pymysql.err.ProgrammingError(1064, "You have an error in your SQL syntax")
)
_TWICE = IntegrityError("", None, sqlite3.IntegrityError("UNIQUE constraint failed"))


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A database of one table; pauses take no time."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    engine = create_engine(f"sqlite:///{tmp_path / 'db.sqlite'}")
    with engine.begin() as connection:
        connection.execute(sa.text("create table t (n integer)"))
    yield engine
    engine.dispose()


class _Failing:
    """Writes a row, and then fails so many times."""

    def __init__(self, error: DBAPIError, times: int) -> None:
        self._error, self._times, self.calls = error, times, 0

    def __call__(self, connection: Connection) -> int:
        self.calls += 1
        connection.execute(sa.text("insert into t values (1)"))
        if self.calls <= self._times:
            raise self._error
        return int(connection.execute(sa.text("select count(*) from t")).scalar_one())


@pytest.mark.parametrize("error", [_LOCKED, _DEADLOCK, _LOCK_WAIT])
def test_a_transaction_is_run_again_from_its_beginning(engine: Engine, error: DBAPIError) -> None:
    """Five times it is rolled back; the sixth leaves one row."""
    work = _Failing(error, 5)
    assert run_transaction(engine, work, writes=True) == 1
    assert work.calls == 6


def test_after_six_attempts_the_store_does_not_answer(engine: Engine) -> None:
    """The sentence has what the database said last."""
    work = _Failing(_LOCKED, 6)
    with pytest.raises(
        UnavailableError, match=re.escape("does not answer (OperationalError: database is locked)")
    ):
        run_transaction(engine, work, writes=True)
    assert work.calls == 6


@pytest.mark.parametrize(
    ("error", "told"), [(_GONE, UnavailableError), (_WRONG, ProgrammingError), (_TWICE, IntegrityError)]
)
def test_another_fault_is_told_at_once(engine: Engine, error: DBAPIError, told: type[Exception]) -> None:
    """A server that is gone is away; a fault of ours comes through as it is."""
    work = _Failing(error, 6)
    with pytest.raises(told):
        run_transaction(engine, work, writes=True)
    assert work.calls == 1
