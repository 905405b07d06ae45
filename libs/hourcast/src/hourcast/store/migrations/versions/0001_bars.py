"""Bars, the runs that fetched them and the rows that were kept out."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    """Make the etl's tables."""
    op.create_table(
        "bars",
        sa.Column("symbol", sa.String(32), primary_key=True),
        sa.Column("open_time", _MOMENT, primary_key=True),
        sa.Column("close_time", _MOMENT, nullable=False),
        sa.Column("open", sa.Double, nullable=False),
        sa.Column("high", sa.Double, nullable=False),
        sa.Column("low", sa.Double, nullable=False),
        sa.Column("close", sa.Double, nullable=False),
        sa.Column("volume", sa.Double, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("ingested_at", _MOMENT, nullable=False),
    )
    op.create_index("ix_bars_symbol_close_time", "bars", ["symbol", "close_time"])
    op.create_table(
        "ingest_runs",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("symbol", sa.String(32), nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("started_at", _MOMENT, nullable=False),
        sa.Column("ended_at", _MOMENT),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("fetched", sa.Integer, nullable=False),
        sa.Column("inserted", sa.Integer, nullable=False),
        sa.Column("revised", sa.Integer, nullable=False),
        sa.Column("quarantined", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text),
    )
    op.create_index("ix_ingest_runs_symbol", "ingest_runs", ["symbol", "started_at"])
    op.create_table(
        "quarantined_bars",
        sa.Column("symbol", sa.String(32), primary_key=True),
        sa.Column("open_time", _MOMENT, primary_key=True),
        sa.Column("reason", sa.String(255), nullable=False),
        sa.Column("row", sa.JSON, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("seen_at", _MOMENT, nullable=False),
    )
