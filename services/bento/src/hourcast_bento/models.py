"""Which models there are, and those that are loaded: the served one, and others that were asked for."""

import math
import tempfile
import threading
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from hourcast.bucket import Bucket, aliases_key, manifest_key
from hourcast.contracts import AliasIndex, alias_kind
from hourcast.errors import ConfigurationError, HourcastError, UnavailableError
from hourcast.forecaster import Forecaster
from hourcast_bento.kept import Kept
from hourcast_bento.package import MODEL_FOLDER, PackageInfo, fetch, load_model, unpack
from hourcast_bento.settings import ServingSettings

__all__ = ["Models", "NotFoundError"]

# How old what is told may be, and how long a caller waits for it. A package takes longer to come.
_INDEX_TTL_S, _PACKAGED_TTL_S = 2.0, 5.0
_BUCKET_WAIT_S, _PACKAGE_WAIT_S = 3.0, 15.0


class NotFoundError(HourcastError):
    """What a request names does not exist; the message lists what does."""


class Models:
    """The served model (`info`, `forecaster`, under `alias`) and the packages beside it. Thread-safe."""

    def __init__(
        self, settings: ServingSettings, bucket: Bucket, info: PackageInfo, forecaster: Forecaster
    ) -> None:
        self._settings, self._bucket = settings, bucket
        self.info, self.forecaster = info, forecaster
        if settings.model_version not in (None, info.version):
            raise ConfigurationError(
                f"HOURCAST_MODEL_VERSION is {settings.model_version}, but this package holds version {info.version}"
            )
        self.alias = settings.model_alias or info.alias or str(info.version)
        self._others: OrderedDict[int, Kept[tuple[PackageInfo, Forecaster]]] = OrderedDict()
        # Two requests for a version that is not there yet must wait for one fetch, not begin two.
        self._others_lock = threading.Lock()
        # Half of the requests that run at a time (`Gate`): the others need no bucket.
        self._room = threading.Semaphore(8)
        self._index = Kept(self._read_index, _INDEX_TTL_S, _BUCKET_WAIT_S, "the alias index", self._room)
        self._packaged = Kept(
            self._read_packaged, _PACKAGED_TTL_S, _BUCKET_WAIT_S, "the list of packages", self._room
        )

    def index(self) -> AliasIndex:
        """The alias index, at most two seconds old while the bucket answers."""
        return self._index.get()

    def _read_index(self) -> AliasIndex:
        body = self._bucket.get(aliases_key(self._settings.model_name))
        if body is None:
            return AliasIndex(model=self._settings.model_name, generated_at=datetime.now(UTC), aliases=[])
        try:
            return AliasIndex.model_validate_json(body)
        except ValidationError:
            raise UnavailableError("the alias index in the bucket cannot be read", 5) from None

    def packaged(self) -> set[int]:
        """Versions with a whole package in the bucket, as it was at most five seconds ago while the bucket answers."""
        return self._packaged.get()

    def _read_packaged(self) -> set[int]:
        prefix = manifest_key(self._settings.model_name, 0).removesuffix("0.json")
        names = (
            key.removeprefix(prefix).removesuffix(".json")
            for key in self._bucket.keys(prefix)
            if key.endswith(".json")
        )
        return {int(name) for name in names if name.isdigit()}

    def resolve(self, alias: str | None) -> tuple[str, PackageInfo, Forecaster]:
        """The model behind an alias; None is the served one.

        Raises:
            NotFoundError: when there is no such alias.
            UnavailableError: when its package is not there yet.
        """
        if alias is None:
            return self.alias, self.info, self.forecaster
        # An alias may have moved to another version since this one was rolled out: the index knows.
        try:
            records = self.index().aliases
        except UnavailableError:
            if alias != self.alias:
                raise
            records = []
        for record in records:
            if record.alias == alias:
                info, forecaster = self.of(record.version)
                return alias, info, forecaster
        if alias == self.alias:
            return self.alias, self.info, self.forecaster
        known = [r.alias for r in records if alias_kind(r.alias) != "backtest"][:5]
        raise NotFoundError(
            f"there is no alias {alias!r}; the newest are {', '.join(known) or 'none yet'}; /aliases lists all"
        )

    def of(self, version: int) -> tuple[PackageInfo, Forecaster]:
        """A version's model; one that is not loaded is fetched, and the least asked-for goes.

        Raises:
            UnavailableError: when its package is not there yet, or the bucket does not answer.
        """
        if version == self.info.version:
            return self.info, self.forecaster
        with self._others_lock:
            kept = self._others.pop(version, None) or Kept(
                lambda: self._load(version),
                math.inf,
                _PACKAGE_WAIT_S,
                f"the package of version {version}",
                self._room,
            )
            self._others[version] = kept
            while len(self._others) > self._settings.lru_packages:
                self._others.popitem(last=False)
        return kept.get()

    def _load(self, version: int) -> tuple[PackageInfo, Forecaster]:
        body = fetch(self._bucket, self._settings.model_name, version)
        with tempfile.TemporaryDirectory(prefix="hourcast-model-") as folder:
            unpack(body, Path(folder), only=MODEL_FOLDER)
            return load_model(Path(folder) / MODEL_FOLDER)
