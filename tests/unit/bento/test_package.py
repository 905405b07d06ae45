"""A package is whole and is what its manifest says, or it is refused."""

import hashlib
import io
import resource
import tarfile
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from hourcast.bucket import FolderBucket, manifest_key, package_key
from hourcast.contracts import Golden, PackageManifest
from hourcast.errors import ConfigurationError, DataError, UnavailableError
from hourcast_bento.package import fetch, load_model, read_manifest, unpack


def _tar(names: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, body in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return out.getvalue()


def _manifest(body: bytes) -> bytes:
    moment = datetime(2025, 1, 1, tzinfo=UTC)
    return (
        PackageManifest(
            model="m", version=3, run_id="r", alias="20250101", kind="naive", size_bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(), created_at=moment, data_fingerprint="f",
            trained_through=date(2025, 1, 1), decided_at=moment, golden=Golden(bars={}, origin=0, quantiles=[]),
        )
        .model_dump_json()
        .encode()
    )  # fmt: skip


def test_a_version_without_a_manifest_is_not_packaged_yet(tmp_path: Path) -> None:
    """The package alone does not count: its manifest comes last and says that it is whole."""
    bucket = FolderBucket(tmp_path)
    bucket.put(package_key("m", 3), b"half")
    with pytest.raises(UnavailableError) as caught:
        fetch(bucket, "m", 3)
    assert str(caught.value) == "m version 3 has no package; run `hourcast package 3`"


def test_another_sum_than_the_manifests_is_corrupt(tmp_path: Path) -> None:
    """One flipped byte is found, and the message says what to do."""
    bucket = FolderBucket(tmp_path)
    body = _tar({"a": b"1"})
    bucket.put(manifest_key("m", 3), _manifest(body))
    bucket.put(package_key("m", 3), body[:-1] + b"x")
    with pytest.raises(DataError, match=r"^the package of m version 3 is corrupt: its SHA-256 is "):
        fetch(bucket, "m", 3)
    bucket.put(package_key("m", 3), body)
    assert fetch(bucket, "m", 3) == body


def test_a_manifest_that_is_none_is_named(tmp_path: Path) -> None:
    """A broken manifest is an error of data, not a crash."""
    bucket = FolderBucket(tmp_path)
    bucket.put(manifest_key("m", 3), b"{}")
    with pytest.raises(DataError) as caught:
        read_manifest(bucket, "m", 3)
    assert str(caught.value) == "the manifest of m version 3 is not valid; package it again"


@pytest.mark.parametrize("name", ["../out", "/etc/out"])
def test_members_that_climb_out_are_refused(tmp_path: Path, name: str) -> None:
    """No archive writes beside its folder."""
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(DataError) as caught:
        unpack(_tar({name: b"x"}), folder)
    assert str(caught.value) == f"the package cannot be unpacked: {name!r} lies outside of it"
    assert not (tmp_path / "out").exists()
    assert not Path("/etc/out").exists()


def test_links_are_left_out(tmp_path: Path) -> None:
    """A link to elsewhere in an archive is not made, and what would go through it is not written elsewhere."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("to")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(link)
        through = tarfile.TarInfo("to/x")
        archive.addfile(through, io.BytesIO(b""))
    unpack(out.getvalue(), tmp_path / "in")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    assert (tmp_path / "in/to/x").is_file()


def test_an_archive_that_is_none_is_refused(tmp_path: Path) -> None:
    """Bytes that are no archive."""
    with pytest.raises(DataError, match=r"^the package cannot be unpacked: "):
        unpack(b"no archive", tmp_path)


def test_a_model_folder_without_its_parts_says_which(tmp_path: Path) -> None:
    """The missing file is named."""
    with pytest.raises(DataError) as caught:
        load_model(tmp_path)
    assert str(caught.value) == "package.json is missing from the package"


def test_a_manifest_of_a_later_release_blames_the_release_that_is_too_old(tmp_path: Path) -> None:
    """Nothing is wrong with the package, so it ends as a wrong setting does and not as bad data."""
    bucket = FolderBucket(tmp_path)
    bucket.put(manifest_key("m", 3), _manifest(b"").replace(b'"schema_version":1', b'"schema_version":2'))
    with pytest.raises(ConfigurationError) as caught:
        read_manifest(bucket, "m", 3)
    assert str(caught.value) == (
        "the manifest of m version 3 has schema 2, and this Hourcast (0.1.0) reads schema 1; upgrade Hourcast"
    )


def test_a_package_of_a_later_release_blames_the_release_that_is_too_old(tmp_path: Path) -> None:
    """The same of the package itself, whatever else is in it; one without a schema is of release 0.1.0."""
    (tmp_path / "package.json").write_text('{"schema_version": 2, "streams": []}')
    with pytest.raises(ConfigurationError) as caught:
        load_model(tmp_path)
    assert str(caught.value) == (
        "package.json has schema 2, and this Hourcast (0.1.0) reads schema 1; upgrade Hourcast"
    )
    (tmp_path / "package.json").write_text("[]")
    with pytest.raises(DataError, match=r"^package\.json is not valid$"):
        load_model(tmp_path)


def test_a_key_cannot_leave_the_bucket(tmp_path: Path) -> None:
    """Keys with `..` are refused."""
    with pytest.raises(ConfigurationError) as caught:
        FolderBucket(tmp_path / "b").get("../secret")
    assert str(caught.value) == "key '../secret' leaves the bucket; use a relative key without `..`"


def test_a_disk_without_room_says_nothing_against_a_package(tmp_path: Path) -> None:
    """What cannot be written is the place's fault: exit code 5, and the package is not called corrupt."""
    body, content = io.BytesIO(), bytes(4096)
    with tarfile.open(fileobj=body, mode="w") as archive:
        member = tarfile.TarInfo("model/weights")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        with pytest.raises(UnavailableError) as caught:
            unpack(body.getvalue(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(caught.value) == (
        f"the package cannot be unpacked into {tmp_path}: File too large; make room there"
    )
