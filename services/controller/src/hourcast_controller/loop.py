"""The loop: observe, plan, act, write down. Level-triggered, so that it may die and start at any line."""

import threading
import time

from hourcast.bucket import Bucket
from hourcast.errors import HourcastError, UnavailableError
from hourcast.store import Store
from hourcast_controller.actions import Action, RefreshIndex, Wait
from hourcast_controller.actor import Actor
from hourcast_controller.index_tries import IndexTries
from hourcast_controller.journal import Journal
from hourcast_controller.lease import Alone, Leadership
from hourcast_controller.metrics import Metrics
from hourcast_controller.observed import Observed
from hourcast_controller.observer import Observer
from hourcast_controller.plan import plan
from hourcast_controller.registry import Registry
from hourcast_controller.rollout import RolloutTarget
from hourcast_controller.settings import ControllerSettings
from hourcast_controller.summary import summary
from hourcast_controller.told import Told

__all__ = ["Controller"]

_SOON_S = 0.2
_FOLLOWER_LOOKS_S = 10.0
_BUSY_FOR_S = 120.0
_BEAT_S = 10.0


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
        self._settings, self._target = settings, target
        self._leadership: Leadership = leadership or Alone()
        self._metrics = metrics or Metrics()
        self._told = Told()
        self._observer = Observer(settings, registry, bucket, store, target, self._metrics, self._told)
        self._actor = Actor(
            settings.model_name, registry, store, target, journal, self._leadership, self._metrics
        )
        self._index_tries = IndexTries()
        self._busy_since_s: float | None = None
        # Set from other threads: by the webhook, by the lease when it changes hands, by signals.
        self._wake = threading.Event()
        self._stop = False

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
                # A hint that comes during the turn is kept, since this stands before it and not after.
                self._wake.clear()
                self._pause(self._turn_or_follow())
        finally:
            self._observer.close()

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
                self._observer.observe()
                pause_s = max(interval_s, _FOLLOWER_LOOKS_S)
            elif self._still_busy(self.turn()):
                # After an action, and while a package is made, the truth changes: look again soon.
                pause_s = min(_SOON_S, interval_s)
        except HourcastError as error:
            self._told.say("turn", str(error))
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
        observed = self._observer.observe()
        self._actor.begin(observed)
        actions = [action for action in plan(observed) if not self._in_vain(action, observed)]
        # A roll needs nobody's help, and looking closely would take from it what it is short of: a processor.
        busy = any(job.state == "running" for job in (observed.jobs or {}).values())
        self._told.say("wait", "; ".join(a.reason for a in actions if isinstance(a, Wait)))
        for action in actions:
            if isinstance(action, Wait):
                continue
            # The lease may be lost at any action, and its next holder then acts: it is asked before each.
            if self._stop or not self._leadership.held():
                return busy
            self._actor.act(action, observed)
            self._metrics.actions.labels(type(action).__name__).inc()
            busy = True
        self._explain(observed, actions)
        return busy

    def _in_vain(self, action: Action, observed: Observed) -> bool:
        if not isinstance(action, RefreshIndex) or observed.registry is None:
            return False
        return self._index_tries.in_vain(observed.registry.aliases)

    def _explain(self, observed: Observed, actions: list[Action]) -> None:
        changed = any(not isinstance(action, Wait) for action in actions)
        if observed.deployment is not None and not changed and self._leadership.held():
            try:
                self._target.explain(*summary(observed.deployment, actions, self._actor.standing))
            except UnavailableError as error:
                self._told.say("explain", str(error))
