"""The eyes of the controller: everything that a decision needs, read side by side."""

from concurrent.futures import ThreadPoolExecutor

from hourcast.bucket import Bucket, aliases_key
from hourcast.contracts import AliasIndex
from hourcast.store import Store
from hourcast_controller.metrics import Metrics
from hourcast_controller.observed import Observed
from hourcast_controller.packages import packaged as packaged_in
from hourcast_controller.policy import ignored, misread
from hourcast_controller.registry import Registry
from hourcast_controller.rollout import RolloutTarget
from hourcast_controller.settings import ControllerSettings
from hourcast_controller.told import Told

__all__ = ["Observer"]


class Observer:
    """Reads; changes nothing but the metrics of what it has seen."""

    def __init__(
        self,
        settings: ControllerSettings,
        registry: Registry,
        bucket: Bucket,
        store: Store,
        target: RolloutTarget,
        metrics: Metrics,
        told: Told,
    ) -> None:
        self._settings, self._registry, self._bucket = settings, registry, bucket
        self._store, self._target, self._metrics, self._told = store, target, metrics, told
        self._pool = ThreadPoolExecutor(6, "observe")

    def close(self) -> None:
        """Wait for nothing that still reads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def observe(self) -> Observed:
        """Read everything, side by side; None where a read failed."""
        begun_registry = self._pool.submit(self._registry.read)
        begun_standing = self._pool.submit(self._store.standing, self._settings.model_name)
        begun_bucket = self._pool.submit(
            lambda: (packaged_in(self._bucket, self._settings.model_name), self._index())
        )
        begun_deployment = self._pool.submit(self._target.observe)
        jobs = self._told.attempt("jobs", self._target.jobs)
        registry = self._told.attempt("registry", begun_registry.result)
        standing = self._told.attempt("store", begun_standing.result)
        packaged, index = self._told.attempt("bucket", begun_bucket.result) or (None, None)
        deployment = self._told.attempt("target", begun_deployment.result)
        if registry is not None:
            for alias, reason in ignored(registry.aliases).items():
                self._told.say(f"alias {alias}", f"alias {alias!r} is ignored: {reason}")
            for version, reason in misread(registry).items():
                self._told.say(f"version {version}", f"version {version} is skipped: {reason}")
        observed = Observed(
            registry=registry,
            packaged=packaged,
            index=index,
            deployment=deployment,
            jobs=jobs,
            standing=standing,
            policy=self._settings.policy,
            package_backtests=self._settings.package_backtests,
            bucket_problem=self._told.of("bucket") if packaged is None else None,
        )
        self._measure(observed)
        return observed

    def _measure(self, observed: Observed) -> None:
        for name, value in (
            ("registry", observed.registry),
            ("bucket", observed.packaged),
            ("store", observed.standing),
            ("target", observed.deployment),
        ):
            self._metrics.up.labels(name).set(int(value is not None))
        if observed.deployment is not None:
            self._metrics.desired.set(observed.deployment.desired_version or 0)
            self._metrics.serving.set(observed.deployment.serving_version or 0)
            blocked = observed.standing is not None and observed.standing.blocks(
                observed.deployment.desired_version
            )
            self._metrics.rolling.set(int(observed.deployment.rolling and not blocked))
        if observed.standing is not None:
            self._metrics.quarantined.set(len(observed.standing.quarantine))
            self._metrics.blocked.set(int(observed.standing.blocked is not None))

    def _index(self) -> dict[str, int]:
        body = self._bucket.get(aliases_key(self._settings.model_name))
        if body is None:
            return {}
        try:
            index = AliasIndex.model_validate_json(body)
        except ValueError:
            return {}
        return {record.alias: record.version for record in index.aliases}
