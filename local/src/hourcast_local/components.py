"""The parts that `hourcast up` starts, and the variables that they get."""

import sys
from datetime import datetime
from pathlib import Path

from hourcast_local.choices import Options
from hourcast_local.processes import MARK
from hourcast_local.settings import LocalSettings
from hourcast_local.supervisor import Component

__all__ = ["components_of", "environment_of"]


def environment_of(
    settings: LocalSettings, state: Path, source: str, clock: str, options: Options
) -> dict[str, str]:
    """What every part, and every command in another terminal, must be told alike."""

    def address(port: int) -> str:
        return f"http://127.0.0.1:{port}"

    values = {
        MARK: str(state),
        "HOURCAST_STATE_DIR": str(state),
        "HOURCAST_SOURCE": source,
        "HOURCAST_SYNTHETIC": "true" if source == "sample" else "false",
        "HOURCAST_CLOCK": clock,
        "HOURCAST_MLFLOW_URL": address(settings.mlflow_port),
        "HOURCAST_NODE_URL": address(settings.node_port),
        "HOURCAST_API_URL": address(settings.api_port),
        "HOURCAST_API_PORT": str(settings.api_port),
        "HOURCAST_NODE_PORT": str(settings.node_port),
        "HOURCAST_MLFLOW_PORT": str(settings.mlflow_port),
        "HOURCAST_VIZ_PORT": str(settings.viz_port),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
    }
    if options.replay:
        values |= {
            "HOURCAST_TRAIN_POLL_S": "0.1",
            "HOURCAST_ETL_POLL_S": "0.05",
            "HOURCAST_RECORD_POLL_S": "0.05",
            "HOURCAST_CONTROLLER_INTERVAL_S": "0.3",
        }
    return values


def components_of(
    settings: LocalSettings, state: Path, options: Options, replayed: tuple[datetime, datetime] | None
) -> list[Component]:
    """The parts, in the order in which they are started; a replay is one of them."""
    python = sys.executable
    mlflow = state / "mlflow"
    mlflow.mkdir(exist_ok=True)
    out = [
        Component(
            "mlflow",
            [
                python, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{mlflow / 'mlflow.db'}",
                "--artifacts-destination", (mlflow / "artifacts").as_uri(), "--serve-artifacts",
                "--host", "127.0.0.1", "--port", str(settings.mlflow_port), "--workers", "1",
            ],
            # Nothing here uses MLflow's own job runner, which would start further processes.
            {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        ),
        Component("etl", [python, "-m", "hourcast.cli", "etl", "run", "--watch"]),
        Component("trainer", [python, "-m", "hourcast.cli", "train", "--watch"]),
        Component("node", [python, "-m", "hourcast_local.node"]),
        Component("controller", [python, "-m", "hourcast.cli", "controller"]),
        Component("tidy", [python, "-m", "hourcast.cli", "tidy", "--watch"]),
    ]  # fmt: skip
    if options.dashboard:
        out.append(Component("dashboard", [python, "-m", "hourcast_viz", "--port", str(settings.viz_port)]))
    if replayed is not None:
        times = [f"{t:%Y-%m-%dT%H:%M}Z" for t in replayed]
        out.append(Component("replay", [python, "-m", "hourcast_local.replay", *times]))
    return out
