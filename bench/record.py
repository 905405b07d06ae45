"""`python -m bench.record`: what the record of issued forecasts takes, and whether reading it grows with history.

Fans of 24 horizons and 19 levels are written as serving writes them, beside the same rows as release 0.1.0 kept them,
one a horizon. HOURCAST_DATABASE_URL chooses the database; its schema must be empty. Without it SQLite is used.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from hourcast.contracts import parse_hour
from hourcast.forecaster import HORIZONS, LEVELS
from hourcast.store import Fan, Store, open_store
from hourcast.store._schema import metadata

_END = parse_hour("2025-01-01")
_HOUR = timedelta(hours=1)
_YEAR_H = 8760
_BATCH = 400


def _fans(model: str, first: datetime, hours: int) -> Iterator[Fan]:
    rng = np.random.default_rng(hours)
    base = np.linspace(-0.01, 0.01, len(LEVELS)) * np.sqrt(np.array(HORIZONS))[:, None]
    for i in range(hours):
        origin, last = first + i * _HOUR, float(60_000 * np.exp(rng.normal(0, 0.1)))
        prices = last * np.exp(base * rng.uniform(0.5, 2))
        yield Fan(
            model, "served", "BTC/USDT", origin, 1 + i // 168, f"{origin:%Y%m%d}", origin, origin, last, LEVELS,
            HORIZONS, tuple(map(tuple, prices.tolist())), "issued", "0123456789abcdef",
            {"as_of": f"{origin:%Y-%m-%dT%H:%M:%SZ}", "digest": "0123456789abcdef"}, "0" * 32, "ensemble", "0" * 16,
        )  # fmt: skip


def _issue(store: Store, model: str, hours: int) -> None:
    batch: list[Fan] = []
    for fan in _fans(model, _END - hours * _HOUR, hours):
        batch.append(fan)
        if len(batch) == _BATCH:
            store.issue(batch)
            batch = []
    store.issue(batch)


def _old(store: Store, hours: int) -> None:
    table = metadata.tables["forecasts"]
    with store.engine.begin() as connection:
        for fan in _fans("rows", _END - hours * _HOUR, hours):
            rows = [
                {name: getattr(row, name) for name in row.__dataclass_fields__}
                | {"levels": list(row.levels), "quantiles": list(row.quantiles)}
                for row in fan.rows()
            ]
            connection.execute(sa.insert(table), rows)


def _bytes(store: Store) -> int:
    """What the database takes on disk."""
    with store.engine.connect() as connection:
        if store.engine.dialect.name == "sqlite":
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            return int(pages * connection.exec_driver_sql("PRAGMA page_size").scalar_one())
        for table in ("fans", "forecasts"):
            connection.exec_driver_sql(f"ANALYZE TABLE {table}").all()
        size = "SELECT SUM(data_length + index_length) FROM information_schema.tables WHERE table_schema = DATABASE()"
        return int(connection.exec_driver_sql(size).scalar_one())


def _ms(work: Callable[[], object]) -> float:
    took = []
    for _ in range(7):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return 1000 * statistics.median(took)


def main() -> None:
    """Write, measure, write more, measure again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=5)
    years = parser.parse_args().years
    with tempfile.TemporaryDirectory() as folder:
        url = os.environ.get("HOURCAST_DATABASE_URL", f"sqlite:///{Path(folder) / 'record.db'}")
        with open_store(url) as store:
            _measure(store, years)


def _reads(store: Store, model: str) -> dict[str, Callable[[], object]]:
    def since(hours: int) -> datetime:
        return _END - hours * _HOUR

    return {
        "the present hour": lambda: store.fans(model, "BTC/USDT", start=since(1), end=_END),
        "60 days of fans": lambda: store.fans(model, "BTC/USDT", start=since(1440)),
        "60 days an hour ahead (skill)": lambda: store.forecasts(
            model, "BTC/USDT", start=since(1440), horizon=1
        ),
        "720 hours, all horizons (calibration)": lambda: store.forecasts(model, "BTC/USDT", start=since(720)),
        "issuing an hour that is issued": lambda: store.issue(list(_fans(model, since(1), 1))),
    }


def _measure(store: Store, years: int) -> None:
    store.upgrade()
    at = _bytes(store)
    _old(store, 1000)
    rows_b = (_bytes(store) - at) / 1000
    sizes, wrote_ms = [], []
    spans = {"year": _YEAR_H, "years": years * _YEAR_H}
    for model, hours in spans.items():
        at, began = _bytes(store), time.perf_counter()
        _issue(store, model, hours)
        wrote_ms.append(1000 * (time.perf_counter() - began) / hours)
        sizes.append((_bytes(store) - at) / hours)
    table = Table(title=f"The record of forecasts, {store.engine.dialect.name}", title_justify="left")
    for name in ("what", "1 year", f"{years} years"):
        table.add_column(name)
    table.add_row("bytes a fan", *(f"{size:,.0f}" for size in sizes))
    table.add_row("the same as rows of release 0.1.0", f"{rows_b:,.0f}", "")
    table.add_row("MB a year", *(f"{size * _YEAR_H / 1e6:.0f}" for size in sizes))
    table.add_row("written, ms a fan", *(f"{ms:.2f}" for ms in wrote_ms))
    reads = [_reads(store, model) for model in spans]
    for name in reads[0]:
        table.add_row(f"{name}, ms", *(f"{_ms(each[name]):.1f}" for each in reads))
    Console().print(table)


if __name__ == "__main__":
    main()
