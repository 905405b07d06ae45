"""`python -m bench.years`: how big the store gets in years, and whether anything that is asked of it grows with them.

A year of one stream and five years of ten are simulated in a MariaDB of its own (`bench.history`). Then everything that the
page, serving, the controller and the etl ask is asked by their own code (`bench.asked`), and the rows that the database read
for each statement are counted by its handlers. --folder keeps the database for another run, such as one of other code, whose
figures --save and --against put side by side; --server does the same in a MySQL that runs already. Five years of ten streams
take about 4 GB.
"""

import argparse
import contextlib
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from bench.asked import Asked, Question, questions
from bench.ground import wait_for
from bench.history import END, EXOGENOUS, Size, fill, model_of, target_of
from hourcast.store import TABLES, Store, open_store
from tests.ports import find_port

_YEAR_H = 8760
_TIMES = 5
_ACCOUNT = "bench"
_CONSOLE = Console(width=160)
Figures = dict[str, tuple[float, float]]
"""By who asks, and which method of the store: rows read and milliseconds."""


def _program(*names: str) -> str:
    for name in names:
        if found := shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            return found
    sys.exit(f"none of {', '.join(names)} is on the PATH; install MariaDB's server, or give --server")


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[str]:
    """A MariaDB of our own with its data in `folder`; gives the URL of its administrator, without a database."""
    data, socket, port = folder / "data", folder / "mysql.sock", find_port()
    account = ["--user=root"] if os.geteuid() == 0 else []
    fresh = not data.exists()
    if fresh:
        subprocess.run(
            [
                _program("mariadb-install-db"), "--no-defaults", f"--datadir={data}", "--skip-test-db",
                "--auth-root-authentication-method=normal", *account,
            ],
            check=True, capture_output=True,
        )  # fmt: skip
    with (folder / "mysql.log").open("ab") as log:
        process = subprocess.Popen(
            [
                _program("mariadbd"), "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1",
                f"--socket={socket}", f"--pid-file={folder / 'mysql.pid'}", "--innodb-buffer-pool-size=512M",
                "--innodb-flush-log-at-trx-commit=0", "--innodb-log-file-size=512M", "--max-allowed-packet=64M",
                "--skip-name-resolve", *account,
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    root = sa.create_engine(f"mysql+pymysql://root@localhost/?unix_socket={socket}")

    def answers() -> bool:
        with contextlib.suppress(sa.exc.OperationalError), root.connect():
            return True
        return process.poll() is not None

    try:
        wait_for(answers, 60, "answer of MariaDB")
        with root.connect() as connection:
            connection.exec_driver_sql(
                f"CREATE USER IF NOT EXISTS {_ACCOUNT}@'127.0.0.1' IDENTIFIED BY '{_ACCOUNT}'"
            )
            connection.exec_driver_sql(f"GRANT ALL ON *.* TO {_ACCOUNT}@'127.0.0.1'")
        yield f"mysql+pymysql://{_ACCOUNT}:{_ACCOUNT}@127.0.0.1:{port}"
    finally:
        root.dispose()
        process.terminate()
        process.wait(120)


def _make_databases(server: str, names: Iterable[str]) -> None:
    engine = sa.create_engine(f"{server}/")
    with engine.connect() as connection:
        for name in names:
            connection.exec_driver_sql(f"CREATE DATABASE IF NOT EXISTS {name}")
    engine.dispose()


def _filled(store: Store, size: Size) -> None:
    """Write the history where none was written, and bring tables of an earlier release to this one's."""
    empty = store.revision() is None
    store.upgrade()
    with store.engine.begin() as connection:
        # The present hour is issued anew in every run.
        fans = sa.table("fans", sa.column("origin"))
        connection.execute(
            sa.delete(fans).where(fans.c.origin == sa.bindparam("end", END.replace(tzinfo=None)))
        )
    if empty:
        began = time.perf_counter()
        fill(store, size)
        _CONSOLE.print(
            f"{size.hours:,} hours of {size.streams} streams: written in {time.perf_counter() - began:.0f} s"
        )


def _sizes(store: Store) -> dict[str, tuple[int, int, int]]:
    """Rows, bytes of data and bytes of indexes of each table."""
    out = {}
    of = sa.table(
        "tables",
        *map(sa.column, ("table_name", "table_schema", "data_length", "index_length")),
        schema="information_schema",
    )
    with store.engine.connect() as connection:
        for name in TABLES:
            connection.exec_driver_sql(f"ANALYZE TABLE {name}").all()
            rows = connection.scalar(sa.select(sa.func.count()).select_from(sa.table(name)))
            ours = (of.c.table_schema == sa.func.database(), of.c.table_name == name)
            data, index = connection.execute(
                sa.select(of.c.data_length, of.c.index_length).where(*ours)
            ).one()
            out[name] = (int(rows or 0), int(data), int(index))
    return out


def _show_plans(store: Store, size: Size, folder: Path) -> None:
    plans: dict[tuple[str, str], None] = {}
    for ask in questions(store, size, folder).values():
        with Asked.listening(explain=True) as asked:
            ask()
        plans |= {(question.method, plan): None for question in asked.questions for plan in question.plan}
    table = Table(
        "method of the store", "table, and how its rows are found", title="EXPLAIN", title_justify="left"
    )
    for method, plan in sorted(plans):
        table.add_row(method, plan)
    _CONSOLE.print(table)


def _measured(store: Store, size: Size, folder: Path) -> Figures:
    """Of each statement the rows that were read in the first round, and the median of its times in all."""
    out: Figures = {}
    symbols = (target_of(0), *EXOGENOUS)
    # Once a week, and of the whole record: a training looks as far back as its settings say, a walk at everything.
    weekly = {"trainer: a training": lambda: store.read_recorded(model_of(0), symbols, known_at=END)}
    for name, ask in (questions(store, size, folder) | weekly).items():
        rounds: list[dict[str, list[Question]]] = []
        for _ in range(_TIMES):
            with Asked.listening() as asked:
                ask()
            by_method: dict[str, list[Question]] = {}
            for question in asked.questions:
                by_method.setdefault(question.method, []).append(question)
            rounds.append(by_method)
        for method, sent in rounds[0].items():
            times = [sum(q.ms for q in each[method]) for each in rounds if method in each]
            out[f"{name} · {method}"] = (sum(q.read for q in sent), statistics.median(times))
    return out


def _show_sizes(
    small: dict[str, tuple[int, int, int]], large: dict[str, tuple[int, int, int]], what: list[str]
) -> None:
    table = Table(title="Sizes, after ANALYZE TABLE", title_justify="left")
    for name in ("table", *(f"{w}: {unit}" for w in what for unit in ("rows", "MB", "of it indexes"))):
        table.add_column(name, justify="left" if name == "table" else "right")

    def cells(rows: int, data: int, index: int) -> list[str]:
        return [f"{rows:,}", f"{(data + index) / 1e6:,.1f}", f"{index / 1e6:,.1f}"]

    for name in sorted(large, key=lambda name: -sum(large[name][1:])):
        table.add_row(name, *cells(*small[name]), *cells(*large[name]))
    total = [tuple(sum(each[i] for each in part.values()) for i in range(3)) for part in (small, large)]
    table.add_row("all", *(cell for rows, data, index in total for cell in cells(rows, data, index)))
    _CONSOLE.print(table)


def _whole(figures: Figures) -> Figures:
    """The same by who asks alone."""
    out: Figures = {}
    for name, (read, ms) in figures.items():
        asks = name.partition(" · ")[0]
        out[asks] = tuple(map(sum, zip(out.get(asks, (0.0, 0.0)), (read, ms), strict=True)))  # type: ignore[assignment]
    return out


def _show_queries(small: Figures, large: Figures, before: dict[str, Figures] | None, what: list[str]) -> None:
    table = Table(title="Rows that the database reads, and milliseconds", title_justify="left")
    table.add_column("who asks")
    for when in ["before", "after"] if before else [""]:
        for name in (*(f"{when} {w}" for w in what), "ratio"):
            table.add_column(name.strip(), justify="right")

    def cells(small: Figures, large: Figures, name: str) -> list[str]:
        if name not in small or name not in large:
            return ["–", "–", "–"]
        (few, few_ms), (many, many_ms) = small[name], large[name]
        return [f"{few:,.0f}, {few_ms:.1f}", f"{many:,.0f}, {many_ms:.1f}", f"{many / max(few, 1):.1f}"]

    for name in {**(before["large"] if before else {}), **large}:
        earlier = cells(before["small"], before["large"], name) if before else []
        table.add_row(name, *earlier, *cells(small, large, name))
    _CONSOLE.print(table)


def main() -> None:
    """Simulate, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.years", description=__doc__)
    parser.add_argument("--years", type=float, default=5)
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="keep the database here, or use the one that is here")
    parser.add_argument(
        "--server", help="URL of the administrator of a MySQL, without a database; not a MariaDB of our own"
    )
    parser.add_argument(
        "--explain", action="store_true", help="tell how the database finds the rows of each statement"
    )
    parser.add_argument("--methods", action="store_true", help="tell of each method of the store apart")
    parser.add_argument("--save", type=Path, help="write the figures of the queries here")
    parser.add_argument("--against", type=Path, help="figures of an earlier run, to be shown beside")
    asked = parser.parse_args()
    # The controller finds nobody but the store, and says so.
    logging.disable(logging.WARNING)
    sizes = {"small": Size(_YEAR_H, 1), "large": Size(int(_YEAR_H * asked.years), asked.streams)}
    what = ["1 year × 1", f"{asked.years:g} years × {asked.streams}"]
    figures: dict[str, Figures] = {}
    tables = []
    with tempfile.TemporaryDirectory(prefix="hourcast-years-") as name:
        folder = asked.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.nullcontext(asked.server) if asked.server else _server(folder) as server:
            _make_databases(server, sizes)
            for which, size in sizes.items():
                with open_store(f"{server}/{which}") as store:
                    _filled(store, size)
                    tables.append(_sizes(store))
                    figures[which] = _measured(store, size, Path(name) / "state")
                    if asked.explain and which == "large":
                        _show_plans(store, size, Path(name) / "state")
    _show_sizes(*tables, what)
    before = json.loads(asked.against.read_text()) if asked.against else None
    shown = [figures, *([before] if before else [])]
    if not asked.methods:
        shown = [{which: _whole(part) for which, part in each.items()} for each in shown]
    _show_queries(shown[0]["small"], shown[0]["large"], shown[1] if before else None, what)
    if asked.save:
        asked.save.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
