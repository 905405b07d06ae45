"""MLflow, read only, over its REST interface.

A few calls are all that is needed; the client library takes two seconds to import and is left to those who write.
Services that read the registry bring `httpx`; the others go without it.
"""

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import httpx

from hourcast.errors import UnavailableError
from hourcast.mlflow_login import mlflow_login

__all__ = ["RegistryReader", "tags_of"]

_PAGE = "1000"


class RegistryReader(ABC):
    """Reads one model. Close it when done; a call is tried `attempts` times before it gives up."""

    def __init__(self, url: str, model: str, timeout_s: float, attempts: int = 1) -> None:
        self._url, self._model, self._attempts = url.rstrip("/"), model, attempts
        # Reading the certificate authorities takes 15 ms, and plain HTTP needs none.
        self._client = httpx.Client(
            timeout=timeout_s,
            trust_env=False,
            auth=mlflow_login(),
            verify=not self._url.startswith("http:"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()

    @abstractmethod
    def _ask(self, path: str, **params: str) -> dict[str, Any] | None:
        """One answer, or None where MLflow says that the thing does not exist; what else it means is the service's."""

    def _listed(self) -> Iterator[dict[str, Any]]:
        """Every answer of a search for the model's versions, a page of a thousand each."""
        more: dict[str, str] = {}
        while True:
            body = self._ask(
                "model-versions/search", filter=f"name='{self._model}'", max_results=_PAGE, **more
            )
            yield body or {}
            token = (body or {}).get("next_page_token")
            if not token:
                return
            more = {"page_token": str(token)}

    def _answer(self, path: str, params: dict[str, str] | None = None) -> httpx.Response:
        """An answer; where there is more than one attempt, one that is no fault of the server's.

        Raises:
            UnavailableError: when there is none.
        """
        cause: Exception | None = None
        for attempt in range(1, self._attempts + 1):
            try:
                answer = self._client.get(self._url + path, params=params or {})
                if self._attempts == 1 or (answer.status_code < 500 and answer.status_code != 429):
                    return answer
                told, cause = str(answer.status_code), None
            except httpx.HTTPError as error:
                told, cause = type(error).__name__, error
            if attempt < self._attempts:
                time.sleep(attempt * random.uniform(0.1, 0.4))
        raise self._away(told) from cause

    def _away(self, told: str) -> UnavailableError:
        return UnavailableError(
            f"MLflow at {self._url} does not answer ({told}); check HOURCAST_MLFLOW_URL and that it runs", 5
        )


def tags_of(item: dict[str, Any]) -> dict[str, str]:
    """The tags of a version as MLflow gives it, which leaves out a value that is empty."""
    return {tag["key"]: tag.get("value", "") for tag in item.get("tags", [])}
