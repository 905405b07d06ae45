"""Faults under load, one after the other, with requests and rows counted: each part may die at any moment."""

import json
import time
import uuid
from collections.abc import Iterator

import httpx
import pytest

from hourcast_controller.webhook import (
    WEBHOOK_DELIVERY_ID_HEADER,
    WEBHOOK_SIGNATURE_HEADER,
    WEBHOOK_TIMESTAMP_HEADER,
    sign,
)
from tests.cluster import Cluster, note, probe_pod
from tests.flood import flood
from tests.load import Load
from tests.servers import wait_for

pytestmark = pytest.mark.cluster
_NEXT = iter(range(20250801, 20250831))


@pytest.fixture
def load(cluster: Cluster) -> Iterator[Load]:
    """Steady load over the whole fault; its counts are kept as figures."""
    with Load(cluster.node_port("api"), clients=4, per_second=20) as running:
        wait_for(lambda: len(running.answers) > 20, 30, "load")
        yield running


def _leader(cluster: Cluster) -> str:
    holder: str = cluster.get("lease", "hourcast-controller")["spec"]["holderIdentity"]
    return next(p["metadata"]["name"] for p in cluster.pods("controller") if p["metadata"]["name"] in holder)


def _jobs(cluster: Cluster, version: int) -> list[str]:
    found = cluster.get("jobs", "-l", f"hourcast.io/job=package-{version}")["items"]
    return [j["metadata"]["name"] for j in found]


def _kill_pod(cluster: Cluster, name: str) -> None:
    cluster.kubectl("delete", "pod", name, "--force", "--grace-period=0")


def _version(cluster: Cluster) -> int:
    served = cluster.served()
    assert served is not None
    with cluster.registry() as registry:
        return registry.copy(served)


def test_a_leader_killed_while_a_package_is_made_is_succeeded(cluster: Cluster, load: Load) -> None:
    """The other replica leads, makes no second job of a version, and rolls it."""
    version = _version(cluster)
    with cluster.registry() as registry:
        registry.point(str(next(_NEXT)), version)
    wait_for(lambda: bool(_jobs(cluster, version)), 30, "packaging job")
    first = _leader(cluster)
    _kill_pod(cluster, first)
    killed = time.monotonic()
    wait_for(
        lambda: first not in cluster.get("lease", "hourcast-controller")["spec"]["holderIdentity"],
        60,
        "other leader",
    )
    note(f"killed leader, until the other leads: {time.monotonic() - killed:.1f} s")
    cluster.wait_served(version, 120)
    assert len(_jobs(cluster, version)) == 1
    assert load.failed() == [], load.failed()[:5]


def test_a_leader_killed_amid_a_roll_changes_nothing_of_it(cluster: Cluster, load: Load) -> None:
    """The roll ends by itself; the successor writes it down, once."""
    version = _version(cluster)
    wait_for(lambda: _succeeded(cluster, version), 90, "package")
    with cluster.registry() as registry:
        registry.point(str(next(_NEXT)), version)
    wait_for(lambda: cluster.annotations()[0] == str(version), 30, "annotation")
    _kill_pod(cluster, _leader(cluster))
    cluster.wait_served(version, 120)
    wait_for(
        lambda: [e["version"] for e in cluster.events("rolled")][:1] == [version], 60, "event of the roll"
    )
    assert [e["version"] for e in cluster.events("rolled")].count(version) == 1
    assert load.failed() == [], load.failed()[:5]


def _succeeded(cluster: Cluster, version: int) -> bool:
    found = cluster.get("jobs", "-l", f"hourcast.io/job=package-{version}")["items"]
    return any(j["status"].get("succeeded") for j in found)


def test_a_packaging_job_that_is_killed_is_tried_again(cluster: Cluster, load: Load) -> None:
    """Its pod is gone; a second one makes the package, and the version is not blamed."""
    version = _version(cluster)
    with cluster.registry() as registry:
        registry.point(str(next(_NEXT)), version)
    wait_for(lambda: bool(_jobs(cluster, version)), 30, "packaging job")
    wait_for(
        lambda: bool(cluster.get("pods", "-l", f"job-name={_jobs(cluster, version)[0]}")["items"]),
        30,
        "its pod",
    )
    for pod in cluster.get("pods", "-l", f"job-name={_jobs(cluster, version)[0]}")["items"]:
        _kill_pod(cluster, pod["metadata"]["name"])
    cluster.wait_served(version, 180)
    assert str(version) not in cluster.status()["quarantine"]
    assert load.failed() == [], load.failed()[:5]


def test_serving_does_not_need_mlflow_nor_the_controller_to_start(cluster: Cluster, load: Load) -> None:
    """With both away a pod that is killed comes back with its version."""
    version = cluster.served()
    for name in ("mlflow", "controller"):
        cluster.kubectl("scale", f"deployment/hourcast-{name}", "--replicas=0")
    wait_for(lambda: not cluster.pods("mlflow") and not cluster.pods("controller"), 60, "their end")
    try:
        name = cluster.pods("serving")[0]["metadata"]["name"]
        cluster.kubectl("delete", "pod", name, "--wait=false")
        wait_for(
            lambda: len(cluster.pods("serving")) == 2 and cluster.ready("serving"), 90, "pod in its place"
        )
        assert cluster.served() == version
    finally:
        cluster.kubectl("scale", "deployment/hourcast-controller", "--replicas=2")
        cluster.kubectl("scale", "deployment/hourcast-mlflow", "--replicas=1")
    wait_for(lambda: cluster.ready("mlflow") and cluster.ready("controller"), 180, "both again")
    assert load.failed() == [], load.failed()[:5]


def test_a_serving_pod_that_is_killed_costs_what_it_had_in_hand(cluster: Cluster, load: Load) -> None:
    """Its open requests break; every other is answered by the pod that is left."""
    before = len(load.answers)
    cluster.kill("serving")
    wait_for(lambda: len(cluster.pods("serving")) == 2 and cluster.ready("serving"), 90, "pod in its place")
    wait_for(lambda: len(load.answers) > before + 100, 60, "answers")
    note(f"serving pod killed without a warning: {load.tell()}")
    assert {a.status for a in load.failed()} <= {0}, load.failed()[:5]
    # Two clients keep a connection, two open one a request: each may lose what it had in hand, and little more
    # until the node has taken the address away.
    assert len(load.failed()) <= 40
    assert {a.status for a in load.answers[-40:]} == {200}


def test_mlflow_killed_changes_no_answer(cluster: Cluster, load: Load) -> None:
    """The controller waits, serving goes on."""
    version = cluster.served()
    cluster.kill("mlflow")
    wait_for(lambda: not cluster.ready("mlflow"), 30, "absence of MLflow")
    wait_for(lambda: cluster.ready("mlflow"), 180, "MLflow again")
    assert cluster.served() == version
    note(f"MLflow killed: {load.tell()}")
    assert load.failed() == [], load.failed()[:5]


def test_minio_killed_changes_no_answer_and_a_new_pod_starts_from_the_cache(
    cluster: Cluster, load: Load
) -> None:
    """While the bucket is away its package comes from the volume: a pod that is replaced then serves the same version."""
    version = cluster.served()
    cluster.kubectl("scale", "statefulset/hourcast-minio", "--replicas=0")
    wait_for(lambda: not cluster.pods("minio"), 60, "end of MinIO")
    try:
        cluster.kubectl("delete", "pod", cluster.pods("serving")[0]["metadata"]["name"], "--wait=false")
        wait_for(
            lambda: len(cluster.pods("serving")) == 2 and cluster.ready("serving"), 90, "pod from the cache"
        )
    finally:
        cluster.kubectl("scale", "statefulset/hourcast-minio", "--replicas=1")
    wait_for(lambda: cluster.ready("minio"), 90, "MinIO again")
    assert cluster.served() == version
    note(f"MinIO away while a serving pod was replaced: {load.tell()}")
    assert load.failed() == [], load.failed()[:5]


def test_a_roll_while_the_bucket_is_away_waits_and_blames_nobody(cluster: Cluster, load: Load) -> None:
    """A version whose package cannot be fetched now is rolled when the bucket is back, not quarantined."""
    version = _version(cluster)
    wait_for(lambda: _succeeded(cluster, version), 90, "package")
    cluster.kubectl("scale", "statefulset/hourcast-minio", "--replicas=0")
    wait_for(lambda: not cluster.pods("minio"), 60, "end of MinIO")
    with cluster.registry() as registry:
        registry.point(str(next(_NEXT)), version)
    said = cluster.kubectl("logs", f"pod/{_leader(cluster)}", "--tail=20")
    wait_for(
        lambda: "cannot be read; nothing is changed meanwhile" in cluster.kubectl("logs", f"pod/{_leader(cluster)}", "--tail=40"),
        60, f"sentence about the bucket; last was {said[-300:]}",
    )  # fmt: skip
    cluster.kubectl("scale", "statefulset/hourcast-minio", "--replicas=1")
    cluster.wait_served(version, 150)
    assert str(version) not in cluster.status()["quarantine"]
    assert load.failed() == [], load.failed()[:5]


def test_mysql_killed_loses_no_row(cluster: Cluster, load: Load) -> None:
    """Answers say 503 with the reason for as long as there are no bars to read, and every row is there afterwards."""
    tables = ("bars", "events", "fans", "evaluations")
    before = {t: cluster.count(t) for t in tables}
    cluster.kill("mysql")
    wait_for(lambda: 503 in load.statuses or not cluster.ready("mysql"), 60, "effect")
    wait_for(lambda: cluster.ready("mysql"), 120, "MySQL again")
    seen = len(load.answers)
    wait_for(lambda: len(load.answers) > seen + 60, 60, "answers after it")
    note(f"MySQL killed: {load.tell()}")
    assert set(load.statuses) <= {200, 503}, load.failed()[:5]
    assert all("try again soon" in a.problem or "in use" in a.problem for a in load.failed()), load.failed()[
        :3
    ]
    wait_for(lambda: {a.status for a in load.answers[-30:]} == {200}, 60, "forecasts again")
    after = {t: cluster.count(t) for t in tables}
    assert all(after[t] >= before[t] for t in tables), (before, after)
    assert after["bars"] == before["bars"]


def test_a_registry_that_answers_nothing_is_an_outage(cluster: Cluster, load: Load) -> None:
    """An MLflow that has lost its model moves nothing: the served version stays and the index is not emptied."""
    version = cluster.served()
    index = _index(cluster)
    # A stand-in that knows no model takes MLflow's place behind its service.
    code = (
        "import http.server as h\n"
        "class A(h.BaseHTTPRequestHandler):\n"
        " def do_GET(self):\n"
        "  gone = 'registered-models/get' in self.path\n"
        '  body = b\'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}\' if gone else b\'{}\'\n'
        "  self.send_response(404 if gone else 200); self.send_header('Content-Type', 'application/json')\n"
        "  self.send_header('Content-Length', str(len(body))); self.end_headers(); self.wfile.write(body)\n"
        "h.ThreadingHTTPServer(('0.0.0.0', 5000), A).serve_forever()\n"
    )
    labels = {
        "app.kubernetes.io/name": "hourcast",
        "app.kubernetes.io/instance": "hourcast",
        "app.kubernetes.io/component": "mlflow",
    }
    pod = probe_pod("empty-registry", {"command": ["python", "-c", code]}, **labels, stand="in")
    pod["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": 5000}]
    cluster.apply(pod)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/empty-registry", "--timeout=60s")

    def select(value: object) -> None:
        cluster.kubectl(
            "patch",
            "service/hourcast-mlflow",
            "--type=merge",
            "-p",
            json.dumps({"spec": {"selector": {"stand": value}}}),
        )

    select("in")
    try:
        # Connections to the old MLflow are kept alive, so the controllers must open new ones, and not before those
        # lead to the stand-in.
        wait_for(
            lambda: _asked(cluster, "http://hourcast-mlflow:5000/health") == "{}", 60, "way to the stand-in"
        )
        for controller in cluster.pods("controller"):
            _kill_pod(cluster, controller["metadata"]["name"])
        wait_for(lambda: "outage" in _logs(cluster), 90, "sentence about the registry")
        assert cluster.annotations()[0] == str(version)
        assert _index(cluster) == index
    finally:
        select(None)
        _kill_pod(cluster, "empty-registry")
    wait_for(lambda: cluster.ready("controller"), 60, "controllers")
    assert cluster.served() == version
    assert load.failed() == [], load.failed()[:5]


def _asked(cluster: Cluster, url: str) -> str:
    """What a controller is answered over a new connection."""
    code = f"import urllib.request as r; print(r.urlopen('{url}', timeout=5).read().decode())"
    return cluster.kubectl("exec", _leader(cluster), "--", "python", "-c", code, check=False).strip()


def _logs(cluster: Cluster) -> str:
    return cluster.kubectl("logs", "-l", "app.kubernetes.io/component=controller", "--tail=60", check=False)


def _index(cluster: Cluster) -> set[str]:
    with cluster.s3() as s3:
        body = s3.get_object(Bucket="hourcast", Key="bentos/hourcast/aliases.json")["Body"].read()
    return {a["alias"] for a in json.loads(body)["aliases"]}


def test_forged_and_replayed_webhooks_are_refused(cluster: Cluster) -> None:
    """A delivery needs the secret, and the same one counts once."""
    secret = cluster.secret("internal", "webhook-secret")

    def deliver(port: int, key: str, delivery: str) -> httpx.Response:
        body, now = b'{"entity": "model_version_alias"}', str(int(time.time()))
        headers = {
            WEBHOOK_DELIVERY_ID_HEADER: delivery, WEBHOOK_TIMESTAMP_HEADER: now,
            WEBHOOK_SIGNATURE_HEADER: sign(key, delivery, now, body),
        }  # fmt: skip
        return httpx.post(
            f"http://127.0.0.1:{port}/webhook", content=body, headers=headers, timeout=10, trust_env=False
        )

    with cluster.forward("controller", 8002) as port:
        assert deliver(port, "not the secret", "forged").status_code == 401
        genuine = str(uuid.uuid4())
        assert deliver(port, secret, genuine).status_code == 204
        assert deliver(port, secret, genuine).status_code == 401
    assert "refused" in _logs(cluster)


def test_mlflow_knocks_by_itself(cluster: Cluster) -> None:
    """The webhook that the chart registered reaches the controller, signed."""

    def heard() -> float:
        total = 0.0
        for pod in cluster.pods("controller"):
            raw = cluster.kubectl(
                "exec", pod["metadata"]["name"], "--", "python", "-c",
                "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/metrics').read().decode())",
            )  # fmt: skip
            total += sum(
                float(line.rsplit(" ", 1)[1])
                for line in raw.splitlines()
                if line.startswith("hourcast_controller_webhook")
                and "accepted" in line
                and "_created" not in line
            )
        return total

    before = heard()
    served = cluster.served()
    assert served is not None
    with cluster.registry() as registry:
        registry.point("knock", served)
        wait_for(lambda: heard() > before, 90, "delivery of MLflow's webhook")
        registry.drop("knock")


def test_an_etl_killed_amid_its_batches_loses_nothing(cluster: Cluster) -> None:
    """Bars are taken out, a back-fill is killed half way, its job goes on: all rows as they were, none twice."""
    whole = _fingerprint(cluster)
    with cluster.database() as engine, engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM bars WHERE symbol = 'BTC/USDT'")
    made = json.loads(
        cluster.kubectl(
            "create", "job", "refill", "--from=cronjob/hourcast-etl", "--dry-run=client", "-o", "json"
        )
    )
    container = made["spec"]["template"]["spec"]["containers"][0]
    container["args"] = [
        "etl",
        "backfill",
        "--from",
        "2023-12-01",
        "--to",
        "2025-06-26",
        "--symbol",
        "BTC/USDT",
    ]
    container["env"].append({"name": "HOURCAST_ETL_CHUNK_BARS", "value": "50"})
    cluster.apply(made)

    with cluster.database() as engine:

        def stored() -> int:
            with engine.connect() as connection:
                return int(
                    connection.exec_driver_sql("SELECT COUNT(*) FROM bars WHERE symbol = 'BTC/USDT'").scalar()
                    or 0
                )

        wait_for(lambda: stored() > 0, 90, "first batch")
        for pod in cluster.get("pods", "-l", "job-name=refill")["items"]:
            _kill_pod(cluster, pod["metadata"]["name"])
        half = stored()
        assert 0 < half < whole[0], f"{half} bars: it was not killed amid its batches"
    cluster.kubectl("wait", "--for=condition=Complete", "job/refill", "--timeout=180s", limit_s=200)
    assert _fingerprint(cluster) == whole
    note(f"etl killed amid its batches: {half} bars were in, afterwards all as before")


def _fingerprint(cluster: Cluster) -> tuple[int, float]:
    with cluster.database() as engine, engine.connect() as connection:
        row = connection.exec_driver_sql(
            "SELECT COUNT(*), COALESCE(SUM(CRC32(CONCAT_WS('|', symbol, open_time, close_time, open, high, low, close, volume))), 0) FROM bars"
        ).one()
    return int(row[0]), float(row[1])


def _ready_since(cluster: Cluster) -> dict[str, tuple[str, str, int]]:
    """Of each serving pod since when it has been ready, whether it is, and how often it was restarted."""
    out = {}
    for pod in cluster.pods("serving"):
        (ready,) = (c for c in pod["status"]["conditions"] if c["type"] == "Ready")
        restarts = sum(c["restartCount"] for c in pod["status"]["containerStatuses"])
        out[pod["metadata"]["name"]] = (ready["lastTransitionTime"], ready["status"], restarts)
    return out


def test_more_requests_than_can_be_answered_leave_every_pod_ready(cluster: Cluster) -> None:
    """An outage made of load: were probes to wait in line with the rest, every pod would go unready at once."""
    wait_for(lambda: cluster.ready("serving"), 60, "both pods ready")
    before = _ready_since(cluster)
    told = flood(f"{cluster.node_port('api')}/predict", 1200, 20)
    note(f"1,200 requests a second for 20 s: {told}")
    assert set(told.answers) == {200, 503}, told
    after = _ready_since(cluster)
    assert after == before
    assert len(after) == 2
    assert {status for _, status, _ in after.values()} == {"True"}
    with Load(cluster.node_port("api"), clients=2, per_second=10) as calm:
        wait_for(lambda: len(calm.answers) > 20, 30, "answers")
    assert calm.failed() == []
