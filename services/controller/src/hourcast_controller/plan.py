"""What to do next. Pure: `plan(observed)` reads the whole truth and says what to do; doing it again is harmless.

Rules, in this order: never act on a partial read, nor on a registry that has lost all its aliases; a Deployment that
was made anew gets back what was served, pinned and held before; pin and hold win over the policy; a quarantined
version is not tried again until it changes; never downgrade, unless pinned or because what is served was quarantined
(undone); a version that has served is not blamed when its pods fail later; a roll that is under way ends before another
begins; what will be asked for is packaged after what is served, as soon as it is registered.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from hourcast.contracts import CHAMPION, alias_kind
from hourcast_controller.policy import Candidate, PolicyName, RegistryState, candidates, named, rank

__all__ = [
    "Action",
    "Deployment",
    "Job",
    "NoteChampion",
    "NoteHold",
    "NotePin",
    "NoteRolled",
    "Observed",
    "Package",
    "Quarantine",
    "RefreshIndex",
    "Restore",
    "Roll",
    "Wait",
    "plan",
]

_CORRUPT, _REFUSED = 4, 6
_JOBS_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Deployment:
    """What serves now and what should; versions are None where nothing is served or asked for.

    `fault` says what a failure speaks against: the version itself, or the place where it runs.
    """

    desired_version: int | None = None
    desired_alias: str | None = None
    serving_version: int | None = None
    serving_alias: str | None = None
    rolling: bool = False
    failed_version: int | None = None
    failure: str | None = None
    fault: Literal["version", "place"] | None = None
    pin: int | None = None
    hold: bool = False


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

    `quarantine` maps a version to the run that was quarantined: another run under that number is another version.
    `index` is the alias index in the bucket. From the journal: `last_rolled` and its alias are of the newest `rolled`
    event, `noted_pin` and `noted_hold` what was last written down of them, `released` when a version last left
    quarantine, `noted_champion` the champion of the newest event about it. `settled` is True when pin and hold of the
    Deployment have differed from these for a while, so that it is not a command of ours that is about to write its event.
    """

    registry: RegistryState | None
    packaged: frozenset[int] | None
    index: Mapping[str, int] | None
    deployment: Deployment | None
    jobs: Mapping[str, Job] | None
    quarantine: Mapping[int, str] | None
    last_rolled: int | None = None
    policy: PolicyName = "newest"
    package_backtests: bool = True
    last_alias: str | None = None
    noted_pin: int | None = None
    noted_hold: bool = False
    settled: bool = False
    released: Mapping[int, datetime] = field(default_factory=dict)
    noted_champion: int | None = None


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
class NoteRolled:
    """A roll has ended: write it down."""

    version: int
    alias: str | None


@dataclass(frozen=True, slots=True)
class Restore:
    """Set pin and hold again on a Deployment that was made anew."""

    pin: int | None
    hold: bool
    reason: str


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
    Package | RefreshIndex | Roll | Quarantine | NoteRolled | Restore | NotePin | NoteHold | NoteChampion | Wait
)  # fmt: skip


def plan(observed: Observed) -> list[Action]:
    """The next actions, in order; empty when all is as it should be."""
    missing = [
        name
        for name, value in (
            ("the registry", observed.registry),
            ("the bucket", observed.packaged),
            ("the deployment", observed.deployment),
            ("the packaging jobs", observed.jobs),
            ("the store", observed.quarantine),
        )
        if value is None
    ]
    if missing:
        return [Wait(f"{' and '.join(missing)} cannot be read; nothing is changed meanwhile")]
    registry, packaged, deployment = observed.registry, observed.packaged, observed.deployment
    jobs, quarantine = observed.jobs, observed.quarantine
    assert registry is not None
    assert packaged is not None
    assert deployment is not None
    assert jobs is not None
    assert quarantine is not None

    if not registry.aliases and (deployment.desired_version is not None or observed.index):
        shown = f"while version {deployment.desired_version} is served" if deployment.desired_version else ""
        shown = shown or "while the index in the bucket has some"
        return [
            Wait(
                f"the registry shows no alias at all, {shown}; that is taken for an outage and nothing is changed"
            )
        ]

    out: list[Action] = []
    serving = deployment.serving_version
    if serving not in (None, observed.last_rolled, deployment.failed_version) and not deployment.rolling:
        assert serving is not None
        out.append(NoteRolled(serving, deployment.serving_alias))
    champion = registry.aliases.get(CHAMPION)
    if registry.aliases and champion != observed.noted_champion:
        out.append(NoteChampion(champion, observed.noted_champion))
    newly, excused = _failures(observed, registry, deployment, jobs, quarantine)
    out += newly
    bad = {version for version, run in quarantine.items() if _same_run(registry, version, run)}
    bad |= {action.version for action in newly}

    anew = deployment.desired_version is None and observed.last_rolled is not None
    if anew:
        out += _restored(observed, deployment)
        deployment = replace(
            deployment,
            pin=deployment.pin if deployment.pin is not None else observed.noted_pin,
            hold=deployment.hold or observed.noted_hold,
        )
    elif observed.settled:
        out += _set_by_hand(observed, deployment)

    running = [name for name, job in jobs.items() if job.state == "running"]
    target, why = (_served_before(observed, registry, bad) if anew and deployment.pin is None else None), ""
    if target is not None:
        why = "it was served before the Deployment was made anew"
    else:
        target, why = _target(registry, deployment, bad, observed.policy)
    moving = deployment.rolling
    if excused is not None:
        out.append(Wait(excused))
        # Another version would meet the same trouble, and be blamed for it; a person may still insist.
        if serving is not None and deployment.pin is None:
            target = None
    if target is not None and target.version not in packaged:
        job = jobs.get(f"package-{target.version}")
        due = job is None or (job.state == "failed" and job.retry_due) or job.state == "succeeded"
        if due and len(running) < _JOBS_AT_ONCE:
            out.append(Package(target.version, why))
            running.append(f"package-{target.version}")
    elif target is not None and target.version != deployment.desired_version:
        if deployment.rolling:
            out.append(
                Wait(
                    f"version {target.version} is taken after the roll to version {deployment.desired_version} ends"
                )
            )
        else:
            out.append(Roll(target.version, target.alias, why))
        # New servers need the machine more than packages that nobody waits for.
        moving = True
    if moving or running:
        return out
    index_wanted = {a: v for a, v in registry.aliases.items() if alias_kind(a) != "unknown"}
    if observed.index is not None and dict(observed.index) != index_wanted:
        job = jobs.get("index")
        # A back-test sets an alias a second: they are written together.
        if job is None or job.retry_due:
            return [*out, RefreshIndex("the registry's aliases have changed")]
    return out + _others(observed, registry, packaged, jobs, bad)


def _restored(observed: Observed, deployment: Deployment) -> list[Action]:
    """Pin and hold as they were last written down, where the new Deployment lacks them."""
    pin = observed.noted_pin if deployment.pin is None else None
    hold = observed.noted_hold and not deployment.hold
    if pin is None and not hold:
        return []
    return [Restore(pin, hold, "it was set before the Deployment was made anew")]


def _set_by_hand(observed: Observed, deployment: Deployment) -> list[Action]:
    out: list[Action] = []
    if deployment.pin != observed.noted_pin:
        out.append(NotePin(deployment.pin, observed.noted_pin))
    if deployment.hold != observed.noted_hold:
        out.append(NoteHold(deployment.hold))
    return out


def _served_before(observed: Observed, registry: RegistryState, bad: set[int]) -> Candidate | None:
    """What the journal says was served last, if it still may be."""
    version = observed.last_rolled
    facts = registry.versions.get(version) if version is not None else None
    if version is None or version in bad or facts is None or facts.gate != "passed":
        return None
    return Candidate(version, observed.last_alias or str(version), facts.run_id)


def _same_run(registry: RegistryState, version: int, run_id: str) -> bool:
    facts = registry.versions.get(version)
    return facts is None or facts.run_id == run_id


def _failures(
    observed: Observed,
    registry: RegistryState,
    deployment: Deployment,
    jobs: Mapping[str, Job],
    quarantine: Mapping[int, str],
) -> tuple[list[Quarantine], str | None]:
    """Versions whose package or rollout has failed and that are not in quarantine yet; and a failure that is excused."""
    found: dict[int, str] = {}
    for name, job in jobs.items():
        number = name.removeprefix("package-")
        if job.state == "failed" and job.exit_code in (_CORRUPT, _REFUSED) and number.isdigit():
            released = observed.released.get(int(number))
            if released is None or job.ended_at is None or job.ended_at > released:
                found[int(number)] = f"packaging failed: {job.message}"
    excused = None
    failed = deployment.failed_version
    if failed is not None:
        why = deployment.failure or "no reason given"
        # What has served well is not to blame for an image, a node or a setting that came later.
        broken = deployment.serving_version is None and deployment.fault == "version"
        if failed == observed.last_rolled and not broken:
            excused = (
                f"version {failed} has served before and stays, but its new servers do not get ready: {why}"
            )
        else:
            found[failed] = f"rollout failed: {why}"
    out = []
    for version, reason in sorted(found.items()):
        facts = registry.versions.get(version)
        run_id = facts.run_id if facts else ""
        if quarantine.get(version) != run_id:
            out.append(Quarantine(version, run_id, reason))
    return out, excused


def _target(
    registry: RegistryState, deployment: Deployment, bad: set[int], policy: PolicyName
) -> tuple[Candidate | None, str]:
    """The version that should be desired, and why; None to leave things as they are."""
    if deployment.pin is not None:
        pinned = named(registry, deployment.pin)
        if pinned is None:
            # The registry need not know a version that is packaged: a pin is a person's word.
            pinned = Candidate(deployment.pin, str(deployment.pin), "")
        return (None, "") if pinned.version in bad else (pinned, f"pinned to version {pinned.version}")
    if deployment.hold:
        return None, ""
    current = deployment.desired_version
    good = [c for c in candidates(registry, policy) if c.version not in bad]
    if current is None:
        return (good[0], f"alias {good[0].alias} is the first to be served") if good else (None, "")
    if current in bad:
        serving = deployment.serving_version
        if good:
            return good[0], f"version {current} is in quarantine; {good[0].alias} is the best of the others"
        if serving is not None and serving not in bad and serving != current:
            back = Candidate(serving, deployment.serving_alias or str(serving), "")
            return back, f"version {current} is in quarantine; version {serving} still serves"
        return None, ""
    if not good or good[0].version == current:
        return None, ""
    best = good[0]
    if policy == "champion":
        return best, f"the champion is now version {best.version}"
    if rank(best.alias, best.version) > rank(deployment.desired_alias, current):
        if best.alias == deployment.desired_alias:
            return best, f"alias {best.alias} has moved from version {current} to version {best.version}"
        return best, f"alias {best.alias} is newer than {deployment.desired_alias}"
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
        if version in packaged or version in bad or facts.gate != "passed":
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
