"""`make chaos`: kill -9 of twenty random processes during a replay, `hourcast up` itself among them.

Ends with 0 when the replay reached its end and bars, versions, aliases, forecasts and events are whole.
"""

import argparse
import contextlib
import random
import sys
import time
from collections import Counter

import httpx
import numpy as np
import psutil
from rich.console import Console

from bench.ground import DATA, Ground, ground, wait_for
from hourcast.contracts import alias_kind, to_epoch
from hourcast.errors import UnavailableError
from hourcast.settings import DEFAULT_SERIES
from hourcast.store import Store, open_store
from hourcast_etl.sources.files import FileSource

_CONSOLE = Console()


def _name(process: psutil.Process) -> str:
    line = " ".join(process.cmdline())
    for word, name in (
        (" up ", "hourcast up"), ("etl run", "etl"), ("train --watch", "trainer"), ("controller", "controller"),
        ("hourcast_local.node", "node"), ("hourcast_local.replay", "replay driver"), ("hourcast_bento package", "packager"),
        ("hourcast_bento", "server"), ("mlflow", "MLflow"),
    ):  # fmt: skip
        if word in line:
            return name
    return "MLflow"


def _kill(g: Ground, rng: random.Random, start: list[str]) -> str:
    """Kill one process of all; `hourcast up` is then started again, as a person would."""
    assert g.up is not None
    root = psutil.Process(g.up.pid)
    family = [root, *root.children(recursive=True)]
    victim = rng.choice([p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE])
    name = _name(victim)
    victim.kill()
    if victim.pid == root.pid:
        g.up.wait()
        g.start(*start)
    return name


def _whole(g: Ground, store: Store) -> list[str]:
    """What is not as it must be."""
    wrong = []
    source = FileSource(DATA)
    for series in DEFAULT_SERIES:
        first, last = source.span(series)
        (rows,) = source.pages(series, first, last)
        stored = store.read_bars(series.symbol)
        clock = to_epoch(store.clock())
        opens = np.array([int(r.open_time) for r in rows if int(r.open_time) + 3600 <= clock])
        closes = np.array([float(r.close) for r in rows if int(r.open_time) + 3600 <= clock])
        if not np.array_equal(stored.open_time, opens) or not np.array_equal(stored.close, closes):
            wrong.append(
                f"bars of {series.symbol}: {len(stored)} stored, {len(opens)} expected, or values differ"
            )
    if held := store.quarantined():
        wrong.append(f"{len(held)} bars in quarantine")

    def ask(path: str, **query: str) -> dict[str, object]:
        answer = httpx.get(f"{g.mlflow}/api/2.0/mlflow/{path}", params=query, timeout=30, trust_env=False)
        body: dict[str, object] = answer.json()
        return body

    model: dict = ask("registered-models/get", name="hourcast")["registered_model"]  # type: ignore[assignment,type-arg]
    found: list = ask("model-versions/search", filter="name='hourcast'", max_results="1000")["model_versions"]  # type: ignore[assignment,type-arg]
    tags = {int(v["version"]): {t["key"]: t["value"] for t in v.get("tags", [])} for v in found}
    for version, tag in tags.items():
        if tag.get("gate") not in ("passed", "failed"):
            wrong.append(f"version {version} has no verdict")
    aliases = {a["alias"]: int(a["version"]) for a in model["aliases"]}
    for alias, version in aliases.items():
        if tags.get(version, {}).get("gate") != "passed":
            wrong.append(f"alias {alias} names version {version}, which did not pass its gate")
    newest = max(a for a in aliases if alias_kind(a) == "date")
    served = g.served()
    if served != aliases[newest]:
        wrong.append(f"version {served} is served, alias {newest} names version {aliases[newest]}")
    events = list(reversed(store.events("hourcast", limit=5000)))
    started = {e.version for e in events if e.kind == "roll_started"}
    rolled = [e.version for e in events if e.kind == "rolled"]
    if rolled[-1] != served or not set(rolled) <= started:
        wrong.append(f"events: rolled {rolled}, started {sorted(v for v in started if v)}, served {served}")
    if quarantined := [e.version for e in events if e.kind == "quarantined"]:
        wrong.append(f"versions {quarantined} were quarantined, though none was broken")
    if [e.id for e in events] != sorted(e.id or 0 for e in events) or any(not e.reason for e in events):
        wrong.append("events are out of order or lack a reason")
    for row in store.forecasts("hourcast", "BTC/USDT"):
        if (row.target_time - row.origin).total_seconds() != 3600 * row.horizon or len(row.quantiles) != 19:
            wrong.append(f"a forecast is broken: {row}")
            break
    return wrong


def main() -> None:
    """Run, kill, check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--weeks", type=int, default=6)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    _CONSOLE.print(f"seed {asked.seed}: {asked.kills} kills during {asked.weeks} weeks of replay")
    start = ["--source", f"files:{DATA}", "--replay", f"{asked.weeks}w"]
    killed: Counter[str] = Counter()
    with ground() as g:
        g.start(*start)
        store = open_store(f"sqlite:///{g.state / 'replay' / 'hourcast.db'}")
        for i in range(asked.kills):
            time.sleep(rng.uniform(1.0, 8.0))
            with contextlib.suppress(psutil.NoSuchProcess):
                name = _kill(g, rng, start)
                killed[name] += 1
                _CONSOLE.print(f"{i + 1:2d}  {store.clock():%Y-%m-%d %H:%M}  killed {name}", highlight=False)
        ended = "the replay has reached its end"
        logs = g.state / "replay" / "logs" / "replay.log"

        def done() -> bool:
            if g.up is None or g.up.poll() is not None:
                sys.exit(f"`hourcast up` gave up:\n{g.log[-3000:]}")
            return ended in logs.read_text(errors="replace")

        wait_for(done, 600, "end of the replay")
        wrong = ["not looked yet"]
        end = time.monotonic() + 60
        # What was decided last may still be on its way.
        while wrong and time.monotonic() < end:
            time.sleep(2)
            with contextlib.suppress(UnavailableError, httpx.HTTPError):
                wrong = _whole(g, store)
        versions = len(store.evaluations("hourcast", "gate"))
        store.close()
        _CONSOLE.print(f"killed: {', '.join(f'{n} × {name}' for name, n in killed.most_common())}")
        if wrong:
            _CONSOLE.print("\n".join(wrong))
            _CONSOLE.print(g.log[-3000:])
            sys.exit(1)
        _CONSOLE.print(
            f"the replay reached its end; bars, aliases, forecasts and events are whole ({versions} evaluations)"
        )


if __name__ == "__main__":
    main()
