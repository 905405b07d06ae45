"""The model of a version: from the cache or the bucket, checked, or nothing of it."""

import hashlib
import io
import os
import tarfile
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from hourcast.bucket import FolderBucket, manifest_key, package_key
from hourcast.contracts import Golden, PackageManifest
from hourcast.errors import DataError, UnavailableError
from hourcast_bento.fetching import Fetched, fetch_model


def _package(version: int, text: str = "model") -> tuple[bytes, bytes]:
    """Bytes of a package and of its manifest."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("src/hourcast/__init__.py", "src/model/spec.json"):
            content = f"{text} {version}".encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    body, moment = out.getvalue(), datetime(2025, 1, 1, tzinfo=UTC)
    manifest = PackageManifest(
        model="m", version=version, run_id="r", alias="20250101", kind="naive", size_bytes=len(body),
        sha256=hashlib.sha256(body).hexdigest(), created_at=moment, data_fingerprint="f",
        trained_through=date(2025, 1, 1), decided_at=moment, golden=Golden(bars={}, origin=0, quantiles=[]),
    )  # fmt: skip
    return body, manifest.model_dump_json().encode()


def _fill(bucket: FolderBucket, version: int, text: str = "model") -> None:
    body, manifest = _package(version, text)
    bucket.put(package_key("m", version), body)
    bucket.put(manifest_key("m", version), manifest)


def _model(folder: Path) -> str:
    return (folder / "src/model/spec.json").read_text()


class _Away:
    """A bucket that does not answer the first `times` calls."""

    def __init__(self, behind: FolderBucket, times: int = 10**9) -> None:
        self._behind, self._left = behind, times

    def get(self, key: str) -> bytes | None:
        if self._left > 0:
            self._left -= 1
            raise UnavailableError("bucket 'b' does not answer")
        return self._behind.get(key)

    def put(self, key: str, body: bytes) -> None:
        raise AssertionError("a fetch writes nothing")

    def keys(self, prefix: str) -> list[str]:
        raise AssertionError("a fetch lists nothing")


@pytest.fixture
def bucket(tmp_path: Path) -> FolderBucket:
    """A bucket with versions 1 to 4."""
    made = FolderBucket(tmp_path / "bucket")
    for version in range(1, 5):
        _fill(made, version)
    return made


def test_the_model_alone_is_taken_out_of_a_package(tmp_path: Path, bucket: FolderBucket) -> None:
    """Sources that a package brings along stay in it; what was fetched says where its model lies."""
    folder = tmp_path / "f"
    fetched = fetch_model(folder, "m", 3, bucket)
    sha256 = hashlib.sha256(_package(3)[0]).hexdigest()
    assert fetched == Fetched("m", 3, sha256, "bucket", folder / "src/model")
    assert [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()] == [
        "src/model/spec.json"
    ]
    assert _model(folder) == "model 3"


def test_a_cached_package_does_while_the_bucket_is_away(
    tmp_path: Path, bucket: FolderBucket, caplog: pytest.LogCaptureFixture
) -> None:
    """A pod that starts again on a node that had the version needs no bucket, and says so."""
    cache = tmp_path / "cache"
    fetch_model(tmp_path / "f", "m", 3, bucket, cache=cache)
    fetched = fetch_model(tmp_path / "g", "m", 3, _Away(bucket), cache=cache)
    assert (fetched.source, _model(tmp_path / "g")) == ("cache", "model 3")
    assert caplog.messages == [
        "the package of m version 3 is taken from the cache: bucket 'b' does not answer"
    ]


def test_a_corrupt_cache_entry_is_removed_and_fetched_again(
    tmp_path: Path, bucket: FolderBucket, caplog: pytest.LogCaptureFixture
) -> None:
    """A flipped byte in the cache costs a fetch and nothing else."""
    cache = tmp_path / "cache"
    fetch_model(tmp_path / "f", "m", 3, bucket, cache=cache)
    kept = cache / package_key("m", 3)
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    assert fetch_model(tmp_path / "g", "m", 3, bucket, cache=cache).source == "bucket"
    assert caplog.messages[0].startswith("removed from the cache: the package of m version 3 is corrupt: ")
    assert fetch_model(tmp_path / "h", "m", 3, bucket, cache=cache).source == "cache"


def test_a_version_that_was_packaged_anew_is_not_taken_from_the_cache(
    tmp_path: Path, bucket: FolderBucket, caplog: pytest.LogCaptureFixture
) -> None:
    """The bucket's manifest says which package is meant."""
    cache = tmp_path / "cache"
    fetch_model(tmp_path / "f", "m", 3, bucket, cache=cache)
    _fill(bucket, 3, "better")
    assert fetch_model(tmp_path / "g", "m", 3, bucket, cache=cache).source == "bucket"
    assert _model(tmp_path / "g") == "better 3"
    assert caplog.messages == ["m version 3 was packaged anew; its cached package is not used"]


def test_the_cache_keeps_the_last_used(tmp_path: Path, bucket: FolderBucket) -> None:
    """With room for two, the one that was used longest ago goes, and forgotten parts of a write with it."""
    cache = tmp_path / "cache"
    for age, version in enumerate((1, 2)):
        fetch_model(tmp_path / f"f{version}", "m", version, bucket, cache=cache, keep=2)
        os.utime(cache / manifest_key("m", version), (age, age))
    fetch_model(tmp_path / "again", "m", 1, bucket, cache=cache, keep=2)
    forgotten = cache / "bentos/m/.incoming-x"
    forgotten.write_bytes(b"half")
    os.utime(forgotten, (0, 0))
    fetch_model(tmp_path / "f3", "m", 3, bucket, cache=cache, keep=2)
    assert sorted(p.name for p in cache.rglob("*") if p.is_file()) == [
        "1.bento",
        "1.json",
        "3.bento",
        "3.json",
    ]


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, bucket: FolderBucket, caplog: pytest.LogCaptureFixture
) -> None:
    """A full or broken volume is told, and the pod starts all the same."""
    cache = tmp_path / "cache"
    cache.write_text("no folder")
    assert fetch_model(tmp_path / "f", "m", 3, bucket, cache=cache).source == "bucket"
    assert [m.split(":")[0] for m in caplog.messages] == [
        f"the cache {cache} cannot be read", f"the cache {cache} cannot be written",
    ]  # fmt: skip


def test_a_bucket_that_is_away_is_waited_for_and_told_once(
    tmp_path: Path, bucket: FolderBucket, caplog: pytest.LogCaptureFixture
) -> None:
    """The pauses grow to five seconds; one line says what is waited for and that nobody is hurt."""
    pauses: list[float] = []
    told: list[str] = []
    fetched = fetch_model(
        tmp_path / "f", "m", 3, _Away(bucket, 6), wait_s=100, tell=told.append, sleep=pauses.append
    )
    assert fetched.source == "bucket"
    assert pauses == [0.5, 1, 2, 4, 5, 5]
    assert told == ["bucket 'b' does not answer"]
    assert caplog.messages == ["waiting, while the pods that run go on serving: bucket 'b' does not answer"]


def test_the_wait_ends(tmp_path: Path, bucket: FolderBucket) -> None:
    """After its time the fetch ends with what it waited for."""
    pauses: list[float] = []
    with pytest.raises(UnavailableError, match=r"^bucket 'b' does not answer$"):
        fetch_model(tmp_path / "f", "m", 3, _Away(bucket), wait_s=2, sleep=pauses.append)
    assert sum(pauses) == 2


def test_a_corrupt_package_is_refused_at_once(tmp_path: Path, bucket: FolderBucket) -> None:
    """Another sum than the manifest's is no reason to wait, and nothing of it reaches folder or cache."""
    bucket.put(package_key("m", 3), b"corrupt")
    with pytest.raises(DataError, match=r"^the package of m version 3 is corrupt: its SHA-256 is "):
        fetch_model(tmp_path / "f", "m", 3, bucket, cache=tmp_path / "cache", wait_s=100)
    assert not (tmp_path / "f").exists()
    assert not list((tmp_path / "cache").rglob("3.*"))
