"""Which version should be served, and why. Pure."""

from collections.abc import Sequence

from hourcast.decisions import Standing
from hourcast_controller.observed import Deployment
from hourcast_controller.policy import Candidate, PolicyName, RegistryState, named, rank

__all__ = ["target_of"]


def target_of(
    standing: Standing,
    registry: RegistryState | None,
    deployment: Deployment,
    bad: set[int],
    good: Sequence[Candidate],
    policy: PolicyName,
) -> tuple[Candidate | None, str]:
    """The version that should be desired, and why; None to leave things as they are. `good` is the policy's choice."""
    current, undo, last = deployment.desired_version, standing.undo, standing.last
    if deployment.pin is not None:
        pinned = named(registry, deployment.pin) if registry is not None else None
        if pinned is None:
            # The registry need not know a version that is packaged: a pin is a person's word.
            pinned = Candidate(deployment.pin, str(deployment.pin), "")
        return (None, "") if pinned.version in bad else (pinned, f"pinned to version {pinned.version}")
    if undo is not None and undo.version == current and current in bad and undo.to not in bad:
        back = Candidate(undo.to, undo.to_alias or str(undo.to), "")
        return back, f"version {undo.version} was undone, and version {undo.to} takes its place"
    if current is None and last is not None and last.version not in bad:
        facts = registry.versions.get(last.version) if registry is not None else None
        if facts is None or facts.gate == "passed":
            back = Candidate(last.version, last.alias or str(last.version), "")
            return back, "it was served before the Deployment was made anew"
    if deployment.hold:
        return None, ""
    if current is None:
        return (good[0], f"alias {good[0].alias} is the first to be served") if good else (None, "")
    if current in bad:
        return _instead(standing, deployment, current, bad, good)
    if not good or good[0].version == current:
        return None, ""
    best, above = good[0], rank(deployment.desired_alias, current)
    if policy == "champion":
        return best, f"the champion is now version {best.version}"
    if undo is not None and undo.to == current:
        # Who took a version back wants what served before, not what is older than the one that was taken back.
        above = max(above, rank(undo.alias, undo.version))
    if rank(best.alias, best.version) > above:
        if best.alias == deployment.desired_alias:
            return best, f"alias {best.alias} has moved from version {current} to version {best.version}"
        return best, f"alias {best.alias} is newer than {deployment.desired_alias}"
    return None, ""


def _instead(
    standing: Standing, deployment: Deployment, current: int, bad: set[int], good: Sequence[Candidate]
) -> tuple[Candidate | None, str]:
    """What makes up for a version that is in quarantine: the policy's next, what still serves, what served before."""
    told = f"version {current} is in quarantine"
    if good:
        return good[0], f"{told}; {good[0].alias} is the best of the others"
    serving = deployment.serving_version
    if serving is not None and serving not in bad:
        back = Candidate(serving, deployment.serving_alias or str(serving), "")
        return back, f"{told}; version {serving} still serves"
    for served in standing.served:
        if served.version not in bad:
            back = Candidate(served.version, served.alias or str(served.version), "")
            return back, f"{told}; version {served.version} served before"
    return None, ""
