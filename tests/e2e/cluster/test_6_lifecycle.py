"""Upgrade, rollback, uninstall and install: nothing is lost, and the served model never moves. Services that exist already."""

import json
from typing import Any

import httpx
import pytest

from tests.cluster import CHART, CLOCK, Cluster, namespace, note
from tests.load import Load
from tests.servers import wait_for

pytestmark = pytest.mark.cluster


def _rows(cluster: Cluster) -> dict[str, int]:
    return {t: cluster.count(t) for t in ("bars", "evaluations", "backtest_rows")}


def _secrets(cluster: Cluster) -> dict[str, Any]:
    found = cluster.get("secrets")["items"]
    return {
        s["metadata"]["name"]: s["data"] for s in found if not s["metadata"]["name"].startswith("sh.helm")
    }


def _settled(cluster: Cluster) -> bool:
    spec = cluster.get("deployment", "hourcast-serving")
    status = spec["status"]
    wanted = spec["spec"]["replicas"]
    return (
        status.get("observedGeneration") == spec["metadata"]["generation"]
        and status.get("updatedReplicas")
        == status.get("availableReplicas")
        == status.get("replicas")
        == wanted
    )


def test_upgrade_and_rollback_keep_the_served_version_and_every_secret(cluster: Cluster) -> None:
    """A change of settings rolls the pods under load, and back again; version, alias, rows and secrets stay."""
    before, secrets, rows = cluster.annotations(), _secrets(cluster), _rows(cluster)
    with Load(cluster.node_port("api"), clients=2, per_second=10) as load:
        cluster.helm("upgrade", cluster.release, str(CHART), "--reuse-values", "--set", "logLevel=WARNING")
        wait_for(lambda: _settled(cluster), 180, "end of the upgrade")
        assert cluster.get("configmap", "hourcast-config")["data"]["HOURCAST_LOG_LEVEL"] == "WARNING"
        assert cluster.annotations() == before
        cluster.helm("rollback", cluster.release)
        wait_for(lambda: _settled(cluster), 180, "end of the rollback")
        assert cluster.get("configmap", "hourcast-config")["data"]["HOURCAST_LOG_LEVEL"] == "INFO"
    assert cluster.annotations() == before
    assert str(cluster.served()) == before[0]
    assert {a.version for a in load.answers} == {int(before[0] or 0)}
    assert load.failed() == [], load.failed()[:5]
    note(f"helm upgrade and rollback: {load.tell()}")
    assert _secrets(cluster) == secrets
    assert _rows(cluster) == rows


def test_uninstall_and_install_with_kept_claims_serves_what_was_served(cluster: Cluster) -> None:
    """Held at an older version while a newer alias is there: a new installation finds bars, registry, hold and version."""
    rows, secrets = _rows(cluster), _secrets(cluster)
    values = json.loads(cluster.helm("get", "values", cluster.release, "-o", "json"))
    newest = cluster.served()
    older = cluster.status()["aliases"]["20250614"]
    cluster.hourcast("pin", str(older))
    cluster.wait_served(older)
    cluster.hourcast("hold")
    cluster.helm("uninstall", cluster.release, "--wait", "--timeout", "3m")
    claims = {c["metadata"]["name"] for c in cluster.get("pvc")["items"]}
    assert {"data-hourcast-mysql-0", "data-hourcast-minio-0"} <= claims
    assert _secrets(cluster) == secrets
    flat = json.dumps(values)
    cluster.helm("install", cluster.release, str(CHART), "--set-json", _sets(flat))
    cluster.wait_served(older, 300)
    wait_for(lambda: cluster.served() == older, 60, "answer")
    state = cluster.status()["deployment"]
    assert (state["pin"], state["hold"]) == (older, True)
    assert _rows(cluster) == rows
    assert _secrets(cluster) == secrets
    assert "20250614" in cluster.status()["aliases"]
    cluster.hourcast("release")
    cluster.hourcast("unpin")
    assert newest is not None
    cluster.wait_served(newest, 120)


def _sets(flat: str) -> str:
    return ",".join(f"{name}={json.dumps(value)}" for name, value in json.loads(flat).items())


def test_a_release_on_services_and_secrets_that_exist_already(cluster: Cluster) -> None:
    """A second release in a namespace of its own uses the first one's MySQL and S3, with databases, accounts and buckets of its own."""
    with namespace("hourcast-second") as second:
        for name, data in (
            ("db-admin", {"admin-password": cluster.secret("mysql", "admin-password")}),
            ("s3-admin", {key: cluster.secret("s3", key) for key in ("admin-user", "admin-password")}),
            ("own-accounts", {a: f"own p@ss:/word' of {a}" for a in ("etl", "trainer", "controller", "serving", "mlflow")}),
        ):  # fmt: skip
            second.apply(
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
            )
        second.install(
            "--set", "mysql.enabled=false", "--set", f"mysql.host=hourcast-mysql.{cluster.namespace}",
            "--set", "mysql.existingSecret=db-admin", "--set", "mysql.prefix=second", "--set", "mysql.accountsSecret=own-accounts",
            "--set", "s3.enabled=false", "--set", f"s3.endpoint=http://hourcast-minio.{cluster.namespace}:9000",
            "--set", "s3.existingSecret=s3-admin", "--set", "s3.bucket=second", "--set", "s3.artifactsBucket=second-mlflow",
            "--set", "serving.replicas=1", "--set", "serving.minAvailable=0", "--set", "controller.replicas=1",
            "--set", "serving.cache.enabled=false",
        )  # fmt: skip
        assert not second.get("statefulsets")["items"]
        try:
            wait_for(lambda: second.served() is not None, 300, "answer of the second release")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{second.dump()}") from None
        answer = httpx.get(f"{second.node_port('api')}/predict?horizon=1", timeout=20, trust_env=False)
        assert answer.status_code == 200
        assert answer.json()["synthetic"] is True
        with cluster.database() as engine, engine.connect() as connection:
            found = {row[0] for row in connection.exec_driver_sql("SHOW DATABASES")}
        assert {"hourcast", "hourcast_mlflow", "second", "second_mlflow"} <= found
        with cluster.s3() as s3:
            assert {"hourcast", "hourcast-mlflow", "second", "second-mlflow"} <= {b["Name"] for b in s3.list_buckets()["Buckets"]}  # fmt: skip


def test_memory_of_an_idle_release(cluster: Cluster) -> None:
    """What each part takes while nothing happens: figures for docs/figures.md, within the kind profile's limits."""
    node = cluster.get("nodes")["items"][0]["metadata"]["name"]
    said = json.loads(cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary"))
    parts: dict[str, float] = {}
    for pod in said["pods"]:
        if pod["podRef"]["namespace"] == cluster.namespace and "memory" in pod:
            name = pod["podRef"]["name"].removeprefix("hourcast-").split("-")[0]
            parts[name] = parts.get(name, 0) + pod["memory"]["workingSetBytes"] / 2**20
    whole = sum(parts.values())
    note("memory, idle (MiB): " + ", ".join(f"{n} {mib:.0f}" for n, mib in sorted(parts.items())) + f"; in all {whole:.0f}")  # fmt: skip
    assert {"serving", "controller", "mlflow", "mysql", "minio", "viz"} <= set(parts)
    assert whole < 4096


def test_the_clock_of_the_tests_is_what_the_release_says(cluster: Cluster) -> None:
    """Answers stand at the clock that was set, with no bar after it."""
    body = httpx.get(f"{cluster.node_port('api')}/health", timeout=10, trust_env=False).json()
    assert body["now"] == CLOCK.replace("Z", ":00Z")
    assert body["stale"] is False


def test_what_is_rendered_without_the_cluster_can_be_applied_again_and_again(cluster: Cluster) -> None:
    """As Argo CD does it: two renderings applied over the release rotate no secret, and the served version stays and answers."""
    before, secrets, rows = cluster.annotations(), _secrets(cluster), _rows(cluster)
    values = _sets(cluster.helm("get", "values", cluster.release, "-o", "json"))
    words = ("template", cluster.release, str(CHART), "--set-json", values)
    made = cluster.helm(*words, "--show-only", "templates/secrets.yaml")
    with pytest.raises(AssertionError, match="already exists"):
        cluster.kubectl("create", "-f", "-", given=made.encode())
    for _ in range(2):
        rendered = cluster.helm(*words, "--skip-tests", "--set", "secrets.create=false")
        cluster.kubectl("apply", "-f", "-", given=rendered.encode(), limit_s=120)
        wait_for(lambda: _settled(cluster), 180, "end of the roll, if there is one")
    assert _secrets(cluster) == secrets
    assert cluster.annotations() == before
    assert str(cluster.served()) == before[0]
    # A pod that starts now logs in with what is there.
    cluster.kubectl("rollout", "restart", "deploy/hourcast-serving")
    wait_for(lambda: _settled(cluster), 180, "end of the restart")
    assert str(cluster.served()) == before[0]
    assert _rows(cluster) == rows
