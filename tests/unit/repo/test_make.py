"""The Makefile's own promises."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import hourcast

_ROOT = Path(__file__).parents[3]


def _make(*words: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=_ROOT, input=answer, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_make_alone_lists_the_targets() -> None:
    """Every documented target with a line of what it does."""
    out = _make().stdout
    for target in (
        "up",
        "test",
        "test-all",
        "check",
        "bench",
        "chaos",
        "lock",
        "bare",
        "e2e",
        "images",
        "load",
        "kind-up",
        "kind-down",
        "clean-state",
    ):
        assert f"make {target} " in out


@pytest.mark.parametrize(("answer", "gone"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_clean_state_asks_before_it_removes(tmp_path: Path, answer: str, gone: bool) -> None:
    """Only `y` removes the folder."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "hourcast.db").write_text("x")
    done = _make("clean-state", f"STATE={state}", answer=answer)
    assert done.returncode == 0
    assert state.exists() != gone
    assert ("removed" if gone else "kept") in done.stdout


def test_clean_state_of_nothing_says_so(tmp_path: Path) -> None:
    """No folder is no error."""
    done = _make("clean-state", f"STATE={tmp_path / 'none'}")
    assert (done.returncode, done.stdout.strip()) == (0, f"there is no {tmp_path / 'none'}")


@pytest.mark.parametrize(
    ("version", "told"),
    [("3.10.12", "is Python 3.10.12"), ("3.15.0", "is Python 3.15.0"), (None, "is not to be found")],
)
def test_a_python_that_is_not_supported_gets_a_sentence(
    tmp_path: Path, version: str | None, told: str
) -> None:
    """Which there must be, which this one is, and what to type; nothing is made."""
    python = tmp_path / "python"
    if version is not None:
        python.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "Python {version}" && exit 0\nexit 1\n')
        python.chmod(0o755)
    done = _make("install", f"PYTHON={python}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        f"Hourcast needs Python 3.11, 3.12, 3.13 or 3.14; '{python}' {told}. "
        "Install one of them, or name it: make … PYTHON=/path/to/python3.13"
    )


def test_images_have_the_tag_that_the_chart_asks_for() -> None:
    """One by default everywhere: the release, which is the version of every package."""
    chart = dict(
        line.split(": ", 1)
        for line in (_ROOT / "charts/hourcast/Chart.yaml").read_text().splitlines()
        if ": " in line
    )
    release = chart["appVersion"]
    assert chart["version"] == release
    assert f"-t docker.io/hourcast/etl:{release} " in _make("--dry-run", "image-etl").stdout
    assert f"docker.io/hourcast/etl:{release} " in _make("--dry-run", "load").stdout
    assert f"--set images.tag={release} " in _make("--dry-run", "install-chart").stdout
    for file in (
        *_ROOT.glob("services/*/pyproject.toml"),
        *_ROOT.glob("libs/*/pyproject.toml"),
        _ROOT / "local/pyproject.toml",
    ):
        assert tomllib.loads(file.read_text())["project"]["version"] == release, file
    assert hourcast.__version__ == release


def test_every_test_lies_in_one_half_of_test_all() -> None:
    """`make test-all` runs folders side by side: a test beside them would never run."""
    halves = set(re.findall(r"tests/\w+", _make("--dry-run", "test-integration", "test-others").stdout))
    files = (path.relative_to(_ROOT) for path in _ROOT.glob("tests/**/test_*.py"))
    assert {"/".join(file.parts[:2]) for file in files} == halves
