"""Indexes, so that what is asked all day reads what it gives and no history."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_evaluations_stage": ("evaluations", ["model", "stage", "baseline", "id"]),
    "ix_events_model": ("events", ["model", "id"]),
    "ix_events_kind": ("events", ["model", "kind", "id"]),
    "ix_events_wall_at": ("events", ["wall_at"]),
    "ix_decisions_kind_at": ("decisions", ["model", "kind", "at", "id"]),
}


def upgrade() -> None:
    """Make the indexes that are not there."""
    inspector = sa.inspect(op.get_bind())
    for name, (table, columns) in _INDEXES.items():
        # MySQL commits each DDL: an upgrade that was killed between two of them is begun again.
        if name not in {index["name"] for index in inspector.get_indexes(table)}:
            op.create_index(name, table, columns)
