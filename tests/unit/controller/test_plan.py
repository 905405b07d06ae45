"""The plan holds its rules whatever it sees."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hourcast_controller.plan import (
    Deployment,
    Job,
    NoteChampion,
    NoteHold,
    NotePin,
    NoteRolled,
    Observed,
    Package,
    Quarantine,
    RefreshIndex,
    Restore,
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
    others = draw(st.frozensets(st.integers(1, 6)))
    return RegistryState(aliases, {v: _facts(v, draw(gates)) for v in others | set(aliases.values())})


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
        fault=draw(st.sampled_from(["version", "place"])) if failed else None,
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
        last_alias="20240601",
        noted_pin=draw(st.none() | st.integers(1, 6)),
        noted_hold=draw(st.booleans()),
        settled=draw(st.booleans()),
        noted_champion=draw(_versions),
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
    """While held and not pinned nothing is rolled, but for a Deployment that was made anew."""
    held = replace(observed, deployment=replace(observed.deployment, hold=True, pin=None))
    if observed.deployment is not None and observed.deployment.desired_version is None:
        held = replace(held, last_rolled=None)
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
    # What was served before is proved already: it comes back without the registry's word.
    for roll in _rolls(plan(replace(observed, deployment=deployment, last_rolled=None))):
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
            case Restore(pin, hold, _):
                deployment = replace(deployment, pin=pin or deployment.pin, hold=hold or deployment.hold)
            case NotePin(pin, _):
                observed = replace(observed, noted_pin=pin)
            case NoteHold(hold):
                observed = replace(observed, noted_hold=hold)
            case NoteChampion(champion, _):
                observed = replace(observed, noted_champion=champion)
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
    """No answer means wait, and so does a registry without any alias while something is served or indexed."""
    assert plan(_world(registry=None)) == [Wait("the registry cannot be read; nothing is changed meanwhile")]
    empty = RegistryState({}, {})
    outage = "that is taken for an outage and nothing is changed"
    said = [Wait(f"the registry shows no alias at all, while version 1 is served; {outage}")]
    assert plan(_world(registry=empty)) == said
    assert plan(_world(registry=empty, index={})) == said
    assert plan(_world(registry=empty, deployment=Deployment())) == [
        Wait(f"the registry shows no alias at all, while the index in the bucket has some; {outage}")
    ]
    assert plan(_world(registry=empty, index={}, deployment=Deployment(), last_rolled=None)) == []


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


def test_a_version_is_packaged_before_it_has_its_alias() -> None:
    """As soon as the newest version has passed its gate its package is made; without a gate it is not."""
    aliases = {"20240601": 1}
    for gate, wanted in (
        ("passed", [Package(2, "it has passed its gate and may get its alias any moment")]),
        ("unknown", []),
        ("failed", []),
    ):
        registry = RegistryState(aliases, {1: _facts(1), 2: _facts(2, gate)})
        assert plan(_world(registry=registry, index=aliases, packaged=frozenset({1}))) == wanted  # fmt: skip


def test_a_version_that_lost_its_alias_long_ago_is_not_packaged() -> None:
    """Only versions newer than every alias wait for theirs."""
    aliases = {"20240608": 2}
    registry = RegistryState(aliases, {1: _facts(1), 2: _facts(2)})
    deployment = Deployment(2, "20240608", 2, "20240608")
    world = _world(
        registry=registry, index=aliases, packaged=frozenset({2}), deployment=deployment, last_rolled=2
    )
    assert plan(world) == []  # fmt: skip


def test_what_will_be_served_is_packaged_before_what_was_asked_for_and_back_tests_last() -> None:
    """The newest unnamed version, then aliases, the newest first, then back-tests if they are wanted."""
    aliases = {"20240601": 1, "20240525": 2, "backtest_20240101": 3}
    versions = {v: _facts(v) for v in range(1, 6)}
    versions[4] = replace(versions[4], stage="backtest")
    registry = RegistryState(aliases, versions)
    order = []
    packaged = {1}
    for _ in range(5):
        for action in plan(_world(registry=registry, index=aliases, packaged=frozenset(packaged))):
            assert isinstance(action, Package)
            order.append(action.version)
            packaged.add(action.version)
    assert order == [5, 2, 3]
    late = _world(registry=registry, index=aliases, packaged=frozenset({1, 2, 5}), package_backtests=False)
    assert plan(late) == []


def test_the_target_is_packaged_while_a_back_test_is() -> None:
    """A job of another version does not hold up the one that people wait for; two at once is enough."""
    running = {"package-1": Job("running")}
    world = _world(packaged=frozenset({1}), jobs=running)
    assert plan(world) == [Package(2, "alias 20240608 is newer than 20240601")]
    assert plan(_world(packaged=frozenset({1}), jobs={**running, "package-2": Job("running")})) == []
    assert plan(_world(packaged=frozenset({1}), jobs={**running, "index": Job("running")})) == []


def test_new_servers_have_the_machine_to_themselves() -> None:
    """The alias index and other packages wait until a roll has ended."""
    deployment = Deployment(2, "20240608", 1, "20240601", rolling=True)
    assert plan(_world(index={}, deployment=deployment)) == []
    assert plan(_world(index={})) == [Roll(2, "20240608", "alias 20240608 is newer than 20240601")]


def test_an_index_that_cannot_be_read_is_not_written() -> None:
    """Not to know it is not to know that it is wrong."""
    deployment = Deployment(2, "20240608", 2, "20240608")
    assert plan(_world(index=None, deployment=deployment, last_rolled=2)) == []


_ANEW = "it was served before the Deployment was made anew"


def test_a_deployment_that_was_made_anew_serves_what_it_served() -> None:
    """After uninstall and install the version of the journal comes first, not the newest alias; then the policy goes on."""
    anew = _world(deployment=Deployment(), last_rolled=1, last_alias="20240601")
    assert plan(anew) == [Roll(1, "20240601", _ANEW)]
    assert plan(replace(anew, packaged=frozenset({2}))) == [Package(1, _ANEW)]
    assert plan(_world()) == [Roll(2, "20240608", "alias 20240608 is newer than 20240601")]


def test_pin_and_hold_come_back_with_a_deployment_that_was_made_anew() -> None:
    """The newest pin and hold events are put on the new Deployment, and no newer alias is rolled to on that turn."""
    anew = _world(deployment=Deployment(), last_rolled=1, last_alias="20240601", noted_hold=True)
    restored = "it was set before the Deployment was made anew"
    assert plan(anew) == [Restore(None, True, restored), Roll(1, "20240601", _ANEW)]
    pinned = replace(anew, noted_pin=1)
    assert plan(pinned) == [Restore(1, True, restored), Roll(1, "20240601", "pinned to version 1")]
    after = _world(deployment=Deployment(1, "20240601", 1, "20240601", hold=True), noted_hold=True)
    assert plan(after) == []


def test_what_was_quarantined_is_not_served_again_by_a_new_deployment() -> None:
    """Then the policy chooses as for a first time."""
    anew = _world(deployment=Deployment(), last_rolled=1, quarantine={1: "run1"})
    assert plan(anew) == [Roll(2, "20240608", "alias 20240608 is the first to be served")]


def test_a_pin_or_hold_that_was_set_by_hand_is_written_down_once() -> None:
    """After it has stood for a while, so that a command of ours has had time to write its own event."""
    deployment = Deployment(2, "20240608", 2, "20240608", pin=2, hold=True)
    world = _world(deployment=deployment, last_rolled=2)
    assert plan(world) == []
    assert plan(replace(world, settled=True)) == [NotePin(2, None), NoteHold(True)]
    assert plan(replace(world, settled=True, noted_pin=2, noted_hold=True)) == []
    free = replace(world, deployment=replace(deployment, pin=None, hold=False), noted_pin=2, noted_hold=True)
    assert plan(replace(free, settled=True)) == [NotePin(None, 2), NoteHold(False)]


def test_a_champion_that_has_moved_is_written_down_once() -> None:
    """Whoever moved it and whatever is served; nothing is rolled for it under `newest`, and the next turn is at rest."""
    aliases = {"20240608": 2, "champion": 1}
    registry = RegistryState(aliases, {1: _facts(1), 2: _facts(2)})
    deployment = Deployment(2, "20240608", 2, "20240608")
    world = _world(registry=registry, index=aliases, deployment=deployment, last_rolled=2)
    assert plan(world) == [NoteChampion(1, None)]
    assert plan(replace(world, noted_champion=2)) == [NoteChampion(1, 2)]
    assert plan(replace(world, noted_champion=1)) == []
    gone = replace(world, registry=RegistryState({"20240608": 2}, registry.versions), index={"20240608": 2})
    assert plan(replace(gone, noted_champion=1)) == [NoteChampion(None, 1)]
    held = replace(world, deployment=replace(deployment, hold=True))
    assert plan(held) == [NoteChampion(1, None)]


def test_a_registry_without_aliases_has_not_lost_its_champion() -> None:
    """Nothing is written down of a champion when no alias at all is seen."""
    empty = _world(
        registry=RegistryState({}, {}), index={}, deployment=Deployment(), last_rolled=None, noted_champion=1
    )
    assert plan(empty) == []


def test_a_version_that_has_served_is_not_blamed_for_a_sick_place() -> None:
    """A helm upgrade with a bad image, or a full node: it waits with the reason, and no other version is tried on it."""
    sick = Deployment(1, "20240601", 1, "20240601", failed_version=1, failure="no image", fault="place")
    assert plan(_world(deployment=sick)) == [
        Wait("version 1 has served before and stays, but its new servers do not get ready: no image")
    ]
    pinned = replace(sick, pin=2)
    assert plan(_world(deployment=pinned))[-1] == Roll(2, "20240608", "pinned to version 2")


def test_a_served_version_that_breaks_when_nothing_serves_makes_way() -> None:
    """Its package is corrupt and no server is left: it goes into quarantine and the best of the others is served."""
    broken = Deployment(2, "20240608", None, None, failed_version=2, failure="corrupt", fault="version")
    assert plan(_world(deployment=broken, last_rolled=2)) == [
        Quarantine(2, "run2", "rollout failed: corrupt"),
        Roll(1, "20240601", "version 2 is in quarantine; 20240601 is the best of the others"),
    ]
    sick = replace(broken, fault="place")
    assert [type(a) for a in plan(_world(deployment=sick, last_rolled=2))] == [Wait]


def test_a_version_half_rolled_out_is_not_noted_as_served() -> None:
    """Most pods are of the new version, but the roll has failed: it is quarantined and never counts as rolled."""
    half = Deployment(2, "20240608", 2, "20240608", failed_version=2, failure="x", fault="version")
    actions = plan(_world(deployment=half))
    assert not any(isinstance(a, NoteRolled) for a in actions)
    assert Quarantine(2, "run2", "rollout failed: x") in actions


@pytest.mark.parametrize(("after_s", "kept"), [(-1, False), (1, True)])
def test_a_released_version_is_tried_again_and_judged_anew(after_s: float, kept: bool) -> None:
    """A packaging failure from before its release does not count; one from after does."""
    released = datetime(2026, 1, 1, tzinfo=UTC)
    job = Job("failed", 4, "golden prediction differs", ended_at=released + timedelta(seconds=after_s))
    actions = plan(_world(jobs={"package-2": job}, packaged=frozenset({1}), released={2: released}))
    assert any(isinstance(a, Quarantine) for a in actions) is kept
    assert any(isinstance(a, Package) for a in actions) is not kept


def test_an_alias_that_moves_back_moves_nothing() -> None:
    """A higher date served already: an alias set to an older version, or an older alias, is no upgrade."""
    deployment = Deployment(2, "20240608", 2, "20240608")
    back = RegistryState({"20240608": 1}, {1: _facts(1), 2: _facts(2)})
    assert plan(_world(registry=back, index=back.aliases, deployment=deployment, last_rolled=2)) == []


def test_of_two_aliases_within_a_second_the_newer_is_served() -> None:
    """Both are seen at once, and one roll goes to the newest; an older one in between is skipped."""
    registry = RegistryState({"20240601": 1, "20240608": 2, "20240615": 3}, {v: _facts(v) for v in (1, 2, 3)})
    world = _world(registry=registry, index=registry.aliases, packaged=frozenset({1, 2, 3}))
    assert _rolls(plan(world)) == [Roll(3, "20240615", "alias 20240615 is newer than 20240601")]
