"""The controller's settings."""

from typing import Annotated

from pydantic import Field, SecretStr

from hourcast.settings import CoreSettings
from hourcast_controller.policy import PolicyName

__all__ = ["ControllerSettings"]


class ControllerSettings(CoreSettings):
    """What to serve by itself, and how closely to look."""

    policy: Annotated[
        PolicyName, Field(description="`newest`: the highest date alias; `champion`: the proven one")
    ] = "newest"
    controller_interval_s: Annotated[
        float, Field(gt=0, le=3600, description="seconds between two looks of the controller")
    ] = 1.0
    package_backtests: Annotated[
        bool, Field(description="package back-test aliases too, so that dashboards can show them")
    ] = True
    node_url: Annotated[str, Field(description="address of the node, which runs servers on one machine")] = (
        "http://127.0.0.1:8001"
    )
    webhook_host: Annotated[str, Field(description="address on which MLflow's webhook is heard")] = (
        "127.0.0.1"
    )
    webhook_port: Annotated[
        int, Field(ge=1, le=65535, description="port on which MLflow's webhook is heard")
    ] = 8002
    webhook_secret: Annotated[
        SecretStr | None,
        Field(description="key of the webhook's HMAC; unset: no webhook is heard, and polling alone decides"),
    ] = None
