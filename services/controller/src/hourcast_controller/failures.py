"""What follows from packages and rollouts that have failed. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from hourcast.contracts import version_number
from hourcast.decisions import Blocked, Standing
from hourcast_controller.actions import Absolve, Action, Block, Quarantine, Unblock
from hourcast_controller.blame import Verdict, likeness, of_packaging
from hourcast_controller.observed import Deployment, Job
from hourcast_controller.policy import RegistryState

__all__ = ["barred", "blocks", "failures"]


def failures(
    standing: Standing,
    registry: RegistryState | None,
    deployment: Deployment,
    jobs: Mapping[str, Job],
    away: str | None,
) -> tuple[list[Quarantine | Absolve], list[Blocked]]:
    """What follows from packages and rollouts that have failed: who is quarantined or absolved, and what is nobody's fault."""
    out: list[Quarantine | Absolve] = []
    excused: list[Blocked] = []
    blamed = standing.blamed
    for version, verdict, of in _failed(standing, deployment, jobs, away):
        barred = standing.quarantine.get(version)
        if barred is not None and _same_run(registry, version, barred.run_id):
            continue
        facts = registry.versions.get(version) if registry is not None else None
        if verdict.fault != "version":
            excused.append(Blocked(version, verdict.fault, _excuse(version, verdict, standing), of))
        elif blamed is not None and _alike(version, verdict.why, blamed, standing.blocked):
            why = (
                f"version {version} fails as version {blamed[0]} did, so the place is at fault: {verdict.why}"
            )
            if blamed[0] == version:
                why = f"version {version} failed as another did, so the place is at fault: {verdict.why}"
            excused.append(Blocked(version, "place", why, of))
            if blamed[0] in standing.quarantine:
                out.append(Absolve(blamed[0], f"version {version} fails alike, so the place is at fault"))
        else:
            out.append(Quarantine(version, facts.run_id if facts else "", verdict.why))
            blamed = (version, verdict.why)
    return out, excused


def _failed(
    standing: Standing, deployment: Deployment, jobs: Mapping[str, Job], away: str | None
) -> Iterator[tuple[int, Verdict, Literal["rollout", "package"]]]:
    """Versions whose packaging or rollout has failed, with what that speaks against."""
    for name, job in sorted(jobs.items()):
        number = version_number(name.removeprefix("package-"))
        verdict = of_packaging(job.exit_code, job.message) if job.state == "failed" else None
        if verdict is not None and number is not None and number != deployment.failed_version:
            released = standing.released.get(number)
            if released is None or job.ended_at is None or job.ended_at > released:
                yield number, verdict, "package"
    failed, last = deployment.failed_version, standing.last
    if failed is not None:
        why = f"rollout failed: {deployment.failure or 'no reason given'}"
        verdict = Verdict(deployment.fault or "version", why, deployment.proved)
        # What has served well is not to blame for what came later, unless its own package says so and no server is left.
        serves = deployment.serving_version is not None and last is not None and last.version == failed
        if failed in standing.proven and verdict.fault == "version" and (not verdict.proved or serves):
            verdict = replace(verdict, fault="place")
        yield failed, verdict, "rollout"
    elif deployment.desired_version is not None and deployment.fetching and away is not None:
        why = f"its servers wait for their package, and {away}"
        yield deployment.desired_version, Verdict("place", why), "rollout"


def barred(
    standing: Standing, registry: RegistryState | None, newly: Sequence[Quarantine | Absolve]
) -> set[int]:
    """Versions in quarantine, with what `newly` changes; one whose number has another run since is another version."""
    bad = {v for v, entry in standing.quarantine.items() if _same_run(registry, v, entry.run_id)}
    bad |= {action.version for action in newly if isinstance(action, Quarantine)}
    return bad - {action.version for action in newly if isinstance(action, Absolve)}


def _same_run(registry: RegistryState | None, version: int, run_id: str) -> bool:
    facts = registry.versions.get(version) if registry is not None else None
    return not run_id or facts is None or facts.run_id == run_id


def _excuse(version: int, verdict: Verdict, standing: Standing) -> str:
    why = verdict.why.removeprefix("rollout failed: ")
    if version in standing.proven:
        return f"version {version} has served before and stays, but its new servers do not get ready: {why}"
    whose = "a setting is" if verdict.fault == "setting" else "the place is"
    return f"version {version} is not served, and {whose} at fault: {why}"


def _alike(version: int, why: str, blamed: tuple[int, str], blocked: Blocked | None) -> bool:
    """Whether a version fails as the one before it did; while that stands, the one before does so too."""
    if likeness(why) != likeness(blamed[1]):
        return False
    return version != blamed[0] or (blocked is not None and likeness(blocked.reason).endswith(likeness(why)))


def blocks(
    standing: Standing, deployment: Deployment, packaged: frozenset[int] | None, excused: Sequence[Blocked]
) -> list[Action]:
    """What has come to stand in the way, or stands there no longer."""
    before = standing.blocked
    if excused:
        # A rollout concerns users more than a package does; a sentence may change from look to look.
        now = next((b for b in excused if b.of == "rollout"), excused[0])
        same = before is not None and (before.version, before.fault, before.of) == (
            now.version, now.fault, now.of,
        )  # fmt: skip
        return [] if same else [Block(now)]
    if before is None or (before.of == "rollout" and deployment.rolling):
        return []
    # Without a look into the bucket nobody knows whether a package has come.
    absent = packaged is None or before.version not in packaged
    if before.of == "package" and absent and before.version not in standing.quarantine:
        return []
    served = deployment.serving_version == before.version
    return [Unblock(before.version, "it is served" if served else "it is no longer in the way")]
