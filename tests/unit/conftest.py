"""What holds for every unit test."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

_OPEN: set[int] = set()


@sa.event.listens_for(sa.Pool, "connect")
def _opened(connection: object, _record: object) -> None:
    _OPEN.add(id(connection))


@sa.event.listens_for(sa.Pool, "close")
def _closed(connection: object, _record: object) -> None:
    _OPEN.discard(id(connection))


@pytest.fixture(autouse=True)
def _no_connection_is_left_open() -> Iterator[None]:
    """What opens a connection to a database closes it; Python says so aloud for SQLite from 3.13 on, and we on any."""
    before = set(_OPEN)
    yield
    assert before >= _OPEN, f"{len(_OPEN - before)} connections to databases were left open"
