"""With eight times the history and three times the streams MariaDB reads no more for what is asked all day; nor does SQLite with four times."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hourcast.store import Store
from tests.histories import SMALL, Histories, asked_of, in_server

pytestmark = pytest.mark.integration

_SERVICES = Path(__file__).parents[3] / "services"
_LARGE_IN_SQLITE = replace(SMALL, hours=4 * SMALL.hours, streams=2)
# Writes without a look, what only people ask, and the revision, which is one row.
_NOT_ASKED = {"upgrade", "behind", "close", "quarantine", "quarantined", "bar_counts"}


@pytest.fixture(scope="module")
def in_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Histories:
    """What was asked of two stores in SQLite."""
    folder = tmp_path_factory.mktemp("histories")
    small, large = (f"sqlite:///{folder / name}" for name in ("small.db", "large.db"))
    return Histories(asked_of(small, SMALL, folder), asked_of(large, _LARGE_IN_SQLITE, folder))


@pytest.fixture(scope="module")
def in_mysql(mysql_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Histories]:
    """What was asked of two stores in MariaDB or MySQL."""
    with in_server(mysql_server, tmp_path_factory.mktemp("histories")) as histories:
        yield histories


def test_no_statement_reads_more_rows_the_longer_the_history_is(in_mysql: Histories) -> None:
    """Handlers of the server count rows (`Histories.grown`)."""
    assert not in_mysql.grown()


def test_nobody_makes_sqlite_work_more_the_longer_the_history_is(in_sqlite: Histories) -> None:
    """SQLite counts no rows but the steps of its machine: hardly more of them for any question."""
    grown = [
        f"{name}: {in_sqlite.small[name].steps} hundred steps and now {large.steps}"
        for name, large in in_sqlite.large.items()
        if large.steps > 1.25 * in_sqlite.small[name].steps + 60
    ]
    assert not grown, "\n".join(grown)


@pytest.mark.parametrize("service", ["bento", "controller", "etl"])
def test_every_method_that_a_service_calls_is_asked_here(in_sqlite: Histories, service: str) -> None:
    """A call of the store that is added to a service is added to `bench.asked`, where its cost is seen."""
    called = {
        name
        for path in (_SERVICES / service / "src").rglob("*.py")
        for name in re.findall(r"\bstore\.([a-z]\w*)", path.read_text().replace("_store.", "store."))
        if callable(getattr(Store, name, None))
    }
    asked = {question.method for each in in_sqlite.large.values() for question in each.questions}
    assert sorted(called - asked - _NOT_ASKED) == []
