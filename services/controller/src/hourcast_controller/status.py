"""`hourcast status`: what is served, what should be, and what stands in the way."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from hourcast.decisions import Standing
from hourcast.errors import UnavailableError
from hourcast.failing import Failing, read_failing
from hourcast_controller.observed import Deployment, Job
from hourcast_controller.plan import minded
from hourcast_controller.policy import misread
from hourcast_controller.room import Room

__all__ = ["Status", "look"]


@dataclass(frozen=True, slots=True)
class Status:
    """One look; `problem` says why the registry could not be read, whose part is empty then."""

    deployment: Deployment
    standing: Standing
    policy: str
    aliases: Mapping[str, int]
    problem: str | None
    skipped: Mapping[int, str]
    jobs: Mapping[str, Job]
    failing: tuple[Failing, ...]
    served: str

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        blocked = self.standing.blocked
        return {
            "deployment": asdict(self.deployment),
            "policy": self.policy,
            "aliases": self.aliases,
            "registry_problem": self.problem,
            "skipped": self.skipped,
            "quarantine": {v: asdict(barred) for v, barred in self.standing.quarantine.items()},
            "blocked": asdict(blocked) if blocked else None,
            "jobs": {name: asdict(job) for name, job in self.jobs.items()},
            "failing": [asdict(f) for f in self.failing],
        }

    def rows(self) -> Iterator[tuple[str, str]]:
        """What it is called, and what there is to say of it, for people."""
        deployment, standing = self.deployment, self.standing
        yield "serving", self.served
        if deployment.desired_version != deployment.serving_version:
            rolls = deployment.rolling and not standing.blocks(deployment.desired_version)
            wanted = f"version {deployment.desired_version} (alias {deployment.desired_alias})"
            yield ("rolling" if rolls else "wanted"), wanted
        yield "policy", self.policy
        yield "pin", f"version {deployment.pin}" if deployment.pin else "none"
        yield "hold", "yes: nothing is rolled until `hourcast release`" if deployment.hold else "no"
        yield "aliases", self._aliases() if self.problem is None else self.problem
        for version, reason in self.skipped.items():
            yield "skipped", f"version {version}: {reason}"
        for version, barred in sorted(standing.quarantine.items()):
            yield "quarantine", f"version {version}: {barred.reason}"
        if standing.blocked is not None:
            yield "blocked", f"{standing.blocked.reason}; nothing else is tried until that is mended"
        if deployment.failure:
            yield "failure", f"version {deployment.failed_version}: {deployment.failure}"
        for name, job in self.jobs.items():
            if job.state != "succeeded":
                yield "job", f"{name}: {job.state} {job.message}"
        for f in self.failing:
            yield "failing", f"the {f.part} cannot work since {f.since:%Y-%m-%d %H:%M} UTC: {f.reason}"

    def _aliases(self) -> str:
        shown = [a for a in self.aliases if not a.startswith("backtest_")]
        back = len(self.aliases) - len(shown)
        told = ", ".join(f"{a} → v{self.aliases[a]}" for a in shown[:6]) or "none yet"
        return told + (f" … and {back} of back-tests" if back else "")


def look(room: Room) -> Status:
    """Look once, and go on without a registry that is away.

    Raises:
        UnavailableError: when the store or the Deployment cannot be read.
    """
    standing = room.store.standing(room.settings.model_name)
    _, deployment = minded(standing, room.target.observe())
    failing = read_failing(room.settings.state_dir)
    registry = problem = None
    try:
        registry = room.registry.read()
    except UnavailableError as error:
        problem = str(error)
    return Status(
        deployment=deployment,
        standing=standing,
        policy=room.settings.policy,
        aliases=dict(sorted(registry.aliases.items(), reverse=True)) if registry else {},
        problem=problem,
        skipped=misread(registry) if registry else {},
        jobs=room.target.jobs(),
        failing=failing,
        served=_served(room, deployment) if deployment.serving_version else "nothing yet",
    )


def _served(room: Room, deployment: Deployment) -> str:
    """The served version in words; one without an alias of its own is pinned by its number."""
    version, alias = deployment.serving_version or 0, deployment.serving_alias or ""
    words = [f"alias {alias}"] if alias != str(version) else []
    with suppress(UnavailableError):
        words.append(room.registry.version(version).kind)
    return f"version {version}" + (f" ({', '.join(words)})" if words else "")
