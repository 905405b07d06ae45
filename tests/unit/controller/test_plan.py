"""The plan holds its rules whatever it sees."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from hourcast_controller.plan import (
    Deployment,
    Job,
    NoteRolled,
    Observed,
    Package,
    Quarantine,
    RefreshIndex,
    Roll,
    Wait,
    plan,
)
from hourcast_controller.policy import RegistryState, VersionFacts, candidates, ignored, rank

_ALIASES = ["20240601", "20240608", "20240615", "champion", "backtest_20240601", "latest"]


def _facts(version: int, gate: str = "passed") -> VersionFacts:
    return VersionFacts(version, f"run{version}", "lstm", gate)


@st.composite
def _registry(draw: st.DrawFn) -> RegistryState:
    aliases = draw(st.dictionaries(st.sampled_from(_ALIASES), st.integers(1, 6), max_size=6))
    gates = st.sampled_from(["passed", "passed", "passed", "failed", "unknown"])
    return RegistryState(aliases, {v: _facts(v, draw(gates)) for v in set(aliases.values())})


_versions = st.none() | st.integers(1, 6)


@st.composite
def _observed(draw: st.DrawFn) -> Observed:
    desired = draw(_versions)
    failed = desired if desired is not None and draw(st.booleans()) and draw(st.booleans()) else None
    deployment = Deployment(
        desired_version=desired,
        desired_alias=draw(st.sampled_from(_ALIASES[:3])) if desired else None,
        serving_version=draw(_versions),
        serving_alias="20240601",
        rolling=failed is None and draw(st.booleans()),
        failed_version=failed,
        failure="it broke" if failed else None,
        pin=draw(st.none() | st.integers(1, 6)),
        hold=draw(st.booleans()),
    )
    jobs = draw(
        st.dictionaries(
            st.sampled_from([f"package-{i}" for i in range(1, 7)] + ["index"]),
            st.builds(
                Job,
                state=st.sampled_from(["running", "succeeded", "failed"]),
                exit_code=st.sampled_from([0, 4, 5, 6]),
                message=st.just("m"),
                retry_due=st.booleans(),
            ),
            max_size=3,
        )
    )
    jobs = {n: j if j.state == "failed" else replace(j, exit_code=0) for n, j in jobs.items()}
    return Observed(
        registry=draw(_registry()),
        packaged=draw(st.frozensets(st.integers(1, 6))),
        index=draw(st.dictionaries(st.sampled_from(_ALIASES), st.integers(1, 6))),
        deployment=deployment,
        jobs=jobs,
        quarantine={v: f"run{v}" for v in draw(st.frozensets(st.integers(1, 6), max_size=2))},
        last_rolled=draw(_versions),
        policy=draw(st.sampled_from(["newest", "champion"])),
        package_backtests=draw(st.booleans()),
    )


def _rolls(actions: list[object]) -> list[Roll]:
    return [a for a in actions if isinstance(a, Roll)]


@given(_observed(), st.sampled_from(["registry", "packaged", "deployment", "jobs", "quarantine"]))
def test_a_partial_read_changes_nothing(observed: Observed, missing: str) -> None:
    """When any part of the truth cannot be read, the plan is to wait and nothing else."""
    actions = plan(replace(observed, **{missing: None}))
    assert len(actions) == 1
    assert isinstance(actions[0], Wait)


@given(_observed())
def test_quarantined_versions_are_left_alone(observed: Observed) -> None:
    """A version in quarantine is neither packaged nor rolled to."""
    bad = set(observed.quarantine or {})
    for action in plan(observed):
        if isinstance(action, Roll | Package):
            assert action.version not in bad


@given(_observed())
def test_at_most_one_roll_and_none_amid_another(observed: Observed) -> None:
    """There is never more than one roll, and none while one is under way."""
    rolls = _rolls(plan(observed))
    assert len(rolls) <= 1
    assert observed.deployment is not None
    if observed.deployment.rolling:
        assert rolls == []


@given(_observed())
def test_only_packaged_versions_are_rolled_to(observed: Observed) -> None:
    """A roll is to a version whose whole package is in the bucket."""
    for roll in _rolls(plan(observed)):
        assert roll.version in (observed.packaged or ())


@given(_observed())
def test_a_pin_wins(observed: Observed) -> None:
    """While a version is pinned nothing else is rolled to."""
    assert observed.deployment is not None
    pin = observed.deployment.pin
    if pin is not None:
        assert all(roll.version == pin for roll in _rolls(plan(observed)))


@given(_observed())
def test_a_hold_stops_rolls(observed: Observed) -> None:
    """While held and not pinned nothing is rolled."""
    held = replace(observed, deployment=replace(observed.deployment, hold=True, pin=None))
    assert _rolls(plan(held)) == []


@given(_observed())
def test_newest_never_downgrades(observed: Observed) -> None:
    """Under `newest`, without pin, a roll goes to a higher rank, unless what is desired is in quarantine."""
    observed = replace(observed, policy="newest", deployment=replace(observed.deployment, pin=None))
    deployment = observed.deployment
    assert deployment is not None
    actions = plan(observed)
    bad = set(observed.quarantine or {}) | {a.version for a in actions if isinstance(a, Quarantine)}
    current = deployment.desired_version
    for roll in _rolls(actions):
        if current is not None and current not in bad:
            assert rank(roll.alias, roll.version) > rank(deployment.desired_alias, current)


@given(_observed())
def test_a_version_that_failed_its_gate_is_never_chosen_by_policy(observed: Observed) -> None:
    """Without a pin, only versions whose gate passed are rolled to from nothing."""
    deployment = replace(observed.deployment, pin=None, hold=False, desired_version=None, failed_version=None)
    assert observed.registry is not None
    for roll in _rolls(plan(replace(observed, deployment=deployment))):
        assert observed.registry.versions[roll.version].gate == "passed"


def _apply(observed: Observed, actions: list[object]) -> Observed:
    """The world after every action has succeeded."""
    deployment, registry = observed.deployment, observed.registry
    assert deployment is not None
    assert registry is not None
    packaged, quarantine = set(observed.packaged or ()), dict(observed.quarantine or {})
    jobs = {
        n: replace(j, state="succeeded", exit_code=0)
        for n, j in (observed.jobs or {}).items()
        if j.state != "failed"
    }
    index, rolled = observed.index, observed.last_rolled
    deployment = replace(deployment, rolling=False, failed_version=None, failure=None)
    for action in actions:
        match action:
            case Package(version, _):
                packaged.add(version)
                index = {a: v for a, v in registry.aliases.items() if a != "latest"}
            case RefreshIndex():
                index = {a: v for a, v in registry.aliases.items() if a != "latest"}
            case Quarantine(version, run_id, _):
                quarantine[version] = run_id
            case NoteRolled(version, _):
                rolled = version
            case Roll(version, alias, _):
                deployment = replace(
                    deployment,
                    desired_version=version,
                    desired_alias=alias,
                    serving_version=version,
                    serving_alias=alias,
                )
    return replace(
        observed, packaged=frozenset(packaged), quarantine=quarantine, jobs=jobs, index=index, last_rolled=rolled,
        deployment=deployment,
    )  # fmt: skip


@settings(max_examples=300)
@given(_observed())
def test_doing_what_it_says_comes_to_rest(observed: Observed) -> None:
    """When every action succeeds the plan becomes empty within a bounded number of turns."""
    for _ in range(20):
        actions = plan(observed)
        if not [a for a in actions if not isinstance(a, Wait)] and not (
            observed.deployment is not None and observed.deployment.rolling
        ):
            return
        observed = _apply(observed, actions)
    raise AssertionError(f"still acting: {plan(observed)}")


def _world(**changes: object) -> Observed:
    registry = RegistryState({"20240601": 1, "20240608": 2}, {1: _facts(1), 2: _facts(2)})
    base = Observed(
        registry,
        frozenset({1, 2}),
        dict(registry.aliases),
        Deployment(1, "20240601", 1, "20240601"),
        {},
        {},
        last_rolled=1,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_a_newer_alias_is_rolled_to_with_its_reason() -> None:
    """A newer date alias whose package is there is rolled to, and the reason names both."""
    assert plan(_world()) == [Roll(2, "20240608", "alias 20240608 is newer than 20240601")]


def test_a_newer_alias_is_packaged_first() -> None:
    """A newer alias without a package is packaged before anything is rolled."""
    assert plan(_world(packaged=frozenset({1}))) == [Package(2, "alias 20240608 is newer than 20240601")]


def test_a_newer_alias_amid_a_roll_waits() -> None:
    """An alias that appears during a roll is taken after the roll ends."""
    deployment = Deployment(1, "20240601", None, None, rolling=True)
    assert plan(_world(deployment=deployment)) == [
        Wait("version 2 is taken after the roll to version 1 ends")
    ]


def test_a_failed_roll_is_quarantined_and_undone() -> None:
    """A version that could not be rolled out goes into quarantine, and what still serves is asked for again."""
    deployment = Deployment(2, "20240608", 1, "20240601", failed_version=2, failure="not ready")
    assert plan(_world(deployment=deployment)) == [
        Quarantine(2, "run2", "rollout failed: not ready"),
        Roll(1, "20240601", "version 2 is in quarantine; 20240601 is the best of the others"),
    ]


def test_a_corrupt_package_is_quarantined() -> None:
    """A packaging job that says "corrupt" puts its version into quarantine."""
    jobs = {"package-2": Job("failed", 4, "golden prediction differs")}
    actions = plan(_world(jobs=jobs, packaged=frozenset({1})))
    assert actions == [Quarantine(2, "run2", "packaging failed: golden prediction differs")]


def test_quarantine_ends_when_the_version_changes() -> None:
    """Another run under a quarantined number is another version and is tried."""
    assert _rolls(plan(_world(quarantine={2: "an earlier run"}))) == [
        Roll(2, "20240608", "alias 20240608 is newer than 20240601")
    ]


def test_an_outage_of_the_registry_is_not_an_empty_registry() -> None:
    """No answer means wait; an empty registry means that there is nothing to do."""
    assert plan(_world(registry=None)) == [Wait("the registry cannot be read; nothing is changed meanwhile")]
    empty = RegistryState({}, {})
    assert plan(_world(registry=empty, index={})) == []


def test_a_deleted_alias_moves_nothing() -> None:
    """When the alias of what is served is deleted, it stays."""
    registry = RegistryState({"20240601": 1}, {1: _facts(1)})
    deployment = Deployment(2, "20240608", 2, "20240608")
    assert plan(_world(registry=registry, index={"20240601": 1}, deployment=deployment, last_rolled=2)) == []


def test_policies_choose_among_their_own_aliases() -> None:
    """`newest` looks at date aliases alone, `champion` at its own, and neither at unknown names."""
    aliases = {"20240601": 1, "champion": 2, "backtest_20250101": 3, "latest": 4}
    registry = RegistryState(aliases, {v: _facts(v) for v in range(1, 5)})
    assert [c.version for c in candidates(registry, "newest")] == [1]
    assert [c.version for c in candidates(registry, "champion")] == [2]
    assert ignored(aliases) == {"latest": "it is not YYYYMMDD, backtest_YYYYMMDD or champion"}
