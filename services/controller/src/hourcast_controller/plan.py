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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from hourcast.contracts import CHAMPION, alias_kind, version_number
from hourcast.decisions import Blocked, Standing
from hourcast_controller.blame import Fault, Verdict, likeness, of_packaging
from hourcast_controller.policy import Candidate, PolicyName, RegistryState, candidates, misread, named, rank

__all__ = [
    "Absolve",
    "Action",
    "Block",
    "Deployment",
    "Job",
    "Mirror",
    "NoteChampion",
    "NoteHold",
    "NotePin",
    "NoteRolled",
    "Observed",
    "Package",
    "Quarantine",
    "RefreshIndex",
    "Roll",
    "Unblock",
    "Wait",
    "minded",
    "plan",
]

_JOBS_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Deployment:
    """What serves now and what should; versions are None where nothing is served or asked for.

    `fetching` says that a roll is under way and servers of it wait for their package, and not only since a moment ago. `fault` says what a failure speaks against, and `proved` whether the version's own checks have said so.
    `pin` and `hold` are its annotations, as they were written after the decision `decided`, or by hand since.
    """

    desired_version: int | None = None
    desired_alias: str | None = None
    serving_version: int | None = None
    serving_alias: str | None = None
    rolling: bool = False
    fetching: bool = False
    failed_version: int | None = None
    failure: str | None = None
    fault: Fault | None = None
    proved: bool = False
    pin: int | None = None
    hold: bool = False
    decided: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A packaging job. `retry_due` is True when one that ended may be started again."""

    state: Literal["running", "succeeded", "failed"]
    exit_code: int | None = None
    message: str = ""
    retry_due: bool = True
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that a decision needs; None where a read failed.

    `packaged` are the versions whose manifests are in the bucket, `index` is the alias index there, `bucket_problem` says
    why neither could be read. `standing` is how things stand after the last decision.
    """

    registry: RegistryState | None
    packaged: frozenset[int] | None
    index: Mapping[str, int] | None
    deployment: Deployment | None
    jobs: Mapping[str, Job] | None
    standing: Standing | None
    policy: PolicyName = "newest"
    package_backtests: bool = True
    bucket_problem: str | None = None


@dataclass(frozen=True, slots=True)
class Package:
    """Start packaging a version."""

    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class RefreshIndex:
    """Write the alias index again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Roll:
    """Serve another version."""

    version: int
    alias: str
    reason: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Never try a version again until it changes."""

    version: int
    run_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Absolve:
    """Take a version out of quarantine: another failed alike, so it was not the version."""

    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class Block:
    """A version cannot be served, and it is not to blame: write it down."""

    blocked: Blocked


@dataclass(frozen=True, slots=True)
class Unblock:
    """What stood in the way of a version does so no longer: write it down."""

    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class NoteRolled:
    """A roll has ended: write it down."""

    version: int
    alias: str | None


@dataclass(frozen=True, slots=True)
class Mirror:
    """Annotate the Deployment with pin and hold as they were decided by the decision `decided`."""

    pin: int | None
    hold: bool
    decided: int


@dataclass(frozen=True, slots=True)
class NotePin:
    """Someone has set (or, with None, removed) the pin on the Deployment itself: write it down."""

    pin: int | None
    before: int | None


@dataclass(frozen=True, slots=True)
class NoteHold:
    """Someone has set or removed the hold on the Deployment itself: write it down."""

    hold: bool


@dataclass(frozen=True, slots=True)
class NoteChampion:
    """The alias `champion` has moved (or, with None, is gone) since that was last written down: write it down."""

    version: int | None
    before: int | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done now, and why."""

    reason: str


Action = (
    Package | RefreshIndex | Roll | Quarantine | Absolve | Block | Unblock
    | NoteRolled | Mirror | NotePin | NoteHold | NoteChampion | Wait
)  # fmt: skip


def plan(observed: Observed) -> list[Action]:
    """The next actions, in order; empty when all is as it should be."""
    deployment, standing = observed.deployment, observed.standing
    missing = [
        name
        for name, value in (
            ("the registry", observed.registry),
            ("the bucket", observed.packaged),
            ("the deployment", deployment),
            ("the packaging jobs", observed.jobs),
            ("the store", standing),
        )
        if value is None
    ]
    unread = f"{' and '.join(missing)} cannot be read; nothing is changed meanwhile"
    if deployment is None or standing is None:
        return [Wait(unread)]
    registry = observed.registry
    outage = _outage(registry, deployment, observed.index)
    whole = not missing and outage is None

    out, deployment = minded(standing, deployment)
    serving, last = deployment.serving_version, standing.last
    known = last.version if last is not None else None
    if serving not in (None, known, deployment.failed_version) and not deployment.rolling:
        assert serving is not None
        out.append(NoteRolled(serving, deployment.serving_alias))
    if registry is not None and registry.aliases:
        champion = registry.aliases.get(CHAMPION)
        if champion != standing.champion:
            out.append(NoteChampion(champion, standing.champion))
    newly, excused = _failures(standing, registry, deployment, observed.jobs or {}, _away(observed))
    out += newly
    out += _blocks(standing, deployment, observed.packaged, excused)
    bad = {v for v, barred in standing.quarantine.items() if _same_run(registry, v, barred.run_id)}
    bad |= {action.version for action in newly if isinstance(action, Quarantine)}
    bad -= {action.version for action in newly if isinstance(action, Absolve)}

    good = candidates(registry, observed.policy) if registry is not None and whole else []
    good = [candidate for candidate in good if candidate.version not in bad]
    target, why = _target(standing, registry, deployment, bad, good, observed.policy)
    out += [Wait(blocked.reason) for blocked in excused]
    # Another version would meet the same trouble; a person may still insist.
    if any(blocked.of == "rollout" for blocked in excused) and deployment.pin is None:
        target = None
    asked, moving = _asked(observed, standing, deployment, target, why, whole)
    out += asked
    if not whole:
        rolls = any(isinstance(action, Roll) for action in asked)
        return out if rolls else [*out, Wait(outage if outage is not None else unread)]
    assert registry is not None
    assert observed.packaged is not None
    assert observed.jobs is not None
    jobs = observed.jobs
    if (
        moving
        or any(isinstance(a, Package) for a in asked)
        or any(j.state == "running" for j in jobs.values())
    ):
        return out
    skipped = misread(registry)
    index_wanted = {
        a: v for a, v in registry.aliases.items() if alias_kind(a) != "unknown" and v not in skipped
    }
    if observed.index is not None and dict(observed.index) != index_wanted:
        job = jobs.get("index")
        # A back-test sets an alias a second: they are written together.
        if job is None or job.retry_due:
            return [*out, RefreshIndex("the registry's aliases have changed")]
    return out + _others(observed, registry, observed.packaged, jobs, bad)


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


def _same_run(registry: RegistryState | None, version: int, run_id: str) -> bool:
    facts = registry.versions.get(version) if registry is not None else None
    return not run_id or facts is None or facts.run_id == run_id


def _failures(
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


def _away(observed: Observed) -> str | None:
    """Why the bucket cannot be read; None where it can."""
    if observed.packaged is not None:
        return None
    return observed.bucket_problem or "the bucket cannot be read"


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


def _blocks(
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


def _target(
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
