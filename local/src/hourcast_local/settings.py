"""Settings of the one-machine runner."""

from typing import Annotated

from pydantic import Field

from hourcast.settings import CoreSettings

__all__ = ["LocalSettings"]


class LocalSettings(CoreSettings):
    """Ports and patience. Everything listens on 127.0.0.1 only."""

    api_port: Annotated[int, Field(ge=1, le=65535, description="port of the API on one machine")] = 8000
    node_port: Annotated[int, Field(ge=1, le=65535, description="port of the node's control interface")] = (
        8001
    )
    mlflow_port: Annotated[int, Field(ge=1, le=65535, description="port of MLflow on one machine")] = 5000
    viz_port: Annotated[int, Field(ge=1, le=65535, description="port of the dashboard on one machine")] = 8501
    ready_timeout_s: Annotated[
        float, Field(gt=0, le=600, description="seconds that a new server may take until it is ready")
    ] = 60.0
    drain_timeout_s: Annotated[
        float, Field(gt=0, le=600, description="seconds that requests on an old server may take to end")
    ] = 30.0
