"""`make install` and what it mends, with the real pip on a small tree of the same shape and a folder of wheels."""

import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_BACKEND = """
import pathlib, zipfile
def _wheel(folder, name, module):
    tag = f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder) / tag, "w") as file:
        file.writestr(f"{name}.pth", str(pathlib.Path.cwd() / "src"))
        file.writestr(f"{name}-1.dist-info/METADATA", f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1\\n")
        file.writestr(f"{name}-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        file.writestr(f"{name}-1.dist-info/RECORD", "")
    return tag
def build_editable(folder, config_settings=None, metadata_directory=None):
    return _wheel(folder, "NAME", "NAME")
"""


def _wheel(folder: Path, name: str, version: str, body: str = "", needs: tuple[str, ...] = ()) -> None:
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", body)
        requires = "".join(f"Requires-Dist: {need}\n" for need in needs)
        file.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
        )
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


class Tree:
    """A checkout in small: our installer, locks of one line each, packages that build in a moment."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.wheels = folder / "a checkout", folder / "wheels"
        self.wheels.mkdir()
        requirements = self.folder / "requirements"
        requirements.mkdir(parents=True)
        for name in ("install.py", "install_torch.py", "torch.txt"):
            shutil.copy(_ROOT / "requirements" / name, requirements)
        (requirements / "run.txt").write_text("needed==1.0\n")
        (requirements / "dev.txt").write_text("checks==1.0\n")
        for name, version in (("needed", "1.0"), ("needed", "2.0"), ("checks", "1.0"), ("torch", "2.13.0")):
            _wheel(self.wheels, name, version, f"version = {version!r}\n")
        # Two packages stand for the eight: each is built anew at every installation.
        installer = requirements / "install.py"
        text, found = re.subn(
            r"_PACKAGES = \(.*?\)",
            '_PACKAGES = ("libs/hourcast", "local")',
            installer.read_text(),
            flags=re.DOTALL,
        )
        assert found == 1
        installer.write_text(text)
        for package in ("libs/hourcast", "local"):
            module = f"hourcast_{package.rpartition('/')[2]}"
            (self.folder / package / "src" / module).mkdir(parents=True)
            (self.folder / package / "src" / module / "__init__.py").touch()
            (self.folder / package / "backend.py").write_text(_BACKEND.replace("NAME", module))
            (self.folder / package / "pyproject.toml").write_text(
                '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            )
        self.environment = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("PIP_", "PYTHON", "UV_", "TORCH", "ALLOW"))
        } | {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": self.wheels.as_uri(),
            "PIP_CONFIG_FILE": os.devnull,
            "HOME": str(folder),
        }

    @property
    def python(self) -> Path:
        """The Python of the environment."""
        return self.folder / ".venv" / "bin" / "python"

    def start(self, what: str = "run", **more: str) -> subprocess.Popen[str]:
        """The installer, as make calls it; Ctrl-C reaches it also where a shell runs these tests in the background."""
        return subprocess.Popen(
            [sys.executable, "requirements/install.py", what], cwd=self.folder, env=self.environment | more,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def install(self, what: str = "run", *, code: int = 0, **more: str) -> str:
        """Run it to its end; what it printed."""
        process = self.start(what, **more)
        printed, _ = process.communicate(timeout=120)
        assert process.returncode == code, printed
        return printed

    def says(self, expression: str) -> str:
        """What the environment's Python makes of an expression over its modules."""
        code = f"import needed, hourcast_local, hourcast_hourcast, torch; print({expression})"
        done = subprocess.run(
            [str(self.python), "-I", "-c", code], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()


pytestmark = pytest.mark.integration


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A tree with nothing installed."""
    return Tree(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A tree that is installed; each test leaves it so."""
    made = Tree(tmp_path_factory.mktemp("whole"))
    made.install()
    return made


def test_it_installs_once_and_then_says_nothing(tree: Tree) -> None:
    """Locks, torch and our packages; a second call has nothing to do; what checks need comes when it is asked for."""
    printed = tree.install()
    assert "making the virtual environment with Python " in printed
    assert tree.says("needed.version, torch.version") == "1.0 2.13.0"
    assert str(tree.folder) in tree.says("hourcast_local.__file__")
    assert tree.install() == ""
    assert tree.install("dev") == "installing what checks and tests need\n"
    assert tree.install("dev") == ""


def test_a_lock_that_changed_is_installed(tree: Tree) -> None:
    """By what it says, not by its time: git gives files new times."""
    tree.install()
    (tree.folder / "requirements" / "run.txt").touch()
    assert tree.install() == ""
    (tree.folder / "requirements" / "run.txt").write_text("needed==2.0\n")
    tree.install()
    assert tree.says("needed.version") == "2.0"


def _half_made(tree: Tree) -> None:
    """As Debian leaves it without its venv package: a Python, and no pip."""
    shutil.rmtree(tree.folder / ".venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tree.folder / ".venv"], check=True)


def _interrupted(tree: Tree) -> None:
    """As a power cut leaves it amid an installation."""
    state = tree.folder / ".venv" / "hourcast.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"complete": False}))


def _moved(tree: Tree) -> None:
    """The folder was renamed."""
    tree.folder = tree.folder.rename(tree.folder.with_name(f"{tree.folder.name} moved"))


def _moved_of_before(tree: Tree) -> None:
    """An environment that an earlier release made, in a folder that was renamed since."""
    (tree.folder / ".venv" / "hourcast.json").unlink()
    _moved(tree)


def _python_gone(tree: Tree) -> None:
    """The Python that it was made with was upgraded away."""
    tree.python.resolve()
    for link in (tree.folder / ".venv" / "bin").glob("python*"):
        link.unlink()
        link.symlink_to("/nowhere/python")


def _gutted(tree: Tree) -> None:
    """Somebody took our packages out."""
    subprocess.run([tree.python, "-m", "pip", "uninstall", "-q", "-y", "hourcast_local"], check=True)


def _unreadable(tree: Tree) -> None:
    """A full disk left half a state behind."""
    (tree.folder / ".venv" / "hourcast.json").write_text('{"comp')
    for file in (tree.folder / ".venv").rglob("pip/__init__.py"):
        shutil.rmtree(file.parent)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (_half_made, "it is half made"),
        (_interrupted, "its installation did not end"),
        (_moved, "its folder was moved"),
        (_moved_of_before, "its folder was moved"),
        (_python_gone, "its Python does not start"),
        (_gutted, "packages are missing in it"),
        (_unreadable, "it is half made"),
    ],
)
def test_an_environment_that_cannot_be_used_is_made_anew(whole: Tree, harm: object, why: str) -> None:
    """Said in one line, and then all works."""
    assert callable(harm)
    harm(whole)
    assert f"the virtual environment .venv is made anew: {why}\n" in whole.install()
    assert whole.says("needed.version") == "1.0"
    assert str(whole.folder) in whole.says("hourcast_local.__file__")
    assert whole.install() == ""


def test_an_environment_of_an_earlier_release_is_kept(tree: Tree) -> None:
    """One that works and is where it was made is filled, not thrown away."""
    subprocess.run([sys.executable, "-m", "venv", tree.folder / ".venv"], check=True)
    mark = tree.folder / ".venv" / "mark"
    mark.touch()
    assert "made anew" not in tree.install()
    assert mark.exists()
    assert tree.says("needed.version") == "1.0"


def test_a_step_that_fails_is_begun_anew_by_the_next_call(tree: Tree) -> None:
    """Words of pip, then ours; the cause mended, the same command goes through."""
    wheel = next(tree.wheels.glob("needed-1.0*"))
    hidden = wheel.rename(tree.folder / wheel.name)
    printed = tree.install(code=1)
    assert "No matching distribution found for needed==1.0" in printed
    assert "make: installing requirements/run.txt failed; the reason stands above" in printed
    assert printed.endswith("Mend it and call make again: it begins this step anew by itself\n")
    hidden.rename(wheel)
    tree.install()
    assert tree.says("needed.version") == "1.0"


def test_a_python_that_cannot_make_an_environment_leaves_nothing(tree: Tree) -> None:
    """As on Debian without python3-venv: Python's words, ours, and no half-made folder."""
    (tree.folder / ".venv").mkdir()
    limited = tree.folder / "python"
    limited.write_text(f"""#!{sys.executable}
import runpy, subprocess, sys
sys.argv = sys.argv[1:]
run = subprocess.run
def refuse(command, **more):
    if command[1:4] == ["-I", "-m", "venv"]:
        command = [command[0], "-c", "print('apt install python3-venv'); raise SystemExit(1)"]
    return run(command, **more)
subprocess.run = refuse
runpy.run_path(sys.argv[0], run_name="__main__")
""")
    done = subprocess.run(
        [sys.executable, str(limited), "requirements/install.py", "run"], cwd=tree.folder, env=tree.environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "apt install python3-venv" in done.stderr
    assert "cannot make a virtual environment; the reason stands above" in done.stderr
    assert not (tree.folder / ".venv").exists()
    tree.install()
    assert tree.says("needed.version") == "1.0"


class _Hanging(http.server.BaseHTTPRequestHandler):
    """An index that takes a question and gives no answer."""

    asked = threading.Event()
    over = threading.Event()

    def do_GET(self) -> None:
        self.asked.set()
        self.over.wait(60)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing on the terminal."""


@contextlib.contextmanager
def _hanging() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hanging)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        _Hanging.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_was_stopped_amid_an_installation_is_made_anew(tree: Tree, number: signal.Signals) -> None:
    """Ctrl-C or a kill while pip waits for the network."""
    _Hanging.asked.clear()
    _Hanging.over.clear()
    with _hanging() as index:
        process = tree.start(PIP_NO_INDEX="", PIP_FIND_LINKS="", PIP_INDEX_URL=index)
        assert _Hanging.asked.wait(60)
        os.killpg(process.pid, number)
        printed, _ = process.communicate(timeout=120)
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert printed.endswith("make: stopped; the next make begins this step anew by itself\n")
    printed = tree.install()
    assert "the virtual environment .venv is made anew: its installation did not end" in printed
    assert tree.says("needed.version") == "1.0"


def test_two_at_the_same_time_do_it_one_after_the_other(tree: Tree) -> None:
    """`make up` in one terminal, `make test` in another."""
    first = tree.start()
    end = time.monotonic() + 30
    while not (tree.folder / ".venv").exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert tree.install() == "another make installs at this moment; waiting for it\n"
    assert first.wait(60) == 0
    assert first.stdout is not None
    first.stdout.close()


def test_the_users_configuration_does_not_reach_into_the_environment(tree: Tree, tmp_path: Path) -> None:
    """`user`, `target`, a required virtualenv, a constraint, PYTHONPATH; how to get at packages is theirs to say."""
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "needed.py").write_text("version = 'of the user'")
    (shadow / "pip.py").write_text("raise SystemExit('the wrong pip')")
    configuration = tmp_path / "pip.conf"
    configuration.write_text(
        f"[global]\nfind-links = {tree.wheels.as_uri()}\nno-index = true\nuser = true\ntarget = {tmp_path / 'target'}\n"
        f"[install]\nconstraint = {tmp_path / 'none.txt'}\nno-deps = true\n"
    )
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        del tree.environment[name]
    tree.install(
        PIP_CONFIG_FILE=str(configuration), PIP_USER="1", PIP_PREFIX=str(tmp_path / "prefix"),
        PIP_REQUIRE_VIRTUALENV="1", PIP_NO_BINARY=":all:", PYTHONPATH=str(shadow), PYTHONHOME="",
    )  # fmt: skip
    assert tree.says("needed.version") == "1.0"
    assert not (tmp_path / "target").exists()
    assert not (tmp_path / "prefix").exists()


def _cuda_only(tree: Tree) -> None:
    next(tree.wheels.glob("torch-*")).unlink()
    _wheel(
        tree.wheels,
        "torch",
        "2.13.0",
        "version = 'cuda'",
        ("nvidia-something==1.0; platform_system == 'Linux'",),
    )
    _wheel(tree.wheels, "nvidia_something", "1.0")


def test_torch_with_cuda_is_taken_after_a_line_when_nothing_else_is_to_be_had(tree: Tree) -> None:
    """No CPU build is found: pip finds CUDA only and PyTorch's own index is out of reach: how many GB, that they fit, and on."""
    _cuda_only(tree)
    printed = tree.install(UV_OFFLINE="1")
    assert "pip finds torch with CUDA only; asking PyTorch's own index for the CPU build\n" in printed
    assert "so torch comes with CUDA: 2.7 GB to fetch, 4.7 GB on the disk, where " in printed
    assert tree.says("torch.version") == "cuda"


def test_a_build_that_is_named_replaces_the_other_and_stays(tree: Tree, tmp_path: Path) -> None:
    """TORCH_INDEX chooses, now and for the calls that name none."""
    tree.install()
    index = tmp_path / "index" / "torch"
    index.mkdir(parents=True)
    _wheel(index, "torch", "2.13.0", "version = 'named'")
    (index / "index.html").write_text(
        '<a href="torch-2.13.0-py3-none-any.whl">torch-2.13.0-py3-none-any.whl</a>'
    )
    tree.install(TORCH_INDEX=index.parent.as_uri(), PIP_NO_INDEX="", PIP_FIND_LINKS="")
    assert tree.says("torch.version") == "named"
    assert tree.install() == ""
    assert tree.says("torch.version") == "named"
    printed = tree.install(
        code=1, TORCH_INDEX=(tmp_path / "none").as_uri(), PIP_NO_INDEX="", PIP_FIND_LINKS=""
    )
    assert (
        f"pip finds no torch==2.13.0 for this machine in TORCH_INDEX={(tmp_path / 'none').as_uri()}\n"
        in printed
    )
