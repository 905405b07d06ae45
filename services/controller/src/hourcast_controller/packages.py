"""What the bucket knows of packages."""

from collections.abc import Collection

from hourcast.bucket import Bucket, manifest_key
from hourcast.contracts import PackageManifest, version_number

__all__ = ["floors", "packaged"]

_LOOKED_AT = 50
_FLOOR = "naive"


def packaged(bucket: Bucket, model: str) -> frozenset[int]:
    """Versions whose whole packages are in the bucket.

    Raises:
        UnavailableError: when the bucket does not answer.
    """
    prefix = manifest_key(model, 0).removesuffix("0.json")
    names = (key.removeprefix(prefix) for key in bucket.keys(prefix))
    found = (version_number(name.removesuffix(".json")) for name in names if name.endswith(".json"))
    return frozenset(version for version in found if version is not None)


def floors(bucket: Bucket, model: str, there: Collection[int], below: int) -> list[int]:
    """Packaged versions to fall back on when none has served before a version, the best first.

    The floor is the naive kind; where no package is of it, any other that is older, the newest first.
    """
    older = sorted((version for version in there if version != below), key=lambda v: (v > below, -v))
    kinds = {version: _kind(bucket, model, version) for version in older[:_LOOKED_AT]}
    return sorted(kinds, key=lambda version: kinds[version] != _FLOOR)


def _kind(bucket: Bucket, model: str, version: int) -> str | None:
    body = bucket.get(manifest_key(model, version))
    try:
        return None if body is None else PackageManifest.model_validate_json(body).kind
    except ValueError:
        return None
