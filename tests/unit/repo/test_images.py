"""Images: what their Dockerfiles and locks promise."""

import json
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

_ROOT = Path(__file__).parents[3]
_SERVICES = ("etl", "trainer", "bento", "controller", "viz", "mlflow")
_PRUNE = "requirements/images/prune.py"
_BASE = "docker.io/library/python:3.11-slim-bookworm"

# What an image is, whatever Python and system run the tests.
_IMAGE = {
    "python_version": "3.11", "python_full_version": "3.11.9", "implementation_name": "cpython",
    "platform_python_implementation": "CPython", "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix",
    "platform_machine": "x86_64",
}  # fmt: skip


def _lock(path: Path) -> dict[str, str]:
    """Name to version of a lock's lines that hold in an image."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    wanted = [Requirement(line) for line in lines if line]
    return {
        r.name: str(r.specifier).removeprefix("==")
        for r in wanted
        if r.marker is None or r.marker.evaluate(_IMAGE)
    }


def _dockerfile(service: str) -> list[tuple[str, str]]:
    """Instruction and argument, continued lines joined."""
    text = (_ROOT / "services" / service / "Dockerfile").read_text()
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(w[0], w[1]) for line in lines if line and line[0] != "#" and (w := line.split(None, 1))]


def test_each_service_has_a_dockerfile() -> None:
    """A folder in services/ without an image is forgotten."""
    assert {p.parent.name for p in _ROOT.glob("services/*/Dockerfile")} == set(_SERVICES)
    assert {p.name for p in (_ROOT / "services").iterdir() if p.is_dir()} == set(_SERVICES)


@pytest.mark.parametrize("name", [*_SERVICES, "common", "build", "uv"])
def test_an_images_lock_has_the_versions_that_were_tested(name: str) -> None:
    """Each version in an image's lock is the one in run.txt, with which the tests run."""
    tested = _lock(_ROOT / "requirements" / "run.txt")
    ours = _lock(_ROOT / "requirements" / "images" / f"{name}.txt")
    assert ours
    assert {n: v for n, v in ours.items() if tested.get(n) != v} == {}


@pytest.mark.parametrize(
    ("service", "absent"),
    [
        ("bento", {"torch", "mlflow", "mlflow-skinny", "pandas", "onnx"}),
        ("etl", {"torch", "mlflow", "mlflow-skinny", "onnxruntime", "bentoml", "boto3"}),
        ("controller", {"torch", "mlflow", "mlflow-skinny", "onnxruntime", "bentoml", "pandas"}),
        ("viz", {"torch", "mlflow", "mlflow-skinny", "sqlalchemy", "boto3"}),
        ("trainer", {"mlflow", "bentoml", "boto3"}),
        ("mlflow", {"torch", "bentoml"}),
    ],
)
def test_an_image_holds_nothing_of_another_service(service: str, absent: set[str]) -> None:
    """Each image's lock holds only what that service imports."""
    assert absent & set(_lock(_ROOT / "requirements" / "images" / f"{service}.txt")) == set()


@pytest.mark.parametrize("service", _SERVICES)
def test_a_dockerfile_keeps_its_promises(service: str) -> None:
    """Two bases of the same name, another user than root, no shell where it runs, locked wheels, pruned and compiled."""
    steps = _dockerfile(service)
    assert [a for i, a in steps if i == "FROM" and "/" in a] == [f"{_BASE} AS common", _BASE]
    last = len(steps) - 1 - [i for i, _ in reversed(steps)].index("FROM")
    final = steps[last + 1 :]
    assert [a for i, a in final if i == "USER"] == ["10001:10001"]
    assert not {i for i, _ in final} & {"RUN", "CMD", "SHELL", "VOLUME"}
    entry = ["python", "-m", "hourcast_viz"] if service == "viz" else ["hourcast"]
    assert [json.loads(a) for i, a in final if i == "ENTRYPOINT"] == [entry]
    environment = " ".join(a for i, a in final if i == "ENV")
    assert {"HOME=/tmp", "PYTHONDONTWRITEBYTECODE=1", "PYTHONSAFEPATH=1"} <= set(environment.split())
    text = "\n".join(a for _, a in steps)
    install = "install --quiet --no-deps --no-compile --only-binary :all:"
    assert (
        f"{install} --prefix /more -r requirements/images/{service}.txt && /opt/hourcast/bin/python {_PRUNE} /more"
        in text
    )
    assert "--invalidation-mode unchecked-hash" in text
    # The one library that no wheel of theirs brings: OpenMP, which LightGBM leaves to the system.
    wanted = ["libgomp1"] if service == "trainer" else []
    assert re.findall(r"apt-get install (?:-\S+ )*(\S+)", text) == wanted


@pytest.mark.parametrize("service", _SERVICES)
def test_dependencies_are_a_layer_before_the_sources(service: str) -> None:
    """A change of our sources builds no dependency again."""
    copies = [a for i, a in _dockerfile(service) if i == "COPY"]
    first_source = next(n for n, a in enumerate(copies) if a.startswith(("libs/", "services/")))
    assert all(a.startswith(("requirements/", "--from=")) for a in copies[:first_source])
    assert copies[-3:] == [
        "--from=common /opt/hourcast /opt/hourcast",
        "--from=dependencies /more /opt/hourcast",
        "--from=sources /own /opt/hourcast",
    ]


def test_all_images_share_what_all_have() -> None:
    """The first steps are the same to the letter, so that a builder takes them once; each lock holds what they bring."""
    shared = {
        tuple(steps[: steps.index(("FROM", "common AS dependencies"))])
        for steps in (_dockerfile(service) for service in _SERVICES)
    }
    assert len(shared) == 1
    common = _lock(_ROOT / "requirements" / "images" / "common.txt")
    for service in _SERVICES:
        assert common.items() <= _lock(_ROOT / "requirements" / "images" / f"{service}.txt").items(), service


def test_torch_is_the_cpu_build_unless_cuda_was_asked_for() -> None:
    """The trainer's image asks what `make install` asks."""
    text = (_ROOT / "services" / "trainer" / "Dockerfile").read_text()
    assert "ARG TORCH_INDEX=\n" in text
    assert "ARG ALLOW_CUDA=\n" in text
    assert "&& python requirements/install_torch.py --into /opt/hourcast/bin/python --prefix /more" in text
    assert "-r requirements/torch.txt" not in text
