"""Engines and the retry of transactions that a database asks to be tried again."""

import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from hourcast.errors import ConfigurationError, UnavailableError

__all__ = ["create_engine", "run_transaction"]

T = TypeVar("T")
_RETRIES = 6
# 1213 deadlock, 1205 lock wait timeout: InnoDB has rolled the transaction back and asks for another try.
_MYSQL_RETRY = {1205, 1213}
_MYSQL_NO_TABLE = 1146


def create_engine(url: str) -> Engine:
    """An engine for `sqlite:///…` or `mysql+pymysql://…`. Nothing is contacted yet, SQLite folders are made.

    Raises:
        ConfigurationError: when the URL is neither.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise ConfigurationError(
            "HOURCAST_DATABASE_URL is not a database URL; "
            "use sqlite:///path or mysql+pymysql://user:password@host/database"
        ) from None
    if parsed.drivername == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(parsed, connect_args={"timeout": 30})
        sa.event.listen(engine, "connect", _sqlite_connect)
        sa.event.listen(engine, "begin", _sqlite_begin)
        return engine
    if parsed.drivername == "mysql+pymysql":
        return sa.create_engine(
            parsed,
            pool_pre_ping=True,
            pool_recycle=1800,
            isolation_level="READ COMMITTED",
            connect_args={"charset": "utf8mb4", "connect_timeout": 5, "read_timeout": 60},
        )
    raise ConfigurationError(
        f"HOURCAST_DATABASE_URL: driver {parsed.drivername!r} is not supported; "
        "use sqlite:///path or mysql+pymysql://user:password@host/database"
    )


def _sqlite_connect(connection: sqlite3.Connection, _record: object) -> None:
    # sqlite3's own BEGIN comes too late to take the write lock; `_sqlite_begin` does it.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 30000")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    # A deferred transaction that reads and then writes fails at once when another wrote between.
    mode = "IMMEDIATE" if connection.get_execution_options().get("writes") else "DEFERRED"
    connection.exec_driver_sql(f"BEGIN {mode}")


def _code(error: DBAPIError) -> int | None:
    args: tuple[Any, ...] = getattr(error.orig, "args", ())
    return args[0] if args and isinstance(args[0], int) else None


def run_transaction(engine: Engine, work: Callable[[Connection], T], *, writes: bool) -> T:
    """Run `work` in one transaction, again when the database asks for it.

    Raises:
        UnavailableError: when the database does not answer, or has no tables yet.
    """
    for attempt in range(_RETRIES):
        try:
            with engine.connect().execution_options(writes=writes) as connection, connection.begin():
                return work(connection)
        except (OperationalError, InterfaceError, ProgrammingError) as error:
            missing = _code(error) == _MYSQL_NO_TABLE or "no such table" in str(error.orig)
            if missing:
                raise UnavailableError(
                    "the store has no tables yet; run `hourcast db upgrade`", retry_after_s=5
                ) from error
            again = _code(error) in _MYSQL_RETRY or "database is locked" in str(error.orig)
            if not again and isinstance(error, ProgrammingError):
                raise
            if not again or attempt == _RETRIES - 1:
                raise UnavailableError(
                    f"the store at {engine.url.render_as_string(hide_password=True)} does not answer "
                    f"({type(error.orig).__name__}: {error.orig}); check HOURCAST_DATABASE_URL and that it runs",
                    retry_after_s=5,
                ) from error
            time.sleep(random.uniform(0, 0.05 * 2**attempt))
        except PoolTimeoutError as error:
            raise UnavailableError("every connection to the store is in use", retry_after_s=5) from error
    raise AssertionError("unreachable")
