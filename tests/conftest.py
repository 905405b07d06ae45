"""Fixtures that every room's tests share."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from hourcast.contracts import Bars, parse_hour, to_epoch
from hourcast.store import Store, open_store

# How long an example takes says nothing of what it proves, and on a busy machine it takes as long as it takes.
settings.register_profile("hourcast", deadline=None)
settings.load_profile("hourcast")

pytest_plugins = ["tests.servers", "tests.market_server", "tests.toxic"]

_DATA = Path(os.environ.get("HOURCAST_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No HOURCAST_ setting of the caller's shell, and of a Hourcast that runs in this checkout, reaches a test."""
    for name in list(os.environ):
        if name.startswith("HOURCAST_") and not name.startswith("HOURCAST_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOURCAST_STATE_DIR", str(tmp_path_factory.getbasetemp() / "no-state"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what reads recorded data, so that `make test` needs nothing beside the checkout."""
    for item in items:
        if {"market_dir", "fixtures_dir"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.recorded)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test that is skipped is a promise that nobody looked at: the run fails."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(params=["sqlite", pytest.param("mysql", marks=pytest.mark.integration)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store: SQLite, and among the integration tests MySQL as well."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    url: str = request.getfixturevalue("mysql_url")
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A fresh store with every table."""
    opened = open_store(store_url)
    opened.upgrade()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def market_dir() -> Path:
    """The folder of recorded market bars."""
    return _DATA / "market"


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """The folder of recorded provider answers."""
    return _DATA / "fixtures"


def read_market(path: Path, symbol: str) -> Bars:
    """Bars of one recorded CSV."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    opens = [to_epoch(parse_hour(row["datetime"])) for row in rows]
    prices = [[float(row[name] or 0) for name in ("open", "high", "low", "close", "volume")] for row in rows]
    return Bars.of(symbol, opens, prices)


@pytest.fixture(scope="session")
def market_bars(market_dir: Path) -> dict[str, Bars]:
    """The recorded bars of the four default series."""
    files = {"BTC/USDT": "btc_1h", "QQQ": "ndx_1h", "^VIX": "vix_1h", "GC=F": "gold_1h"}
    return {symbol: read_market(market_dir / f"{name}.csv", symbol) for symbol, name in files.items()}
