"""Whose fault it is: whatever happens to pods, a proven version is not quarantined for what the place does."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hourcast.decisions import Decision, DecisionKind, Served, Standing
from hourcast_controller.actions import Absolve, Block, Quarantine, Unblock
from hourcast_controller.blame import Verdict, likeness, of_end, of_packaging, of_pods, of_server
from hourcast_controller.observed import Observed
from hourcast_controller.plan import plan
from hourcast_controller.pods import Container, Pod
from hourcast_controller.policy import RegistryState, VersionFacts
from hourcast_controller.rollout_state import DeploymentState, rollout


@pytest.mark.parametrize(
    ("code", "words", "fault"),
    [
        (0, "", None),
        (1, "KeyError: 'x'", "version"),
        (1, "OSError: [Errno 28] No space left on device", "place"),
        (2, "HOURCAST_CLOCK is odd", "setting"),
        (4, "the package is corrupt", "version"),
        (4, "the package cannot be unpacked: [Errno 28] No space left on device", "place"),
        (5, "the bucket does not answer", "place"),
        (6, "version 2 did not pass its gate", "version"),
        (127, "", "place"),
        (137, "OOMKilled", "place"),
        (139, "", "place"),
        (-9, "", "place"),
        (None, "", "place"),
    ],
)
def test_how_a_process_ended_says_whose_fault_it_is(code: int | None, words: str, fault: str | None) -> None:
    """4 and 6 and a crash of its own are the version's, 2 is a setting's, signals, a full disk and what is away the place's."""
    assert of_end(code, words) == fault


def test_a_packaging_job_blames_only_what_its_checks_say() -> None:
    """4 and 6 with their words; any other end is tried again."""
    assert of_packaging(4, "NaN") == Verdict("version", "packaging failed: NaN", proved=True)
    for code in (None, 0, 1, 2, 5, 137):
        assert of_packaging(code, "x") is None
    assert of_packaging(4, "No space left on device") is None


def test_a_server_of_one_machine_is_judged_like_a_pod() -> None:
    """By its exit code, or because it ran and never got ready."""
    assert of_server(4, "corrupt", ran=False) == Verdict("version", "corrupt", proved=True)
    assert of_server(5, "away", ran=False) == Verdict("place", "away")
    assert of_server(2, "odd", ran=False) == Verdict("setting", "odd")
    assert of_server(-9, "", ran=False) == Verdict("place", "")
    assert of_server(None, "never ready", ran=True) == Verdict("version", "never ready")


def test_failures_are_alike_but_for_their_names_and_numbers() -> None:
    """Versions, sums and counts differ between two failures of one kind; words do not."""
    one = "the package of m version 12 is corrupt: SHA-256 ab12 instead of 9f"
    assert likeness(one) == likeness(one.replace("12 is", "13 is").replace("ab12", "c4"))
    assert likeness(one) != likeness("the package of m version 12 cannot be unpacked")


_FETCHED = Container("fetch", init=True, ready=True, exit_code=0)
_RUNS = Container("serving", running=True)
_full_disk = st.sampled_from([1, 4]).map(
    lambda code: Container("serving", exit_code=code, message="OSError: No space left on device")
)
_killed = st.builds(
    Container,
    name=st.just("serving"),
    running=st.booleans(),
    exit_code=st.sampled_from([137, 139, 143]),
    ended_reason=st.just("OOMKilled"),
    restarts=st.integers(1, 9),
    waiting=st.none() | st.just("CrashLoopBackOff"),
)
_no_image = st.sampled_from(["ErrImagePull", "ImagePullBackOff"]).map(
    lambda why: Container("serving", waiting=why)
)
_ended = st.builds(
    Container,
    name=st.sampled_from(["fetch", "serving"]),
    init=st.booleans(),
    exit_code=st.sampled_from([2, 5, 126, 127, 128]),
    restarts=st.integers(0, 9),
    waiting=st.none() | st.just("CrashLoopBackOff"),
)
_fetching = st.builds(
    Container,
    name=st.just("serving"),
    running=st.just(True),
    started=st.just(False),
    exit_code=st.none() | st.just(5),
)
_not_made = st.just(Container("serving", waiting="CreateContainerConfigError"))
_place = _full_disk | _killed | _no_image | _ended | _fetching | _not_made
_by_itself = st.builds(
    Container,
    name=st.just("serving"),
    running=st.booleans(),
    exit_code=st.none() | st.sampled_from([1, 3, 70]),
    restarts=st.integers(0, 9),
    waiting=st.none() | st.just("CrashLoopBackOff"),
)


def _sick(containers: st.SearchStrategy[Container]) -> st.SearchStrategy[Pod]:
    """Pods of no version yet that are not ready, by what is in them or what became of them."""
    inside = containers.map(lambda c: Pod("p", containers=(_FETCHED, c)))
    lost = st.sampled_from(["Evicted", "NodeLost"]).map(lambda why: Pod("p", lost=why, containers=(_RUNS,)))
    return inside | lost | st.just(Pod("p", unschedulable="Insufficient memory"))


@given(st.lists(_sick(_place), min_size=1, max_size=4), st.none() | st.just("late"))
def test_what_the_place_does_never_speaks_against_a_version(pods: list[Pod], deadline: str | None) -> None:
    """Signals, images, nodes, disks, settings and buckets, before the deadline and after it."""
    verdict = of_pods(pods, deadline)
    assert verdict is None or verdict.fault != "version"


_REGISTRY = RegistryState(
    {"20240601": 1, "20240608": 2, "20240615": 3},
    {v: VersionFacts(v, f"run{v}", "lstm", "passed") for v in (1, 2, 3)},
)


def _step(world: Observed, version: int, pods: list[Pod], late: bool, serves: int | None) -> Observed:
    """The world with that version desired and in that plight; what serves is another, itself or nothing."""
    state = DeploymentState(
        version, str(version), 2, 3, 1, 0, deadline_passed="late" if late else None,
    )  # fmt: skip
    others = [] if serves is None else [Pod("old", serves, str(serves), True)]
    deployment = rollout(state, [*others, *(replace(pod, version=version) for pod in pods)])
    world = replace(world, deployment=deployment)
    standing = world.standing
    assert standing is not None
    for action in plan(world):
        match action:
            case Quarantine(number, run_id, reason):
                standing = _told(standing, "quarantined", number, reason, run_id=run_id)
            case Absolve(number, _):
                standing = _told(standing, "unquarantined", number)
            case Block(b):
                standing = _told(standing, "blocked", b.version, b.reason, fault=b.fault, of=b.of)
            case Unblock(number, _):
                standing = _told(standing, "unblocked", number)
    return replace(world, standing=standing)


def _told(
    standing: Standing, kind: DecisionKind, version: int, reason: str = "why", **more: object
) -> Standing:
    return standing.after(Decision(_AT, "controller", kind, "m", version, None, reason, _AT, more))


def _histories(containers: st.SearchStrategy[Container]) -> st.SearchStrategy[list[tuple[int, list[Pod], bool, int | None]]]:  # fmt: skip
    """Days of a cluster: which version is desired, what became of its pods, and what serves meanwhile."""
    day = st.tuples(
        st.integers(1, 3), st.lists(_sick(containers), max_size=3), st.booleans(), st.none() | st.integers(1, 3)
    )  # fmt: skip
    return st.lists(day, min_size=1, max_size=8)


_AT = datetime(2026, 1, 1, tzinfo=UTC)
_START = Observed(
    _REGISTRY, frozenset({1, 2, 3}), dict(_REGISTRY.aliases), None, {},
    Standing(served=tuple(Served(v, "20240601", "why", _AT) for v in (1, 2))),
)  # fmt: skip


@settings(max_examples=300)
@given(_histories(_place))
def test_no_version_is_quarantined_by_faults_of_the_place(
    days: list[tuple[int, list[Pod], bool, int | None]],
) -> None:
    """However long they last, whatever serves and even when no pod is left, proven or not."""
    world = _START
    for day in days:
        world = _step(world, *day)
        assert world.standing is not None
        assert world.standing.quarantine == {}


@settings(max_examples=300)
@given(_histories(_place | _by_itself))
def test_a_proven_version_is_quarantined_by_nothing_but_its_own_checks(
    days: list[tuple[int, list[Pod], bool, int | None]],
) -> None:
    """Its code and its package are what they were when it served: a crash or a server that hangs came from outside."""
    world = _START
    for day in days:
        world = _step(world, *day)
        assert world.standing is not None
        assert set(world.standing.quarantine) <= {3}
