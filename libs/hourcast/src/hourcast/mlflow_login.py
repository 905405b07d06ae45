"""Name and password for an MLflow that asks for them, under the names that MLflow's own client reads."""

import os
from collections.abc import Mapping

__all__ = ["mlflow_login"]


def mlflow_login(environment: Mapping[str, str] = os.environ) -> tuple[str, str] | None:
    """MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or None where no name is set."""
    name = environment.get("MLFLOW_TRACKING_USERNAME", "")
    return (name, environment.get("MLFLOW_TRACKING_PASSWORD", "")) if name else None
