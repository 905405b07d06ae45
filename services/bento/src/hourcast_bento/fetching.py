"""`hourcast fetch`: the package of a version into a folder, before a server starts in it.

The folder itself, then the cache, then the bucket; the bucket's manifest tells whether a cached package is the one
that is meant now. While the bucket is away a cached package does; without one this waits, and pods that run go on.
"""

import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hourcast.bucket import Bucket, FolderBucket, manifest_key, package_key
from hourcast.contracts import PackageManifest
from hourcast.errors import DataError, UnavailableError
from hourcast_bento.package import MODEL_FOLDER, fetch_whole, read_manifest, unpack

__all__ = ["NO_MODEL", "Fetched", "fetch_into", "holds_version", "prepare_empty"]

_LOG = logging.getLogger(__name__)
NO_MODEL = "no-model.txt"
_MARK = "fetched.json"
_STALE_S = 3600
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched and from where: `folder`, `cache` or `bucket`."""

    model: str
    version: int
    sha256: str
    source: str


def holds_version(folder: Path) -> bool:
    """Whether a package was fetched into the folder."""
    return (folder / MODEL_FOLDER).exists()


def fetch_into(
    folder: Path,
    model: str,
    version: int,
    bucket: Bucket,
    *,
    cache: Path | None = None,
    keep: int = 5,
    wait_s: float = 0.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Make `folder` hold the unpacked package of a version.

    Args:
        folder: where to; what another version left there is removed.
        model: name of the registered model.
        version: its version.
        bucket: where packages are.
        cache: a folder that outlives this pod; several pods may use it at once.
        keep: packages that the cache keeps, the last used.
        wait_s: seconds to wait for a package that is not there yet, or for a bucket that does not answer.
        sleep: how to wait.

    Raises:
        DataError: when the package is corrupt, or is not what its manifest says.
        UnavailableError: when the time is over.
    """
    there = _marked(folder)
    if there is not None and (there.model, there.version) == (model, version):
        return there
    kept = _Cache(cache, keep) if cache is not None else None
    found = _from_cache(kept, model, version, bucket) if kept is not None else None
    if found is not None:
        body, sha256, source = *found, "cache"
    else:
        body, sha256 = _patiently(lambda: _from_bucket(bucket, model, version, kept), wait_s, sleep)
        source = "bucket"
    fetched = Fetched(model, version, sha256, source)
    _lay_out(body, folder, fetched)
    return fetched


def _marked(folder: Path) -> Fetched | None:
    """What an earlier fetch has finished in the folder."""
    try:
        said = json.loads((folder / _MARK).read_bytes())
        return Fetched(said["model"], said["version"], said["sha256"], "folder")
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _lay_out(body: bytes, folder: Path, fetched: Fetched) -> None:
    """Unpack beside, move in, and mark last: a mark means that all is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        _remove(left)
    incoming = folder / ".incoming"
    unpack(body, incoming)
    for part in incoming.iterdir():
        os.replace(part, folder / part.name)
    incoming.rmdir()
    mark = folder / f".{_MARK}"
    mark.write_text(
        json.dumps({"model": fetched.model, "version": fetched.version, "sha256": fetched.sha256})
    )
    os.replace(mark, folder / _MARK)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
    attempt: Callable[[], tuple[bytes, str]], wait_s: float, sleep: Callable[[float], None]
) -> tuple[bytes, str]:
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


def prepare_empty(folder: Path) -> None:
    """Leave a folder without a version, and a note that says why."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        _remove(left)
    (folder / NO_MODEL).write_text("No model version was rolled out yet.\n")
