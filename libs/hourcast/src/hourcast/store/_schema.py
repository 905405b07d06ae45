"""The tables as they are after the newest migration; a test compares the two."""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

__all__ = ["UtcDateTime", "metadata"]


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment, kept as naive UTC with microseconds; naive values are refused."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[datetime]:
        """MySQL drops fractions of a second unless told to keep them."""
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware in, naive UTC to the database."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; the store takes aware moments only")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Naive UTC from the database, aware out."""
        return None if value is None else value.replace(tzinfo=UTC)


metadata = MetaData()
_BYTES = LargeBinary().with_variant(mysql.LONGBLOB, "mysql", "mariadb")
_ID = BigInteger().with_variant(Integer, "sqlite")
_SYMBOL = String(32)
_NAME = String(64)

_prices = ("open", "high", "low", "close", "volume")

bars = Table(
    "bars",
    metadata,
    Column("symbol", _SYMBOL, primary_key=True),
    Column("open_time", UtcDateTime, primary_key=True),
    Column("close_time", UtcDateTime, nullable=False),
    *(Column(name, Double, nullable=False) for name in _prices),
    Column("source", _NAME, nullable=False),
    Column("ingested_at", UtcDateTime, nullable=False),
    Index("ix_bars_symbol_close_time", "symbol", "close_time"),
    # The record of a symbol begins with its first arrival, which must not take a walk over its history.
    Index("ix_bars_symbol_ingested_at", "symbol", "ingested_at"),
)

bar_revisions = Table(
    "bar_revisions",
    metadata,
    Column("symbol", _SYMBOL, primary_key=True),
    Column("open_time", UtcDateTime, primary_key=True),
    Column("replaced_at", UtcDateTime, primary_key=True),
    Column("close_time", UtcDateTime, nullable=False),
    *(Column(name, Double, nullable=False) for name in _prices),
    Column("source", _NAME, nullable=False),
    Column("ingested_at", UtcDateTime, nullable=False),
    Index("ix_bar_revisions_symbol_replaced_at", "symbol", "replaced_at"),
    Index("ix_bar_revisions_symbol_ingested_at", "symbol", "ingested_at"),
)

hours = Table(
    "hours",
    metadata,
    Column("model", _NAME, primary_key=True),
    Column("hour", UtcDateTime, primary_key=True),
    Column("closed_at", UtcDateTime, nullable=False),
    Column("wall_at", UtcDateTime, nullable=False),
    Column("state", JSON, nullable=False),
    Index("ix_hours_closed_at", "closed_at"),
)

ingest_runs = Table(
    "ingest_runs",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("symbol", _SYMBOL, nullable=False),
    Column("source", _NAME, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("status", String(16), nullable=False),
    Column("fetched", Integer, nullable=False),
    Column("inserted", Integer, nullable=False),
    Column("revised", Integer, nullable=False),
    Column("quarantined", Integer, nullable=False),
    Column("reason", Text),
    Index("ix_ingest_runs_symbol", "symbol", "started_at"),
)

quarantined_bars = Table(
    "quarantined_bars",
    metadata,
    Column("symbol", _SYMBOL, primary_key=True),
    Column("open_time", UtcDateTime, primary_key=True),
    Column("reason", String(255), nullable=False),
    Column("row", JSON, nullable=False),
    Column("source", _NAME, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("model", _NAME, nullable=False),
    Column("version", Integer, nullable=False),
    Column("alias", _NAME),
    Column("kind", String(32), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("baseline", _NAME, nullable=False),
    Column("window_start", UtcDateTime, nullable=False),
    Column("window_end", UtcDateTime, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("figures", JSON, nullable=False),
    Column("reason", Text, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
    Index("ux_evaluations", "model", "version", "stage", "baseline", unique=True),
    # Newest first of a stage and baseline, and no further.
    Index("ix_evaluations_stage", "model", "stage", "baseline", "id"),
)

backtest_rows = Table(
    "backtest_rows",
    metadata,
    Column("model", _NAME, primary_key=True),
    Column("alias", _NAME, primary_key=True),
    Column("origin", UtcDateTime, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("target_time", UtcDateTime, nullable=False),
    Column("last_close", Double, nullable=False),
    Column("actual", Double, nullable=False),
    Column("quantiles", JSON, nullable=False),
    Column("naive_quantiles", JSON, nullable=False),
)

walk_folds = Table(
    "walk_folds",
    metadata,
    Column("model", _NAME, primary_key=True),
    Column("walk", String(16), primary_key=True),
    Column("kind", _NAME, primary_key=True),
    Column("start", UtcDateTime, primary_key=True),
    Column("end", UtcDateTime, nullable=False),
    Column("recipe", String(16), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("lineage", JSON, nullable=False),
    Column("parquet", _BYTES, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
)

reports = Table(
    "reports",
    metadata,
    Column("model", _NAME, primary_key=True),
    Column("made_at", UtcDateTime, primary_key=True),
    Column("title", String(255), nullable=False),
    Column("html", _BYTES, nullable=False),
)

forecasts = Table(
    "forecasts",
    metadata,
    Column("model", _NAME, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("symbol", _SYMBOL, primary_key=True),
    Column("origin", UtcDateTime, primary_key=True),
    Column("horizon", Integer, primary_key=True, autoincrement=False),
    Column("target_time", UtcDateTime, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
    Column("alias", _NAME),
    Column("last_close", Double, nullable=False),
    Column("levels", JSON, nullable=False),
    Column("quantiles", JSON, nullable=False),
    Index("ix_forecasts_target", "model", "symbol", "target_time"),
)

events = Table(
    "events",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", _NAME, nullable=False),
    Column("kind", _NAME, nullable=False),
    Column("model", _NAME, nullable=False),
    Column("version", Integer),
    Column("alias", _NAME),
    Column("reason", Text, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("wall_at", UtcDateTime, nullable=False),
    Index("ix_events_at", "model", "at"),
    # The newest of a model or of a kind, however many there are of others; and what is to be forgotten.
    Index("ix_events_model", "model", "id"),
    Index("ix_events_kind", "model", "kind", "id"),
    Index("ix_events_wall_at", "wall_at"),
)

clock = Table(
    "clock",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("now", UtcDateTime, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", _NAME, nullable=False),
    Column("kind", _NAME, nullable=False),
    Column("model", _NAME, nullable=False),
    Column("version", Integer),
    Column("alias", _NAME),
    Column("reason", Text, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("wall_at", UtcDateTime, nullable=False),
    Index("ix_decisions_model", "model", "id"),
    Index("ix_decisions_kind", "model", "kind", "id"),
    Index("ix_decisions_kind_at", "model", "kind", "at", "id"),
)

standing = Table(
    "standing",
    metadata,
    Column("model", _NAME, primary_key=True),
    Column("decision_id", BigInteger, nullable=False),
    Column("state", JSON, nullable=False),
)

fans = Table(
    "fans",
    metadata,
    Column("model", _NAME, primary_key=True),
    Column("role", String(16), primary_key=True),
    Column("symbol", _SYMBOL, primary_key=True),
    Column("origin", UtcDateTime, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("alias", _NAME),
    Column("issued_at", UtcDateTime, nullable=False),
    Column("wall_at", UtcDateTime),
    Column("last_close", Double, nullable=False),
    Column("levels", JSON, nullable=False),
    Column("horizons", JSON, nullable=False),
    Column("quantiles", LargeBinary, nullable=False),
    Column("source", String(16), nullable=False),
    Column("fingerprint", _NAME),
    Column("calibration", JSON(none_as_null=True)),
    Column("run_id", _NAME),
    Column("kind", _NAME),
    Column("data_fingerprint", _NAME),
)

forgotten = Table(
    "forgotten",
    metadata,
    Column("record", _NAME, primary_key=True),
    Column("up_to", UtcDateTime, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)
