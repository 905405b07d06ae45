"""What the trainer measured and what serving forecast."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    """Make the trainer's and serving's tables."""
    op.create_table(
        "evaluations",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("alias", sa.String(64)),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("baseline", sa.String(64), nullable=False),
        sa.Column("window_start", _MOMENT, nullable=False),
        sa.Column("window_end", _MOMENT, nullable=False),
        sa.Column("passed", sa.Boolean, nullable=False),
        sa.Column("figures", sa.JSON, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("made_at", _MOMENT, nullable=False),
    )
    op.create_index("ux_evaluations", "evaluations", ["model", "version", "stage", "baseline"], unique=True)
    op.create_table(
        "backtest_rows",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("alias", sa.String(64), primary_key=True),
        sa.Column("origin", _MOMENT, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("target_time", _MOMENT, nullable=False),
        sa.Column("last_close", sa.Double, nullable=False),
        sa.Column("actual", sa.Double, nullable=False),
        sa.Column("quantiles", sa.JSON, nullable=False),
        sa.Column("naive_quantiles", sa.JSON, nullable=False),
    )
    op.create_table(
        "forecasts",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("symbol", sa.String(32), primary_key=True),
        sa.Column("origin", _MOMENT, primary_key=True),
        sa.Column("horizon", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("target_time", _MOMENT, nullable=False),
        sa.Column("made_at", _MOMENT, nullable=False),
        sa.Column("alias", sa.String(64)),
        sa.Column("last_close", sa.Double, nullable=False),
        sa.Column("levels", sa.JSON, nullable=False),
        sa.Column("quantiles", sa.JSON, nullable=False),
    )
    op.create_index("ix_forecasts_target", "forecasts", ["model", "symbol", "target_time"])
