"""MLflow's registry, read only, over its REST interface.

Two calls are all that is needed, so the client library with its two seconds of import is left to those who write.
"""

from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx

from hourcast.errors import UnavailableError
from hourcast_controller.policy import RegistryState, VersionFacts

__all__ = ["Registry"]


class Registry:
    """Reads aliases and versions of one model. Close it when done."""

    def __init__(self, url: str, model: str, timeout_s: float = 5.0) -> None:
        self._url, self._model = url.rstrip("/"), model
        self._client = httpx.Client(timeout=timeout_s, trust_env=False)
        self._facts: dict[int, VersionFacts] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()

    def _get(self, path: str, **params: str) -> dict[str, Any] | None:
        """One answer, or None where MLflow says that the thing does not exist."""
        try:
            answer = self._client.get(f"{self._url}/api/2.0/mlflow/{path}", params=params)
            body = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise UnavailableError(
                f"MLflow at {self._url} does not answer ({type(error).__name__}); check HOURCAST_MLFLOW_URL and that it runs",
                retry_after_s=5,
            ) from error
        if isinstance(body, dict) and body.get("error_code") == "RESOURCE_DOES_NOT_EXIST":
            return None
        if answer.status_code != 200 or not isinstance(body, dict):
            raise UnavailableError(f"MLflow at {self._url} answers {answer.status_code}", retry_after_s=5)
        return body

    def read(self) -> RegistryState:
        """Aliases and the versions behind them; empty when there is no model yet.

        Raises:
            UnavailableError: when any part of the answer is missing.
        """
        body = self._get("registered-models/get", name=self._model)
        if body is None:
            return RegistryState({}, {})
        listed = body["registered_model"].get("aliases", [])
        aliases = {item["alias"]: int(item["version"]) for item in listed}
        return RegistryState(aliases, {v: self.version(v) for v in sorted(set(aliases.values()))})

    def version(self, number: int) -> VersionFacts:
        """What the registry says about a version; remembered once its gate has decided."""
        known = self._facts.get(number)
        if known is not None:
            return known
        body = self._get("model-versions/get", name=self._model, version=str(number))
        if body is None:
            raise UnavailableError(
                f"version {number} of {self._model} vanished while the registry was read", 1
            )
        item = body["model_version"]
        tags = {tag["key"]: tag["value"] for tag in item.get("tags", [])}
        decided = tags.get("decided_at")
        facts = VersionFacts(
            version=number,
            run_id=item.get("run_id", ""),
            kind=tags.get("kind", "unknown"),
            gate=tags.get("gate", "unknown"),
            decided_at=datetime.fromisoformat(decided) if decided else None,
        )
        if facts.gate in ("passed", "failed"):
            self._facts[number] = facts
        return facts

    def numbers(self) -> list[int]:
        """Every version of the model."""
        body = self._get("model-versions/search", filter=f"name='{self._model}'", max_results="1000")
        return sorted(int(item["version"]) for item in (body or {}).get("model_versions", []))
