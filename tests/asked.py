"""A server's application on a small store, asked without a port: for tests of what callers may ask and get."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI

from hourcast.contracts import HOUR_S, AliasIndex, AliasRecord, to_epoch
from hourcast.forecaster import Forecaster
from hourcast.store import open_store
from hourcast_bento.app import build_app
from hourcast_bento.package import PackageInfo
from hourcast_bento.serving import Serving
from hourcast_bento.settings import ServingSettings
from tests.specs import features_of, forecaster_spec, random_walk

__all__ = ["NOW", "TARGET", "Asked", "asked"]

NOW = datetime(2024, 6, 13, tzinfo=UTC)
TARGET = "BTC/USDT"


@dataclass(frozen=True)
class Asked:
    """The application and what answers."""

    serving: Serving
    app: FastAPI

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Any request."""

        async def work() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://pod") as client:
                return await client.request(method, path, **more)

        return asyncio.run(work())

    def get(self, path: str) -> httpx.Response:
        """A GET."""
        return self.ask("GET", path)


@contextmanager
def asked(folder: Path) -> Iterator[Asked]:
    """Version 7 as alias 20240601, on a thousand hours of bars; nothing is recorded by itself."""
    bars = random_walk(TARGET, to_epoch(NOW) + np.arange(-1000, 0) * HOUR_S, 1)
    with open_store(f"sqlite:///{folder / 'store.db'}") as store:
        store.upgrade()
        store.upsert_bars(bars, "files", NOW)
        store.set_clock(NOW)
    shape = tuple(np.linspace(-1, 1, 19).tolist())
    spec = forecaster_spec(kind="volatility", target=TARGET, base=(shape,) * 24, features=features_of(TARGET))
    info = PackageInfo(
        model="m", version=7, run_id="run 7", alias="20240601", kind="volatility", data_fingerprint="0" * 16,
        trained_through=date(2024, 6, 1), decided_at=NOW - timedelta(days=10), synthetic=True,
    )  # fmt: skip
    settings = ServingSettings.load(
        state_dir=folder, model_name="m", clock="store", database_url=f"sqlite:///{folder / 'store.db'}"
    )
    serving = Serving(settings, info, Forecaster(spec, None, ()))
    record = AliasRecord(
        alias="20240601", version=7, run_id="run 7", kind="volatility", trained_through=date(2024, 6, 1),
        decided_at=NOW - timedelta(days=10),
    )  # fmt: skip
    index = AliasIndex(model="m", generated_at=NOW, aliases=[record])
    serving.bucket.put("bentos/m/aliases.json", index.model_dump_json().encode())
    try:
        yield Asked(serving, build_app(lambda: serving))
    finally:
        serving.stop()
