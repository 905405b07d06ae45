"""The bucket: packages and manifests, in S3 or in a folder of one machine."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from hourcast.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Bucket", "FolderBucket", "S3Bucket", "aliases_key", "manifest_key", "open_bucket", "package_key"]


def package_key(model: str, version: int) -> str:
    """Key of a version's package."""
    return f"bentos/{model}/{version}.bento"


def manifest_key(model: str, version: int) -> str:
    """Key of a version's manifest; it is written after the package, so its presence means a whole package."""
    return f"bentos/{model}/{version}.json"


def aliases_key(model: str) -> str:
    """Key of the alias index."""
    return f"bentos/{model}/aliases.json"


class Bucket(Protocol):
    """Keys are relative, with `/`; a write is whole or absent."""

    def get(self, key: str) -> bytes | None:
        """The object, or None where there is none."""
        ...

    def put(self, key: str, body: bytes) -> None:
        """Write the object, replacing what was there."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """All keys that start with `prefix`, sorted."""
        ...

    def delete(self, key: str) -> None:
        """Take the object away; harmless where there is none."""
        ...


class FolderBucket:
    """A folder; each write goes to a temporary file first and is then renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _path(self, key: str) -> Path:
        path = (self._root / key).resolve()
        if not path.is_relative_to(self._root.resolve()):
            raise ConfigurationError(f"key {key!r} leaves the bucket; use a relative key without `..`")
        return path

    def get(self, key: str) -> bytes | None:
        """The object, or None where there is none."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, key: str, body: bytes) -> None:
        """Write the object, replacing what was there."""
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".incoming-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise

    def keys(self, prefix: str) -> list[str]:
        """All keys that start with `prefix`, sorted."""
        found = (
            path.relative_to(self._root).as_posix()
            for path in self._root.rglob("*")
            if path.is_file() and not path.name.startswith(".incoming-")
        )
        return sorted(key for key in found if key.startswith(prefix))

    def delete(self, key: str) -> None:
        """Take the object away; harmless where there is none."""
        self._path(key).unlink(missing_ok=True)


class S3Bucket:
    """An S3 bucket under an optional prefix; credentials come from the AWS_* variables."""

    def __init__(self, bucket: str, prefix: str, endpoint_url: str | None, attempts: int = 3) -> None:
        self._bucket, self._attempts = bucket, attempts
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint_url = endpoint_url
        self._client: S3Client | None = None

    def _s3(self) -> "S3Client":
        if self._client is None:
            import boto3  # 200 ms that folder users need not pay
            from botocore.config import Config

            # A session of its own: boto3's common one keeps the first credentials that anyone in the process had, and must not be
            # used by two threads at once.
            self._client = boto3.session.Session().client(
                "s3",
                endpoint_url=self._endpoint_url,
                region_name=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
                config=Config(
                    connect_timeout=3,
                    read_timeout=30,
                    retries={"total_max_attempts": self._attempts, "mode": "standard"},
                    s3={"addressing_style": "path"},
                ),
            )
        return self._client

    @contextlib.contextmanager
    def _talking(self, key: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise UnavailableError(
                f"bucket {self._bucket!r} does not answer for {key!r}: {error}; "
                "check HOURCAST_BUCKET_URL, HOURCAST_S3_ENDPOINT_URL and the AWS_* credentials",
                retry_after_s=5,
            ) from error

    def get(self, key: str) -> bytes | None:
        """The object, or None where there is none."""
        with self._talking(key):
            client = self._s3()
            try:
                return client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()
            except client.exceptions.NoSuchKey:
                return None

    def put(self, key: str, body: bytes) -> None:
        """Write the object, replacing what was there."""
        with self._talking(key):
            self._s3().put_object(Bucket=self._bucket, Key=self._prefix + key, Body=body)

    def keys(self, prefix: str) -> list[str]:
        """All keys that start with `prefix`, sorted."""
        with self._talking(prefix):
            pages = (
                self._s3()
                .get_paginator("list_objects_v2")
                .paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
            )
            return sorted(
                item["Key"][len(self._prefix) :] for page in pages for item in page.get("Contents", [])
            )

    def delete(self, key: str) -> None:
        """Take the object away; harmless where there is none."""
        with self._talking(key):
            self._s3().delete_object(Bucket=self._bucket, Key=self._prefix + key)


def open_bucket(url: str, s3_endpoint_url: str | None = None, *, attempts: int = 3) -> Bucket:
    """The bucket at `file:///folder` or `s3://bucket/prefix`. Nothing is contacted yet.

    Args:
        url: where it is.
        s3_endpoint_url: S3 endpoint, where it is not Amazon's.
        attempts: how often one S3 request is tried before it fails.

    Raises:
        ConfigurationError: when the URL is neither.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path:
        return FolderBucket(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return S3Bucket(parts.netloc, parts.path, s3_endpoint_url, attempts)
    raise ConfigurationError(
        f"HOURCAST_BUCKET_URL: {url!r} is not a bucket; use file:///folder or s3://bucket/prefix"
    )
