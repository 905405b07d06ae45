"""A server runs the code that is installed and takes the model out of a package, whichever release made that."""

import hashlib
import io
import json
import lzma
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hourcast.store import open_store
from tests.kept import KEPT
from tests.ports import find_port
from tests.servers import Process, answers

pytestmark = pytest.mark.integration

_RELEASE = KEPT / "0.1.0"


class _Place:
    """Store and bucket of release 0.1.0, and a server there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, find_port()
        self.bucket = folder / "bucket"
        self.packages = self.bucket / "bentos" / "hourcast"
        self.process: Process | None = None
        (folder / "tmp").mkdir()

    def serve(self, version: int, *words: str, **more: str) -> Process:
        """Start a server as a rollout does."""
        self.process = Process.start(
            "server",
            [sys.executable, "-m", "hourcast.cli", "serve", "--port", str(self.port), *words],
            self.folder / "logs",
            {
                "HOURCAST_STATE_DIR": str(self.folder), "TMPDIR": str(self.folder / "tmp"),
                "HOURCAST_DATABASE_URL": f"sqlite:///{self.folder / 'hourcast.db'}",
                "HOURCAST_BUCKET_URL": self.bucket.as_uri(), "HOURCAST_CLOCK": "store",
                "HOURCAST_MODEL_VERSION": str(version), **more,
            },
        )  # fmt: skip
        return self.process

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url(path), timeout=30, trust_env=False)

    def ready(self) -> None:
        assert self.process is not None
        self.process.wait_until(lambda: answers(self.url("/readyz")), 60, "ready server")

    def change(self, version: int, name: str, body: bytes) -> None:
        """Put other bytes into a file of a package, and the new sum into its manifest."""
        package, manifest = (self.packages / f"{version}{suffix}" for suffix in (".bento", ".json"))
        out = io.BytesIO()
        with tarfile.open(package) as old, tarfile.open(fileobj=out, mode="w:xz") as new:
            for member in old:
                content = old.extractfile(member)
                if content is not None and member.name == f"./src/{name}":
                    member.size, content = len(body), io.BytesIO(body)
                new.addfile(member, content)
        package.write_bytes(out.getvalue())
        said = json.loads(manifest.read_text())
        said["sha256"] = hashlib.sha256(out.getvalue()).hexdigest()
        manifest.write_text(json.dumps(said))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[_Place]:
    """The store is taken over by this release; the packages are as they were."""
    (tmp_path / "hourcast.db").write_bytes(lzma.decompress((_RELEASE / "store.db.xz").read_bytes()))
    shutil.copytree(_RELEASE / "bentos", tmp_path / "bucket" / "bentos")
    with open_store(f"sqlite:///{tmp_path / 'hourcast.db'}") as store:
        store.upgrade()
    made = _Place(tmp_path)
    yield made
    if made.process is not None:
        made.process.end()


@pytest.mark.parametrize(("version", "kind"), [(1, "naive"), (2, "ensemble")])
def test_a_package_of_release_0_1_0_is_served(place: _Place, version: int, kind: str) -> None:
    """Its model forecasts, and another version of that release is answered beside it."""
    place.serve(version)
    place.ready()
    index = {a["version"]: a["alias"] for a in place.get("/aliases").json()["aliases"]}
    body = place.get(f"/predict?alias={index[version]}").json()
    assert (body["version"], body["kind"], len(body["forecasts"])) == (version, kind, 24)
    # The hour's forecast is the one that release issued.
    issued = place.get("/predict")
    body = issued.json()
    assert (body["version"], body["kind"], body["source"]) == (2, "ensemble", "issued")
    assert (body["note"] is None) == (version == 2)
    assert issued.headers["X-Hourcast-Served-Version"] == str(version)
    assert place.get("/health").json()["status"] == "ok"
    (other,) = {1, 2} - {version}
    assert place.get(f"/predict?alias={index[other]}&horizon=1").json()["version"] == other


def test_sources_that_a_package_brings_along_are_not_run(place: _Place) -> None:
    """A release that mends its code mends it for the packages that are there: theirs may be broken."""
    for name in ("hourcast/__init__.py", "hourcast_bento/service.py", "hourcast_bento/server.py"):
        place.change(2, name, b"raise RuntimeError('code of the package')")
    place.serve(2)
    place.ready()
    assert place.get("/predict?horizon=1").headers["X-Hourcast-Served-Version"] == "2"
    assert not list((place.folder / "tmp").rglob("*.py"))


def test_a_package_that_is_not_there_yet_is_waited_for_and_told(place: _Place) -> None:
    """The server lives, has not started, says what it waits for, and serves when it comes."""
    away = place.folder / "away"
    place.packages.rename(away)
    process = place.serve(2)
    process.wait_until(lambda: answers(place.url("/livez")), 30, "living server")
    reason = "hourcast version 2 has no package; run `hourcast package 2`"
    told = {"detail": reason, "retry_after_s": 1.0}
    process.wait_until(lambda: place.get("/predict").json() == told, 30, "reason")
    for path in ("/startedz", "/readyz"):
        answer = place.get(path)
        assert (answer.status_code, answer.json()) == (503, told)
    away.rename(place.packages)
    place.ready()
    assert place.get("/startedz").status_code == 200
    assert f"waiting, while the pods that run go on serving: {reason}" in process.text()


def test_a_server_that_is_ended_while_it_waits_blames_what_it_waits_for(place: _Place) -> None:
    """Exit code 5, and the reason as its last words, which `kubectl describe` shows."""
    shutil.rmtree(place.packages)
    process = place.serve(2)
    process.wait_until(lambda: "has no package" in process.text(), 30, "reason")
    assert process.end() == 5
    assert process.text().strip().splitlines()[-1] == (
        "hourcast: told to end while this was waited for: "
        "hourcast version 2 has no package; run `hourcast package 2`"
    )


def test_the_wait_for_a_package_ends(place: _Place) -> None:
    """After HOURCAST_FETCH_WAIT_S the server ends with 5, so that whoever restarts it sees why."""
    shutil.rmtree(place.packages)
    process = place.serve(2, HOURCAST_FETCH_WAIT_S="0.1")
    assert process.popen.wait(30) == 5
    assert process.text().strip().splitlines()[-1] == (
        "hourcast: hourcast version 2 has no package; run `hourcast package 2`"
    )


@pytest.mark.parametrize(
    ("name", "body", "code", "words"),
    [
        ("model/package.json", b"{}", 4, "package.json is not valid"),
        ("model/golden.json", b"{", 4, "golden.json is not a golden prediction"),
        (
            "model/package.json",
            b'{"schema_version": 2}',
            2,
            "package.json has schema 2, and this Hourcast (0.1.0) reads schema 1; upgrade Hourcast",
        ),
    ],
    ids=["broken", "golden", "later"],
)
def test_a_package_that_cannot_be_served_ends_the_server_with_its_reason(
    place: _Place, name: str, body: bytes, code: int, words: str
) -> None:
    """The exit code says whose fault it is, and the last line why; nothing comes after it."""
    place.change(2, name, body)
    process = place.serve(2)
    assert process.popen.wait(60) == code
    assert process.text().strip().splitlines()[-1] == f"hourcast: {words}"


def test_a_server_without_its_bucket_starts_from_its_cache(place: _Place) -> None:
    """What a server before it has fetched does, wherever the bucket is."""
    cache = str(place.folder / "cache")
    place.serve(2, "--cache", cache).wait_until(lambda: answers(place.url("/readyz")), 60, "first server")
    assert place.process is not None
    assert place.process.end() == 0
    process = place.serve(
        2, "--cache", cache,
        HOURCAST_BUCKET_URL="s3://away", HOURCAST_S3_ENDPOINT_URL=f"http://127.0.0.1:{find_port()}",
        AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b",
    )  # fmt: skip
    place.ready()
    assert "the package of hourcast version 2 is taken from the cache: " in process.text()


def test_an_unpacked_package_is_served_without_a_bucket(place: _Place) -> None:
    """`hourcast serve --folder`: the model in it, by the code that is installed."""
    folder = place.folder / "bento"
    with tarfile.open(place.packages / "2.bento") as archive:
        archive.extractall(folder, filter="data")
    shutil.rmtree(folder / "src" / "hourcast_bento")
    place.serve(2, "--folder", str(folder), HOURCAST_BUCKET_URL="file:///nowhere")
    place.ready()
    assert place.get("/predict?horizon=1").headers["X-Hourcast-Served-Version"] == "2"
