"""The plan holds its rules whatever it sees."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hourcast.decisions import Barred, Blocked, Decision, DecisionKind, Served, Standing, Undo
from hourcast_controller.actions import (
    Absolve,
    Block,
    Mirror,
    NoteChampion,
    NoteHold,
    NotePin,
    NoteRolled,
    Package,
    Quarantine,
    RefreshIndex,
    Roll,
    Unblock,
    Wait,
)
from hourcast_controller.observed import Deployment, Job, Observed
from hourcast_controller.plan import minded, plan
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


_AT = datetime(2026, 1, 1, tzinfo=UTC)
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
        fault=draw(st.sampled_from(["version", "place", "setting"])) if failed else None,
        proved=failed is not None and draw(st.booleans()),
        rolling=failed is None and draw(st.booleans()),
        fetching=failed is None and draw(st.booleans()),
        failed_version=failed,
        failure="it broke" if failed else None,
        pin=draw(st.none() | st.integers(1, 6)),
        hold=draw(st.booleans()),
        decided=draw(st.integers(0, 2)),
    )
    jobs = draw(
        st.dictionaries(
            st.sampled_from([f"package-{i}" for i in range(1, 7)] + ["index"]),
            st.builds(
                Job,
                state=st.sampled_from(["running", "succeeded", "failed"]),
                exit_code=st.sampled_from([0, 4, 5, 6]),
                message=st.sampled_from(["m", "n"]),
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
        policy=draw(st.sampled_from(["newest", "champion"])),
        package_backtests=draw(st.booleans()),
        standing=Standing(
            id=9,
            pin=draw(st.none() | st.integers(1, 6)),
            hold=draw(st.booleans()),
            minded=draw(st.integers(0, 2)),
            quarantine={
                v: Barred(f"run{v}", "why") for v in draw(st.frozensets(st.integers(1, 6), max_size=2))
            },
            served=tuple(
                Served(v, "20240601", "why", _AT)
                for v in draw(st.lists(st.integers(1, 6), max_size=3, unique=True))
            ),
            undo=draw(
                st.none()
                | st.builds(Undo, st.integers(1, 6), st.just("20240608"), st.integers(1, 6), st.none())
            ),
            champion=draw(_versions),
            blamed=draw(st.none() | st.tuples(st.integers(1, 6), st.just("rollout failed: it broke"))),
            blocked=draw(
                st.none()
                | st.builds(
                    Blocked,
                    version=st.integers(1, 6),
                    fault=st.sampled_from(["place", "setting"]),
                    reason=st.just("why"),
                    of=st.sampled_from(["rollout", "package"]),
                )
            ),
        ),
    )


def _told(standing: Standing, kind: DecisionKind, version: int | None, **more: object) -> Standing:
    """How things stand after one more decision of the controller's."""
    alias, reason = more.pop("alias", None), more.pop("reason", "why")
    return standing.after(
        Decision(_AT, "controller", kind, "m", version, alias, reason, _AT, more, standing.id + 1)  # type: ignore[arg-type]
    )


def _minded(observed: Observed) -> Deployment:
    """The Deployment with the pin and the hold that count."""
    assert observed.deployment is not None
    assert observed.standing is not None
    return minded(observed.standing, observed.deployment)[1]


def _rolls(actions: list[object]) -> list[Roll]:
    return [a for a in actions if isinstance(a, Roll)]


@given(_observed(), st.sampled_from(["deployment", "standing"]))
def test_without_the_deployment_or_the_decisions_nothing_is_done(observed: Observed, missing: str) -> None:
    """When either cannot be read, the plan is to wait and nothing else."""
    actions = plan(replace(observed, **{missing: None}))
    assert len(actions) == 1
    assert isinstance(actions[0], Wait)


@given(_observed(), st.sampled_from(["registry", "packaged", "jobs"]))
def test_a_partial_read_moves_nothing_but_what_it_says_enough_about(observed: Observed, missing: str) -> None:
    """Nothing new is rolled out or packaged: only what is pinned, undone, in quarantine or was served before moves."""
    actions = plan(replace(observed, **{missing: None}))
    deployment, standing = _minded(observed), observed.standing
    assert standing is not None
    assert not any(isinstance(a, Package | RefreshIndex) for a in actions)
    bad = set(standing.quarantine) | {a.version for a in actions if isinstance(a, Quarantine)}
    for roll in _rolls(actions):
        undone = standing.undo is not None and standing.undo.version == deployment.desired_version
        anew = deployment.desired_version is None
        assert roll.version == deployment.pin or undone or anew or deployment.desired_version in bad
        assert roll.version in {deployment.pin, deployment.serving_version, *standing.proven} or undone


@given(_observed())
def test_quarantined_versions_are_left_alone(observed: Observed) -> None:
    """A version in quarantine is neither packaged nor rolled to, unless it leaves it in the same turn."""
    assert observed.standing is not None
    actions = plan(observed)
    bad = set(observed.standing.quarantine) - {a.version for a in actions if isinstance(a, Absolve)}
    for action in actions:
        if isinstance(action, Roll | Package):
            assert action.version not in bad


@given(_observed())
def test_at_most_one_roll_and_none_amid_another(observed: Observed) -> None:
    """There is never more than one roll, and none while one is under way, but for an undo."""
    rolls = _rolls(plan(observed))
    assert len(rolls) <= 1
    assert observed.deployment is not None
    assert observed.standing is not None
    undo = observed.standing.undo
    if observed.deployment.rolling and (undo is None or undo.version != observed.deployment.desired_version):
        assert rolls == []


@given(_observed())
def test_only_packaged_versions_are_rolled_to(observed: Observed) -> None:
    """A roll is to a version whose whole package is in the bucket."""
    for roll in _rolls(plan(observed)):
        assert roll.version in (observed.packaged or ())


@given(_observed())
def test_a_pin_wins(observed: Observed) -> None:
    """While a version is pinned nothing else is rolled to."""
    pin = _minded(observed).pin
    if pin is not None:
        assert all(roll.version == pin for roll in _rolls(plan(observed)))


def _set(observed: Observed, **values: object) -> Observed:
    """With pin and hold as given, on the Deployment and decided so."""
    assert observed.deployment is not None
    assert observed.standing is not None
    return replace(
        observed,
        deployment=replace(observed.deployment, **values, decided=2),  # type: ignore[arg-type]
        standing=replace(observed.standing, **values, minded=2),  # type: ignore[arg-type]
    )


@given(_observed())
def test_a_hold_stops_rolls(observed: Observed) -> None:
    """While held and not pinned nothing is rolled, but for an undo and a Deployment that was made anew."""
    held = _set(observed, hold=True, pin=None)
    assert held.deployment is not None
    assert held.standing is not None
    undo = held.standing.undo
    for roll in _rolls(plan(held)):
        undone = undo is not None and (undo.version, undo.to) == (
            held.deployment.desired_version,
            roll.version,
        )
        assert undone or (held.deployment.desired_version is None and roll.version in held.standing.proven)


@given(_observed())
def test_newest_never_downgrades(observed: Observed) -> None:
    """Under `newest`, without pin, a roll goes to a higher rank, unless what is desired is in quarantine or undone."""
    observed = replace(_set(observed, pin=None), policy="newest")
    deployment, standing = observed.deployment, observed.standing
    assert deployment is not None
    assert standing is not None
    actions = plan(observed)
    bad = set(standing.quarantine) | {a.version for a in actions if isinstance(a, Quarantine)}
    current = deployment.desired_version
    undone = standing.undo is not None and standing.undo.version == current
    for roll in _rolls(actions):
        if current is not None and current not in bad and not undone:
            assert rank(roll.alias, roll.version) > rank(deployment.desired_alias, current)


@given(_observed())
def test_a_version_that_failed_its_gate_is_never_chosen_by_policy(observed: Observed) -> None:
    """Without a pin, only versions whose gate passed are rolled to from nothing."""
    observed = _set(observed, pin=None, hold=False)
    deployment = replace(observed.deployment, desired_version=None, failed_version=None)
    assert observed.registry is not None
    # What was served before is proved already: it comes back without the registry's word.
    standing = replace(observed.standing, served=(), undo=None)
    for roll in _rolls(plan(replace(observed, deployment=deployment, standing=standing))):
        assert observed.registry.versions[roll.version].gate == "passed"


def _apply(observed: Observed, actions: list[object]) -> Observed:
    """The world after every action has succeeded."""
    deployment, registry = observed.deployment, observed.registry
    assert deployment is not None
    assert registry is not None
    assert observed.standing is not None
    packaged, standing = set(observed.packaged or ()), observed.standing
    jobs = {
        n: replace(j, state="succeeded", exit_code=0)
        for n, j in (observed.jobs or {}).items()
        if j.state != "failed"
    }
    index = observed.index
    deployment = replace(deployment, rolling=False, failed_version=None, failure=None)
    for action in actions:
        match action:
            case Package(version, _):
                packaged.add(version)
                index = {a: v for a, v in registry.aliases.items() if a != "latest"}
            case RefreshIndex():
                index = {a: v for a, v in registry.aliases.items() if a != "latest"}
            case Quarantine(version, run_id, reason):
                standing = _told(standing, "quarantined", version, reason=reason, run_id=run_id)
            case Absolve(version, _):
                standing = _told(standing, "unquarantined", version)
            case Block(b):
                standing = _told(standing, "blocked", b.version, reason=b.reason, fault=b.fault, of=b.of)
            case Unblock(version, _):
                standing = _told(standing, "unblocked", version)
            case NoteRolled(version, _):
                standing = _told(standing, "rolled", version)
            case Mirror(pin, hold, decided):
                deployment = replace(deployment, pin=pin, hold=hold, decided=decided)
            case NotePin(pin, before):
                standing = _told(standing, "pinned" if pin else "unpinned", pin or before)
            case NoteHold(hold):
                standing = _told(standing, "held" if hold else "released", None)
            case NoteChampion(champion, _):
                standing = _told(standing, "champion_moved", champion)
            case Roll(version, alias, _):
                deployment = replace(
                    deployment,
                    desired_version=version,
                    desired_alias=alias,
                    serving_version=version,
                    serving_alias=alias,
                )
    return replace(
        observed,
        packaged=frozenset(packaged),
        jobs=jobs,
        index=index,
        deployment=deployment,
        standing=standing,
    )


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


def _served(*versions: int) -> tuple[Served, ...]:
    return tuple(Served(v, "20240601", "why", _AT) for v in versions)


def _world(standing: Standing | None = None, **changes: object) -> Observed:
    """Version 1 serves and 2 is newer; without a standing, 1 has been written down as served."""
    registry = RegistryState({"20240601": 1, "20240608": 2}, {1: _facts(1), 2: _facts(2)})
    base = Observed(
        registry,
        frozenset({1, 2}),
        dict(registry.aliases),
        Deployment(1, "20240601", 1, "20240601"),
        {},
        Standing(served=_served(1)) if standing is None else standing,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def _stands(observed: Observed, **values: object) -> Observed:
    """The same with other values of the standing."""
    assert observed.standing is not None
    return replace(observed, standing=replace(observed.standing, **values))  # type: ignore[arg-type]


_TWO = Standing(served=_served(2, 1))
"""Version 2 has served after 1."""


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
    assert _rolls(
        plan(_world(Standing(served=_served(1), quarantine={2: Barred("an earlier run", "")})))
    ) == [Roll(2, "20240608", "alias 20240608 is newer than 20240601")]


def test_an_outage_of_the_registry_is_not_an_empty_registry() -> None:
    """No answer means wait, and so does a registry without any alias while something is served or indexed."""
    assert plan(_world(registry=None)) == [Wait("the registry cannot be read; nothing is changed meanwhile")]
    empty = RegistryState({}, {})
    outage = "that is taken for an outage and nothing is changed"
    said = [Wait(f"the registry shows no alias at all, while version 1 is served; {outage}")]
    assert plan(_world(registry=empty)) == said
    assert plan(_world(registry=empty, index={})) == said
    assert plan(_world(Standing(), registry=empty, deployment=Deployment())) == [
        Wait(f"the registry shows no alias at all, while the index in the bucket has some; {outage}")
    ]
    assert plan(_world(Standing(), registry=empty, index={}, deployment=Deployment())) == []


def test_a_deleted_alias_moves_nothing() -> None:
    """When the alias of what is served is deleted, it stays."""
    registry = RegistryState({"20240601": 1}, {1: _facts(1)})
    deployment = Deployment(2, "20240608", 2, "20240608")
    assert plan(_world(_TWO, registry=registry, index={"20240601": 1}, deployment=deployment)) == []


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
    world = _world(_TWO, registry=registry, index=aliases, packaged=frozenset({2}), deployment=deployment)
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
    assert plan(_world(_TWO, index=None, deployment=deployment)) == []


_ANEW = "it was served before the Deployment was made anew"


def test_a_deployment_that_was_made_anew_serves_what_it_served() -> None:
    """After uninstall and install what served comes first, not the newest alias; then the policy goes on."""
    anew = _world(deployment=Deployment())
    assert plan(anew) == [Roll(1, "20240601", _ANEW)]
    assert plan(replace(anew, registry=None))[0] == Roll(1, "20240601", _ANEW)
    assert plan(replace(anew, packaged=frozenset({2}))) == [Package(1, _ANEW)]
    assert plan(_world()) == [Roll(2, "20240608", "alias 20240608 is newer than 20240601")]


def test_pin_and_hold_come_back_with_a_deployment_that_was_made_anew() -> None:
    """They are put on the new Deployment as they were decided, and no newer alias is rolled to on that turn."""
    anew = _stands(_world(deployment=Deployment()), hold=True, minded=7)
    assert plan(anew) == [Mirror(None, True, 7), Roll(1, "20240601", _ANEW)]
    pinned = _stands(anew, pin=1)
    assert plan(pinned) == [Mirror(1, True, 7), Roll(1, "20240601", "pinned to version 1")]
    after = Deployment(1, "20240601", 1, "20240601", hold=True, decided=7)
    assert plan(replace(anew, deployment=after)) == []


def test_what_was_quarantined_is_not_served_again_by_a_new_deployment() -> None:
    """Then the policy chooses as for a first time."""
    anew = _stands(_world(deployment=Deployment()), quarantine={1: Barred("run1", "")})
    assert plan(anew) == [Roll(2, "20240608", "alias 20240608 is the first to be served")]


def test_a_decision_counts_before_the_deployment_follows_it() -> None:
    """A pin that was decided is obeyed and annotated in the same turn, whatever the annotations say."""
    world = _stands(_world(), pin=1, minded=8)
    assert plan(world) == [Mirror(1, False, 8)]
    other = replace(world, deployment=Deployment(2, "20240608", 2, "20240608", pin=2, hold=True, decided=7))
    assert plan(_stands(other, served=_served(2, 1))) == [
        Mirror(1, False, 8), Roll(1, "20240601", "pinned to version 1"),
    ]  # fmt: skip
    marked = Deployment(1, "20240601", 1, "20240601", pin=1, decided=8)
    assert plan(replace(world, deployment=marked)) == []


def test_a_pin_or_hold_that_was_set_by_hand_is_written_down_once() -> None:
    """On a Deployment that follows the last decision another value is a person's, and is obeyed at once."""
    deployment = Deployment(2, "20240608", 2, "20240608", pin=2, hold=True)
    world = _world(_TWO, deployment=deployment)
    assert plan(world) == [NotePin(2, None), NoteHold(True)]
    noted = _stands(world, pin=2, hold=True, minded=5)
    assert plan(noted) == [Mirror(2, True, 5)]
    settled = replace(noted, deployment=replace(deployment, decided=5))
    assert plan(settled) == []
    free = replace(settled, deployment=replace(deployment, pin=None, hold=False, decided=5))
    assert plan(free) == [NotePin(None, 2), NoteHold(False)]


_UNDONE = Standing(
    served=_served(2, 1),
    quarantine={2: Barred("run2", "undone by an operator")},
    undo=Undo(2, "20240608", 1, "20240601"),
)
_BACK = Roll(1, "20240601", "version 2 was undone, and version 1 takes its place")


@pytest.mark.parametrize("rolling", [False, True])
@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("missing", ["registry", "packaged", "jobs", "index"])
def test_an_undo_wins_over_a_hold_and_needs_no_registry(missing: str, hold: bool, rolling: bool) -> None:
    """Decisions and the Deployment are all that it needs, and it does not wait for a roll to end."""
    deployment = Deployment(2, "20240608", 2, "20240608", rolling=rolling, hold=hold)
    world = _world(replace(_UNDONE, hold=hold), deployment=deployment)
    assert plan(world) == [_BACK]
    assert plan(replace(world, **{missing: None}))[0] == _BACK


def test_what_was_undone_is_not_followed_by_what_is_older_still() -> None:
    """What served before stays, though an alias between the two was never tried; a newer one than was undone is taken."""
    registry = RegistryState({"20240601": 1, "20240608": 3, "20240615": 2}, {v: _facts(v) for v in (1, 2, 3)})
    standing = replace(_UNDONE, undo=Undo(2, "20240615", 1, "20240601"))
    back = Deployment(1, "20240601", 1, "20240601")
    world = _world(
        standing, registry=registry, index=registry.aliases, deployment=back, packaged=frozenset({1, 2, 3})
    )
    assert _rolls(plan(world)) == []
    newer = RegistryState({**registry.aliases, "20240622": 4}, {**registry.versions, 4: _facts(4)})
    world = replace(world, registry=newer, index=newer.aliases, packaged=frozenset({1, 2, 3, 4}))
    assert _rolls(plan(world)) == [Roll(4, "20240622", "alias 20240622 is newer than 20240601")]


def test_an_undo_wins_over_a_block() -> None:
    """A version that waits for its place is taken back, and what serves is asked for again."""
    sick = Deployment(
        2, "20240608", 1, "20240601", failed_version=2, failure="no image", fault="place", hold=True
    )
    standing = replace(_UNDONE, served=_served(1), hold=True, blocked=Blocked(2, "place", "no image"))
    assert plan(_world(standing, deployment=sick)) == [Unblock(2, "it is no longer in the way"), _BACK]


def test_a_version_that_fails_makes_way_without_the_registry() -> None:
    """What still serves is asked for again, or else what served before."""
    failed = Deployment(2, "20240608", 1, "20240601", failed_version=2, failure="x", fault="version")
    world = _world(deployment=failed, registry=None)
    assert plan(world)[:2] == [
        Quarantine(2, "", "rollout failed: x"),
        Roll(1, "20240601", "version 2 is in quarantine; version 1 still serves"),
    ]
    gone = replace(world, deployment=replace(failed, serving_version=None, serving_alias=None))
    assert Roll(1, "20240601", "version 2 is in quarantine; version 1 served before") in plan(gone)


def test_a_pin_needs_no_registry() -> None:
    """That the version is packaged is enough."""
    world = _stands(_world(registry=None), pin=2, minded=3)
    assert plan(world) == [Mirror(2, False, 3), Roll(2, "2", "pinned to version 2")]


def test_a_champion_that_has_moved_is_written_down_once() -> None:
    """Whoever moved it and whatever is served; nothing is rolled for it under `newest`, and the next turn is at rest."""
    aliases = {"20240608": 2, "champion": 1}
    registry = RegistryState(aliases, {1: _facts(1), 2: _facts(2)})
    deployment = Deployment(2, "20240608", 2, "20240608")
    world = _world(_TWO, registry=registry, index=aliases, deployment=deployment)
    assert plan(world) == [NoteChampion(1, None)]
    assert plan(_stands(world, champion=2)) == [NoteChampion(1, 2)]
    assert plan(_stands(world, champion=1)) == []
    gone = replace(world, registry=RegistryState({"20240608": 2}, registry.versions), index={"20240608": 2})
    assert plan(_stands(gone, champion=1)) == [NoteChampion(None, 1)]
    held = _stands(replace(world, deployment=replace(deployment, hold=True)), hold=True)
    assert plan(held) == [NoteChampion(1, None)]


def test_a_registry_without_aliases_has_not_lost_its_champion() -> None:
    """Nothing is written down of a champion when no alias at all is seen."""
    empty = _world(Standing(champion=1), registry=RegistryState({}, {}), index={}, deployment=Deployment())
    assert plan(empty) == []


def test_a_version_that_has_served_is_not_blamed_for_a_sick_place() -> None:
    """A helm upgrade with a bad image, or a full node: it waits with the reason, and no other version is tried on it."""
    sick = Deployment(1, "20240601", 1, "20240601", failed_version=1, failure="no image", fault="place")
    told = "version 1 has served before and stays, but its new servers do not get ready: no image"
    assert plan(_world(deployment=sick)) == [Block(Blocked(1, "place", told)), Wait(told)]
    assert plan(_stands(_world(deployment=sick), blocked=Blocked(1, "place", "no such image"))) == [
        Wait(told)
    ]
    pinned = replace(sick, pin=2)
    assert plan(_world(deployment=pinned))[-1] == Roll(2, "20240608", "pinned to version 2")


def test_a_served_version_that_breaks_when_nothing_serves_makes_way() -> None:
    """Its package is corrupt and no server is left: it goes into quarantine and the best of the others is served."""
    broken = Deployment(
        2, "20240608", None, None, failed_version=2, failure="corrupt", fault="version", proved=True
    )
    world = _world(_TWO)
    assert plan(replace(world, deployment=broken)) == [
        Quarantine(2, "run2", "rollout failed: corrupt"),
        Roll(1, "20240601", "version 2 is in quarantine; 20240601 is the best of the others"),
    ]
    for sick in (replace(broken, fault="place"), replace(broken, proved=False)):
        assert [type(a) for a in plan(replace(world, deployment=sick))] == [Block, Wait]


def test_what_is_the_places_or_a_settings_fault_quarantines_nobody() -> None:
    """A version that never served waits too: nothing else is tried, and what stands in its way is written down once."""
    deployment = Deployment(
        2, "20240608", 1, "20240601", failed_version=2, failure="HOURCAST_CLOCK is odd", fault="setting"
    )
    told = "version 2 is not served, and a setting is at fault: HOURCAST_CLOCK is odd"
    blocked = Blocked(2, "setting", told)
    world = _world(deployment=deployment)
    assert plan(world) == [Block(blocked), Wait(told)]
    assert plan(_stands(world, blocked=blocked)) == [Wait(told)]
    place = replace(world, deployment=replace(deployment, fault="place", failure="OOMKilled"))
    assert plan(place)[-1] == Wait("version 2 is not served, and the place is at fault: OOMKilled")


_AWAY = "bucket 'b' does not answer for 'k'"


def test_a_bucket_that_is_away_amid_a_roll_blocks_it() -> None:
    """Written down once, whoever is rolled out; nobody is quarantined, and it is over when the roll is."""
    rolling = Deployment(2, "20240608", 1, "20240601", rolling=True, fetching=True)
    world = _world(deployment=rolling, packaged=None, index=None, bucket_problem=_AWAY)
    told = (
        f"version 2 is not served, and the place is at fault: its servers wait for their package, and {_AWAY}"
    )
    unread = Wait("the bucket cannot be read; nothing is changed meanwhile")
    blocked = Blocked(2, "place", told)
    assert plan(world) == [Block(blocked), Wait(told), unread]
    world = _stands(world, blocked=blocked)
    assert plan(world) == [Wait(told), unread]
    back = replace(world, packaged=frozenset({1, 2}), bucket_problem=None)
    assert plan(back) == []
    done = replace(
        back, deployment=Deployment(2, "20240608", 2, "20240608"), index={"20240601": 1, "20240608": 2}
    )
    assert plan(done) == [NoteRolled(2, "20240608"), Unblock(2, "it is served")]
    again = _world(deployment=replace(rolling, desired_version=1, desired_alias="20240601"), packaged=None)
    assert plan(again)[0] == Block(
        Blocked(
            1, "place",
            "version 1 has served before and stays, but its new servers do not get ready: "
            "its servers wait for their package, and the bucket cannot be read",
        )
    )  # fmt: skip


def test_a_bucket_that_is_away_blocks_no_roll_whose_servers_have_their_package() -> None:
    """They need it no more; and without a roll there is nothing to block."""
    rolling = Deployment(2, "20240608", 1, "20240601", rolling=True)
    for deployment in (rolling, replace(rolling, rolling=False, desired_version=1)):
        world = _world(deployment=deployment, packaged=None, index=None, bucket_problem=_AWAY)
        assert not any(isinstance(action, Block) for action in plan(world))


def test_a_block_ends_while_the_bucket_is_away() -> None:
    """That a roll has ended needs no look into the bucket; whether a package is there does."""
    world = _world(_TWO, deployment=Deployment(2, "20240608", 2, "20240608"), packaged=None, index=None)
    assert Unblock(2, "it is served") in plan(_stands(world, blocked=Blocked(2, "place", "why")))
    kept = _stands(world, blocked=Blocked(2, "place", "why", "package"))
    assert not any(isinstance(action, Unblock) for action in plan(kept))


def test_what_stood_in_the_way_is_told_when_it_is_gone() -> None:
    """Not while the roll is still under way, but when it has ended well or another version is asked for."""
    blocked = Blocked(2, "place", "no image")
    rolling = Deployment(2, "20240608", 1, "20240601", rolling=True)
    assert plan(_stands(_world(deployment=rolling), blocked=blocked)) == []
    done = Deployment(2, "20240608", 2, "20240608")
    assert Unblock(2, "it is served") in plan(_stands(_world(deployment=done), blocked=blocked))
    other = Deployment(1, "20240601", 1, "20240601", hold=True)
    assert plan(_stands(_world(deployment=other), blocked=blocked, hold=True)) == [
        Unblock(2, "it is no longer in the way")
    ]


def test_two_versions_that_fail_alike_in_a_row_are_the_places_fault() -> None:
    """The second is not quarantined, the first is let out, nothing more is tried, and the reason says so."""
    why = "container serving was started 4 times and ended with 1: version {} cannot"
    deployment = Deployment(
        2, "20240608", 1, "20240601", failed_version=2, failure=why.format(2), fault="version"
    )
    blamed = (3, "rollout failed: " + why.format(3))
    world = _stands(_world(deployment=deployment), quarantine={3: Barred("run3", "why")}, blamed=blamed)
    told = f"version 2 fails as version 3 did, so the place is at fault: rollout failed: {why.format(2)}"
    blocked = Blocked(2, "place", told)
    assert plan(world) == [
        Absolve(3, "version 2 fails alike, so the place is at fault"), Block(blocked), Wait(told),
    ]  # fmt: skip
    after = _stands(world, quarantine={}, blocked=blocked)
    assert plan(after) == [Wait(told)]
    other = replace(world, deployment=replace(deployment, failure="another thing"))
    assert Quarantine(2, "run2", "rollout failed: another thing") in plan(other)


def test_two_packages_that_fail_alike_are_the_places_fault() -> None:
    """Neither is in quarantine afterwards, and both are tried again as their pauses allow."""
    jobs = {f"package-{v}": Job("failed", 4, f"version {v} cannot be unpacked") for v in (2, 3)}
    registry = RegistryState({"20240601": 1, "20240608": 2, "20240615": 3}, {v: _facts(v) for v in (1, 2, 3)})
    world = _world(registry=registry, index=registry.aliases, jobs=jobs, packaged=frozenset({1}))
    for _ in range(3):
        world = _apply(world, plan(world))
        world = replace(world, packaged=frozenset({1}), jobs=jobs)
    assert world.standing is not None
    assert world.standing.quarantine == {}
    assert world.standing.blocked is not None
    assert world.standing.blocked.of == "package"
    assert Package(3, "alias 20240615 is newer than 20240601") in plan(world)


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
    actions = plan(_stands(_world(jobs={"package-2": job}, packaged=frozenset({1})), released={2: released}))
    assert any(isinstance(a, Quarantine) for a in actions) is kept
    assert any(isinstance(a, Package) for a in actions) is not kept


def test_an_alias_that_moves_back_moves_nothing() -> None:
    """A higher date served already: an alias set to an older version, or an older alias, is no upgrade."""
    deployment = Deployment(2, "20240608", 2, "20240608")
    back = RegistryState({"20240608": 1}, {1: _facts(1), 2: _facts(2)})
    assert plan(_world(_TWO, registry=back, index=back.aliases, deployment=deployment)) == []


def test_of_two_aliases_within_a_second_the_newer_is_served() -> None:
    """Both are seen at once, and one roll goes to the newest; an older one in between is skipped."""
    registry = RegistryState({"20240601": 1, "20240608": 2, "20240615": 3}, {v: _facts(v) for v in (1, 2, 3)})
    world = _world(registry=registry, index=registry.aliases, packaged=frozenset({1, 2, 3}))
    assert _rolls(plan(world)) == [Roll(3, "20240615", "alias 20240615 is newer than 20240601")]
