"""Who is served after a training, and who is champion. Pure: production's training and the back-test decide by these."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from hourcast_trainer.calendar import TrainingPlan
from hourcast_trainer.champion import Challenge, challenge, due
from hourcast_trainer.gate import Decision, Look, decide, stays
from hourcast_trainer.measuring import Measured, common
from hourcast_trainer.settings import TrainerSettings

__all__ = ["Judged", "challenged", "holds", "judged", "looks_before", "served_by", "turn"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate and its baselines by name, `naive` and `champion`, on the hours that all have; and what the gate said."""

    candidate: Measured
    baselines: Mapping[str, Measured]
    decision: Decision


def looks_before(
    seen: Iterable[tuple[datetime, Mapping[str, Mapping[Any, float]]]], gate_end: datetime
) -> list[Look]:
    """What the gate saw of earlier candidates of a kind, the oldest first; looks of before this were kept have no days.

    A training that was killed and comes again is the same look.

    Args:
        seen: end of the held-out window and days of each look or part of one, in the order in which they were made.
        gate_end: end of the held-out window of the look that is under way.
    """
    found: dict[datetime, dict[str, dict[int, float]]] = {}
    for end, tests in sorted(seen, key=lambda look: look[0]):
        if end < gate_end:
            for key, days in tests.items():
                found.setdefault(end, {})[key] = {int(day): gain for day, gain in days.items()}
    return list(found.values())


def judged(
    candidate: Measured,
    naive: Measured,
    champion: Measured | None,
    earlier: list[Look],
    settings: TrainerSettings,
) -> Judged:
    """Put a candidate through the gate, against the naive floor and the champion where there is one."""
    ours, floor, *holder = common(candidate, naive, *([champion] if champion else []))
    baselines = {"naive": floor} | ({"champion": holder[0]} if holder else {})
    return Judged(ours, baselines, decide(ours, baselines, settings.gate_margin, settings.gate_p, earlier))


def holds(incumbent: Measured, naive: Measured, settings: TrainerSettings) -> bool:
    """Whether a version that is served may go on: on this window too it is no worse than naive."""
    ours, theirs = common(incumbent, naive)
    return stays(ours, theirs, settings.gate_margin)


def served_by(
    passed: bool, floor_is_there: bool, incumbent_holds: Callable[[], bool]
) -> Literal["candidate", "incumbent", "floor"]:
    """Who is served after a training: `floor_is_there` says that the naive floor has its alias already."""
    if passed:
        return "candidate"
    return "incumbent" if not floor_is_there and incumbent_holds() else "floor"


def turn(
    passed: Mapping[int, tuple[date, bool]],
    champion: int,
    champion_through: date,
    plan: TrainingPlan,
    settings: TrainerSettings,
) -> tuple[int, datetime] | None:
    """Whose turn it is to challenge the champion, and from when on; `passed` as `champion.due` has its versions."""
    versions = {**passed, champion: (champion_through, True)}
    return due(versions, champion, plan, settings.champion_days)


def challenged(ours: Measured, theirs: Measured, champion: int, settings: TrainerSettings) -> Challenge:
    """Hold a challenge of version `champion` by production's levels."""
    return challenge(
        ours, theirs, f"version {champion}",
        level=settings.champion_p, margin=settings.gate_margin, gate_level=settings.gate_p,
    )  # fmt: skip
