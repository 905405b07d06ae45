"""A short history and a long one in one database server, and what is read of each when everything is asked."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from bench.asked import Asked, Question, questions
from bench.history import Size, fill
from hourcast.store import open_store

# Long enough that every window that anyone looks at is full, and every limit reached.
SMALL = Size(2450, 1, roll_h=12, walk_h=24, ahead_h=1, fold_b=100, report_b=100)
LARGE = replace(SMALL, hours=8 * SMALL.hours, streams=3)


@dataclass
class Histories:
    """What was asked of each, by who asked."""

    small: dict[str, Asked]
    large: dict[str, Asked]

    def grown(self) -> list[str]:
        """A sentence for each statement that reads more rows of the long history than of the short one.

        What a LIMIT lets the answer have may be read, and once more to sort it.
        """
        out = []
        for name, large in self.large.items():
            small = _most(self.small[name].questions)
            for key, question in _most(large.questions).items():
                before = small[key].read if key in small else 0
                limited = "LIMIT" in question.sql and question.read <= 2 * question.gave + 2
                if question.read > 1.25 * before + 20 and not limited:
                    out.append(
                        f"{name}: {question.method} read {before} rows and now {question.read}: {question.sql}"
                    )
        return out


def asked_of(url: str, size: Size, folder: Path) -> dict[str, Asked]:
    """Write a history into an empty database and ask everything."""
    with open_store(url) as store:
        store.upgrade()
        fill(store, size)
        out = {}
        for name, ask in questions(store, size, folder).items():
            with Asked.listening() as asked:
                ask()
            out[name] = asked
    return out


@contextlib.contextmanager
def in_server(administrator: str, folder: Path) -> Iterator[Histories]:
    """Both histories in databases of their own, which are dropped at the end; the URL names no database."""
    engine = sa.create_engine(f"{administrator}/")
    names = ("history_small", "history_large")
    with engine.connect() as connection:
        for name in names:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        small, large = (f"{administrator}/{name}" for name in names)
        yield Histories(asked_of(small, SMALL, folder), asked_of(large, LARGE, folder))
    finally:
        with engine.connect() as connection:
            for name in names:
                connection.exec_driver_sql(f"DROP DATABASE {name}")
        engine.dispose()


def _most(questions: list[Question]) -> dict[tuple[str, str], Question]:
    """Of each statement the one that made the database read most."""
    out: dict[tuple[str, str], Question] = {}
    for question in sorted(questions, key=lambda q: q.read):
        # How many values an IN has depends on the history of versions, and their number is bounded by the caller.
        out[question.method, re.sub(r"IN \([^)]*\)", "IN (…)", question.sql)] = question
    return out
