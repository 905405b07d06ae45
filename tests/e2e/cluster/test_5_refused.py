"""What must be refused: paths of the network, calls of the Kubernetes API, statements of SQL, objects of S3."""

import json
from typing import Any

import boto3
import pytest
import sqlalchemy as sa
from botocore.config import Config
from botocore.exceptions import ClientError

from hourcast.store import RIGHTS, TABLES
from tests.cluster import Cluster, probe_pod
from tests.servers import wait_for

pytestmark = pytest.mark.cluster

# Not the Kubernetes API: it is at an address of the node, which networks let pods reach whatever policies say. Accounts
# without tokens and rights guard it, below; the policy's own rule is looked at where the chart is rendered.
_PORTS = {"mysql": 3306, "minio": 9000, "mlflow": 5000, "api": 8000, "viz": 8501, "webhook": 8002, "metrics": 8080}  # fmt: skip
# The arrows of docs/architecture.md: who may open a connection to what.
_ALLOWED: dict[str, set[str]] = {
    "etl": {"mysql"},
    "trainer": {"mysql", "mlflow"},
    "backtest": {"mysql", "mlflow"},
    "packager": {"mlflow", "minio"},
    "controller": {"mysql", "minio", "mlflow"},
    "serving": {"mysql", "minio"},
    "viz": {"api"},
    "mlflow": {"mysql", "minio", "webhook"},
    "setup": {"mysql", "minio", "mlflow"},
    "tidy": {"mysql", "minio", "mlflow"},
    "test": {"mlflow", "api", "viz"},
    "mysql": set(),
    "minio": set(),
}
_TRY = """
import concurrent.futures, json, socket, sys
def reached(target):
    try:
        socket.create_connection(tuple(target), timeout=2).close()
    except OSError:
        return False
    return True
targets = json.loads(sys.argv[1])
with concurrent.futures.ThreadPoolExecutor(len(targets)) as pool:
    print(json.dumps(dict(zip(targets, pool.map(reached, targets.values())))))
"""


def _reached(cluster: Cluster, pod: str) -> set[str]:
    service = {"api": "hourcast-api", "webhook": "hourcast-controller", "metrics": "hourcast-controller"}
    targets = {name: [service.get(name, f"hourcast-{name}"), port] for name, port in _PORTS.items()}
    said = json.loads(cluster.kubectl("exec", pod, "--", "python", "-c", _TRY, json.dumps(targets)))
    return {name for name, open_ in said.items() if open_}


@pytest.mark.parametrize("component", sorted(_ALLOWED))
def test_a_part_reaches_what_it_may_and_nothing_else(cluster: Cluster, component: str) -> None:
    """A pod with a part's labels tries every service: exactly the arrows are open."""
    labels = {"app.kubernetes.io/name": "hourcast", "app.kubernetes.io/instance": "hourcast", "app.kubernetes.io/component": component}  # fmt: skip
    name = f"try-{component}"
    pod = probe_pod(name, None, **labels)
    # It answers nothing, so it must not look ready to the services that its labels belong to.
    pod["spec"]["containers"][0]["readinessProbe"] = {"exec": {"command": ["false"]}, "periodSeconds": 3600}
    cluster.apply(pod)
    try:
        cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Running", f"pod/{name}", "--timeout=60s")
        wait_for(lambda: _reached(cluster, name) == _ALLOWED[component], 20, f"just {sorted(_ALLOWED[component])}, but {sorted(_reached(cluster, name))}")  # fmt: skip
    finally:
        cluster.kubectl("delete", "pod", name, "--force", "--grace-period=0")


def test_a_stranger_reaches_the_two_pages_and_nothing_else(cluster: Cluster) -> None:
    """A pod without our labels, in the same namespace, gets the API and the dashboard."""
    cluster.apply(probe_pod("stranger"))
    try:
        cluster.kubectl("wait", "--for=condition=Ready", "pod/stranger", "--timeout=60s")
        assert _reached(cluster, "stranger") == {"api", "viz"}
    finally:
        cluster.kubectl("delete", "pod", "stranger", "--force", "--grace-period=0")


_NOTHING: set[tuple[str, str, str]] = set()
_RIGHTS: dict[str, set[tuple[str, str, str]]] = dict.fromkeys(("etl", "trainer", "backtest", "packager", "serving", "viz", "setup", "tidy", "mlflow", "mysql", "minio", "default"), _NOTHING) | {
    "controller": {
        ("deployments", "get", "hourcast-serving"), ("deployments", "patch", "hourcast-serving"),
        ("cronjobs", "get", "hourcast-packager"),
        ("jobs", "create", ""), ("jobs", "delete", ""), ("jobs", "list", ""),
        ("pods", "list", ""),
        ("leases", "get", "hourcast-controller"), ("leases", "patch", "hourcast-controller"), ("leases", "create", ""),
        ("events", "create", ""),
    }
}  # fmt: skip


@pytest.mark.parametrize("account", sorted(_RIGHTS))
def test_a_service_account_may_do_exactly_this(cluster: Cluster, account: str) -> None:
    """What Kubernetes itself says that each account may do in the namespace, whole."""
    name = account if account == "default" else f"hourcast-{account}"
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": cluster.namespace}}  # fmt: skip
    said: dict[str, Any] = json.loads(
        cluster.kubectl(
            "create", "--validate=false", "-f", "-", "-o", "json", f"--as=system:serviceaccount:{cluster.namespace}:{name}",
            given=json.dumps(review).encode(),
        )
    )  # fmt: skip
    found = {
        (resource, verb, where)
        for rule in said["status"]["resourceRules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for where in rule.get("resourceNames", [""])
        # What every account of a cluster may ask about itself.
        if not set(rule["apiGroups"]) <= {"authorization.k8s.io", "authentication.k8s.io"}
    }
    assert found == _RIGHTS[account]


@pytest.mark.parametrize("account", ["etl", "trainer", "controller", "serving", "tidy", "mlflow"])
def test_a_database_account_may_write_what_it_is_the_writer_of(cluster: Cluster, account: str) -> None:
    """Each of SELECT, INSERT, UPDATE, DELETE and DROP on each table is tried: just what the design grants goes."""
    with cluster.database("root") as root, root.connect() as connection:
        columns = {t: connection.exec_driver_sql(f"SHOW COLUMNS FROM {t}").first()[0] for t in TABLES}  # type: ignore[index]
    if account == "mlflow":
        with cluster.forward("mysql", 3306) as port:
            url = sa.URL.create("mysql+pymysql", "hourcast_mlflow", cluster.secret("mysql-accounts", "mlflow"), "127.0.0.1", port, "hourcast")  # fmt: skip
            with pytest.raises(sa.exc.OperationalError, match="1044"), sa.create_engine(url).connect():
                pass
        return
    wanted, found = set(), set()
    for table, verbs in RIGHTS[account].items():
        wanted |= {(table, verb) for verb in verbs}
    with cluster.database(account) as engine, engine.connect() as connection:
        for table in TABLES:
            column = f"`{columns[table]}`"
            tries = {
                "SELECT": f"SELECT {column} FROM {table} WHERE 1 = 0",
                "UPDATE": f"UPDATE {table} SET {column} = NULL WHERE 1 = 0",
                "DELETE": f"DELETE FROM {table} WHERE 1 = 0",
                # A grant is looked at before values are: too few of them is another error than 1142.
                "INSERT": f"INSERT INTO {table} () SELECT 1 FROM DUAL WHERE 1 = 0",
                "DROP": f"DROP TABLE {table}_never, {table}",
            }
            for verb, statement in tries.items():
                try:
                    connection.exec_driver_sql(statement)
                    found.add((table, verb))
                except sa.exc.DBAPIError as error:
                    if error.orig is not None and error.orig.args[0] not in (1142, 1143, 1370):
                        found.add((table, verb))
                connection.rollback()
    assert found == wanted


def test_no_account_reads_another_database(cluster: Cluster) -> None:
    """MLflow's tables are MLflow's."""
    for account in ("etl", "trainer", "controller", "serving", "tidy"):
        with (
            cluster.database(account) as engine,
            engine.connect() as connection,
            pytest.raises(sa.exc.OperationalError, match="1142"),
        ):
            connection.exec_driver_sql("SELECT 1 FROM hourcast_mlflow.registered_models")


@pytest.mark.parametrize(
    ("account", "writes", "reads"),
    [
        ("packager", True, True),
        ("controller", False, True),
        ("serving", False, True),
        ("tidy", False, True),
        ("mlflow", False, False),
    ],
)
def test_a_bucket_account_may_do_what_its_part_does(
    cluster: Cluster, account: str, writes: bool, reads: bool
) -> None:
    """Only the packager writes packages, only the tidying takes them away, and nobody but MLflow touches artefacts."""
    with cluster.forward("minio", 9000) as port:
        s3 = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
            aws_access_key_id=cluster.secret("s3-accounts", f"{account}-access-key"),
            aws_secret_access_key=cluster.secret("s3-accounts", f"{account}-secret-key"),
            config=Config(s3={"addressing_style": "path"}),
        )  # fmt: skip

        def may(call: str, **given: Any) -> bool:
            try:
                getattr(s3, call)(**given)
            except ClientError as error:
                if error.response["Error"]["Code"] == "AccessDenied":
                    return False
                raise
            return True

        key = "bentos/hourcast/try"
        assert may("get_object", Bucket="hourcast", Key="bentos/hourcast/aliases.json") is reads
        assert may("put_object", Bucket="hourcast", Key=key, Body=b"x") is writes
        assert may("delete_object", Bucket="hourcast", Key=key) is (account == "tidy")
        assert may("put_object", Bucket="hourcast", Key="elsewhere", Body=b"x") is False
        artefacts = account == "mlflow"
        assert may("put_object", Bucket="hourcast-mlflow", Key="try", Body=b"x") is artefacts
        assert may("delete_object", Bucket="hourcast-mlflow", Key="try") is artefacts
        assert may("create_bucket", Bucket="another") is False
    if writes:
        with cluster.s3() as admin:
            admin.delete_object(Bucket="hourcast", Key=key)


def test_an_unknown_value_is_refused(cluster: Cluster) -> None:
    """The schema is closed: a typing error ends the upgrade before anything is changed."""
    before = cluster.get("deployment", "hourcast-serving")["metadata"]["generation"]
    with pytest.raises(AssertionError, match="additional properties 'replcas' not allowed"):
        cluster.helm(
            "upgrade", cluster.release, "charts/hourcast", "--reuse-values", "--set", "serving.replcas=3"
        )
    assert cluster.get("deployment", "hourcast-serving")["metadata"]["generation"] == before


def test_no_secret_is_in_logs_or_config(cluster: Cluster) -> None:
    """None of the generated passwords and keys is in any log, event, ConfigMap or argument."""
    secrets = {
        value
        for name in ("mysql", "mysql-accounts", "s3", "s3-accounts", "internal")
        for key in cluster.get("secret", f"hourcast-{name}")["data"]
        if not key.endswith(("access-key", "user"))
        for value in [cluster.secret(name, key)]
    }
    assert len(secrets) == 15
    shown = [json.dumps(cluster.get(kind)) for kind in ("pods", "jobs", "cronjobs", "configmaps", "events", "deployments")]  # fmt: skip
    shown += [
        cluster.kubectl("logs", pod["metadata"]["name"], "--all-containers", check=False)
        for pod in cluster.get("pods")["items"]
    ]
    for text in shown:
        assert not [s for s in secrets if s in text]
