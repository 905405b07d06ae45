"""The controller's settings."""

from typing import Annotated, Literal

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
    # `target` is the series that is forecast.
    rollout_target: Annotated[
        Literal["local", "kubernetes"],
        Field(
            validation_alias="HOURCAST_TARGET",
            description="what runs servers: `local`, the node of one machine, or `kubernetes`, a Deployment",
        ),
    ] = "local"
    node_url: Annotated[str, Field(description="address of the node, which runs servers on one machine")] = (
        "http://127.0.0.1:8001"
    )
    namespace: Annotated[
        str | None,
        Field(description="namespace of the Deployment; unset: that of the kubeconfig's context"),
    ] = None
    pod_name: Annotated[
        str | None,
        Field(description="name under which this controller holds the lease; unset: host and process id"),
    ] = None
    kube_deployment: Annotated[str, Field(description="Deployment that serves")] = "hourcast-serving"
    kube_packager: Annotated[
        str, Field(description="suspended CronJob whose template packaging Jobs are made from")
    ] = "hourcast-packager"
    kube_lease: Annotated[str, Field(description="Lease that the leading controller holds")] = (
        "hourcast-controller"
    )
    metrics_host: Annotated[
        str, Field(description="address on which `/metrics`, `/livez` and `/readyz` are heard")
    ] = "127.0.0.1"
    metrics_port: Annotated[
        int | None,
        Field(ge=1, le=65535, description="port of `/metrics`, `/livez` and `/readyz`; unset: none is heard"),
    ] = None
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
