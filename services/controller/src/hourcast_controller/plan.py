"""What to do next. Pure: `plan(observed)` reads the whole truth and says what to do; doing it again is harmless.

Rules, in this order: never act on a partial read, but what a decision needs is only what it reads: pins, undoes and
versions that fail need the decisions and the Deployment, not the registry; a registry that has lost all its aliases is
an outage. A Deployment that was made anew gets back what was served, pinned and held before. A pin wins over all else, a
person's undo over a hold, a hold over the policy. A quarantined version is not tried again until it changes; never
downgrade, unless pinned or undone, and what was undone is not followed by what is older still. What is the place's fault
or a setting's (`blame` says which) quarantines nobody, and while it lasts no other version is tried; nor does what two
versions do alike in a row. A roll that is under way ends before another begins, but for an undo; what will be asked for
is packaged after what is served, as soon as it is registered.
"""

from collections.abc import Mapping
from dataclasses import replace

from hourcast.contracts import CHAMPION, alias_kind
from hourcast.decisions import Standing
from hourcast_controller.actions import (
    Action,
    Mirror,
    NoteChampion,
    NoteHold,
    NotePin,
    NoteRolled,
    Package,
    RefreshIndex,
    Roll,
    Wait,
)  # fmt: skip
from hourcast_controller.failures import barred, blocks, failures
from hourcast_controller.observed import Deployment, Job, Observed
from hourcast_controller.policy import Candidate, RegistryState, candidates, misread
from hourcast_controller.target import target_of

__all__ = ["minded", "plan"]

_JOBS_AT_ONCE = 2


def plan(observed: Observed) -> list[Action]:
    """The next actions, in order; empty when all is as it should be."""
    deployment, standing, registry = observed.deployment, observed.standing, observed.registry
    unread = _unread(observed)
    if deployment is None or standing is None:
        assert unread is not None
        return [Wait(unread)]
    wait = _outage(registry, deployment, observed.index) or unread
    whole = wait is None

    out, deployment = minded(standing, deployment)
    out += _noted(registry, standing, deployment)
    newly, excused = failures(standing, registry, deployment, observed.jobs or {}, _away(observed))
    out += [*newly, *blocks(standing, deployment, observed.packaged, excused)]
    bad = barred(standing, registry, newly)
    good = candidates(registry, observed.policy) if registry is not None and whole else []
    good = [candidate for candidate in good if candidate.version not in bad]

    target, why = target_of(standing, registry, deployment, bad, good, observed.policy)
    out += [Wait(blocked.reason) for blocked in excused]
    # Another version would meet the same trouble; a person may still insist.
    if any(blocked.of == "rollout" for blocked in excused) and deployment.pin is None:
        target = None
    asked, moving = _asked(observed, standing, deployment, target, why, whole)
    out += asked
    if wait is not None:
        rolls = any(isinstance(action, Roll) for action in asked)
        return out if rolls else [*out, Wait(wait)]
    if moving or any(isinstance(action, Package) for action in asked):
        return out
    return out + _meanwhile(observed, bad)


def _unread(observed: Observed) -> str | None:
    """What could not be read, in a sentence; None where all was."""
    missing = [
        name
        for name, value in (
            ("the registry", observed.registry),
            ("the bucket", observed.packaged),
            ("the deployment", observed.deployment),
            ("the packaging jobs", observed.jobs),
            ("the store", observed.standing),
        )
        if value is None
    ]
    return f"{' and '.join(missing)} cannot be read; nothing is changed meanwhile" if missing else None


def _outage(
    registry: RegistryState | None, deployment: Deployment, index: Mapping[str, int] | None
) -> str | None:
    """Why a registry without any alias is not believed."""
    if registry is None or registry.aliases or (deployment.desired_version is None and not index):
        return None
    shown = f"while version {deployment.desired_version} is served" if deployment.desired_version else ""
    shown = shown or "while the index in the bucket has some"
    return f"the registry shows no alias at all, {shown}; that is taken for an outage and nothing is changed"


def minded(standing: Standing, deployment: Deployment) -> tuple[list[Action], Deployment]:
    """What follows from pin and hold, and the Deployment with those that count.

    Where the Deployment was annotated after the last decision about them, another value is that of whoever has changed
    an annotation since. Otherwise the decision counts, and the annotations have yet to follow it.
    """
    decided = (standing.pin, standing.hold)
    if (deployment.pin, deployment.hold) == decided:
        marked = standing.minded == deployment.decided
        return [] if marked else [Mirror(*decided, standing.minded)], deployment
    if standing.minded not in (0, deployment.decided):
        return (
            [Mirror(*decided, standing.minded)],
            replace(deployment, pin=standing.pin, hold=standing.hold),
        )
    out: list[Action] = []
    if deployment.pin != standing.pin:
        out.append(NotePin(deployment.pin, standing.pin))
    if deployment.hold != standing.hold:
        out.append(NoteHold(deployment.hold))
    return out, deployment


def _noted(registry: RegistryState | None, standing: Standing, deployment: Deployment) -> list[Action]:
    """What has happened and is not written down yet: a roll that has ended, a champion that has moved."""
    out: list[Action] = []
    serving, last = deployment.serving_version, standing.last
    known = last.version if last is not None else None
    if serving is not None and serving not in (known, deployment.failed_version) and not deployment.rolling:
        out.append(NoteRolled(serving, deployment.serving_alias))
    # A registry without any alias is no news of the champion.
    if registry is not None and registry.aliases:
        champion = registry.aliases.get(CHAMPION)
        if champion != standing.champion:
            out.append(NoteChampion(champion, standing.champion))
    return out


def _away(observed: Observed) -> str | None:
    """Why the bucket cannot be read; None where it can."""
    if observed.packaged is not None:
        return None
    return observed.bucket_problem or "the bucket cannot be read"


def _asked(
    observed: Observed,
    standing: Standing,
    deployment: Deployment,
    target: Candidate | None,
    why: str,
    whole: bool,
) -> tuple[list[Action], bool]:
    """How the target gets served, and whether servers are being started."""
    if target is None or target.version == deployment.desired_version:
        return _package(observed, target, why, whole), deployment.rolling
    # A version that has served has its package on the nodes, wherever the bucket is.
    there = target.version in (standing.proven if observed.packaged is None else observed.packaged)
    if not there:
        return _package(observed, target, why, whole), deployment.rolling
    undo = standing.undo
    urgent = undo is not None and undo.version == deployment.desired_version
    if deployment.rolling and not urgent:
        ends = (
            f"version {target.version} is taken after the roll to version {deployment.desired_version} ends"
        )
        return [Wait(ends)], True
    # New servers need the machine more than packages that nobody waits for.
    return [Roll(target.version, target.alias, why)], True


def _package(observed: Observed, target: Candidate | None, why: str, whole: bool) -> list[Action]:
    if not whole or target is None or observed.packaged is None or target.version in observed.packaged:
        return []
    jobs = observed.jobs or {}
    job = jobs.get(f"package-{target.version}")
    due = job is None or (job.state == "failed" and job.retry_due) or job.state == "succeeded"
    running = sum(job.state == "running" for job in jobs.values())
    return [Package(target.version, why)] if due and running < _JOBS_AT_ONCE else []


def _meanwhile(observed: Observed, bad: set[int]) -> list[Action]:
    """What can be done while nothing is rolled or packaged: the alias index, then packages that may be asked for."""
    registry, packaged, jobs = observed.registry, observed.packaged, observed.jobs
    assert registry is not None
    assert packaged is not None
    assert jobs is not None
    if any(job.state == "running" for job in jobs.values()):
        return []
    skipped = misread(registry)
    wanted = {a: v for a, v in registry.aliases.items() if alias_kind(a) != "unknown" and v not in skipped}
    if observed.index is not None and dict(observed.index) != wanted:
        job = jobs.get("index")
        # A back-test sets an alias a second: they are written together.
        if job is None or job.retry_due:
            return [RefreshIndex("the registry's aliases have changed")]
    return _others(observed, registry, packaged, jobs, bad)


def _others(
    observed: Observed,
    registry: RegistryState,
    packaged: frozenset[int],
    jobs: Mapping[str, Job],
    bad: set[int],
) -> list[Action]:
    """Package one more version: the newest that has passed its gate, then what aliases name, back-tests last."""
    back: dict[int, str] = {}
    front: dict[int, str] = {}
    for alias, version in registry.aliases.items():
        kind = alias_kind(alias)
        if kind != "unknown":
            (back if kind == "backtest" else front).setdefault(version, alias)
    newest_named = max(front, default=0)
    wanted: list[tuple[int, int, str]] = []
    for version, facts in registry.versions.items():
        if version in packaged or version in bad or not facts.usable:
            continue
        if version in front:
            wanted.append((1, version, f"alias {front[version]} may be asked for"))
        elif version in back or facts.stage == "backtest":
            if observed.package_backtests and version in back:
                wanted.append((2, version, f"alias {back[version]} may be asked for"))
        elif version > newest_named:
            wanted.append((0, version, "it has passed its gate and may get its alias any moment"))
    for _, version, reason in sorted(wanted, key=lambda w: (w[0], -w[1])):
        job = jobs.get(f"package-{version}")
        if job is None or job.state == "succeeded" or job.retry_due:
            return [Package(version, reason)]
    return []
