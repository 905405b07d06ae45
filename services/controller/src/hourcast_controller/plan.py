"""What to do next. Pure: `plan(observed)` reads the whole truth and says what to do; doing it again is harmless.

Rules, in this order: never act on a partial read; pin and hold win over the policy; a quarantined version is not
tried again until it changes; never downgrade, unless pinned or because what is served was quarantined (undone);
a roll that is under way ends before another begins; what dashboards may ask for is packaged after what is served.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hourcast.contracts import CHAMPION, alias_kind
from hourcast_controller.policy import Candidate, PolicyName, RegistryState, candidates, named, rank

__all__ = [
    "Action",
    "Deployment",
    "Job",
    "NoteRolled",
    "Observed",
    "Package",
    "Quarantine",
    "RefreshIndex",
    "Roll",
    "Wait",
    "plan",
]

_CORRUPT, _REFUSED = 4, 6


@dataclass(frozen=True, slots=True)
class Deployment:
    """What serves now and what should; versions are None where nothing is served or asked for."""

    desired_version: int | None = None
    desired_alias: str | None = None
    serving_version: int | None = None
    serving_alias: str | None = None
    rolling: bool = False
    failed_version: int | None = None
    failure: str | None = None
    pin: int | None = None
    hold: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A packaging job. `retry_due` is True when one that ended may be started again."""

    state: Literal["running", "succeeded", "failed"]
    exit_code: int | None = None
    message: str = ""
    retry_due: bool = True


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that a decision needs; None where a read failed.

    `quarantine` maps a version to the run that was quarantined: another run under that number is another version.
    `index` is the alias index in the bucket; `last_rolled` the version of the newest `rolled` event.
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
class Wait:
    """Nothing can be done now, and why."""

    reason: str


Action = Package | RefreshIndex | Roll | Quarantine | NoteRolled | Wait


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

    out: list[Action] = []
    serving = deployment.serving_version
    if serving is not None and serving != observed.last_rolled and not deployment.rolling:
        out.append(NoteRolled(serving, deployment.serving_alias))
    newly = _failures(registry, deployment, jobs, quarantine)
    out += newly
    bad = {version for version, run in quarantine.items() if _same_run(registry, version, run)}
    bad |= {action.version for action in newly}

    index_wanted = {a: v for a, v in registry.aliases.items() if alias_kind(a) != "unknown"}
    busy = any(job.state == "running" for job in jobs.values())
    target, why = _target(registry, deployment, bad, observed.policy)
    if target is not None and target.version not in packaged and not busy:
        job = jobs.get(f"package-{target.version}")
        if job is None or job.state != "failed" or job.retry_due:
            out.append(Package(target.version, why))
            busy = True
    elif target is not None and target.version in packaged and target.version != deployment.desired_version:
        if deployment.rolling:
            out.append(
                Wait(
                    f"version {target.version} is taken after the roll to version {deployment.desired_version} ends"
                )
            )
        else:
            out.append(Roll(target.version, target.alias, why))
    if dict(observed.index or {}) != index_wanted and not busy:
        job = jobs.get("index")
        # A back-test sets an alias a second: they are written together.
        if job is None or job.retry_due:
            out.append(RefreshIndex("the registry's aliases have changed"))
            busy = True
    if not busy:
        out += _others(observed, registry, packaged, jobs, bad)
    return out


def _same_run(registry: RegistryState, version: int, run_id: str) -> bool:
    facts = registry.versions.get(version)
    return facts is None or facts.run_id == run_id


def _failures(
    registry: RegistryState, deployment: Deployment, jobs: Mapping[str, Job], quarantine: Mapping[int, str]
) -> list[Quarantine]:
    """Versions whose package or rollout has failed and that are not in quarantine yet."""
    found: dict[int, str] = {}
    for name, job in jobs.items():
        number = name.removeprefix("package-")
        if job.state == "failed" and job.exit_code in (_CORRUPT, _REFUSED) and number.isdigit():
            found[int(number)] = f"packaging failed: {job.message}"
    if deployment.failed_version is not None:
        found[deployment.failed_version] = f"rollout failed: {deployment.failure or 'no reason given'}"
    out = []
    for version, reason in sorted(found.items()):
        facts = registry.versions.get(version)
        run_id = facts.run_id if facts else ""
        if quarantine.get(version) != run_id:
            out.append(Quarantine(version, run_id, reason))
    return out


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
    """Package one more version that an alias names, so that it can be asked for."""
    kinds = {"date", "champion"} | ({"backtest"} if observed.package_backtests else set())
    names = sorted(
        (a for a in registry.aliases if alias_kind(a) in kinds),
        key=lambda a: (a == CHAMPION or alias_kind(a) == "date", a),
        reverse=True,
    )
    for alias in names:
        version = registry.aliases[alias]
        job = jobs.get(f"package-{version}")
        facts = registry.versions.get(version)
        if version in packaged or version in bad or facts is None or facts.gate != "passed":
            continue
        if job is None or job.state == "succeeded" or job.retry_due:
            return [Package(version, f"alias {alias} may be asked for")]
    return []
