"""Decisions are stored before they count, in the order of their commit, and how things stand needs no replay of them."""

import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hourcast.decisions import (
    KINDS,
    Barred,
    Blocked,
    Decision,
    DecisionKind,
    Standing,
    Undo,
)
from hourcast.errors import UnavailableError
from hourcast.store import Event, Store, open_store
from hourcast.store._engine import create_engine, unavailable
from tests.kept import kept_store
from tests.servers import account_of, read_only, wait_for

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _decision(
    kind: DecisionKind, version: int | None = None, reason: str = "why", **evidence: Any
) -> Decision:
    return Decision(_NOW, "operator", kind, "m", version, None, reason, _NOW, evidence)


_decisions = st.builds(
    lambda kind, version, to: _decision(kind, version, to=to, fault="place", of="rollout", run_id=f"r{version}"),
    kind=st.sampled_from(KINDS),
    version=st.integers(1, 5),
    to=st.integers(1, 5),
)  # fmt: skip


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_decisions, max_size=12))
def test_the_standing_is_what_all_decisions_come_to(store: Store, made: list[Decision]) -> None:
    """Whatever is decided, one row says what a replay of every decision would, and each has its event."""
    model = f"m{os.urandom(8).hex()}"
    stored = [store.decide(replace(decision, model=model)) for decision in made]
    found = Standing()
    for decision in store.decisions(model):
        found = found.after(decision)
    assert store.standing(model) == found
    assert store.decisions(model) == stored
    assert [d.id for d in stored] == sorted({d.id for d in stored})
    assert [e.kind for e in reversed(store.events(model))] == [d.kind for d in made]


def test_pin_hold_and_quarantine_stand_until_they_are_taken_back() -> None:
    """Each in its place, with the decision that pin and hold were last decided by."""
    standing = Standing()
    for number, decision in enumerate(
        [
            _decision("pinned", 3),
            _decision("held", 3),
            _decision("quarantined", 4, "NaN", run_id="r4"),
            _decision("blocked", 5, "no image", fault="place", of="rollout"),
            _decision("rolled", 2),
        ],
        1,
    ):
        standing = standing.after(replace(decision, id=number))
    assert (standing.pin, standing.hold, standing.minded, standing.id) == (3, True, 2, 5)
    assert standing.quarantine == {4: Barred("r4", "NaN")}
    assert standing.blocked == Blocked(5, "place", "no image")
    assert standing.last is not None
    assert (standing.last.version, standing.proven) == (2, {2})
    for decision in (_decision("unpinned", 3), _decision("released"), _decision("unblocked", 5)):
        standing = standing.after(decision)
    assert (standing.pin, standing.hold, standing.blocked) == (None, False, None)
    standing = standing.after(_decision("unquarantined", 4))
    assert (standing.quarantine, standing.released) == ({}, {4: _NOW})


def test_an_undo_stands_until_another_version_is_served_or_it_is_let_back() -> None:
    """That what it went back to is served does not end it."""
    undone = Standing().after(_decision("undone", 3, to=1, to_alias="20240601"))
    undo = Undo(3, None, 1, "20240601")
    assert undone.undo == undo
    assert undone.quarantine == {3: Barred("", "why")}
    for version, left in ((3, undo), (1, undo), (4, None)):
        assert undone.after(_decision("rolled", version)).undo == left
    assert undone.after(_decision("unquarantined", 3)).undo is None
    assert undone.after(_decision("unquarantined", 2)).undo == undo


def test_a_decision_that_rests_on_an_older_standing_is_not_stored(store: Store) -> None:
    """A controller that has not seen a person's word does not decide over it."""
    first = store.decide(_decision("pinned", 1))
    assert store.decide(_decision("rolled", 1), seen=first.id).id > first.id
    with pytest.raises(UnavailableError) as caught:
        store.decide(_decision("rolled", 2), seen=first.id)
    assert str(caught.value) == "another decision about m was stored meanwhile; this one is thought over"
    assert [d.version for d in store.decisions("m", after=first.id)] == [1]


def test_decisions_are_found_by_kind_and_after_an_id(store: Store) -> None:
    """The oldest first; a limit leaves the newest."""
    ids = [store.decide(_decision("rolled" if n % 2 else "pinned", n)).id for n in range(1, 7)]
    assert [d.version for d in store.decisions("m", kind="rolled")] == [1, 3, 5]
    assert [d.version for d in store.decisions("m", kind="rolled", limit=2)] == [3, 5]
    assert [d.version for d in store.decisions("m", after=ids[3])] == [5, 6]
    assert store.decisions("another") == []
    assert store.standing("another") == Standing()


def test_ids_are_in_the_order_of_commit(store: Store) -> None:
    """One decision is under way and not committed: a second waits for it, so that a reader never sees the later id first."""
    began, stored = threading.Event(), threading.Event()

    def second() -> None:
        began.set()
        store.decide(_decision("rolled", 2))
        stored.set()

    other = threading.Thread(target=second)
    with store.engine.connect().execution_options(writes=True) as connection, connection.begin():
        values = {"model": "m", "decision_id": 0, "state": {}}
        connection.execute(sa.insert(sa.table("standing", *map(sa.column, values))).values(
            values | {"state": "{}"}
        ))  # fmt: skip
        other.start()
        began.wait(10)
        # Of this database alone: others may be used on the same server.
        waiting = (
            "SELECT COUNT(*) FROM information_schema.innodb_trx JOIN information_schema.processlist "
            "ON id = trx_mysql_thread_id WHERE trx_state = 'LOCK WAIT' AND db = DATABASE()"
        )
        if store.engine.dialect.name != "sqlite":
            with store.engine.connect() as looking:
                # The server reads this table anew only when nobody has asked for 0.1 s: who looks more often sees the same for ever.
                wait_for(
                    lambda: looking.scalar(sa.text(waiting)) == 1,
                    30,
                    "second decision at the lock",
                    every_s=0.25,
                )
        assert not stored.is_set()
        connection.execute(
            sa.text(
                "INSERT INTO decisions (at, actor, kind, model, version, reason, evidence, wall_at) "
                "VALUES ('2026-01-01', 'operator', 'undone', 'm', 1, 'first', '{}', '2026-01-01')"
            )
        )
        assert store.decisions("m") == []
    other.join(30)
    assert stored.is_set()
    assert [(d.kind, d.version) for d in store.decisions("m")] == [("undone", 1), ("rolled", 2)]


def test_a_store_that_is_read_only_says_so_and_keeps_nothing(tmp_path: Path) -> None:
    """The command that decided is told, and nothing stands otherwise than before."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with open_store(url) as store:
        store.upgrade()
        store.decide(_decision("pinned", 1))
    with open_store(url) as store:
        sa.event.listen(store.engine, "connect", lambda c, _record: c.execute("PRAGMA query_only = ON"))
        with pytest.raises(UnavailableError) as caught:
            store.decide(_decision("unpinned", 1))
        assert str(caught.value) == f"the store at {url} is read-only, so nothing can be stored in it"
        assert store.standing("m").pin == 1


@pytest.mark.integration
def test_a_server_that_is_read_only_says_so_and_keeps_nothing(mysql_url: str) -> None:
    """An account with the controller's rights may not override `read_only`; afterwards the same store takes the decision."""
    with open_store(mysql_url) as store:
        store.upgrade()
        store.decide(_decision("pinned", 1))
    with account_of("controller", mysql_url) as url, open_store(url) as store:
        with read_only(mysql_url), pytest.raises(UnavailableError) as caught:
            store.decide(_decision("unpinned", 1))
        where = sa.make_url(mysql_url)
        assert str(caught.value) == (
            f"the database server at {where.host}:{where.port} is read-only now (1290), so nothing can be stored in {where.database!r}"
        )
        assert [d.kind for d in store.decisions("m")] == ["pinned"]
        assert [e.kind for e in store.events("m")] == ["pinned"]
        store.decide(_decision("unpinned", 1))
        assert store.standing("m").pin is None


@pytest.mark.parametrize("code", [1036, 1290, 1792, 1836])
def test_every_way_of_a_server_to_be_read_only_is_told_as_that(code: int) -> None:
    """InnoDB's (MariaDB, MySQL), the server's (also against its administrators), the transaction's."""
    engine = create_engine("mysql+pymysql://u:p@db/h")
    error = sa.exc.OperationalError("INSERT", {}, Exception(code, "Table 'standing' is read only"))
    assert str(unavailable(engine, error)) == (
        f"the database server at db:3306 is read-only now ({code}), so nothing can be stored in 'h'"
    )


def test_an_event_has_one_of_the_known_kinds(store: Store) -> None:
    """Whoever reads them can tell each."""
    with pytest.raises(ValueError, match=r"^'sang' is no kind of event; there are pinned, unpinned, "):
        store.add_event(Event(_NOW, "operator", "sang", "m", None, None, "why", _NOW))


def test_events_are_forgotten_and_decisions_are_not(store: Store) -> None:
    """The story has an end; what was decided stands."""
    for days in (0, 10):
        moment = _NOW + timedelta(days=days)
        store.decide(replace(_decision("pinned", days + 1), wall_at=moment))
    assert store.forget("events", _NOW + timedelta(days=5)) == 1
    assert [e.version for e in store.events("m")] == [11]
    assert [d.version for d in store.decisions("m")] == [1, 11]


def test_decisions_of_release_0_1_0_are_taken_over(store_url: str) -> None:
    """The kept store: pinned to 2, held, 5 undone, 2 served last; every event is there and has its decision."""
    with kept_store(store_url) as store:
        store.upgrade()
        standing = store.standing("hourcast")
        events, decisions = store.events("hourcast"), store.decisions("hourcast")
    assert len(events) == len(decisions) == standing.id == 24
    assert [(d.kind, d.version, d.at) for d in decisions] == [(e.kind, e.version, e.at) for e in events[::-1]]
    assert (standing.pin, standing.hold, standing.minded, standing.champion) == (2, True, 23, 1)
    assert standing.quarantine == {5: Barred("50ecd7106289449aba9418dbb0291bb7", "undone by an operator")}
    assert [s.version for s in standing.served] == [2, 3, 5, 1]
    assert standing.last is not None
    assert standing.last.alias == "20261020"
    replayed = Standing()
    for decision in decisions:
        replayed = replayed.after(decision)
    assert standing == replayed


def test_a_quarantine_behind_a_flood_of_events_is_found_again(store_url: str) -> None:
    """A patch that failed for 83 minutes wrote 5,000 events: the release before read no further."""
    store = open_store(store_url)
    store.upgrade("0004")

    def row(kind: str, version: int) -> Mapping[str, object]:
        return {
            "at": _NOW.replace(tzinfo=None), "actor": "controller", "kind": kind, "model": "m", "version": version,
            "reason": "NaN" if kind == "quarantined" else "newer", "evidence": "{}", "wall_at": _NOW.replace(tzinfo=None),
        }  # fmt: skip

    with store.engine.connect().execution_options(writes=True) as connection, connection.begin():
        rows = [row("quarantined", 3), *(row("roll_started", 4) for _ in range(5100))]
        connection.execute(sa.text(
            "INSERT INTO events (at, actor, kind, model, version, reason, evidence, wall_at) "
            "VALUES (:at, :actor, :kind, :model, :version, :reason, :evidence, :wall_at)"
        ), rows)  # fmt: skip
    store.upgrade()
    assert store.standing("m").quarantine == {3: Barred("", "NaN")}
    assert [d.kind for d in store.decisions("m")] == ["quarantined", "roll_started"]
    assert len(store.events("m")) == 5101
    store.close()
