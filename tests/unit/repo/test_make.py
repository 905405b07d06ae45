"""The Makefile's own promises."""

import subprocess
from pathlib import Path

import pytest

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
