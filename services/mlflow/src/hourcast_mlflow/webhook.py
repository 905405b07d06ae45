"""`hourcast setup webhook`: MLflow calls the controller when a version, a tag or an alias changes."""

import os
from collections.abc import Callable
from typing import Any

from hourcast.errors import ConfigurationError, UnavailableError
from hourcast_mlflow.settings import MlflowSettings
from hourcast_mlflow.waiting import until_it_answers

__all__ = ["EVENTS", "setup_webhook"]

Say = Callable[[str], None]
EVENTS = (
    "model_version.created",
    "model_version_tag.set",
    "model_version_alias.created",
    "model_version_alias.deleted",
)
"""A version can be packaged once its gate's tag is set, which is before it gets its alias."""


def setup_webhook(settings: MlflowSettings, say: Say) -> None:
    """Leave exactly one active webhook of ours, with the present address, events and key.

    Raises:
        ConfigurationError: when address or key is missing, or MLflow refuses them.
        UnavailableError: when MLflow does not answer in time.
    """
    url, secret = settings.needed("webhook_url"), settings.needed("webhook_secret")
    # Its own patience is minutes long and silent; ours tells what it waits for.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    from mlflow import MlflowClient

    client = MlflowClient(settings.mlflow_url, settings.mlflow_url)
    said = until_it_answers(
        f"MLflow at {settings.mlflow_url}",
        lambda: _register(client, f"{settings.model_name}-controller", url, secret),
        settings.setup_wait_s,
        say,
    )
    say(f"webhook to {url}: {said}; MLflow heeds it within a minute")


def _register(client: Any, name: str, url: str, secret: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        ours: list[Any] = []
        token: str | None = None
        while True:
            page = client.list_webhooks(max_results=100, page_token=token)
            ours += [hook for hook in page if hook.name == name or hook.url == url]
            token = page.token
            if not token:
                break
        values = {"name": name, "url": url, "events": list(EVENTS), "secret": secret, "status": "ACTIVE"}
        values["description"] = "hints to Hourcast's controller"
        for surplus in ours[1:]:
            client.delete_webhook(surplus.webhook_id)
        if ours:
            client.update_webhook(ours[0].webhook_id, **values)
            return "renewed"
        client.create_webhook(**values)
    except MlflowException as error:
        text = str(error).splitlines()[0][:300]
        if error.error_code == "INVALID_PARAMETER_VALUE":
            raise ConfigurationError(
                f"MLflow refuses the webhook to {url} ({text}); check HOURCAST_WEBHOOK_URL, and that the server runs with "
                "MLFLOW_WEBHOOK_ALLOWED_SCHEMES and MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS as `hourcast mlflow-server` sets them"
            ) from error
        raise UnavailableError(f"it does not answer ({text})") from error
    return "registered"
