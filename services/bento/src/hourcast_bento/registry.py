"""MLflow, read only, over its REST interface: versions, aliases and the files of a logged model."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from hourcast.bucket import open_bucket
from hourcast.errors import DataError, UnavailableError
from hourcast.registry import RegistryReader, tags_of

__all__ = ["Registry", "Version"]

_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Version:
    """A version as the registry has it."""

    number: int
    run_id: str
    tags: dict[str, str]


class Registry(RegistryReader):
    """Versions of one model. Close it when done; each call tries three times before it gives up."""

    def __init__(self, url: str, model: str, s3_endpoint_url: str | None = None) -> None:
        super().__init__(url, model, timeout_s=30.0, attempts=_ATTEMPTS)
        self._s3_endpoint_url = s3_endpoint_url

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
        listed = (item for body in self._listed() for item in body.get("model_versions", []))
        return {version.number: version for version in map(_version, listed)}

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


def _version(item: dict[str, Any]) -> Version:
    return Version(int(item["version"]), item.get("run_id") or "", tags_of(item))
