"""What earlier releases left behind (tests/kept), laid where a test can take it over."""

import lzma
import tempfile
from pathlib import Path

import sqlalchemy as sa

from hourcast.store import Store, open_store

__all__ = ["KEPT", "kept_store"]

KEPT = Path(__file__).parent / "kept"


def kept_store(url: str, release: str = "0.1.0", revision: str = "0004") -> Store:
    """The store of a release, row for row, in the empty database at `url`; not upgraded yet."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kept.db"
        file.write_bytes(lzma.decompress((KEPT / release / "store.db.xz").read_bytes()))
        store = open_store(url)
        store.upgrade(revision)
        source = sa.create_engine(f"sqlite:///{file}")
        there, here = sa.MetaData(), sa.MetaData()
        there.reflect(source)
        here.reflect(store.engine)
        for table in (*there.tables.values(), *here.tables.values()):
            for column in table.columns:
                # As text it goes through whatever each database calls JSON.
                if isinstance(column.type, sa.JSON):
                    column.type = sa.Text()
        with source.connect() as read, store.engine.begin() as write:
            for name, table in there.tables.items():
                rows = [dict(row._mapping) for row in read.execute(sa.select(table))]
                if rows and name != "alembic_version":
                    write.execute(sa.insert(here.tables[name]), rows)
        source.dispose()
    return store
