"""The loop: observe, plan, act, write down. Level-triggered, so that it may die and start at any line."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

from hourcast.bucket import Bucket, aliases_key
from hourcast.contracts import (
    CHAMPION,
    DECIDED_ANNOTATION,
    HOLD_ANNOTATION,
    PIN_ANNOTATION,
    AliasIndex,
    alias_kind,
)
from hourcast.decisions import DecisionKind, Standing
from hourcast.errors import HourcastError, UnavailableError
from hourcast.store import Store
from hourcast_controller.champion import MOVED, moves
from hourcast_controller.journal import Journal
from hourcast_controller.lease import Alone, Leadership
from hourcast_controller.metrics import Metrics
from hourcast_controller.packages import packaged as packaged_in
from hourcast_controller.plan import (
    Absolve,
    Action,
    Block,
    Mirror,
    NoteChampion,
    NoteHold,
    NotePin,
    NoteRolled,
    Observed,
    Package,
    Quarantine,
    RefreshIndex,
    Roll,
    Unblock,
    Wait,
    plan,
)
from hourcast_controller.policy import ignored, misread
from hourcast_controller.registry import Registry
from hourcast_controller.rollout import RolloutTarget
from hourcast_controller.settings import ControllerSettings
from hourcast_controller.summary import summary

__all__ = ["Controller"]

_LOG = logging.getLogger("hourcast.controller")
_SOON_S = 0.2
_FOLLOWER_LOOKS_S = 10.0
_BUSY_FOR_S = 120.0
_BEAT_S = 10.0
_MOVES = 200
_ALIASES_TOLD = 10
_INDEX_AGAIN_S, _INDEX_LONGEST_S = 10.0, 300.0
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
        leadership: Leadership | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._settings, self._registry, self._bucket = settings, registry, bucket
        self._store, self._target, self._journal = store, target, journal
        self._leadership: Leadership = leadership or Alone()
        self._metrics = metrics or Metrics()
        self._wake = threading.Event()
        self._stop = False
        self._told: dict[str, str] = {}
        self._standing = Standing()
        self._packaging_since_s: dict[int, float] = {}
        self._rolling_since_s: dict[int, float] = {}
        self._busy_since_s: float | None = None
        self._indexed: dict[str, int] = {}
        self._index_tries, self._index_due_s = 0, 0.0
        self._pool = ThreadPoolExecutor(6, "observe")

    def hint(self) -> None:
        """Look at once."""
        self._wake.set()

    def stop(self) -> None:
        """End after the present action."""
        self._stop = True
        self._wake.set()

    def run(self) -> None:
        """Turn until stopped."""
        try:
            while not self._stop:
                self._wake.clear()
                self._pause(self._turn_or_follow())
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _pause(self, pause_s: float) -> None:
        """Wait for the next turn or a hint, and say meanwhile that nothing hangs."""
        end_s = time.monotonic() + pause_s
        while not self._wake.wait(max(0.0, min(_BEAT_S, end_s - time.monotonic()))):
            self._metrics.beat()
            if time.monotonic() >= end_s:
                return

    def _turn_or_follow(self) -> float:
        """One turn, or a follower's look; how long to wait afterwards."""
        interval_s = self._settings.controller_interval_s
        started_s = time.monotonic()
        pause_s = interval_s
        leads = self._leadership.held()
        self._metrics.leader.set(int(leads))
        try:
            if not leads:
                # Everything is opened and read now and then, so that taking over costs nothing.
                self.observe()
                pause_s = max(interval_s, _FOLLOWER_LOOKS_S)
            elif self._still_busy(self.turn()):
                # After an action, and while a package is made, the truth changes: look again soon.
                pause_s = min(_SOON_S, interval_s)
        except HourcastError as error:
            self._tell("turn", str(error))
        self._metrics.turns.inc()
        self._metrics.turn_seconds.observe(time.monotonic() - started_s)
        self._metrics.beat()
        return pause_s

    def _still_busy(self, busy: bool) -> bool:
        """Whether to look closely; not at a job that waits for hours."""
        now_s = time.monotonic()
        if not busy:
            self._busy_since_s = None
        elif self._busy_since_s is None:
            self._busy_since_s = now_s
        return busy and now_s - (self._busy_since_s or now_s) < _BUSY_FOR_S

    def turn(self) -> bool:
        """Observe, plan and act once; True when something was done or is under way."""
        observed = self.observe()
        actions = [action for action in plan(observed) if not self._in_vain(action, observed)]
        # A roll needs nobody's help, and looking closely would take from it what it is short of: a processor.
        busy = any(job.state == "running" for job in (observed.jobs or {}).values())
        self._tell_or_forget("wait", "; ".join(a.reason for a in actions if isinstance(a, Wait)))
        for action in actions:
            if isinstance(action, Wait):
                continue
            if self._stop or not self._leadership.held():
                return busy
            self._act(action, observed)
            self._metrics.actions.labels(type(action).__name__).inc()
            busy = True
        self._explain(observed, actions)
        return busy

    def _in_vain(self, action: Action, observed: Observed) -> bool:
        """Whether the index was just written for these very aliases and lacks some still.

        The packager leaves out an alias whose version lacks its tags; writing again at once would not help.
        """
        if not isinstance(action, RefreshIndex) or observed.registry is None:
            return False
        now_s, aliases = time.monotonic(), dict(observed.registry.aliases)
        if aliases != self._indexed:
            self._indexed, self._index_tries = aliases, 0
        elif now_s < self._index_due_s:
            return True
        self._index_due_s = now_s + min(_INDEX_LONGEST_S, _INDEX_AGAIN_S * 2**self._index_tries)
        self._index_tries = min(self._index_tries + 1, 10)
        return False

    def _explain(self, observed: Observed, actions: list[Action]) -> None:
        changed = any(not isinstance(action, Wait) for action in actions)
        if observed.deployment is not None and not changed and self._leadership.held():
            try:
                self._target.explain(*summary(observed.deployment, actions, self._standing))
            except UnavailableError as error:
                self._tell("explain", str(error))

    # -- observing ------------------------------------------------------------------------------

    def observe(self) -> Observed:
        """Read everything, side by side; None where a read failed."""
        begun_registry = self._pool.submit(self._registry.read)
        begun_standing = self._pool.submit(self._store.standing, self._settings.model_name)
        begun_bucket = self._pool.submit(
            lambda: (packaged_in(self._bucket, self._settings.model_name), self._index())
        )
        begun_deployment = self._pool.submit(self._target.observe)
        jobs = self._try("jobs", self._target.jobs)
        registry = self._try("registry", begun_registry.result)
        standing = self._try("store", begun_standing.result)
        packaged, index = self._try("bucket", begun_bucket.result) or (None, None)
        deployment = self._try("target", begun_deployment.result)
        if registry is not None:
            for alias, reason in ignored(registry.aliases).items():
                self._tell(f"alias {alias}", f"alias {alias!r} is ignored: {reason}")
            for version, reason in misread(registry).items():
                self._tell(f"version {version}", f"version {version} is skipped: {reason}")
        if standing is not None:
            self._standing = standing
        observed = Observed(
            registry=registry,
            packaged=packaged,
            index=index,
            deployment=deployment,
            jobs=jobs,
            standing=standing,
            policy=self._settings.policy,
            package_backtests=self._settings.package_backtests,
            bucket_problem=self._told.get("bucket") if packaged is None else None,
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
        for version in [v for v in self._packaging_since_s if v in (observed.packaged or ())]:
            self._metrics.package_seconds.observe(time.monotonic() - self._packaging_since_s.pop(version))

    def _try(self, name: str, read: Callable[[], T]) -> T | None:
        try:
            value = read()
        except UnavailableError as error:
            self._tell(name, str(error))
            return None
        if self._told.pop(name, None) is not None:
            _LOG.info("%s answers again", name)
        return value

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

    def _tell_or_forget(self, name: str, sentence: str) -> None:
        if sentence:
            self._tell(name, sentence)
        else:
            self._told.pop(name, None)

    # -- acting ---------------------------------------------------------------------------------

    def _act(self, action: Action, observed: Observed) -> None:
        match action:
            case Package(version, reason):
                _LOG.info("packaging version %d: %s", version, reason)
                self._target.start_job(f"package-{version}", version)
                self._packaging_since_s.setdefault(version, time.monotonic())
            case RefreshIndex(reason):
                _LOG.info("writing the alias index: %s", reason)
                self._target.start_job("index", None)
            case Roll(version, alias, reason):
                self._roll(version, alias, reason, observed)
            case Quarantine(version, run_id, reason):
                _LOG.warning("version %d is quarantined: %s", version, reason)
                self._note("quarantined", version, None, reason, {"run_id": run_id})
            case Absolve(version, reason):
                _LOG.warning("version %d leaves quarantine: %s", version, reason)
                self._note("unquarantined", version, None, reason)
            case Block(blocked):
                _LOG.warning("%s", blocked.reason)
                self._note(
                    "blocked",
                    blocked.version,
                    None,
                    blocked.reason,
                    {"fault": blocked.fault, "of": blocked.of},
                )
            case Unblock(version, reason):
                _LOG.info("version %d is no longer blocked: %s", version, reason)
                self._note("unblocked", version, None, reason)
            case NoteRolled(version, alias):
                reason = self._why(version)
                _LOG.info("version %d (alias %s) is served: %s", version, alias, reason)
                self._note("rolled", version, alias, reason)
            case Mirror(pin, hold, decided):
                self._target.annotate(
                    {
                        PIN_ANNOTATION: None if pin is None else str(pin),
                        HOLD_ANNOTATION: "true" if hold else None,
                        DECIDED_ANNOTATION: str(decided),
                    }
                )
            case NotePin(pin, before):
                if pin is not None:
                    self._note("pinned", pin, None, "set on the Deployment")
                else:
                    self._note("unpinned", before, None, "removed on the Deployment")
            case NoteHold(hold):
                words = "set on the Deployment" if hold else "removed on the Deployment"
                self._note("held" if hold else "released", None, None, words)
            case NoteChampion(version, before):
                told = self._store.decisions(self._settings.model_name, kind=MOVED, limit=_MOVES)
                for move in moves(version, before, self._registry.champion_evidence, told[::-1]):
                    _LOG.info("champion is now version %s: %s", move.version, move.reason)
                    self._note(MOVED, move.version, CHAMPION, move.reason, dict(move.evidence))
            case Wait():
                pass

    def _note(
        self,
        kind: DecisionKind,
        version: int | None,
        alias: str | None,
        reason: str,
        evidence: dict[str, object] | None = None,
    ) -> None:
        self._decide(kind, version, alias, reason, evidence)
        self._target.tell(kind, version, reason)

    def _decide(
        self,
        kind: DecisionKind,
        version: int | None,
        alias: str | None,
        reason: str,
        evidence: dict[str, object] | None = None,
    ) -> None:
        """Store a decision that rests on the standing as it was seen; another's word that came between goes before."""
        seen = self._standing.id
        decision = self._journal.decide(kind, version, alias, reason, evidence, seen=seen)
        self._standing = self._standing.after(decision)

    def _roll(self, version: int, alias: str, reason: str, observed: Observed) -> None:
        _LOG.info("rolling to version %d (alias %s): %s", version, alias, reason)
        before, asked = observed.deployment, self._standing.asked
        # A patch that fails is tried again each second; that is one decision, not one a second.
        if asked is None or (asked.version, asked.alias) != (version, alias):
            self._decide(
                "roll_started", version, alias, reason,
                {
                    "from_version": before.serving_version if before else None,
                    "aliases": _considered(observed.registry.aliases) if observed.registry else {},
                },
            )  # fmt: skip
        if not self._leadership.held():
            return
        self._rolling_since_s = {version: time.monotonic()}
        self._target.roll(version, alias)
        self._target.tell("roll_started", version, reason)

    def _why(self, version: int) -> str:
        started = self._standing.asked
        if started is None or started.version != version:
            return "it was found serving"
        since_s = self._rolling_since_s.pop(version, None)
        # One that took over knows the start from the journal alone.
        took_s = (
            (datetime.now(UTC) - started.wall_at).total_seconds()
            if since_s is None
            else time.monotonic() - since_s
        )
        self._metrics.roll_seconds.observe(max(0.0, took_s))
        return started.reason


def _considered(aliases: Mapping[str, int]) -> dict[str, int]:
    """The champion and the newest dates: what a roll was chosen from, and not every alias that ever was."""
    dates = sorted((a for a in aliases if alias_kind(a) == "date"), reverse=True)[:_ALIASES_TOLD]
    return {alias: aliases[alias] for alias in (*dates, CHAMPION) if alias in aliases}
