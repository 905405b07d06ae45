"""What a revision of a bar replaced, and the hours that the etl has closed."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
_PRICES = ("open", "high", "low", "close", "volume")


def upgrade() -> None:
    """Make the tables of revisions and hours, and let the first arrival of a symbol be found at once."""
    op.create_index("ix_bars_symbol_ingested_at", "bars", ["symbol", "ingested_at"])
    op.create_table(
        "bar_revisions",
        sa.Column("symbol", sa.String(32), primary_key=True),
        sa.Column("open_time", _MOMENT, primary_key=True),
        sa.Column("replaced_at", _MOMENT, primary_key=True),
        sa.Column("close_time", _MOMENT, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in _PRICES),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("ingested_at", _MOMENT, nullable=False),
    )
    op.create_index("ix_bar_revisions_symbol_replaced_at", "bar_revisions", ["symbol", "replaced_at"])
    op.create_index("ix_bar_revisions_symbol_ingested_at", "bar_revisions", ["symbol", "ingested_at"])
    op.create_table(
        "hours",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("hour", _MOMENT, primary_key=True),
        sa.Column("closed_at", _MOMENT, nullable=False),
        sa.Column("wall_at", _MOMENT, nullable=False),
        sa.Column("state", sa.JSON, nullable=False),
    )
    op.create_index("ix_hours_closed_at", "hours", ["closed_at"])
