"""What walk-forwards left, fold by fold, and the pages made of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BYTES = sa.LargeBinary().with_variant(mysql.LONGBLOB, "mysql", "mariadb")
_MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    """Make the tables of walks and reports."""
    op.create_table(
        "walk_folds",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("walk", sa.String(16), primary_key=True),
        sa.Column("kind", sa.String(64), primary_key=True),
        sa.Column("start", _MOMENT, primary_key=True),
        sa.Column("end", _MOMENT, nullable=False),
        sa.Column("recipe", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("lineage", sa.JSON, nullable=False),
        sa.Column("parquet", _BYTES, nullable=False),
        sa.Column("made_at", _MOMENT, nullable=False),
    )
    op.create_table(
        "reports",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("made_at", _MOMENT, primary_key=True),
        sa.Column("title", sa.String(255), nullable=False),
        sa.Column("html", _BYTES, nullable=False),
    )
