"""`hourcast mlflow-server`: becomes MLflow's own server, with all that is secret in the environment."""

import base64
import binascii
import os
import sys
from collections.abc import Callable, Mapping

from hourcast.errors import ConfigurationError
from hourcast_mlflow.migration import see_that_it_is_newest
from hourcast_mlflow.settings import MlflowSettings
from hourcast_mlflow.waiting import until_it_answers

__all__ = ["allowed_hosts", "run_server", "server_environment"]

Say = Callable[[str], None]
_KEY = "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"
_LOCAL = ("localhost", "127.0.0.1", "[::1]")


def allowed_hosts(names: tuple[str, ...]) -> str:
    """MLflow's list of Host headers: each name with and without a port, and this machine's own. Pure.

    MLflow compares the whole header, so a name without its port does not allow the name with it; where it finds a
    `*`, all of the entry is a pattern.
    """
    out: list[str] = []
    for name in (*_LOCAL, *names):
        # `[` begins a set of characters in a pattern.
        out += [name] if _has_port(name) or name == "*" else [name, f"{name.replace('[', '[[]')}:*"]
    return ",".join(dict.fromkeys(out))


def _has_port(name: str) -> bool:
    return ":" in name.rpartition("]")[2]


def server_environment(settings: MlflowSettings, given: Mapping[str, str]) -> dict[str, str]:
    """What MLflow's server is told by the environment. Pure.

    Raises:
        ConfigurationError: when something is missing or the key of the webhooks' secrets is not one.
    """
    _check_key(given.get(_KEY, ""))
    return {
        "MLFLOW_BACKEND_STORE_URI": settings.resolved_mlflow_database_url,
        "MLFLOW_ARTIFACTS_DESTINATION": settings.needed("mlflow_artifacts"),
        "MLFLOW_SERVER_ALLOWED_HOSTS": allowed_hosts(settings.mlflow_allowed_hosts),
        # Jobs take a pool of processes and gigabytes, and nothing here uses them.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # The controller's address is http, and within the cluster.
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    }


def _check_key(key: str) -> None:
    try:
        size = len(base64.urlsafe_b64decode(key.encode()))
    except (binascii.Error, ValueError):
        size = 0
    if size != 32:
        raise ConfigurationError(
            f"{_KEY} is not 32 bytes in base64; MLflow keeps the webhook's secret under it and without it could not read it "
            "again after a restart; make one with `head -c 32 /dev/urandom | base64`"
        )


def run_server(settings: MlflowSettings, host: str, port: int, say: Say) -> None:
    """Wait until the setup has brought the tables up, then become MLflow's server.

    Raises:
        ConfigurationError: when a setting is missing.
        UnavailableError: when the tables are not there in time.
    """
    environment = server_environment(settings, os.environ)
    until_it_answers(
        "MLflow's tables",
        lambda: see_that_it_is_newest(environment["MLFLOW_BACKEND_STORE_URI"]),
        settings.setup_wait_s,
        say,
    )
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    # The controller looks each second: a line a request would bury what matters.
    command += ["--workers", "1", "--serve-artifacts", "--uvicorn-opts", "--log-level warning"]
    sys.stdout.flush()
    os.execve(sys.executable, command, os.environ | environment)
