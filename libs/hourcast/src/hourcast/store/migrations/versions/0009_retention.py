"""Up to when the rows of a table have gone, so that who asks for older ones is told."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    """Make the table."""
    # MySQL commits each DDL: an upgrade that was killed after it is begun again.
    if sa.inspect(op.get_bind()).has_table("forgotten"):
        return
    op.create_table(
        "forgotten",
        sa.Column("record", sa.String(64), primary_key=True),
        sa.Column("up_to", _MOMENT, nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("forgotten")
