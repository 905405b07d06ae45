"""Who is champion: challenges held and won, the first one, and who takes a place that nobody can defend."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from hourcast.contracts import CHAMPION, Bars, alias_kind
from hourcast.errors import DataError
from hourcast.forecaster import Forecaster, load
from hourcast.store import Evaluation, Store
from hourcast_trainer.calendar import TrainingPlan
from hourcast_trainer.champion import Challenge
from hourcast_trainer.measuring import Measured, common, uncalibrated
from hourcast_trainer.registry import RegisteredVersion, Registry
from hourcast_trainer.settings import TrainerSettings
from hourcast_trainer.succession import challenged, turn

__all__ = ["Championship", "dated", "incumbent_of"]

_LOG = logging.getLogger(__name__)


def dated(registry: Registry) -> list[int]:
    """The versions behind the date aliases, the newest alias first; each once."""
    dated = {alias: version for alias, version in registry.aliases().items() if alias_kind(alias) == "date"}
    return list(dict.fromkeys(dated[alias] for alias in sorted(dated, reverse=True)))


def incumbent_of(registry: Registry) -> int | None:
    """The version behind the newest date alias."""
    return next(iter(dated(registry)), None)


class Championship:
    """The champion as of one plan."""

    def __init__(
        self,
        settings: TrainerSettings,
        store: Store,
        registry: Registry,
        plan: TrainingPlan,
        bars: Mapping[str, Bars],
        say: Callable[[str], None],
    ) -> None:
        self._settings, self._store, self._registry = settings, store, registry
        self._plan, self._bars, self._say = plan, bars, say

    def holder_on_window(self) -> tuple[int, Measured] | None:
        """The champion and its forecasts of the held-out window; None where there is none that can be run."""
        version = self._registry.aliases().get(CHAMPION)
        if version is None:
            return None
        try:
            forecaster = load(self._registry.forecaster_of(version))
            return version, self._since(self._plan.gate_start, forecaster)
        except DataError as error:
            _LOG.warning("champion (version %d) cannot be measured and is left out: %s", version, error)
            return None

    def _since(self, start: datetime, forecaster: Forecaster) -> Measured:
        return uncalibrated(forecaster, self._bars, int(start.timestamp()), self._plan.gate_end_s)

    def hold_challenge(self, passed: list[RegisteredVersion]) -> None:
        """Let the version whose turn it is challenge the champion; `passed` are those that passed their gate."""
        champion = self._registry.aliases().get(CHAMPION)
        if champion is None:
            self._fill("no version was champion any more")
            return
        try:
            holder = load(self._registry.forecaster_of(champion))
        except DataError as error:
            self._fill(f"version {champion} cannot be run any more: {error}", champion)
            return
        versions = {v.version: v for v in passed}
        out = {v.version: (v.trained_through, v.challenged) for v in passed if v.trained_through}
        turn_of = turn(out, champion, holder.spec.trained_through, self._plan, self._settings)
        if turn_of is None:
            return
        newest, start = versions[turn_of[0]], turn_of[1]
        try:
            challenger = load(self._registry.forecaster_of(newest.version))
            ours, theirs = common(*(self._since(start, forecaster) for forecaster in (challenger, holder)))
        except DataError as error:
            _LOG.warning("version %d cannot challenge the champion: %s", newest.version, error)
            return
        held = challenged(ours, theirs, champion, self._settings)
        evidence = self._evidence(newest.version, champion, held.evidence)
        self._store.save_evaluation(self._evaluation(newest, champion, start, ours, theirs, held, evidence))
        if held.won:
            self._registry.crown(newest.version, evidence)
            self._say(f"champion -> version {newest.version}: {held.reason}")
        else:
            self._say(
                f"version {champion} stays champion, version {newest.version} challenged it: {held.reason}"
            )
        self._registry.note_challenge(
            newest.version, f"{'won' if held.won else 'lost'} against version {champion}"
        )

    def _evaluation(
        self,
        newest: RegisteredVersion,
        champion: int,
        start: datetime,
        ours: Measured,
        theirs: Measured,
        held: Challenge,
        evidence: Mapping[str, Any],
    ) -> Evaluation:
        return Evaluation(
            model=self._settings.model_name,
            version=newest.version,
            alias=newest.alias,
            kind=newest.kind,
            stage="champion",
            baseline=f"v{champion}",
            window_start=start,
            window_end=self._plan.gate_end,
            passed=held.won,
            figures={
                "candidate": ours.scores.as_dict(),
                "baseline": theirs.scores.as_dict(),
                "evidence": evidence,
            },
            reason=held.reason,
            made_at=self._plan.decided_at,
        )

    def _fill(self, why: str, but: int | None = None) -> None:
        """Give a place that nobody can defend to the version that is served, if that one can be run."""
        version = incumbent_of(self._registry)
        if version is None or version == but:
            return
        try:
            load(self._registry.forecaster_of(version))
        except DataError as error:
            _LOG.warning("version %d cannot become champion: %s", version, error)
        else:
            self.crown(version, but, f"{why}; what is served takes the place without a comparison")

    def crown(self, version: int, before: int | None, reason: str) -> None:
        """Make a version champion without a comparison, and say why."""
        self._registry.crown(version, self._evidence(version, before, {"reason": reason}))
        self._say(f"champion -> version {version}: {reason}")

    def _evidence(self, version: int, champion: int | None, found: Mapping[str, Any]) -> dict[str, Any]:
        at = self._plan.decided_at.isoformat()
        return {"challenger": version, "champion": champion, "decided_at": at, **found}
