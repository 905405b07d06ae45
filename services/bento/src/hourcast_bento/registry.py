"""MLflow, read only, over its REST interface: versions, aliases and the files of a logged model.

The client library takes two seconds to import and most of a package's time; four calls are all that is needed.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from hourcast.bucket import open_bucket
from hourcast.errors import DataError, UnavailableError
from hourcast.mlflow_login import mlflow_login

__all__ = ["Registry", "Version"]

_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_ATTEMPTS = 3
_PAGE = "1000"


@dataclass(frozen=True, slots=True)
class Version:
    """A version as the registry has it."""

    number: int
    run_id: str
    tags: dict[str, str]


class Registry:
    """Versions of one model. Close it when done; each call tries three times before it gives up."""

    def __init__(self, url: str, model: str, s3_endpoint_url: str | None = None) -> None:
        self._url, self._model, self._s3_endpoint_url = url.rstrip("/"), model, s3_endpoint_url
        self._client = httpx.Client(timeout=30.0, trust_env=False, auth=mlflow_login())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()

    def version(self, number: int) -> Version | None:
        """A version, or None where the registry has none of that number.

        Raises:
            UnavailableError: when MLflow does not answer.
        """
        body = self._ask("model-versions/get", name=self._model, version=str(number))
        return None if body is None else _version(body["model_version"])

    def aliases(self) -> dict[str, int]:
        """Alias to version.

        Raises:
            UnavailableError: when MLflow does not answer, or has no such model: that is an outage, not an empty list.
        """
        body = self._ask("registered-models/get", name=self._model)
        if body is None:
            raise UnavailableError(
                f"MLflow at {self._url} has no model {self._model!r}; the first training makes it", 5
            )
        return {item["alias"]: int(item["version"]) for item in body["registered_model"].get("aliases", [])}

    def versions(self) -> dict[int, Version]:
        """Every version by its number.

        Raises:
            UnavailableError: when MLflow does not answer.
        """
        found: dict[int, Version] = {}
        token = ""
        while True:
            more = {"page_token": token} if token else {}
            body = self._ask(
                "model-versions/search", filter=f"name='{self._model}'", max_results=_PAGE, **more
            )
            found |= {v.number: v for v in map(_version, (body or {}).get("model_versions", []))}
            token = (body or {}).get("next_page_token", "")
            if not token:
                return found

    def download(self, number: int, folder: str, target: Path) -> None:
        """Copy what lies below `folder` of the version's logged model into `target`.

        Raises:
            DataError: when the model lies where this cannot read.
            UnavailableError: when MLflow or its artefact store does not answer.
        """
        body = self._ask("model-versions/get-download-uri", name=self._model, version=str(number))
        if body is None:
            raise UnavailableError(f"version {number} of {self._model} vanished while it was read", 1)
        uri = f"{body['artifact_uri'].rstrip('/')}/{folder}"
        parts = urlsplit(uri)
        if parts.scheme == "mlflow-artifacts":
            root = parts.path.strip("/")
            for name in self._files(root):
                self._keep(target, name.removeprefix(f"{root}/"), self._bytes(f"{_ARTIFACTS}/{quote(name)}"))
        elif parts.scheme in ("s3", "file"):
            # A server that does not pass its artefacts on (--no-serve-artifacts) names where they lie.
            bucket = open_bucket(uri, self._s3_endpoint_url)
            for name in bucket.keys(""):
                self._keep(target, name, bucket.get(name) or b"")
        else:
            raise DataError(
                f"{self._model} version {number} lies at {uri}; only mlflow-artifacts:, s3: and file: can be read"
            )

    @staticmethod
    def _keep(target: Path, name: str, body: bytes) -> None:
        path = (target / name).resolve()
        if not path.is_relative_to(target.resolve()):
            raise DataError(f"the model's file {name!r} leaves its folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def _files(self, folder: str) -> Iterator[str]:
        answer = self._answer(_ARTIFACTS, {"path": folder})
        if answer.status_code == 404:
            return
        for item in self._json(answer).get("files", []):
            path = f"{folder}/{item['path']}"
            if item.get("is_dir"):
                yield from self._files(path)
            else:
                yield path

    def _bytes(self, path: str) -> bytes:
        answer = self._answer(path)
        if answer.status_code != 200:
            raise UnavailableError(f"MLflow at {self._url} answers {answer.status_code} for {path}", 5)
        return answer.content

    def _ask(self, path: str, **params: str) -> dict[str, Any] | None:
        """One answer, or None where MLflow says that the thing does not exist."""
        answer = self._answer(f"/api/2.0/mlflow/{path}", params)
        body = self._json(answer)
        if body.get("error_code") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        if answer.status_code != 200:
            raise UnavailableError(
                f"MLflow at {self._url} answers {answer.status_code} ({str(body.get('message', ''))[:160]})",
                5,
            )
        return body

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise UnavailableError(f"MLflow at {self._url} answers {answer.status_code} without JSON", 5)
        return body

    def _answer(self, path: str, params: dict[str, str] | None = None) -> httpx.Response:
        """An answer that is no fault of the server's, after up to three attempts."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = self._client.get(self._url + path, params=params or {})
                told = str(answer.status_code)
                if answer.status_code < 500 and answer.status_code != 429:
                    return answer
            except httpx.HTTPError as error:
                told = type(error).__name__
            if attempt < _ATTEMPTS:
                time.sleep(attempt * random.uniform(0.1, 0.4))
        raise UnavailableError(
            f"MLflow at {self._url} does not answer ({told}); check HOURCAST_MLFLOW_URL and that it runs", 5
        )


def _version(item: dict[str, Any]) -> Version:
    # MLflow leaves out a value that is empty.
    tags = {tag["key"]: tag.get("value", "") for tag in item.get("tags", [])}
    return Version(int(item["version"]), item.get("run_id") or "", tags)
