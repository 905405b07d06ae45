"""The store: bars, runs, evaluations, forecasts and events in SQLite or MySQL, behind one class."""

from hourcast.store._rows import (
    BacktestRows,
    Evaluation,
    Event,
    ForecastRow,
    Freshness,
    IngestRun,
    Quarantined,
    UpsertResult,
)
from hourcast.store._store import Store, open_store

__all__ = [
    "BacktestRows",
    "Evaluation",
    "Event",
    "ForecastRow",
    "Freshness",
    "IngestRun",
    "Quarantined",
    "Store",
    "UpsertResult",
    "open_store",
]
