"""What `hourcast status` imports: it is asked often, and what it does not import it need not wait for."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import pytest
from websockets.sync.server import ServerConnection, serve

from hourcast.decisions import Decision
from hourcast.store import open_store
from tests.answering import Answer, answering

_STATUS = """
import json, sys
from hourcast.cli import main
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
_EXEC = "/api/v1/namespaces/ns/pods/controller-1/exec"
_POD = {
    "metadata": {"name": "controller-1"},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}
_DEPLOYMENT = {
    "annotations": {},
    "pod_template": {"annotations": {"hourcast.io/model-version": "2", "hourcast.io/model-alias": "20250611"}},
    "status": {
        "serving_version": 2, "serving_alias": "20250611", "rolling": False, "failed_version": None, "failure": None,
    },
}  # fmt: skip
_VERSION = {"version": "2", "run_id": "r", "tags": [{"key": "gate", "value": "passed"}, {"key": "kind", "value": "lstm"}]}  # fmt: skip
_ANSWERS = {
    "/v1/deployment": _DEPLOYMENT,
    "/v1/jobs": [],
    "/api/2.0/mlflow/registered-models/get": {
        "registered_model": {"aliases": [{"alias": "20250611", "version": "2"}]}
    },
    "/api/2.0/mlflow/model-versions/search": {"model_versions": [_VERSION]},
}


def _status(*words: str, **more: str) -> tuple[int, str, set[str]]:
    """Exit code, output and imported modules of `hourcast status`."""
    done = subprocess.run(
        [sys.executable, "-c", _STATUS, "status", *words],
        env=os.environ | more, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    *_, modules = done.stderr.splitlines()
    return done.returncode, done.stdout, set(json.loads(modules))


@pytest.fixture
def node_and_registry() -> Iterator[str]:
    """A node that serves version 2, and a registry whose alias names it, at one address."""
    with answering(lambda asked: Answer(_ANSWERS[asked.path])) as url:
        yield url


def test_status_imports_what_it_asks_and_no_more(node_and_registry: str, tmp_path: Path) -> None:
    """On one machine: neither the cluster's client, nor the bucket's, nor migrations, models, metrics or frames."""
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    store.upgrade()
    moment = datetime(2025, 6, 26, tzinfo=UTC)
    for kind, version, reason, told in (
        ("quarantined", 1, "too wide", {}),
        ("held", None, "by an operator", {}),
        (
            "blocked",
            3,
            "version 3 is not served, and the place is at fault: no image",
            {"fault": "place", "of": "rollout"},
        ),
    ):
        store.decide(Decision(moment, "controller", kind, "hourcast", version, None, reason, moment, told))
    store.close()
    code, said, modules = _status(
        COLUMNS="90",
        HOURCAST_DATABASE_URL=f"sqlite:///{tmp_path / 'store.db'}",
        HOURCAST_NODE_URL=node_and_registry,
        HOURCAST_MLFLOW_URL=node_and_registry,
    )
    assert code == 0
    assert [line.rstrip() for line in said.splitlines()] == [
        "serving     version 2 (alias 20250611, lstm)",
        "policy      newest",
        "pin         none",
        "hold        yes: nothing is rolled until `hourcast release`",
        "aliases     20250611 → v2",
        "quarantine  version 1: too wide",
        "blocked     version 3 is not served, and the place is at fault: no image; nothing else is",
        "            tried until that is mended",
    ]
    heavy = {
        "alembic", "bentoml", "boto3", "botocore", "fastapi", "hourcast.features", "hourcast_controller.loop",
        "hourcast_controller.targets.kubernetes", "kubernetes", "mlflow", "onnxruntime", "pandas", "prometheus_client",
        "pymysql", "scipy", "torch", "uvicorn",
    }  # fmt: skip
    assert modules & heavy == set()


def test_status_of_a_cluster_runs_in_its_controller(tmp_path: Path) -> None:
    """With -n: output, errors and exit code are the pod's, and nothing is imported that only the pod needs."""
    asked: list[str] = []

    def listed(connection: ServerConnection, request: object) -> object:
        path = str(getattr(request, "path", ""))
        asked.append(path)
        if path.startswith(_EXEC):
            return None
        answer = connection.respond(HTTPStatus.OK, json.dumps({"items": [_POD]}))
        answer.headers["Connection"] = "close"
        return answer

    def pod(connection: ServerConnection) -> None:
        failed = {"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}}
        connection.send(b"\x01serving  version 2\n")
        connection.send(b"\x02a warning\n")
        connection.send(b"\x03" + json.dumps(failed).encode())

    with serve(pod, "127.0.0.1", 0, process_request=listed, subprotocols=["v4.channel.k8s.io"]) as server:  # type: ignore[arg-type,list-item]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        (tmp_path / "kubeconfig").write_text(
            json.dumps(
                {
                    "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                    "users": [{"name": "u", "user": {"token": "t"}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )
        code, said, modules = _status("-n", "ns", COLUMNS="90", KUBECONFIG=str(tmp_path / "kubeconfig"))
        server.shutdown()
        thread.join()
    assert (code, said) == (3, "serving  version 2\n")
    assert asked[-1] == (
        f"{_EXEC}?container=controller&stdin=false&stdout=true&stderr=true&tty=false"
        "&command=hourcast&command=status&command=--width&command=90"
    )
    heavy = {
        "hourcast.contracts",
        "hourcast.settings",
        "httpx",
        "kubernetes.client.api.core_v1_api",
        "numpy",
        "sqlalchemy",
    }
    assert modules & heavy == set()
