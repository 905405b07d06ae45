"""What release 0.1.0 left behind goes on working: its store is taken over with nothing lost, its packages load."""

import hashlib
import lzma
import sqlite3
from pathlib import Path

import pytest

from hourcast.contracts import PackageManifest
from hourcast_bento.package import MODEL_FOLDER, load_model, unpack
from tests.kept import KEPT, kept_store

_PACKAGES = KEPT / "0.1.0" / "bentos" / "hourcast"


def test_the_store_of_release_0_1_0_is_taken_over(store_url: str, tmp_path: Path) -> None:
    """After the upgrade every bar, forecast and event is there and can be read, on SQLite and MySQL alike."""
    file = tmp_path / "kept.db"
    file.write_bytes(lzma.decompress((KEPT / "0.1.0" / "store.db.xz").read_bytes()))
    raw = sqlite3.connect(file)
    counts = {
        table: raw.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
        for table in ("bars", "forecasts", "events", "evaluations")
    }
    closes = [
        c for (c,) in raw.execute("SELECT close FROM bars WHERE symbol = 'BTC/USDT' ORDER BY open_time")
    ]
    raw.close()
    with kept_store(store_url) as store:
        store.upgrade()
        stored = store.bar_counts([f.symbol for f in store.freshness()])
        assert sum(stored.values()) == counts["bars"] == 3421
        assert store.read_bars("BTC/USDT").close.tolist() == closes
        assert len(store.recorded("hourcast")) == counts["forecasts"] == 3048
        assert len(store.events("hourcast")) == counts["events"] == 24
        assert len(store.evaluations("hourcast")) == counts["evaluations"] == 9


@pytest.mark.parametrize(("version", "kind"), [(1, "naive"), (2, "ensemble")])
def test_a_package_of_release_0_1_0_gives_its_golden_output(version: int, kind: str, tmp_path: Path) -> None:
    """It is whole by its manifest, and the golden input gives the golden output."""
    body = (_PACKAGES / f"{version}.bento").read_bytes()
    manifest = PackageManifest.model_validate_json((_PACKAGES / f"{version}.json").read_bytes())
    assert hashlib.sha256(body).hexdigest() == manifest.sha256
    unpack(body, tmp_path, only=MODEL_FOLDER)
    info, forecaster = load_model(tmp_path / MODEL_FOLDER)
    assert (info.version, info.kind, info.synthetic) == (version, kind, True)
    assert forecaster.spec.kind == kind
