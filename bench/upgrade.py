"""`helm upgrade` from an earlier release on a real cluster, under load: what users had goes on.

    make -C ../earlier images load TAG=earlier …          # the images of the earlier release
    python -m bench.upgrade --chart ../earlier/charts/hourcast --tag earlier --data ../shared/data/market

Needs what the cluster's tests need (`tests/cluster.py`): KUBECONFIG, kubectl, helm, and the images of both releases on the
nodes. Ends with 0 when nothing was lost; it makes a namespace and removes it again.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import sqlalchemy as sa

from tests.cluster import CHART, CLOCK, Cluster, bring_files, namespace
from tests.load import Load
from tests.servers import wait_for

_KEPT = ("bars", "evaluations", "forecasts", "events", "ingest_runs")


def _counts(cluster: Cluster) -> dict[str, int]:
    return {table: cluster.count(table) for table in _KEPT}


def _trained(cluster: Cluster) -> int | None:
    found = [n for a, n in cluster.status()["aliases"].items() if a.isdigit()]
    served = cluster.served()
    return served if served in found else None


def _values(tag: str) -> tuple[str, ...]:
    return (
        "-f", str(CHART / "values-ci.yaml"), "--set", "etl.source=files:/data", "--set", "etl.filesClaim=bars",
        "--set", f"clock={CLOCK}", "--set", "settings.ETL_DAYS=730", *(("--set", f"images.tag={tag}") if tag else ()),
    )  # fmt: skip


def main() -> int:
    """Install the earlier release, upgrade it under load, and compare."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--chart", type=Path, required=True, help="chart of the earlier release")
    given.add_argument("--tag", required=True, help="tag of its images on the nodes")
    given.add_argument("--data", type=Path, required=True, help="folder of recorded bars")
    asked = given.parse_args()
    wrong: list[str] = []
    with namespace("hourcast-upgrade") as cluster:
        bring_files(cluster, asked.data)
        cluster.helm("install", cluster.release, str(asked.chart), *_values(asked.tag))
        wait_for(lambda: cluster.served() is not None, 420, "served version of the earlier release")
        wait_for(lambda: _trained(cluster) is not None, 420, "trained version of the earlier release")
        served = cluster.served()
        assert served is not None
        wait_for(lambda: cluster.count("forecasts") > 0, 120, "recorded forecast")
        cluster.hourcast("pin", str(served))
        wait_for(lambda: cluster.status()["deployment"]["pin"] == served, 60, "pin")
        before, events = _counts(cluster), cluster.events()
        address = cluster.node_port("api")
        old = httpx.get(f"{address}/predict?horizon=1..24", timeout=20, trust_env=False).json()
        print(f"earlier release serves version {served}; rows {before}")

        with Load(address, clients=2, per_second=10) as load:
            began = time.monotonic()
            cluster.helm("upgrade", cluster.release, str(CHART), *_values(""), limit_s=600)
            cluster.wait_served(served, 300)
            took = time.monotonic() - began
            time.sleep(10)
        wait_for(lambda: cluster.ready("controller"), 120, "controllers of the new release")
        statuses = Counter(a.status for a in load.answers)
        print(f"helm upgrade: {took:.0f} s until all pods are new; {load.tell()}; statuses {dict(statuses)}")
        for (status, problem), count in Counter((a.status, a.problem) for a in load.failed()).items():
            wrong.append(f"{count} requests failed with {status}: {problem}")
        if load.failed():
            times = ", ".join(f"{a.began_s - began:.1f}" for a in load.failed())
            print(f"failed so many seconds after the upgrade began: {times}")
        after = _counts(cluster)
        wrong += [f"{t}: {before[t]} rows before, {after[t]} after" for t in before if after[t] < before[t]]
        with cluster.database() as engine, engine.connect() as connection:
            fans = connection.scalar(sa.text("SELECT COUNT(*) FROM fans"))
            hours = connection.scalar(sa.text("SELECT COUNT(DISTINCT origin) FROM forecasts"))
        print(f"{hours} hours with a forecast of the earlier release, {fans} with a forecast as issued")
        if fans < hours:
            wrong.append(f"{hours} hours had a forecast before, {fans} have one now")
        new = httpx.get(f"{address}/predict?horizon=1..24", timeout=20, trust_env=False).json()
        said = [[r["quantiles"] for r in body["forecasts"]] for body in (old, new)]
        if said[0] != said[1]:
            wrong.append("the present hour's forecast is another than before the upgrade")
        state = cluster.status()
        if state["deployment"]["pin"] != served:
            wrong.append(f"pin {served} became {state['deployment']['pin']}")
        if len(cluster.events(limit=1000)) < len(events):
            wrong.append("events were lost")
        print(cluster.hourcast("history", "--limit", "12"))
        print(cluster.hourcast("status"))
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
