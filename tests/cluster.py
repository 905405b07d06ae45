"""A release on a real cluster, as its users have it: kubectl, helm, node ports and port-forwards, and nothing else.

Needs KUBECONFIG, kubectl and helm, and the six images on the nodes (`make images load`).
"""

import base64
import contextlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import sqlalchemy as sa
from botocore.config import Config

from tests.ports import find_port
from tests.servers import program, wait_for

CHART = Path(__file__).parents[1] / "charts" / "hourcast"
TAG = next(
    line.removeprefix("appVersion: ")
    for line in (CHART / "Chart.yaml").read_text().splitlines()
    if line.startswith("appVersion: ")
)
"""The release, which is the tag of the images that `make images` builds and the chart asks for."""
CLOCK = "2025-06-26T00:00Z"
FILES = ("btc_1h.csv", "ndx_1h.csv", "vix_1h.csv", "gold_1h.csv")


def run(*words: str, given: bytes | None = None, limit_s: float = 180, check: bool = True) -> str:
    """A command; its output. An AssertionError has what it said when it failed."""
    done = subprocess.run(words, input=given, capture_output=True, timeout=limit_s, check=False)
    out = done.stdout.decode(errors="replace")
    if check:
        assert done.returncode == 0, f"{' '.join(words)} ended with {done.returncode}:\n{out}\n{done.stderr.decode(errors='replace')}"  # fmt: skip
    return out


class Cluster:
    """A namespace with a release in it."""

    def __init__(self, namespace: str, release: str = "hourcast") -> None:
        self.namespace, self.release = namespace, release

    # -- kubectl and helm -------------------------------------------------------------------------

    def kubectl(
        self, *words: str, given: bytes | None = None, limit_s: float = 180, check: bool = True
    ) -> str:
        """`kubectl -n <namespace> …`."""
        return run(program("kubectl", package="kubectl"), "-n", self.namespace, *words, given=given, limit_s=limit_s, check=check)  # fmt: skip

    def helm(self, *words: str, limit_s: float = 300, check: bool = True) -> str:
        """`helm -n <namespace> …`."""
        return run(
            program("helm", package="helm"), "-n", self.namespace, *words, limit_s=limit_s, check=check
        )

    def get(self, kind: str, *more: str) -> Any:
        """Objects as JSON."""
        return json.loads(self.kubectl("get", kind, *more, "-o", "json"))

    def make(self) -> None:
        """The namespace, with restricted pod security."""
        self.kubectl("create", "namespace", self.namespace)
        self.kubectl("label", "namespace", self.namespace, "pod-security.kubernetes.io/enforce=restricted")

    def install(self, *words: str, command: tuple[str, ...] = ("install",)) -> None:
        """`helm install` with the tests' values."""
        self.helm(*command, self.release, str(CHART), "-f", str(CHART / "values-ci.yaml"), *words)

    def apply(self, manifest: dict[str, Any]) -> None:
        """`kubectl apply`."""
        self.kubectl("apply", "-f", "-", given=json.dumps(manifest).encode())

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Pods of a part that are not on their way out."""
        found = self.get("pods", "-l", f"app.kubernetes.io/instance={self.release},app.kubernetes.io/component={component}")  # fmt: skip
        return [p for p in found["items"] if "deletionTimestamp" not in p["metadata"]]

    def hourcast(self, *words: str, check: bool = True) -> str:
        """An operator's command, in the controller's pod."""
        return self.kubectl(
            "exec", f"deploy/{self.release}-controller", "--", "hourcast", *words, check=check
        )

    def secret(self, name: str, key: str) -> str:
        """A value of a secret."""
        return base64.b64decode(self.get("secret", f"{self.release}-{name}")["data"][key]).decode()

    def node_port(self, service: str) -> str:
        """Address of a service on its node port."""
        port = self.get("service", f"{self.release}-{service}")["spec"]["ports"][0]["nodePort"]
        return f"http://127.0.0.1:{port}"

    @contextlib.contextmanager
    def forward(self, service: str, port: int) -> Iterator[int]:
        """`kubectl port-forward svc/…`; gives the port of 127.0.0.1."""
        here = find_port()
        words = [program("kubectl", package="kubectl"), "-n", self.namespace, "port-forward", f"svc/{self.release}-{service}", f"{here}:{port}"]  # fmt: skip
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "Forwarding from" in line, line
            yield here
        finally:
            process.terminate()
            process.communicate(timeout=10)

    def dump(self) -> str:
        """What the cluster looks like, for a test that failed."""
        looks = (
            ("get", "pods,jobs,deployments,statefulsets", "-o", "wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
            ("describe", f"deployment/{self.release}-serving"),
            ("logs", f"deployment/{self.release}-controller", "--tail=60", "--prefix"),
            ("logs", "-l", "app.kubernetes.io/component=packager", "--tail=20", "--prefix"),
            ("logs", "-l", "app.kubernetes.io/component=setup", "--tail=30", "--prefix", "--all-containers"),
            ("logs", "-l", "app.kubernetes.io/component=trainer", "--tail=30", "--prefix"),
            (
                "logs",
                "-l",
                "app.kubernetes.io/component=serving",
                "--tail=15",
                "--prefix",
                "--all-containers",
            ),
            ("logs", "-l", "app.kubernetes.io/component=mlflow", "--tail=15", "--prefix"),
        )
        parts = [
            f"--- kubectl {' '.join(words)}\n{self.kubectl(*words, check=False)[-6000:]}" for words in looks
        ]
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            parts.append(f"--- hourcast history\n{self.hourcast('history', '--limit', '40', check=False)}")
        return "\n".join(parts)

    # -- the parts ----------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """`hourcast status --json`."""
        answer: dict[str, Any] = json.loads(self.hourcast("status", "--json"))
        return answer

    def events(self, kind: str | None = None, limit: int = 300) -> list[dict[str, Any]]:
        """`hourcast history --json`, the newest first."""
        found: list[dict[str, Any]] = json.loads(self.hourcast("history", "--json", "--limit", str(limit)))
        return [e for e in found if kind in (None, e["kind"])]

    def annotations(self) -> tuple[str | None, str | None]:
        """Version and alias that the pod template names."""
        template = self.get("deployment", f"{self.release}-serving")["spec"]["template"]["metadata"]
        found = template.get("annotations", {})
        return found.get("hourcast.io/model-version"), found.get("hourcast.io/model-alias")

    def served(self) -> int | None:
        """The version that answers now, or None."""
        with contextlib.suppress(httpx.HTTPError, KeyError, ValueError):
            answer = httpx.get(f"{self.node_port('api')}/health", timeout=5, trust_env=False)
            if answer.status_code == 200:
                version: int = answer.json()["version"]
                return version
        return None

    def wait_served(self, version: int, limit_s: float = 90) -> None:
        """Wait until the Deployment serves a version with all its pods and no other pod is left to answer."""

        def held() -> bool:
            spec = self.get("deployment", f"{self.release}-serving")
            status = spec["status"]
            wanted = spec["spec"]["replicas"]
            annotations = spec["spec"]["template"]["metadata"].get("annotations", {})
            return (
                annotations.get("hourcast.io/model-version") == str(version)
                and status.get("observedGeneration") == spec["metadata"]["generation"]
                and status.get("updatedReplicas") == status.get("availableReplicas") == wanted
                and status.get("replicas") == wanted
            )

        wait_for(held, limit_s, f"roll to version {version}", every_s=0.5)

    @contextlib.contextmanager
    def database(self, account: str = "root") -> Iterator[sa.Engine]:
        """The store as the administrator, or as one of the accounts."""
        with self.forward("mysql", 3306) as port:
            if account == "root":
                name, word = "root", self.secret("mysql", "admin-password")
            else:
                name, word = f"hourcast_{account}", self.secret("mysql-accounts", account)
            url = sa.URL.create("mysql+pymysql", name, word, "127.0.0.1", port, "hourcast")
            engine = sa.create_engine(url, poolclass=sa.NullPool)
            try:
                yield engine
            finally:
                engine.dispose()

    def count(self, table: str) -> int:
        """Rows of a table."""
        with self.database() as engine, engine.connect() as connection:
            return int(connection.scalar(sa.text(f"SELECT COUNT(*) FROM {table}")) or 0)

    @contextlib.contextmanager
    def s3(self) -> Iterator[Any]:
        """The bucket as the administrator."""
        with self.forward("minio", 9000) as port:
            yield boto3.client(
                "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
                aws_access_key_id=self.secret("s3", "admin-user"),
                aws_secret_access_key=self.secret("s3", "admin-password"),
                config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 5}),
            )  # fmt: skip

    @contextlib.contextmanager
    def registry(self) -> Iterator["Registry"]:
        """MLflow over a port-forward."""
        with self.forward("mlflow", 5000) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:  # fmt: skip
            yield Registry(client)

    def kill(self, component: str) -> None:
        """End a pod of a part at once, as a node that dies does."""
        name = self.pods(component)[0]["metadata"]["name"]
        self.kubectl("delete", "pod", name, "--force", "--grace-period=0")

    def ready(self, component: str) -> bool:
        """Whether all pods of a part are ready."""
        pods = self.pods(component)
        return bool(pods) and all(
            any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions", []))
            for p in pods
        )


class Registry:
    """What the tests do in MLflow in the trainer's stead: versions of a trained model, and aliases."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def call(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        """One call."""
        given = {"params": body} if method == "GET" else {"json": body}
        answer = self._client.request(method, f"/api/2.0/mlflow/{path}", **given)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def aliases(self) -> dict[str, int]:
        """Alias to version."""
        model = self.call("GET", "registered-models/get", name="hourcast")["registered_model"]
        return {a["alias"]: int(a["version"]) for a in model.get("aliases", [])}

    def version(self, number: int) -> dict[str, Any]:
        """A version."""
        found: dict[str, Any] = self.call("GET", "model-versions/get", name="hourcast", version=str(number))["model_version"]  # fmt: skip
        return found

    def copy(self, number: int) -> int:
        """Another version of the same model: what a training registers, without the training."""
        found = self.version(number)
        source: str = found["source"]
        made = self.call(
            "POST", "model-versions/create", name="hourcast", source=source, run_id=found["run_id"],
            model_id=source.removeprefix("models:/"),
        )["model_version"]  # fmt: skip
        copied = {t["key"]: t["value"] for t in found["tags"]}
        # The gate comes last, as the trainer writes it.
        for key in sorted(copied, key=lambda k: k == "gate"):
            if key not in ("alias", "alias_set"):
                self.call(
                    "POST", "model-versions/set-tag", name="hourcast", version=made["version"], key=key, value=copied[key]
                )  # fmt: skip
        return int(made["version"])

    def point(self, alias: str, version: int) -> None:
        """Set an alias."""
        self.call("POST", "registered-models/alias", name="hourcast", alias=alias, version=str(version))

    def drop(self, alias: str) -> None:
        """Delete an alias."""
        self.call("DELETE", "registered-models/alias", name="hourcast", alias=alias)


@contextlib.contextmanager
def namespace(name: str) -> Iterator[Cluster]:
    """A namespace of its own, deleted afterwards. With HOURCAST_TEST_KEEP it is left, and taken up by the next run."""
    cluster = Cluster(name)
    keep = bool(os.environ.get("HOURCAST_TEST_KEEP"))
    if not (keep and cluster.kubectl("get", "namespace", name, "--ignore-not-found")):
        cluster.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=true", limit_s=300)
        cluster.make()
    try:
        yield cluster
    finally:
        if not keep:
            cluster.kubectl("delete", "namespace", name, "--wait=false", check=False)


def bring_files(cluster: Cluster, folder: Path) -> None:
    """Recorded bars on a claim, for `etl.source=files:/data`."""
    cluster.apply(
        {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "bars"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
        }
    )  # fmt: skip
    cluster.apply(probe_pod("filler", {"claims": {"bars": "/data"}}))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/filler", "--timeout=120s")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in FILES:
            archive.add(folder / name, name)
    unpack = "import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall('/data')"
    cluster.kubectl("exec", "-i", "filler", "--", "python", "-c", unpack, given=packed.getvalue())
    cluster.kubectl("delete", "pod", "filler", "--grace-period=0", "--force")


def probe_pod(name: str, options: dict[str, Any] | None = None, **labels: str) -> dict[str, Any]:
    """A confined pod that waits to be told what to do; `labels` make it look like another's."""
    given = options or {}
    claims: dict[str, str] = given.get("claims", {})
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {
            "automountServiceAccountToken": False, "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "probe", "image": f"docker.io/hourcast/controller:{TAG}",
                "command": given.get("command", ["python", "-c", "import time; time.sleep(1800)"]),
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": claim, "mountPath": path} for claim, path in claims.items()],
            }],
            "volumes": [{"name": c, "persistentVolumeClaim": {"claimName": c}} for c in claims],
        },
    }  # fmt: skip


def note(line: str) -> None:
    """A figure for docs/figures.md: printed, and kept in the file that HOURCAST_TEST_FIGURES names."""
    print(line)
    if name := os.environ.get("HOURCAST_TEST_FIGURES"):
        with Path(name).open("a") as file:
            file.write(line + "\n")
