"""The loop: observe, plan, act, write down. Level-triggered, so that it may die and start at any line."""

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from hourcast.bucket import Bucket, aliases_key, manifest_key
from hourcast.contracts import AliasIndex
from hourcast.errors import HourcastError, UnavailableError
from hourcast.store import Store
from hourcast_controller.journal import Journal, quarantine_of
from hourcast_controller.plan import (
    Action,
    NoteRolled,
    Observed,
    Package,
    Quarantine,
    RefreshIndex,
    Roll,
    Wait,
    plan,
)
from hourcast_controller.policy import ignored
from hourcast_controller.registry import Registry
from hourcast_controller.rollout import RolloutTarget
from hourcast_controller.settings import ControllerSettings

__all__ = ["Controller"]

_LOG = logging.getLogger("hourcast.controller")
T = TypeVar("T")


class Controller:
    """One turn is `turn()`; `run` turns until it is stopped."""

    def __init__(
        self,
        settings: ControllerSettings,
        registry: Registry,
        bucket: Bucket,
        store: Store,
        target: RolloutTarget,
        journal: Journal,
    ) -> None:
        self._settings, self._registry, self._bucket = settings, registry, bucket
        self._store, self._target, self._journal = store, target, journal
        self._wake = threading.Event()
        self._stop = False
        self._told: dict[str, str] = {}

    def hint(self) -> None:
        """Look at once."""
        self._wake.set()

    def stop(self) -> None:
        """End after the present turn."""
        self._stop = True
        self._wake.set()

    def run(self) -> None:
        """Turn until stopped."""
        while not self._stop:
            try:
                acted = self.turn()
            except HourcastError as error:
                self._tell("turn", str(error))
                acted = False
            # After an action the truth has changed: look again soon.
            self._wake.wait(
                min(0.2, self._settings.controller_interval_s)
                if acted
                else self._settings.controller_interval_s
            )
            self._wake.clear()

    def turn(self) -> bool:
        """Observe, plan and act once; True when something was done."""
        self._journal.flush()
        observed = self.observe()
        acted = False
        for action in plan(observed):
            if isinstance(action, Wait):
                self._tell("wait", action.reason)
                continue
            self._act(action, observed)
            acted = True
        return acted

    # -- observing ------------------------------------------------------------------------------

    def observe(self) -> Observed:
        """Read everything; None where a read failed."""
        registry = self._try("registry", self._registry.read)
        if registry is not None:
            for alias, reason in ignored(registry.aliases).items():
                self._tell(f"alias {alias}", f"alias {alias!r} is ignored: {reason}")
        events = self._try("store", lambda: self._store.events(self._settings.model_name, limit=5000))
        if not self._journal.settled:
            events = None
        rolled = next((e.version for e in events or [] if e.kind == "rolled"), None)
        return Observed(
            registry=registry,
            packaged=self._try("bucket", self._packaged),
            index=self._try("index", self._index),
            deployment=self._try("node", self._target.observe),
            jobs=self._try("jobs", self._target.jobs),
            quarantine=None if events is None else {v: run for v, (run, _) in quarantine_of(events).items()},
            last_rolled=rolled,
            policy=self._settings.policy,
            package_backtests=self._settings.package_backtests,
        )

    def _try(self, name: str, read: Callable[[], T]) -> T | None:
        try:
            value = read()
        except UnavailableError as error:
            self._tell(name, str(error))
            return None
        if self._told.pop(name, None) is not None:
            _LOG.info("%s answers again", name)
        return value

    def _packaged(self) -> frozenset[int]:
        prefix = manifest_key(self._settings.model_name, 0).removesuffix("0.json")
        names = (key.removeprefix(prefix) for key in self._bucket.keys(prefix))
        return frozenset(
            int(name.removesuffix(".json")) for name in names if name.removesuffix(".json").isdigit()
        )

    def _index(self) -> dict[str, int]:
        body = self._bucket.get(aliases_key(self._settings.model_name))
        if body is None:
            return {}
        try:
            index = AliasIndex.model_validate_json(body)
        except ValueError:
            return {}
        return {record.alias: record.version for record in index.aliases}

    def _tell(self, name: str, sentence: str) -> None:
        """Log a sentence once, until it changes."""
        if self._told.get(name) != sentence:
            _LOG.warning("%s", sentence)
            self._told[name] = sentence

    # -- acting ---------------------------------------------------------------------------------

    def _act(self, action: Action, observed: Observed) -> None:
        match action:
            case Package(version, reason):
                _LOG.info("packaging version %d: %s", version, reason)
                self._target.start_job(f"package-{version}", version)
            case RefreshIndex(reason):
                _LOG.info("writing the alias index: %s", reason)
                self._target.start_job("index", None)
            case Roll(version, alias, reason):
                _LOG.info("rolling to version %d (alias %s): %s", version, alias, reason)
                before = observed.deployment
                self._journal.write(
                    "roll_started", version, alias, reason,
                    {
                        "from_version": before.serving_version if before else None,
                        "aliases": dict(observed.registry.aliases) if observed.registry else {},
                    },
                )  # fmt: skip
                self._target.roll(version, alias)
            case Quarantine(version, run_id, reason):
                _LOG.warning("version %d is quarantined: %s", version, reason)
                self._journal.write("quarantined", version, None, reason, {"run_id": run_id})
            case NoteRolled(version, alias):
                reason = self._why(version)
                _LOG.info("version %d (alias %s) is served: %s", version, alias, reason)
                self._journal.write("rolled", version, alias, reason)
            case Wait():
                pass

    def _why(self, version: int) -> str:
        started = self._store.events(self._settings.model_name, kind="roll_started", limit=50)
        return next((e.reason for e in started if e.version == version), "it was found serving")
