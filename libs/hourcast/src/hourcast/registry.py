"""MLflow, read only, over its REST interface.

A few calls are all that is needed; the client library takes two seconds to import and is left to those who write.
Services that read the registry bring `httpx`; the others go without it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import httpx

from hourcast.attempts import try_again
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

        def ask() -> httpx.Response:
            answer = self._client.get(self._url + path, params=params or {})
            if self._attempts > 1 and (answer.status_code >= 500 or answer.status_code == 429):
                answer.raise_for_status()
            return answer

        try:
            return try_again(ask, httpx.HTTPError, attempts=self._attempts, first_s=0.1, jitter_s=0.3)
        except httpx.HTTPStatusError as error:
            raise self._away(str(error.response.status_code)) from error
        except httpx.HTTPError as error:
            raise self._away(type(error).__name__) from error

    def _away(self, told: str) -> UnavailableError:
        return UnavailableError(
            f"MLflow at {self._url} does not answer ({told}); check HOURCAST_MLFLOW_URL and that it runs", 5
        )


def tags_of(item: dict[str, Any]) -> dict[str, str]:
    """The tags of a version as MLflow gives it, which leaves out a value that is empty."""
    return {tag["key"]: tag.get("value", "") for tag in item.get("tags", [])}
