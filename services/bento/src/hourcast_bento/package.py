"""What lies in a package's `model` folder, and how it is read from a `.bento`."""

import errno
import hashlib
import io
import json
import lzma
import tarfile
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from hourcast import __version__
from hourcast.bucket import Bucket, manifest_key, package_key
from hourcast.contracts import PackageManifest
from hourcast.errors import ConfigurationError, DataError, UnavailableError
from hourcast.forecaster import Forecaster, check_golden, golden_from_json, load

__all__ = ["MODEL_FOLDER", "PackageInfo", "fetch", "fetch_whole", "load_model", "read_manifest", "unpack"]

MODEL_FOLDER = "src/model"
_INFO = "package.json"
# A place without room says nothing against what was to be laid there.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
_SCHEMA = 1


class PackageInfo(BaseModel):
    """`package.json`: who the packaged version is. Packages of release 0.1.0 have no schema in it: that is 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    schema_version: Literal[1] = 1
    model: str
    version: int
    run_id: str
    alias: str | None
    kind: str
    data_fingerprint: str
    trained_through: date
    decided_at: AwareDatetime
    synthetic: bool


def read_manifest(bucket: Bucket, model: str, version: int) -> PackageManifest | None:
    """The manifest of a version, or None where the version has no whole package.

    Raises:
        DataError: when it is there and is not a manifest.
        ConfigurationError: when a later release wrote it.
    """
    body = bucket.get(manifest_key(model, version))
    if body is None:
        return None
    try:
        return PackageManifest.model_validate_json(body)
    except ValidationError:
        _refuse_later(f"the manifest of {model} version {version}", body)
        raise DataError(f"the manifest of {model} version {version} is not valid; package it again") from None


def _refuse_later(what: str, body: bytes) -> None:
    """Nothing is wrong with what a later release wrote: this one is too old for it."""
    try:
        schema = json.loads(body).get("schema_version")
    except (ValueError, AttributeError):
        return
    if isinstance(schema, int) and schema > _SCHEMA:
        raise ConfigurationError(
            f"{what} has schema {schema}, and this Hourcast ({__version__}) reads schema {_SCHEMA}; upgrade Hourcast"
        )


def fetch(bucket: Bucket, model: str, version: int) -> bytes:
    """The `.bento` of a version, its sum checked against the manifest; raises as `fetch_whole` does."""
    return fetch_whole(bucket, model, version)[1]


def fetch_whole(bucket: Bucket, model: str, version: int) -> tuple[PackageManifest, bytes]:
    """The manifest of a version and its `.bento`, whose sum is that of the manifest.

    Raises:
        UnavailableError: when it is not in the bucket yet.
        DataError: when it is not what the manifest says.
    """
    manifest = read_manifest(bucket, model, version)
    body = bucket.get(package_key(model, version)) if manifest is not None else None
    if manifest is None or body is None:
        raise UnavailableError(
            f"{model} version {version} has no package; run `hourcast package {version}`",
            retry_after_s=5,
        )
    found = hashlib.sha256(body).hexdigest()
    if found != manifest.sha256:
        raise DataError(
            f"the package of {model} version {version} is corrupt: its SHA-256 is {found[:12]}…, "
            f"the manifest says {manifest.sha256[:12]}…; delete it and package it again"
        )
    return manifest, body


def unpack(body: bytes, folder: Path, only: str | None = None) -> None:
    """Unpack a `.bento`, or the part of it below the folder `only`.

    Files and folders alone are written, so that no link leads out; Python's own filter for that came with 3.11.4.

    Raises:
        DataError: when it is no archive, or a member climbs out of the folder.
        UnavailableError: when there is no room for it.
    """
    root = folder.resolve()
    try:
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            for member in archive:
                if only is not None and not member.name.removeprefix("./").startswith(only):
                    continue
                path = (root / member.name).resolve()
                if not path.is_relative_to(root):
                    raise DataError(f"the package cannot be unpacked: {member.name!r} lies outside of it")
                if member.isdir():
                    path.mkdir(parents=True, exist_ok=True)
                elif member.isreg() and (content := archive.extractfile(member)) is not None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content.read())
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError) as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise UnavailableError(
                f"the package cannot be unpacked into {folder}: {error.strerror}; make room there", 10
            ) from None
        raise DataError(f"the package cannot be unpacked: {error}") from None


def load_model(folder: Path) -> tuple[PackageInfo, Forecaster]:
    """Load a `model` folder and make sure that its golden input gives its golden output.

    Raises:
        DataError: when anything in it is missing, broken or gives another output.
        ConfigurationError: when a later release made it, in a form that this one does not know.
    """
    try:
        written = (folder / _INFO).read_bytes()
        info = PackageInfo.model_validate_json(written)
        golden = golden_from_json((folder / "golden.json").read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{Path(str(error.filename)).name} is missing from the package") from None
    except ValidationError:
        _refuse_later(_INFO, written)
        raise DataError(f"{_INFO} is not valid") from None
    forecaster = load(folder / "forecaster")
    check_golden(forecaster, golden)
    return info, forecaster
