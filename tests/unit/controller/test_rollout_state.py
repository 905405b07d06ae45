"""What a Deployment and its pods say: served, rolling or failed, and who is to blame."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourcast_controller.pods import Container, Pod, last_words
from hourcast_controller.rollout_state import DeploymentState, rollout

_MAIN = Container("serving", image="docker.io/hourcast/bento:1", running=True, ready=True)
_FETCHED = Container("fetch", init=True, image="docker.io/hourcast/bento:1", ready=True, exit_code=0)


def _pod(version: int | None, ready: bool = True, **changes: Any) -> Pod:
    pod = Pod(
        f"pod-{version}",
        version,
        f"2024060{version}",
        ready,
        containers=(_FETCHED, replace(_MAIN, ready=ready)),
    )
    return replace(pod, **changes)


def _failing(version: int = 2, **changes: Any) -> Pod:
    """A pod whose serving container is as `changes` say."""
    return _pod(version, False, containers=(_FETCHED, replace(_MAIN, ready=False, running=False, **changes)))


_DONE = DeploymentState(2, "20240602", wanted=2, replicas=2, updated=2, available=2)
_AMID = replace(_DONE, replicas=3, updated=1)


def test_a_complete_rollout_serves_what_is_desired() -> None:
    """All replicas updated and available, no old pod ready: the desired version serves under its alias."""
    found = rollout(_DONE, [_pod(2), _pod(2)])
    assert (found.serving_version, found.serving_alias, found.rolling) == (2, "20240602", False)
    assert found.failed_version is None


def test_amid_a_rollout_most_ready_pods_say_what_serves() -> None:
    """Two old pods and a new one: the old version serves and the roll is under way."""
    found = rollout(_AMID, [_pod(1), _pod(1), _pod(2)])
    assert (found.desired_version, found.serving_version, found.serving_alias) == (2, 1, "20240601")
    assert found.rolling


def test_of_two_equally_common_versions_the_old_one_serves() -> None:
    """At a tie the roll is not over yet."""
    assert rollout(_AMID, [_pod(1), _pod(2)]).serving_version == 1


def test_pods_that_end_do_not_count() -> None:
    """A pod that is terminating may still answer, and is no longer what serves."""
    old = [_pod(1, terminating=True), _pod(1, terminating=True)]
    assert rollout(_DONE, [*old, _pod(2), _pod(2)]).rolling is False
    assert rollout(_AMID, [*old, _pod(2)]).serving_version == 2


@pytest.mark.parametrize(
    "state",
    [
        replace(_DONE, generation=2, observed_generation=1),
        replace(_DONE, updated=1),
        replace(_DONE, available=1),
        replace(_DONE, replicas=3),
    ],
)
def test_a_rollout_is_complete_only_when_all_of_it_is(state: DeploymentState) -> None:
    """An unseen generation, a missing update, an unavailable pod or one too many: still rolling."""
    assert rollout(state, [_pod(2), _pod(2)]).rolling


def test_an_old_pod_that_is_still_ready_keeps_the_roll_open() -> None:
    """Traffic may still reach it."""
    assert rollout(_DONE, [_pod(2), _pod(2), _pod(1)]).rolling


def test_a_deployment_without_a_version_rolls_nothing() -> None:
    """Before the first roll nothing is desired, served or wrong, whatever its pods do."""
    found = rollout(
        DeploymentState(wanted=2, replicas=2), [replace(_failing(exit_code=2, restarts=9), version=None)]
    )
    assert (found.desired_version, found.serving_version, found.rolling, found.failure) == (
        None,
        None,
        False,
        None,
    )


def test_pin_and_hold_are_read_from_the_deployment() -> None:
    """They are annotations of the Deployment itself."""
    notes = {"hourcast.io/pin": "7", "hourcast.io/hold": "true"}
    found = rollout(replace(_DONE, annotations=notes), [])
    assert (found.pin, found.hold) == (7, True)
    assert rollout(replace(_DONE, annotations={"hourcast.io/pin": "seven"}), []).pin is None


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"])
def test_an_image_that_cannot_be_had_fails_the_roll(reason: str) -> None:
    """The reason names container, image and what Kubernetes says; the place is to blame."""
    found = rollout(_AMID, [_pod(1), _failing(waiting=reason, waiting_message="no such host")])
    assert (found.failed_version, found.fault, found.rolling) == (2, "place", False)
    assert found.failure == "container serving cannot get its image docker.io/hourcast/bento:1: no such host"


@pytest.mark.parametrize("code", [4, 6])
@pytest.mark.parametrize("init", [True, False])
def test_a_container_that_says_the_model_is_bad_fails_the_version(code: int, init: bool) -> None:
    """Exit code 4 or 6, of fetch or of serving, is about the version, and its own sentence is the reason."""
    words = "some log\nhourcast: the package of m version 2 is corrupt\n"
    bad = Container("fetch" if init else "serving", init=init, exit_code=code, message=words)
    found = rollout(_AMID, [_pod(1), _pod(2, False, containers=(bad,))])
    named = "init container fetch" if init else "container serving"
    assert found.failure == f"{named} ended with {code}: the package of m version 2 is corrupt"
    assert (found.failed_version, found.fault, found.proved) == (2, "version", True)


def test_a_crash_loop_fails_the_version() -> None:
    """CrashLoopBackOff, or a third restart, with how it ended."""
    for pod in (
        _failing(waiting="CrashLoopBackOff", exit_code=1, restarts=1, message="hourcast: no"),
        _failing(exit_code=1, restarts=1, waiting="CrashLoopBackOff", message="hourcast: no"),
    ):
        found = rollout(_AMID, [_pod(1), pod])
        assert found.failure == "container serving was started 2 times and ended with 1: no"
    third = rollout(_AMID, [_failing(exit_code=1, restarts=3, ended_reason="Error")])
    assert third.failure == "container serving was started 4 times and ended with 1: Error"


@pytest.mark.parametrize("code", [137, 143])
def test_a_container_that_was_killed_says_nothing_against_its_version(code: int) -> None:
    """Killed once or twice it is started again; three times the roll has failed, and the place is at fault."""
    for restarts in (1, 2):
        pod = _failing(exit_code=code, restarts=restarts, waiting="CrashLoopBackOff")
        assert rollout(_AMID, [pod]).failure is None
    found = rollout(_AMID, [_failing(exit_code=code, restarts=3, ended_reason="OOMKilled")])
    assert (found.failed_version, found.fault) == (2, "place")
    assert found.failure == f"container serving was started 4 times and ended with {code}: OOMKilled"


def test_a_setting_that_is_wrong_is_no_versions_fault() -> None:
    """Exit code 2 is a setting's, at once: trying again without a change cannot help."""
    found = rollout(_AMID, [_pod(1), _failing(exit_code=2, message="hourcast: HOURCAST_CLOCK is odd")])
    assert (found.failed_version, found.fault, found.proved) == (2, "setting", False)
    assert found.failure == "container serving ended with 2: HOURCAST_CLOCK is odd"


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ({"phase": "Failed", "reason": "Evicted", "message": "low on disk"}, "low on disk"),
        ({"reason": "NodeLost"}, "NodeLost"),
        ({"phase": "Failed"}, "the pod has failed"),
        ({"conditions": [{"type": "DisruptionTarget", "status": "True", "message": "taint"}]}, "taint"),
        ({"phase": "Running"}, ""),
    ],
)
def test_a_pod_that_is_lost_says_so(status: dict[str, Any], told: str) -> None:
    """Evicted, its node gone, disrupted: the pod ended, not what ran in it."""
    assert Pod.of({"metadata": {"name": "p"}, "status": status}).lost == told


_FETCHING = Container("serving", running=True, started=False)
# As a pod of release 0.1.0 has it, whose package was fetched by a container before the server.
_FETCHING_FIRST = Container("fetch", init=True, running=True)


@pytest.mark.parametrize("container", [_FETCHING, _FETCHING_FIRST])
def test_a_server_that_has_no_package_yet_says_so(container: Container) -> None:
    """The roll is under way; past its deadline the place is at fault, which could not give the package."""
    pods = [_pod(1), _pod(2, False, node="n1", containers=(container,))]
    found = rollout(_AMID, pods)
    assert (found.rolling, found.fetching, found.failure) == (True, True, None)
    assert rollout(_AMID, [_pod(1), _pod(2, False)]).fetching is False
    found = rollout(replace(_AMID, deadline_passed="ReplicaSet has timed out progressing."), pods)
    assert (found.rolling, found.failed_version, found.fault) == (False, 2, "place")
    assert found.failure == (
        "the rollout did not end in time: pod pod-2 on node n1 has not got its package from the bucket; "
        "`kubectl logs pod-2` says why"
    )


@pytest.mark.parametrize(("for_s", "fetching"), [(5, False), (15, True)])
def test_a_server_that_has_just_begun_to_fetch_is_not_told_of(for_s: int, fetching: bool) -> None:
    """A pod that is replaced while the bucket is away has its package from the node's volume a moment later."""
    begun = "2026-11-26T10:00:00Z"
    said = {"name": "serving", "started": False, "state": {"running": {"startedAt": begun}}}
    body = {
        "metadata": {"name": "pod-2", "annotations": {"hourcast.io/model-version": "2"}},
        "status": {"containerStatuses": [said]},
    }
    now = datetime.fromisoformat(begun) + timedelta(seconds=for_s)
    assert rollout(_AMID, [_pod(1), Pod.of(body)], now).fetching is fetching


_AWAY = "hourcast: bucket 'b' does not answer for 'k'\n"


@pytest.mark.parametrize(
    "container",
    [
        Container("serving", exit_code=5, restarts=1, waiting="CrashLoopBackOff", message=_AWAY),
        Container("serving", exit_code=5, restarts=1, message=_AWAY, running=True, started=False),
        Container("fetch", init=True, exit_code=5, restarts=1, message=_AWAY, running=True),
    ],
)
def test_a_server_that_has_given_up_the_bucket_blocks_the_roll(container: Container) -> None:
    """Exit code 5 is the place's fault, with its last words, also while it is tried again; with the package there it is not."""
    found = rollout(_AMID, [_pod(1), _pod(2, False, containers=(container,))])
    assert (found.failed_version, found.fault, found.proved, found.rolling) == (2, "place", False, False)
    named = "init container fetch" if container.init else "container serving"
    assert found.failure == f"{named} ended with 5: bucket 'b' does not answer for 'k'"
    mended = replace(container, running=True, started=True, init=False, waiting=None)
    assert rollout(_AMID, [_pod(1), _pod(2, False, containers=(mended,))]).rolling


def test_a_server_that_has_started_and_hangs_speaks_against_its_version() -> None:
    """With its package there, it has nobody to wait for; without it the place has to give it."""
    said = {"name": "serving", "ready": False, "started": True, "state": {"running": {}}}
    late = replace(_AMID, deadline_passed="ReplicaSet has timed out progressing.")
    for started, fault in ((True, "version"), (False, "place")):
        body = {
            "metadata": {"name": "pod-2", "annotations": {"hourcast.io/model-version": "2"}},
            "status": {"containerStatuses": [said | {"started": started}]},
        }
        assert rollout(late, [_pod(1), Pod.of(body)]).fault == fault


@pytest.mark.parametrize(
    ("pod", "fault", "words"),
    [
        (
            _pod(2, False, unschedulable="0/1 nodes are available: Insufficient memory.", containers=()),
            "place",
            "pod pod-2 finds no node: 0/1 nodes are available: Insufficient memory.",
        ),
        (
            _pod(2, False, containers=(_FETCHED, replace(_MAIN, ready=False))),
            "version",
            "container serving of pod pod-2 runs and does not get ready",
        ),
        (
            _pod(2, False, containers=(_FETCHED, replace(_MAIN, ready=False, exit_code=137, restarts=1))),
            "place",
            "container serving ended with 137: it said nothing",
        ),
        (
            _pod(2, False, lost="The node was low on resource: ephemeral-storage."),
            "place",
            "pod pod-2 was lost: The node was low on resource: ephemeral-storage.",
        ),
        (
            _failing(waiting="CreateContainerConfigError", waiting_message='secret "x" not found'),
            "setting",
            'container serving waits (CreateContainerConfigError): secret "x" not found',
        ),
    ],
)
def test_a_deadline_tells_the_plight_of_the_pods(pod: Pod, fault: str, words: str) -> None:
    """No node, never ready, killed, evicted, a missing secret; only a server that runs and never gets ready is the version's fault."""
    late = replace(_AMID, deadline_passed="ReplicaSet has timed out progressing.")
    found = rollout(late, [_pod(1), pod])
    assert found.failure == f"the rollout did not end in time: {words}"
    assert found.fault == fault
    assert rollout(replace(late, generation=2), [_pod(1), pod]).failure is None


def test_a_deadline_without_pods_tells_what_kubernetes_says() -> None:
    """A quota leaves no pod to ask."""
    found = rollout(replace(_AMID, deadline_passed="exceeded quota"), [_pod(1)])
    assert found.failure == "the rollout did not end in time: exceeded quota"


def test_what_old_pods_do_is_no_matter_of_the_new_version() -> None:
    """An old pod that crashes does not fail the roll that replaces it."""
    assert rollout(_AMID, [_failing(1, exit_code=4), _pod(2)]).failure is None


def test_restarts_of_a_pod_that_is_ready_do_not_count() -> None:
    """A server that was restarted a month ago has nothing to do with a roll."""
    healed = _pod(2, containers=(_FETCHED, replace(_MAIN, restarts=7, exit_code=1)))
    assert rollout(_AMID, [healed]).failure is None


_containers = st.builds(
    Container,
    name=st.sampled_from(["fetch", "serving"]),
    init=st.booleans(),
    ready=st.booleans(),
    running=st.booleans(),
    waiting=st.none() | st.sampled_from(["CrashLoopBackOff", "ImagePullBackOff", "PodInitializing"]),
    exit_code=st.none() | st.sampled_from([0, 1, 2, 4, 5, 6, 137, 143]),
    restarts=st.integers(0, 5),
)
_pods = st.lists(
    st.builds(
        Pod,
        name=st.just("p"),
        version=st.none() | st.integers(1, 3),
        alias=st.just("20240601"),
        ready=st.booleans(),
        terminating=st.booleans(),
        containers=st.lists(_containers, max_size=2).map(tuple),
    ),
    max_size=5,
)
_counts = st.integers(0, 3)
_states = st.builds(
    DeploymentState,
    version=st.none() | st.integers(1, 3),
    wanted=_counts,
    replicas=_counts,
    updated=_counts,
    available=_counts,
    generation=st.integers(1, 2),
    observed_generation=st.integers(1, 2),
    deadline_passed=st.none() | st.just("late"),
)


@given(_states, _pods)
def test_whatever_is_seen_a_roll_is_done_under_way_or_failed(state: DeploymentState, pods: list[Pod]) -> None:
    """Never two at once; a failure has a reason, is of the desired version, and what serves has a ready pod or is all of it."""
    found = rollout(state, pods)
    assert not (found.rolling and found.failed_version is not None)
    assert (found.failed_version is None) == (found.failure is None) == (found.fault is None)
    assert found.failed_version in (None, state.version)
    ready = {p.version for p in pods if p.ready and not p.terminating}
    if found.serving_version is not None and found.rolling:
        assert found.serving_version in ready


def test_the_json_of_kubernetes_is_read() -> None:
    """Fields as the API gives them, with those left out that are zero."""
    state = DeploymentState.of(
        {
            "metadata": {"generation": 3, "annotations": {"hourcast.io/hold": "true"}},
            "spec": {"template": {"metadata": {"annotations": {"hourcast.io/model-version": "12", "hourcast.io/model-alias": ""}}}},
            "status": {"observedGeneration": 3, "replicas": 1},
        }
    )  # fmt: skip
    assert state == DeploymentState(
        12, None, wanted=1, replicas=1, generation=3, observed_generation=3, annotations={"hourcast.io/hold": "true"}
    )  # fmt: skip
    pod = Pod.of(
        {
            "metadata": {"name": "p", "annotations": {"hourcast.io/model-version": "12"}, "deletionTimestamp": "x"},
            "spec": {"nodeName": "n"},
            "status": {
                "phase": "Running",
                "conditions": [
                    {"type": "Ready", "status": "True"},
                    {"type": "PodScheduled", "status": "False", "message": "no node"},
                ],
                "containerStatuses": [
                    {"name": "serving", "image": "i", "ready": True, "started": True, "restartCount": 2, "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
                ],
            },
        }
    )  # fmt: skip
    assert pod == Pod(
        "p", 12, None, True, True, "no node",
        (Container("serving", image="i", ready=True, running=True, exit_code=137, ended_reason="OOMKilled", restarts=2),),
        "Running", "n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("applied", "told", "passed"),
    [
        ("2026-01-01T00:00:10Z", "2026-01-01T00:00:30Z", True),
        ("2026-01-01T00:00:30Z", "2026-01-01T00:00:10Z", False),
        ("2026-01-01T00:00:30Z", "2026-01-01T00:00:30Z", False),
    ],
)
def test_the_deadline_of_the_roll_before_does_not_count(applied: str, told: str, passed: bool) -> None:
    """The condition outlives its roll for an instant; it counts only when it is younger than our last word."""
    condition = {
        "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "late", "lastUpdateTime": told,
    }  # fmt: skip
    managed = [{"manager": "hourcast-controller", "operation": "Apply", "time": applied}]
    state = DeploymentState.of(
        {"metadata": {"managedFields": managed}, "spec": {}, "status": {"conditions": [condition]}}
    )
    assert state.deadline_passed == ("late" if passed else None)


@pytest.mark.parametrize(
    ("message", "reason", "words"),
    [
        ("a\nhourcast: first\nhourcast: last\ntraceback", "Error", "last"),
        ("a\n  b  \n", "Error", "b"),
        ("", "OOMKilled", "OOMKilled"),
        ("", "", "it said nothing"),
    ],
)
def test_last_words_are_our_own_sentence_where_there_is_one(message: str, reason: str, words: str) -> None:
    """Our error, else the last line, else how it ended."""
    assert last_words(Container("c", message=message, ended_reason=reason)) == words
