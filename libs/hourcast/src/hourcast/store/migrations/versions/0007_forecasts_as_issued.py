"""Forecasts as they were issued, one row a fan; of the old record the first fan of each hour is what was served."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
_BATCH = timedelta(days=7)


def _columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("role", sa.String(16), primary_key=True),
        sa.Column("symbol", sa.String(32), primary_key=True),
        sa.Column("origin", _MOMENT, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("alias", sa.String(64)),
        sa.Column("issued_at", _MOMENT, nullable=False),
        sa.Column("wall_at", _MOMENT),
        sa.Column("last_close", sa.Double, nullable=False),
        sa.Column("levels", sa.JSON, nullable=False),
        sa.Column("horizons", sa.JSON, nullable=False),
        sa.Column("quantiles", sa.LargeBinary, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("calibration", sa.JSON(none_as_null=True)),
        sa.Column("run_id", sa.String(64)),
        sa.Column("kind", sa.String(64)),
        sa.Column("data_fingerprint", sa.String(64)),
    ]


def upgrade() -> None:
    """Make the table and fill it from the old one, which stays: other versions' forecasts of the same hours lie there."""
    connection = op.get_bind()
    # MySQL commits each DDL: an upgrade that was killed after it is begun again.
    if not sa.inspect(connection).has_table("fans"):
        op.create_table("fans", *_columns())
    fans = sa.Table("fans", sa.MetaData(), *_columns())
    old = sa.Table(
        "forecasts", sa.MetaData(),
        *(sa.Column(n, sa.String(64)) for n in ("model", "symbol", "alias")),
        *(sa.Column(n, sa.Integer) for n in ("version", "horizon")),
        *(sa.Column(n, _MOMENT) for n in ("origin", "target_time", "made_at")),
        sa.Column("last_close", sa.Double), sa.Column("levels", sa.JSON), sa.Column("quantiles", sa.JSON),
    )  # fmt: skip
    tried = sa.table("evaluations", *map(sa.column, ("model", "version", "kind")))
    connection.execute(sa.delete(fans))
    c = old.c
    for model, symbol in connection.execute(sa.select(c.model, c.symbol).distinct()).all():
        ours = (c.model == model, c.symbol == symbol)
        kinds = dict(
            connection.execute(sa.select(tried.c.version, tried.c.kind).where(tried.c.model == model)).all()
        )
        begin, end, longest = connection.execute(
            sa.select(sa.func.min(c.origin), sa.func.max(c.origin), sa.func.max(c.horizon)).where(*ours)
        ).one()
        while begin <= end:
            # The index is by target time, which lies at most the longest horizon after the origin.
            until = begin + _BATCH
            rows = connection.execute(
                sa.select(old)
                .where(*ours, c.target_time > begin, c.target_time <= until + timedelta(hours=longest))
                .where(c.origin >= begin, c.origin < until)
                .order_by(c.origin, c.version, c.horizon)
            )
            if values := _first(rows, kinds):
                connection.execute(sa.insert(fans), values)
            begin = until


def _first(rows: Iterable[sa.Row[Any]], kinds: dict[int, str]) -> list[dict[str, Any]]:
    """Of each origin the fan that was made first; it was issued when that was before the first of its closes."""
    by_origin: dict[datetime, dict[int, list[sa.Row[Any]]]] = {}
    for row in rows:
        by_origin.setdefault(row.origin, {}).setdefault(row.version, []).append(row)
    values = []
    for origin, by_version in by_origin.items():
        fan = min(by_version.values(), key=lambda fan: (fan[0].made_at, fan[0].version))
        values.append(
            {
                "model": fan[0].model,
                "role": "served",
                "symbol": fan[0].symbol,
                "origin": origin,
                "version": fan[0].version,
                "alias": fan[0].alias,
                "issued_at": fan[0].made_at,
                "wall_at": None,
                "last_close": fan[0].last_close,
                "levels": fan[0].levels,
                "horizons": [row.horizon for row in fan],
                "quantiles": np.array([row.quantiles for row in fan], "<f8").tobytes(),
                "source": "issued" if fan[0].made_at < fan[0].target_time else "reconstructed",
                "fingerprint": None,
                "calibration": None,
                "run_id": None,
                "kind": kinds.get(fan[0].version),
                "data_fingerprint": None,
            }
        )
    return values
