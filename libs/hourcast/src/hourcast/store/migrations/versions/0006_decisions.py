"""Decisions in the order of their commit, and how things stand after the last one; both from the events so far."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
_KINDS = (
    "pinned", "unpinned", "held", "released", "undone", "quarantined", "unquarantined", "roll_started", "rolled",
    "champion_moved",
)  # fmt: skip
_REMEMBERED = 50
_CHUNK = 500


def _columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer),
        sa.Column("alias", sa.String(64)),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("wall_at", _MOMENT, nullable=False),
    ]


def upgrade() -> None:
    """Make the tables, and fill them from the events of earlier releases."""
    connection = op.get_bind()
    # MySQL commits each DDL: an upgrade that was killed between two of them is begun again.
    there = set(sa.inspect(connection).get_table_names())
    if "decisions" not in there:
        op.create_table("decisions", *_columns())
        op.create_index("ix_decisions_model", "decisions", ["model", "id"])
        op.create_index("ix_decisions_kind", "decisions", ["model", "kind", "id"])
    if "standing" not in there:
        op.create_table(
            "standing",
            sa.Column("model", sa.String(64), primary_key=True),
            sa.Column("decision_id", sa.BigInteger, nullable=False),
            sa.Column("state", sa.JSON, nullable=False),
        )
    metadata = sa.MetaData()
    events = sa.Table("events", metadata, *_columns())
    decisions = sa.Table("decisions", metadata, *_columns())
    standing = sa.Table(
        "standing", metadata, sa.Column("model", sa.String(64)), sa.Column("decision_id", sa.BigInteger),
        sa.Column("state", sa.JSON),
    )  # fmt: skip
    connection.execute(sa.delete(decisions))
    connection.execute(sa.delete(standing))
    states: dict[str, dict[str, Any]] = {}
    asked: dict[str, Any] = {}
    for event in _events(connection, events):
        # A patch that kept failing wrote this once a second.
        again = (
            (event["version"], event["alias"], event["reason"]) if event["kind"] == "roll_started" else None
        )
        if again is not None and asked.get(event["model"]) == again:
            continue
        asked[event["model"]] = again
        values = {name: value for name, value in event.items() if name != "id"}
        key = connection.execute(sa.insert(decisions).values(**values)).inserted_primary_key
        assert key is not None
        state = states.setdefault(event["model"], _empty())
        _fold(state, int(key[0]), event)
    for model, state in states.items():
        connection.execute(sa.insert(standing).values(model=model, decision_id=state["id"], state=state))


def _events(connection: sa.Connection, events: sa.Table) -> Iterator[dict[str, Any]]:
    seen = 0
    while True:
        statement = (
            sa.select(events)
            .where(events.c.id > seen, events.c.kind.in_(_KINDS))
            .order_by(events.c.id)
            .limit(_CHUNK)
        )
        rows = connection.execute(statement).all()
        if not rows:
            return
        for row in rows:
            yield dict(row._mapping)
        seen = rows[-1].id


def _empty() -> dict[str, Any]:
    return {
        "id": 0, "pin": None, "hold": False, "minded": 0, "quarantine": {}, "released": {}, "served": [], "asked": None,
        "undo": None, "blamed": None, "blocked": None, "champion": None,
    }  # fmt: skip


def _fold(state: dict[str, Any], number: int, event: dict[str, Any]) -> None:
    """How things stood by the rules of release 0.1.0, in the words of this one."""
    kind, version, told = event["kind"], event["version"], event["evidence"] or {}
    state["id"] = number
    when = event["wall_at"].isoformat() + "Z"
    if kind in ("pinned", "unpinned"):
        state["pin"], state["minded"] = (version if kind == "pinned" else None), number
    elif kind in ("held", "released"):
        state["hold"], state["minded"] = kind == "held", number
    elif kind == "champion_moved":
        state["champion"] = version
    elif version is None:
        return
    elif kind in ("quarantined", "undone"):
        barred = {"run_id": str(told.get("run_id", "")), "reason": event["reason"]}
        state["quarantine"][str(version)] = barred
        if kind == "quarantined":
            state["blamed"] = [version, event["reason"]]
    elif kind == "unquarantined":
        state["quarantine"].pop(str(version), None)
        state["released"].pop(str(version), None)
        state["released"] = dict([*state["released"].items(), (str(version), when)][-_REMEMBERED:])
    else:
        told = {"version": version, "alias": event["alias"], "reason": event["reason"], "wall_at": when}
        if kind == "roll_started":
            state["asked"] = told
        else:
            others = [served for served in state["served"] if served["version"] != version]
            state["served"] = [told, *others][:_REMEMBERED]
            state["asked"] = state["blamed"] = None
