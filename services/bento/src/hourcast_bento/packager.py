"""An MLflow version becomes a `.bento` with a manifest in the bucket."""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from hourcast.bucket import Bucket, aliases_key, manifest_key, open_bucket, package_key
from hourcast.contracts import AliasIndex, AliasRecord, PackageManifest, alias_kind
from hourcast.errors import DataError, HourcastError, RefusedError, UnavailableError
from hourcast.forecaster import check_golden, golden_from_json, load
from hourcast_bento.package import PackageInfo, read_manifest
from hourcast_bento.settings import ServingSettings

__all__ = ["Packager"]

_LOG = logging.getLogger(__name__)


class Packager:
    """Reads the registry, writes the bucket. Running it twice changes nothing."""

    def __init__(self, settings: ServingSettings) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        from mlflow import MlflowClient

        self._settings = settings
        self._model = settings.model_name
        self._client = MlflowClient(settings.mlflow_url, settings.mlflow_url)
        self._bucket: Bucket = open_bucket(settings.resolved_bucket_url, settings.s3_endpoint_url)

    def package(self, version: int) -> PackageManifest:
        """Package a version, unless its whole package is in the bucket already.

        Raises:
            RefusedError: when the registry has no such version, or it did not pass its gate.
            DataError: when the version is corrupt.
            UnavailableError: when MLflow or the bucket does not answer.
        """
        known = read_manifest(self._bucket, self._model, version)
        with self._talking():
            found = self._find(version)
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

    def _find(self, version: int) -> Any:
        from mlflow.exceptions import RestException

        try:
            return self._client.get_model_version(self._model, str(version))
        except RestException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise RefusedError(
                    f"{self._model} has no version {version} in MLflow; `hourcast status` lists those that it has"
                ) from None
            raise

    @contextmanager
    def _talking(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            raise UnavailableError(
                f"MLflow at {self._settings.mlflow_url} does not answer ({str(error).splitlines()[0][:160]})",
                retry_after_s=5,
            ) from error

    def _build(self, version: int, found: Any, folder: Path) -> PackageManifest:
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
            alias=found.tags.get("alias"),
            kind=spec.kind,
            data_fingerprint=spec.data_fingerprint,
            trained_through=spec.trained_through,
            decided_at=spec.decided_at,
            synthetic=spec.synthetic,
        )
        (model / "package.json").write_text(info.model_dump_json(indent=1))
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
        import mlflow

        mlflow.set_tracking_uri(self._settings.mlflow_url)
        mlflow.set_registry_uri(self._settings.mlflow_url)
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        local = Path(mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{self._model}/{version}"))
        try:
            parts = local / "artifacts"
            for name in ("forecaster", "golden.json"):
                if not (parts / name).exists():
                    raise DataError(
                        f"{self._model} version {version} holds no artifacts/{name}; it is no forecaster"
                    )
            shutil.copytree(parts, target)
        finally:
            if local.is_relative_to(tempfile.gettempdir()):
                shutil.rmtree(local, ignore_errors=True)

    def write_index(self) -> AliasIndex:
        """Write what the registry's aliases are now, for serving, which does not know the registry."""
        with self._talking():
            model = self._client.get_registered_model(self._model)
            records = []
            for alias, number in model.aliases.items():
                if alias_kind(alias) == "unknown":
                    _LOG.info(
                        "alias %r is left out: it is not YYYYMMDD, backtest_YYYYMMDD or champion", alias
                    )
                    continue
                record = self._record(alias, self._find(int(number)))
                if record is not None:
                    records.append(record)
        index = AliasIndex(
            model=self._model,
            generated_at=datetime.now(UTC),
            aliases=sorted(records, key=lambda r: (r.decided_at, r.alias), reverse=True),
        )
        self._bucket.put(aliases_key(self._model), index.model_dump_json().encode())
        return index

    def _record(self, alias: str, version: Any) -> AliasRecord | None:
        try:
            return AliasRecord(
                alias=alias,
                version=int(version.version),
                run_id=version.run_id or "",
                kind=version.tags["kind"],
                trained_through=date.fromisoformat(version.tags["trained_through"]),
                decided_at=datetime.fromisoformat(version.tags["decided_at"]),
            )
        except (KeyError, ValueError) as error:
            _LOG.warning(
                "alias %s (version %s) is left out: tag %s is missing or wrong", alias, version.version, error
            )
            return None


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
            python={"packages": _REQUIREMENTS, "lock_packages": False},
        )
        archive = folder / "package.bento"
        bento.export(str(archive))
    except BentoMLException as error:
        raise HourcastError(f"BentoML could not build the package: {error}") from error
    return archive.read_bytes()


# What serving imports; the versions are those that this was packaged with.
def _pinned(*names: str) -> list[str]:
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in names]


_REQUIREMENTS = _pinned(
    "alembic", "bentoml", "boto3", "click", "cryptography", "fastapi", "httpx", "numpy", "onnxruntime",
    "pydantic", "pydantic-settings", "pymysql", "rich", "sqlalchemy",
)  # fmt: skip
