"""What people say wins, and a version that is wrong never gets traffic: pin, hold, undo, and each kind of quarantine."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.cluster import Cluster
from tests.load import Load
from tests.servers import wait_for

pytestmark = pytest.mark.cluster
_NEXT = iter(range(20250701, 20250731))


def _packaged(cluster: Cluster, version: int) -> None:
    def there() -> bool:
        with cluster.s3() as s3:
            found = s3.list_objects_v2(Bucket="hourcast", Prefix=f"bentos/hourcast/{version}.json")
        return found["KeyCount"] == 1

    wait_for(there, 90, f"package of version {version}")


@pytest.fixture
def good(cluster: Cluster) -> Iterator[int]:
    """The version that serves before and after."""
    served = cluster.served()
    assert served is not None
    yield served
    cluster.wait_served(served, 120)
    assert cluster.served() == served


@pytest.fixture
def calm(cluster: Cluster) -> Iterator[Load]:
    """Steady load whose every request must be answered by a forecast."""
    with Load(cluster.node_port("api"), clients=2, per_second=10) as load:
        yield load
    assert load.failed() == [], load.failed()[:5]
    assert len(load.answers) > 10


def _new(cluster: Cluster, like: int) -> int:
    with cluster.registry() as registry:
        version = registry.copy(like)
    _packaged(cluster, version)
    return version


def test_pin_and_unpin(cluster: Cluster, calm: Load) -> None:
    """A pinned version serves though a newer alias is there; unpinned, the newest serves again."""
    newest = cluster.served()
    assert newest is not None
    older = cluster.status()["aliases"]["20250612"]
    assert f"pinned to version {older}" in cluster.hourcast("pin", str(older))
    cluster.wait_served(older)
    assert "no longer pinned" in cluster.hourcast("unpin")
    cluster.wait_served(newest)
    assert {e["kind"] for e in cluster.events(limit=20)} >= {"pinned", "unpinned"}
    assert {a.version for a in calm.answers} >= {older, newest}


def test_kubectl_annotate_pins_too_and_is_written_down(cluster: Cluster, good: int, calm: Load) -> None:
    """An operator's annotation is obeyed, and the history has it."""
    older = cluster.status()["aliases"]["20250613"]
    cluster.kubectl("annotate", "deployment/hourcast-serving", f"hourcast.io/pin={older}")
    cluster.wait_served(older)
    cluster.kubectl("annotate", "deployment/hourcast-serving", "hourcast.io/pin-")
    cluster.wait_served(good)
    kinds = [(e["kind"], e["version"]) for e in cluster.events(limit=20)]
    assert ("pinned", older) in kinds


def test_a_hold_holds_until_it_is_released(cluster: Cluster, calm: Load) -> None:
    """While held a newer alias waits; released, it is taken."""
    before = cluster.served()
    assert before is not None
    cluster.hourcast("hold")
    version = _new(cluster, before)
    with cluster.registry() as registry:
        registry.point(str(next(_NEXT)), version)
    wait_for(lambda: version in cluster.status()["aliases"].values(), 30, "alias")
    assert cluster.status()["deployment"]["hold"] is True
    assert cluster.annotations()[0] == str(before)
    cluster.hourcast("release")
    cluster.wait_served(version)
    assert calm.statuses.keys() == {200}


def test_undo_takes_the_served_version_back(cluster: Cluster, calm: Load) -> None:
    """`hourcast undo` quarantines what serves, the one before it serves again, and `release --version` lets it back."""
    bad = cluster.served()
    assert bad is not None
    cluster.hourcast("undo")
    wait_for(lambda: cluster.served() != bad, 60, "roll back")
    assert str(bad) in json.dumps(cluster.status()["quarantine"])
    cluster.hourcast("release", "--version", str(bad))
    cluster.wait_served(bad)
    assert calm.statuses.keys() == {200}


def test_undo_wins_over_a_hold_and_needs_no_mlflow(cluster: Cluster, calm: Load) -> None:
    """Held, and with MLflow away, `undo` still moves to what served before, and the hold stands."""
    bad = cluster.served()
    assert bad is not None
    try:
        cluster.kubectl("scale", "deployment/hourcast-mlflow", "--replicas=0")
        cluster.hourcast("hold")
        assert f"version {bad} is undone" in cluster.hourcast("undo")
        wait_for(lambda: cluster.served() not in (None, bad), 60, "roll back")
        assert cluster.status()["deployment"]["hold"] is True
    finally:
        cluster.kubectl("scale", "deployment/hourcast-mlflow", "--replicas=1")
        cluster.kubectl("rollout", "status", "deployment/hourcast-mlflow", "--timeout=180s")
        cluster.hourcast("release")
        cluster.hourcast("release", "--version", str(bad))
    cluster.wait_served(bad, 120)
    assert calm.statuses.keys() == {200}


Tamper = Callable[[bytes], bytes]


def _members(body: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """The package with some of its files changed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(body)) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in old.getmembers():
            file = old.extractfile(member) if member.isfile() else None
            if file is None:
                new.addfile(member)
                continue
            content = change(member.name, file.read())
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return out.getvalue()


def _nan(name: str, content: bytes) -> bytes:
    if not name.endswith("network.onnx"):
        return content
    model = onnx.load_from_string(content)
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype.kind == "f":
            weight.CopyFrom(numpy_helper.from_array(values * float("nan"), weight.name))
    made: bytes = model.SerializeToString()
    return made


def _endless(name: str, content: bytes) -> bytes:
    """The network behind a loop that does not end: a server loads it, and its golden prediction never comes."""
    if not name.endswith("network.onnx"):
        return content
    model = onnx.load_from_string(content)
    graph, output = model.graph, model.graph.output[0].name
    kind = graph.output[0].type.tensor_type.elem_type
    number = [helper.make_tensor_value_info(n, kind, []) for n in ("before", "after")]
    going = [helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in ("going", "goes_on")]
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["goes_on"]), helper.make_node("Neg", ["before"], ["after"])],
        "body", [turn, going[0], number[0]], [going[1], number[1]],
    )  # fmt: skip
    for node in graph.node:
        for i, made in enumerate(node.output):
            if made == output:
                node.output[i] = "in_time"
    graph.initializer.extend(
        [
            helper.make_tensor("turns", TensorProto.INT64, [], [2**62]),
            helper.make_tensor("true", TensorProto.BOOL, [], [True]),
            helper.make_tensor("nothing", kind, [], [0.0]),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Loop", ["turns", "true", "nothing"], ["at_last"], body=body),
            helper.make_node("Add", ["in_time", "at_last"], [output]),
        ]
    )
    made: bytes = model.SerializeToString()
    return made


@pytest.mark.parametrize(
    ("what", "tamper", "whole", "told"),
    [
        ("corrupt package", lambda body: body[: len(body) // 3], True, "cannot be unpacked"),
        ("wrong checksum", lambda body: body[:-1] + bytes([body[-1] ^ 1]), False, "SHA-256"),
        ("NaN output", lambda body: _members(body, _nan), True, "not a number"),
        ("never ready", lambda body: _members(body, _endless), True, "does not get ready"),
    ],
    ids=lambda v: v.replace(" ", "-") if isinstance(v, str) and len(v) < 20 else "",
)
def test_a_version_that_is_wrong_is_quarantined_and_gets_no_traffic(
    cluster: Cluster, good: int, calm: Load, what: str, tamper: Tamper, whole: bool, told: str
) -> None:
    """The roll is undone by itself, the reason is in the history, and no request was answered by anything else."""
    version = _new(cluster, good)
    with cluster.s3() as s3:
        key = f"bentos/hourcast/{version}"
        body = tamper(s3.get_object(Bucket="hourcast", Key=f"{key}.bento")["Body"].read())
        s3.put_object(Bucket="hourcast", Key=f"{key}.bento", Body=body)
        if whole:
            manifest = json.loads(s3.get_object(Bucket="hourcast", Key=f"{key}.json")["Body"].read())
            manifest |= {"sha256": hashlib.sha256(body).hexdigest(), "size_bytes": len(body)}
            s3.put_object(Bucket="hourcast", Key=f"{key}.json", Body=json.dumps(manifest).encode())
    _must_be_quarantined(cluster, good, version, told)
    assert {a.version for a in calm.answers} == {good}, what


def _must_be_quarantined(cluster: Cluster, good: int, version: int, told: str) -> None:
    with cluster.registry() as registry:
        alias = str(next(_NEXT))
        registry.point(alias, version)
        wait_for(
            lambda: str(version) in cluster.status()["quarantine"], 180, f"quarantine of version {version}"
        )
        reason = cluster.status()["quarantine"][str(version)]["reason"]
        assert told.lower() in reason.lower(), reason
        wait_for(lambda: cluster.annotations()[0] == str(good), 60, "annotation of the version that is good")
        registry.drop(alias)


def test_a_version_whose_model_gives_nan_is_not_even_packaged(
    cluster: Cluster, good: int, calm: Load
) -> None:
    """The packager asks for the golden prediction first: what MLflow holds may be broken as well."""
    with cluster.registry() as registry, cluster.s3() as s3:
        logged = registry.version(good)["source"].removeprefix("models:/")
        objects = s3.list_objects_v2(Bucket="hourcast-mlflow")["Contents"]
        # Any network will do: an ensemble has one a member.
        network = next(o["Key"] for o in objects if logged in o["Key"] and o["Key"].endswith("network.onnx"))
        body = s3.get_object(Bucket="hourcast-mlflow", Key=network)["Body"].read()
        s3.put_object(Bucket="hourcast-mlflow", Key=network, Body=_nan("network.onnx", body))
        try:
            version = registry.copy(good)
            wait_for(
                lambda: str(version) in cluster.status()["quarantine"], 120, "quarantine by the packager"
            )
            reason = cluster.status()["quarantine"][str(version)]["reason"]
            assert reason.startswith("packaging failed: "), reason
        finally:
            s3.put_object(Bucket="hourcast-mlflow", Key=network, Body=body)


def test_a_version_whose_image_cannot_be_pulled_blames_nobody(
    cluster: Cluster, good: int, calm: Load
) -> None:
    """A roll that came together with a broken image is blocked, with the reason; what serves stays, and a mended image ends it."""
    version = _new(cluster, good)
    images = {
        part: [{"name": c["name"], "image": c["image"]} for c in cluster.get("deployment", "hourcast-serving")["spec"]["template"]["spec"][part]]
        for part in ("containers",)
    }  # fmt: skip
    broken = {part: [c | {"image": "docker.io/hourcast/nothing:none"} for c in listed] for part, listed in images.items()}  # fmt: skip
    annotations = {"hourcast.io/model-version": str(version), "hourcast.io/model-alias": str(version)}
    before = cluster.annotations()

    def patch(spec: dict[str, object], metadata: dict[str, object]) -> None:
        body = {"spec": {"template": {"metadata": metadata, "spec": spec}}}
        cluster.kubectl("patch", "deployment/hourcast-serving", "--type=strategic", "-p", json.dumps(body))

    try:
        patch(broken, {"annotations": annotations})
        wait_for(lambda: cluster.status()["blocked"] is not None, 120, "blocked roll")
        blocked = cluster.status()["blocked"]
        assert (blocked["version"], blocked["fault"]) == (version, "place")
        assert "cannot get its image" in blocked["reason"]
        assert not {str(version), str(good)} & set(cluster.status()["quarantine"])
        assert cluster.served() == good
    finally:
        patch(images, {"annotations": dict(zip(annotations, before, strict=True))})
    wait_for(lambda: cluster.status()["blocked"] is None, 120, "end of the block")
