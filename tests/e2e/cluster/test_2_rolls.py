"""Rolls under steady load, each beside a bare restart of the same two pods: how long they took, and that no request failed."""

import json
import time
from datetime import datetime
from itertools import pairwise

import pytest

from tests.cluster import Cluster, note
from tests.load import Load
from tests.servers import wait_for

pytestmark = pytest.mark.cluster
_ROLLS = 10


def _packaged(cluster: Cluster) -> set[int]:
    with cluster.s3() as s3:
        keys = [
            o["Key"] for o in s3.list_objects_v2(Bucket="hourcast", Prefix="bentos/hourcast/")["Contents"]
        ]
    names = (k.rsplit("/", 1)[1].removesuffix(".json") for k in keys if k.endswith(".json"))
    return {int(n) for n in names if n.isdigit()}


@pytest.fixture(scope="module")
def fresh(shared_release: Cluster) -> list[int]:
    """Versions as trainings register them: passed, and without an alias yet. Each is packaged before it gets one."""
    with shared_release.registry() as registry:
        served = shared_release.served()
        assert served is not None
        began = time.monotonic()
        made = [registry.copy(served) for _ in range(_ROLLS)]
    wait_for(lambda: set(made) <= _packaged(shared_release), 300, "packages of versions without an alias")
    note(
        f"packages of {_ROLLS} versions, one job each: {(time.monotonic() - began) / _ROLLS:.1f} s a version"
    )
    return made


def test_rolls_beside_bare_restarts_lose_no_request(cluster: Cluster, fresh: list[int]) -> None:
    """In turns an alias is set and `kubectl rollout restart` called, under one load: all answers are forecasts, and within a bound all are new."""
    spans, bare, firsts, begins = [], [], [], []
    with Load(cluster.node_port("api")) as load:
        wait_for(lambda: len(load.answers) > 80, 30, "load")
        for i, version in enumerate(fresh):
            alias = f"202506{12 + i}"
            with cluster.registry() as registry:
                registry.point(alias, version)
                begun, wall = time.monotonic(), time.time()
            load.wait_taken(version, begun)
            cluster.wait_served(version)
            spans.append(load.last_of_others(version, begun) - begun)
            firsts.append(min(a.ended_s for a in load.answers if a.version == version) - begun)
            begins.append(wall)
            before = load.servers()
            cluster.kubectl("rollout", "restart", f"deployment/{cluster.release}-serving")
            begun = time.monotonic()
            load.wait_replaced(before, begun)
            cluster.wait_served(version)
            bare.append(load.last_of(before, begun) - begun)
    assert load.failed() == [], load.failed()[:5]
    assert {a.version for a in load.answers} >= set(fresh)
    order = [a.version for a in sorted(load.answers, key=lambda a: a.ended_s)]
    assert order[-1] == fresh[-1]
    started = {e["version"]: e for e in cluster.events("roll_started")}
    noticed = [_wall(started[v]) - wall for v, wall in zip(fresh, begins, strict=True)]
    note(
        f"{_ROLLS} rolls under load ({load.tell()}): alias set to every answer from the new version, "
        f"p50 {_median(spans):.1f} s, p95 {_p95(spans):.1f} s, longest {max(spans):.1f} s"
    )
    note(
        f"{_ROLLS} bare `kubectl rollout restart` of the same two pods in between: p50 {_median(bare):.1f} s, "
        f"p95 {_p95(bare):.1f} s; rolls are {_median(spans) / _median(bare):.2f} times as long, "
        f"at p95 {_p95(spans) / _p95(bare):.2f} times"
    )
    note(
        f"stages of a roll, medians: alias noticed and roll asked for {_median(noticed):.2f} s, "
        f"first answer of the new version {_median(firsts):.1f} s, last of the old {_median(spans):.1f} s"
    )
    # The figures are in docs/figures.md; these are the bounds beyond which something is broken.
    assert max(spans) < 45
    assert max(bare) < 45
    rolled = [e["version"] for e in reversed(cluster.events("rolled")) if e["version"] in fresh]
    assert rolled == fresh
    assert all(a < b for a, b in pairwise(rolled))


def _wall(event: dict[str, str]) -> float:
    return datetime.fromisoformat(event["wall_at"]).timestamp()


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _p95(values: list[float]) -> float:
    return sorted(values)[round(0.95 * (len(values) - 1))]


def test_an_alias_without_a_package_is_packaged_and_rolled(cluster: Cluster) -> None:
    """The slow way, when the alias is there at once: one packaging job, then the roll."""
    served = cluster.served()
    assert served is not None
    with Load(cluster.node_port("api"), clients=2, per_second=10) as load:
        with cluster.registry() as registry:
            version = registry.copy(served)
            registry.point("20250622", version)
        begun = time.monotonic()
        load.wait_taken(version, begun)
    assert load.failed() == []
    note(
        f"alias set at once with its version, package included: {load.last_of_others(version, begun) - begun:.1f} s"
    )


def test_an_alias_that_is_set_twice_within_a_second_is_taken_as_it_is_last(cluster: Cluster) -> None:
    """Two versions for one alias: the last one serves, whatever was begun for the first."""
    served = cluster.served()
    assert served is not None
    with cluster.registry() as registry:
        one, two = registry.copy(served), registry.copy(served)
    wait_for(lambda: {one, two} <= _packaged(cluster), 60, "packages")
    with Load(cluster.node_port("api"), clients=2, per_second=10) as load:
        with cluster.registry() as registry:
            registry.point("20250623", one)
            registry.point("20250623", two)
        cluster.wait_served(two, 120)
    assert load.failed() == []


def test_an_alias_that_is_moved_back_or_deleted_moves_nothing(cluster: Cluster) -> None:
    """Taking a version back is for people: `undo` and `pin`."""
    served = cluster.served()
    assert served is not None
    with cluster.registry() as registry:
        older = registry.aliases()["20250620"]
        registry.point("20250623", older)
        wait_for(lambda: cluster.status()["aliases"]["20250623"] == older, 20, "alias that was moved back")
        _stays(cluster, served)
        registry.drop("20250623")
        wait_for(lambda: "20250623" not in cluster.status()["aliases"], 20, "deleted alias")
        _stays(cluster, served)
        registry.point("20250623", served)


def _stays(cluster: Cluster, version: int) -> None:
    """Several turns of the controller later the same version is asked for and answers."""
    before = _turns(cluster)
    wait_for(lambda: _turns(cluster) > before + 5, 60, "turns of the controller")
    assert cluster.served() == version
    assert cluster.annotations()[0] == str(version)


def _turns(cluster: Cluster) -> float:
    """Turns that the leader has made, by its own metrics."""
    total = 0.0
    for pod in cluster.pods("controller"):
        raw = cluster.kubectl(
            "exec", pod["metadata"]["name"], "--", "python", "-c",
            "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/metrics').read().decode())",
        )  # fmt: skip
        for line in raw.splitlines():
            if line.startswith("hourcast_controller_turns_total"):
                total += float(line.rsplit(" ", 1)[1])
    return total


def test_the_controller_tells_its_figures(cluster: Cluster) -> None:
    """One of the two leads, and /metrics names the served version."""
    leading = 0.0
    for pod in cluster.pods("controller"):
        raw = cluster.kubectl(
            "exec", pod["metadata"]["name"], "--", "python", "-c",
            "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/metrics').read().decode())",
        )  # fmt: skip
        leading += sum(
            float(line.rsplit(" ", 1)[1])
            for line in raw.splitlines()
            if line.startswith("hourcast_controller_leader ")
        )
    assert leading == 1
    assert (
        json.loads(cluster.hourcast("status", "--json"))["deployment"]["serving_version"] == cluster.served()
    )
