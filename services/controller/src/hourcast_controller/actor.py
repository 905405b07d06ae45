"""The hands of the controller: each action of the plan, done and written down."""

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from hourcast.contracts import (
    CHAMPION,
    DECIDED_ANNOTATION,
    HOLD_ANNOTATION,
    PIN_ANNOTATION,
    alias_kind,
)
from hourcast.decisions import DecisionKind, Standing
from hourcast.store import Store
from hourcast_controller.actions import (
    Absolve,
    Action,
    Block,
    Mirror,
    NoteChampion,
    NoteHold,
    NotePin,
    NoteRolled,
    Package,
    Quarantine,
    RefreshIndex,
    Roll,
    Unblock,
    Wait,
)  # fmt: skip
from hourcast_controller.champion import MOVED, moves
from hourcast_controller.journal import Journal
from hourcast_controller.lease import Leadership
from hourcast_controller.metrics import Metrics
from hourcast_controller.observed import Observed
from hourcast_controller.registry import Registry
from hourcast_controller.rollout import RolloutTarget

__all__ = ["Actor"]

_LOG = logging.getLogger("hourcast.controller")
_MOVES = 200
_ALIASES_TOLD = 10


class Actor:
    """Acts for whoever leads. `standing` is how things stand with the decisions that it has taken since it looked."""

    def __init__(
        self,
        model: str,
        registry: Registry,
        store: Store,
        target: RolloutTarget,
        journal: Journal,
        leadership: Leadership,
        metrics: Metrics,
    ) -> None:
        self._model, self._registry, self._store, self._target = model, registry, store, target
        self._journal, self._leadership, self._metrics = journal, leadership, metrics
        self.standing = Standing()
        self._packaging_since_s: dict[int, float] = {}
        self._rolling_since_s: dict[int, float] = {}

    def begin(self, observed: Observed) -> None:
        """Start a turn from what was seen; where the store was away, from what was known before."""
        if observed.standing is not None:
            self.standing = observed.standing
        for version in [v for v in self._packaging_since_s if v in (observed.packaged or ())]:
            self._metrics.package_seconds.observe(time.monotonic() - self._packaging_since_s.pop(version))

    def act(self, action: Action, observed: Observed) -> None:
        """Do it. What it rests on may have been overtaken by another's word: then the journal says so.

        Raises:
            HourcastError: when it cannot be done, or must not be any more.
        """
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
                self._target.annotate(_marks(pin, hold, decided))
            case NotePin(pin, before):
                if pin is not None:
                    self._note("pinned", pin, None, "set on the Deployment")
                else:
                    self._note("unpinned", before, None, "removed on the Deployment")
            case NoteHold(hold):
                words = "set on the Deployment" if hold else "removed on the Deployment"
                self._note("held" if hold else "released", None, None, words)
            case NoteChampion(version, before):
                told = self._store.decisions(self._model, kind=MOVED, limit=_MOVES)
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
        seen = self.standing.id
        decision = self._journal.decide(kind, version, alias, reason, evidence, seen=seen)
        self.standing = self.standing.after(decision)

    def _roll(self, version: int, alias: str, reason: str, observed: Observed) -> None:
        _LOG.info("rolling to version %d (alias %s): %s", version, alias, reason)
        before, asked = observed.deployment, self.standing.asked
        # A patch that fails is tried again each second; that is one decision, not one a second.
        if asked is None or (asked.version, asked.alias) != (version, alias):
            self._decide(
                "roll_started", version, alias, reason,
                {
                    "from_version": before.serving_version if before else None,
                    "aliases": _considered(observed.registry.aliases) if observed.registry else {},
                },
            )  # fmt: skip
        # The lease may have run out while the decision was stored; who leads now rolls by it.
        if not self._leadership.held():
            return
        self._rolling_since_s = {version: time.monotonic()}
        self._target.roll(version, alias)
        self._target.tell("roll_started", version, reason)

    def _why(self, version: int) -> str:
        started = self.standing.asked
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


def _marks(pin: int | None, hold: bool, decided: int) -> dict[str, str | None]:
    """The annotations that show what was decided."""
    return {
        PIN_ANNOTATION: None if pin is None else str(pin),
        HOLD_ANNOTATION: "true" if hold else None,
        DECIDED_ANNOTATION: str(decided),
    }


def _considered(aliases: Mapping[str, int]) -> dict[str, int]:
    """The champion and the newest dates: what a roll was chosen from, and not every alias that ever was."""
    dates = sorted((a for a in aliases if alias_kind(a) == "date"), reverse=True)[:_ALIASES_TOLD]
    return {alias: aliases[alias] for alias in (*dates, CHAMPION) if alias in aliases}
