"""The model of a version, from its package: out of the cache or the bucket, checked.

The bucket's manifest tells whether a cached package is the one that is meant now. While the bucket is away a cached package
does; without one this waits, and pods that run go on.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hourcast.bucket import Bucket, FolderBucket, manifest_key, package_key
from hourcast.contracts import PackageManifest
from hourcast.errors import DataError, UnavailableError
from hourcast_bento.package import MODEL_FOLDER, fetch_whole, read_manifest, unpack

__all__ = ["Fetched", "fetch_model"]

_LOG = logging.getLogger(__name__)
_STALE_S = 3600
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched, from where (`cache` or `bucket`), and the `model` folder of it."""

    model: str
    version: int
    sha256: str
    source: str
    folder: Path


def fetch_model(
    folder: Path,
    model: str,
    version: int,
    bucket: Bucket,
    *,
    cache: Path | None = None,
    keep: int = 5,
    wait_s: float = 0.0,
    tell: Callable[[str], None] = lambda _reason: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Unpack the model of a version's package; the sources that lie beside it stay in the package.

    Args:
        folder: where to.
        model: name of the registered model.
        version: its version.
        bucket: where packages are.
        cache: a folder that outlives this server; several servers may use it at once.
        keep: packages that the cache keeps, the last used.
        wait_s: seconds to wait for a package that is not there yet, or for a bucket that does not answer.
        tell: called with what is waited for.
        sleep: how to wait.

    Raises:
        DataError: when the package is corrupt, or is not what its manifest says.
        ConfigurationError: when a later release made it.
        UnavailableError: when the time is over.
    """
    kept = _Cache(cache, keep) if cache is not None else None
    found = _from_cache(kept, model, version, bucket) if kept is not None else None
    if found is not None:
        body, sha256, source = *found, "cache"
    else:
        body, sha256 = _patiently(lambda: _from_bucket(bucket, model, version, kept), wait_s, tell, sleep)
        source = "bucket"
    unpack(body, folder, only=MODEL_FOLDER)
    return Fetched(model, version, sha256, source, folder / MODEL_FOLDER)


def _from_bucket(bucket: Bucket, model: str, version: int, kept: "_Cache | None") -> tuple[bytes, str]:
    manifest, body = fetch_whole(bucket, model, version)
    if kept is not None:
        kept.put(manifest, body)
    return body, manifest.sha256


def _from_cache(kept: "_Cache", model: str, version: int, bucket: Bucket) -> tuple[bytes, str] | None:
    found = kept.get(model, version)
    if found is None:
        return None
    manifest, body = found
    try:
        meant = read_manifest(bucket, model, version)
    except UnavailableError as error:
        _LOG.warning("the package of %s version %d is taken from the cache: %s", model, version, error)
        return body, manifest.sha256
    if meant is None or meant.sha256 != manifest.sha256:
        _LOG.warning("%s version %d was packaged anew; its cached package is not used", model, version)
        kept.drop(model, version)
        return None
    return body, manifest.sha256


def _patiently(
    attempt: Callable[[], tuple[bytes, str]],
    wait_s: float,
    tell: Callable[[str], None],
    sleep: Callable[[float], None],
) -> tuple[bytes, str]:
    # Not stamina's: the start-up probe allows `wait_s` and no more, so the last pause is cut; stamina's would go past it.
    told, pause, left = "", _FIRST_PAUSE_S, wait_s
    while True:
        try:
            return attempt()
        except UnavailableError as error:
            if left <= 0:
                raise
            if str(error) != told:
                _LOG.warning("waiting, while the pods that run go on serving: %s", error)
                told = str(error)
                tell(told)
        sleep(min(pause, left))
        left -= pause
        pause = min(2 * pause, _LONGEST_PAUSE_S)


class _Cache:
    """Packages in a folder that several pods of a node share, under the keys that they have in the bucket.

    A cache that cannot be read or written is told and done without.
    """

    def __init__(self, root: Path, keep: int) -> None:
        self._root, self._keep = root, keep
        self._bucket = FolderBucket(root)

    def get(self, model: str, version: int) -> tuple[PackageManifest, bytes] | None:
        """A package whose sum is that of its cached manifest; one that is not is removed."""
        try:
            manifest, body = fetch_whole(self._bucket, model, version)
        except UnavailableError:
            return None
        except DataError as error:
            _LOG.warning("removed from the cache: %s", error)
            self.drop(model, version)
            return None
        except OSError as error:
            _LOG.warning("the cache %s cannot be read: %s", self._root, error)
            return None
        with contextlib.suppress(OSError):  # only the order of removal depends on it
            os.utime(self._root / manifest_key(model, version))
        return manifest, body

    def put(self, manifest: PackageManifest, body: bytes) -> None:
        """Keep a package, its manifest last, and remove those that were used longest ago."""
        try:
            self._bucket.put(package_key(manifest.model, manifest.version), body)
            self._bucket.put(
                manifest_key(manifest.model, manifest.version), manifest.model_dump_json().encode()
            )
            self._tidy()
        except OSError as error:
            _LOG.warning("the cache %s cannot be written: %s", self._root, error)

    def drop(self, model: str, version: int) -> None:
        """Remove a package, its manifest first."""
        for key in (manifest_key(model, version), package_key(model, version)):
            with contextlib.suppress(OSError):
                (self._root / key).unlink(missing_ok=True)

    def _tidy(self) -> None:
        manifests = sorted(self._aged("*.json"), reverse=True)
        for _age, path in manifests[self._keep :]:
            path.unlink(missing_ok=True)
            path.with_suffix(".bento").unlink(missing_ok=True)
        long_ago = time.time() - _STALE_S
        for age, path in self._aged(".incoming-*"):
            if age < long_ago:
                path.unlink(missing_ok=True)

    def _aged(self, pattern: str) -> Iterator[tuple[float, Path]]:
        for path in self._root.rglob(pattern):
            with contextlib.suppress(FileNotFoundError):  # another pod tidies too
                yield path.stat().st_mtime, path
