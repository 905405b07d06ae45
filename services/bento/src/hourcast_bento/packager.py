"""An MLflow version becomes a `.bento` with a manifest in the bucket."""

import compileall
import hashlib
import logging
import os
import shutil
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path
from py_compile import PycInvalidationMode
from types import TracebackType
from typing import Self

from hourcast.bucket import Bucket, aliases_key, manifest_key, open_bucket, package_key
from hourcast.contracts import AliasIndex, AliasRecord, PackageManifest, alias_date, alias_kind, parse_moment
from hourcast.errors import DataError, HourcastError, RefusedError
from hourcast.forecaster import check_golden, golden_from_json, load
from hourcast_bento.package import PackageInfo, read_manifest
from hourcast_bento.registry import Registry, Version
from hourcast_bento.settings import ServingSettings

__all__ = ["Packager"]

_LOG = logging.getLogger(__name__)


class Packager:
    """Reads the registry, writes the bucket. Running it twice changes nothing. Close it when done."""

    def __init__(self, settings: ServingSettings) -> None:
        self._model = settings.model_name
        self._registry = Registry(settings.mlflow_url, self._model, settings.s3_endpoint_url)
        self._bucket: Bucket = open_bucket(settings.resolved_bucket_url, settings.s3_endpoint_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._registry.close()

    def package(self, version: int) -> PackageManifest:
        """Package a version, unless its whole package is in the bucket already.

        Raises:
            RefusedError: when the registry has no such version, or it did not pass its gate.
            DataError: when the version is corrupt.
            UnavailableError: when MLflow or the bucket does not answer.
        """
        known = read_manifest(self._bucket, self._model, version)
        found = self._registry.version(version)
        if found is None:
            raise RefusedError(
                f"{self._model} has no version {version} in MLflow; `hourcast status` lists those that it has"
            )
        if (
            known is not None
            and known.run_id == found.run_id
            and self._bucket.get(package_key(self._model, version))
        ):
            return known
        if found.tags.get("gate") != "passed":
            raise RefusedError(
                f"{self._model} version {version} is not packaged: its gate says "
                f"{found.tags.get('gate', 'nothing')!r}, not 'passed'"
            )
        with tempfile.TemporaryDirectory(prefix="hourcast-package-") as folder:
            return self._build(version, found, Path(folder))

    def _build(self, version: int, found: Version, folder: Path) -> PackageManifest:
        model = folder / "model"
        self._download(version, model)
        golden = golden_from_json((model / "golden.json").read_bytes())
        forecaster = load(model / "forecaster")
        check_golden(forecaster, golden)
        spec = forecaster.spec
        info = PackageInfo(
            model=self._model,
            version=version,
            run_id=found.run_id,
            alias=_alias_of(found),
            kind=spec.kind,
            data_fingerprint=spec.data_fingerprint,
            trained_through=spec.trained_through,
            decided_at=spec.decided_at,
            synthetic=spec.synthetic,
        )
        # Without its schema while that is 1: servers of release 0.1.0, which know none, go on reading it.
        (model / "package.json").write_text(info.model_dump_json(indent=1, exclude_defaults=True))
        body = _bento(model, f"{self._model}-{version}", folder)
        manifest = PackageManifest(
            model=self._model,
            version=version,
            run_id=found.run_id,
            alias=info.alias,
            kind=spec.kind,
            sha256=hashlib.sha256(body).hexdigest(),
            size_bytes=len(body),
            created_at=datetime.now(UTC),
            data_fingerprint=spec.data_fingerprint,
            trained_through=spec.trained_through,
            decided_at=spec.decided_at,
            golden=golden,
        )
        # The manifest says that the package is whole, so it comes last.
        self._bucket.put(package_key(self._model, version), body)
        self._bucket.put(manifest_key(self._model, version), manifest.model_dump_json().encode())
        return manifest

    def _download(self, version: int, target: Path) -> None:
        self._registry.download(version, "artifacts", target)
        for name in ("forecaster", "golden.json"):
            if not (target / name).exists():
                raise DataError(
                    f"{self._model} version {version} holds no artifacts/{name}; it is no forecaster"
                )

    def write_index(self) -> AliasIndex:
        """Write what the registry's aliases are now, for serving, which does not know the registry."""
        aliases = self._registry.aliases()
        versions = self._registry.versions() if aliases else {}
        records = []
        for alias, number in aliases.items():
            if alias_kind(alias) == "unknown":
                _LOG.info("alias %r is left out: it is not YYYYMMDD, backtest_YYYYMMDD or champion", alias)
                continue
            record = self._record(alias, versions.get(number))
            if record is not None:
                records.append(record)
        index = AliasIndex(
            model=self._model,
            generated_at=datetime.now(UTC),
            aliases=sorted(records, key=lambda r: (r.decided_at, r.alias), reverse=True),
        )
        self._bucket.put(aliases_key(self._model), index.model_dump_json().encode())
        return index

    @staticmethod
    def _record(alias: str, version: Version | None) -> AliasRecord | None:
        if version is None:
            _LOG.warning("alias %s is left out: its version vanished while the registry was read", alias)
            return None
        try:
            return AliasRecord(
                alias=alias,
                version=version.number,
                run_id=version.run_id,
                kind=version.tags["kind"],
                trained_through=date.fromisoformat(version.tags["trained_through"]),
                decided_at=parse_moment(version.tags["decided_at"]),
            )
        except KeyError as error:
            _LOG.warning("alias %s (version %s) is left out: it has no tag %s", alias, version.number, error)
        except ValueError as error:
            _LOG.warning(
                "alias %s (version %s) is left out: a tag cannot be understood: %s",
                alias, version.number, error,
            )  # fmt: skip
        return None


def _alias_of(version: Version) -> str | None:
    """The alias that a version was registered for; a tag that is no alias is none."""
    told = version.tags.get("alias", "")
    return told if alias_date(told) is not None else None


def _bento(model: Path, name: str, folder: Path) -> bytes:
    """Build the bento from our own sources and the model, and give its archive."""
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    os.environ["BENTOML_HOME"] = str(folder / "home")
    # Imported late: BentoML fixes its home folder when it is first imported.
    import bentoml
    from bentoml.exceptions import BentoMLException

    import hourcast
    import hourcast_bento

    context = folder / "context"
    for package in (hourcast, hourcast_bento):
        source = Path(package.__path__[0])
        shutil.copytree(source, context / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(model, context / "model")
    try:
        bento = bentoml.bentos.build(
            "hourcast_bento.service:Hourcast",
            name=name.lower(),
            build_ctx=str(context),
            include=["hourcast/", "hourcast_bento/", "model/"],
            labels={"owner": "hourcast"},
            python={"packages": _requirements(), "lock_packages": False},
        )
        # Compiled once here, a server imports its sources without compiling them at each start. BentoML leaves
        # compiled files out of what it copies.
        compileall.compile_dir(
            Path(bento.path, "src"), quiet=2, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
        )
        archive = folder / "package.bento"
        bento.export(str(archive))
    except BentoMLException as error:
        raise HourcastError(f"BentoML could not build the package: {error}") from error
    return archive.read_bytes()


def _requirements() -> list[str]:
    """What serving imports, at the versions that this was packaged with."""
    from importlib.metadata import version

    names = (
        "bentoml", "boto3", "cryptography", "fastapi", "httpx", "numpy", "onnxruntime", "prometheus-client",
        "pydantic", "pydantic-settings", "pymysql", "sqlalchemy", "stamina", "uvicorn",
    )  # fmt: skip
    return [f"{name}=={version(name)}" for name in names]
