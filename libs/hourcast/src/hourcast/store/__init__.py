"""The store: bars, runs, evaluations, forecasts and events in SQLite or MySQL, behind one class."""

from hourcast.store._forecasts import Fan, Role, Source
from hourcast.store._hours import Hour, SeriesState
from hourcast.store._retention import RETENTION, Keeping, Retention
from hourcast.store._rights import (
    ACCOUNTS,
    PRIVILEGES,
    RIGHTS,
    TABLES,
    Right,
    grant_statements,
    rights_of,
)
from hourcast.store._rows import (
    BacktestRows,
    Evaluation,
    Event,
    ForecastRow,
    Freshness,
    IngestRun,
    Quarantined,
    UpsertResult,
    WalkFold,
)
from hourcast.store._store import Store, open_store

__all__ = [
    "ACCOUNTS",
    "PRIVILEGES",
    "RETENTION",
    "RIGHTS",
    "TABLES",
    "BacktestRows",
    "Evaluation",
    "Event",
    "Fan",
    "ForecastRow",
    "Freshness",
    "Hour",
    "IngestRun",
    "Keeping",
    "Quarantined",
    "Retention",
    "Right",
    "Role",
    "SeriesState",
    "Source",
    "Store",
    "UpsertResult",
    "WalkFold",
    "grant_statements",
    "open_store",
    "rights_of",
]
