"""Make `.venv`, fill it from the locks, and mend it: `python requirements/install.py run|dev`, by `make install` and `make dev`.

What was done is written into the environment, and an installation that did not end says so there. Whatever stopped it (no venv
module, a full disk, no network, Ctrl-C), whatever happened to it since (the folder was moved, its Python upgraded away), the next
call makes it anew. Needs Python's standard library alone; a second call at the same time waits for the first.
"""

import ast
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_VENV = _ROOT / ".venv"
_GONE = _ROOT / ".venv.gone"
_PYTHON = _VENV / "bin" / "python"
_STATE = _VENV / "hourcast.json"
_PACKAGES = (
    "libs/hourcast", "services/etl", "services/trainer", "services/bento", "services/controller", "services/viz", "services/mlflow",
    "local",
)  # fmt: skip
_SUPPORTED = ((3, 11), (3, 14))
# How pip gets at packages is the user's to say; where it puts them, and which, is ours.
_NETWORK = (
    "index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "cert", "client-cert", "proxy", "timeout",
    "default-timeout", "retries", "cache-dir", "no-cache-dir", "keyring-provider", "use-feature", "use-deprecated",
)  # fmt: skip


class _StoppedError(Exception):
    """A step failed; the message is for people."""


def environment_for_pip(listed: str, environment: dict[str, str]) -> dict[str, str]:
    """The environment with the user's ways to the network and nothing else of their configuration.

    `listed` is what `pip config list` prints: a line a key, `global.index-url='…'`, `install.…`, `:env:.…`.
    """
    told: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in told and name in _NETWORK:
            told[section][name] = str(ast.literal_eval(value))
    # Python's own variables (PYTHONPATH, PYTHONHOME) would let other packages in.
    out = {k: v for k, v in environment.items() if not k.startswith(("PIP_", "PYTHON"))}
    for section in told.values():
        out |= {
            f"PIP_{name.upper().replace('-', '_')}": " ".join(value.split())
            for name, value in section.items()
        }
    return out | {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }


def _fingerprint(names: list[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0" + (_ROOT / name).read_bytes() + b"\0")
    return digest.hexdigest()


def _read_state() -> dict[str, object] | None:
    """What was written into the environment; None where nothing was, or nothing that can be read."""
    try:
        state = json.loads(_STATE.read_text())
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def _write_state(state: dict[str, object]) -> None:
    new = _STATE.with_suffix(".new")
    new.write_text(json.dumps(state, indent=1))
    new.replace(_STATE)


def _runs(code: str) -> str | None:
    """What the environment's Python prints; None when it does not even start."""
    try:
        done = subprocess.run([str(_PYTHON), "-I", "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _why_anew(state: dict[str, object] | None, asked_for: tuple[int, int] | None) -> str | None:
    """Why the environment that is there cannot be used; None when it can."""
    told = _runs(
        "import sys; from importlib.util import find_spec as f; "
        "print(*sys.version_info[:2], f('pip') is not None, f('hourcast_local') is not None)"
    )
    if told is None:
        return "its Python does not start"
    major, minor, has_pip, has_ours = (ast.literal_eval(word) for word in told.split())
    if not _SUPPORTED[0] <= (major, minor) <= _SUPPORTED[1]:
        return f"it has Python {major}.{minor}"
    if asked_for is not None and asked_for != (major, minor):
        return f"it has Python {major}.{minor}, and {asked_for[0]}.{asked_for[1]} was asked for"
    if state is None:
        # Of another's making, or of an earlier release: its folder is in its configuration since Python 3.11.
        made_as = (_VENV / "pyvenv.cfg").read_text().partition("command = ")[2].partition("\n")[0]
        if made_as and not made_as.endswith(str(_VENV)):
            return "its folder was moved"
        return None if has_pip else "it is half made"
    if not state.get("complete"):
        return "its installation did not end"
    if state.get("at") != str(_VENV):
        return "its folder was moved"
    if not (has_pip and has_ours):
        return "packages are missing in it"
    return None


def _free() -> str:
    return f"{shutil.disk_usage(_ROOT).free / 1e9:.1f} GB are free on this disk"


def _step(what: str, command: list[str], environment: dict[str, str] | None = None) -> None:
    if subprocess.run(command, check=False, cwd=_ROOT, env=environment).returncode:
        raise _StoppedError(
            f"{what} failed; the reason stands above ({_free()}). Mend it and call make again: it begins this step anew by itself"
        )


def _remove() -> None:
    # Out of the way at once: half an environment would look like a whole one of another's making.
    if _VENV.is_symlink():
        _VENV.unlink()
    elif _VENV.exists():
        _VENV.rename(_GONE)
    shutil.rmtree(_GONE, ignore_errors=True)


def _make() -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"making the virtual environment with Python {version}", flush=True)
    _VENV.mkdir()
    _write_state({"complete": False})
    # What a user's variables say would let their packages in.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-I", "-m", "venv", str(_VENV)],
        capture_output=True,
        text=True,
        check=False,
        env=clean,
    )
    if done.returncode:
        _remove()
        print((done.stdout + done.stderr).strip(), file=sys.stderr)
        raise _StoppedError(
            f"Python {version} cannot make a virtual environment; the reason stands above ({_free()})"
        )


def _torch_wanted(state: dict[str, object]) -> dict[str, str] | None:
    """What torch has to be installed for; None when it is there. A build that was chosen stays until another is named."""
    wanted = {key: os.environ.get(key, "") for key in ("TORCH_INDEX", "ALLOW_CUDA")}
    wanted["lock"] = _fingerprint(["requirements/torch.txt"])
    kept = state.get("torch")
    if not isinstance(kept, dict) or kept.get("lock") != wanted["lock"]:
        return wanted
    return wanted if (wanted["TORCH_INDEX"] or wanted["ALLOW_CUDA"]) and wanted != kept else None


def _missing(wanted: str, state: dict[str, object]) -> list[str]:
    """The steps that have to be done, in order."""
    run = _fingerprint(["requirements/run.txt", *(f"{package}/pyproject.toml" for package in _PACKAGES)])
    out = ["run"] if state.get("run") != run else []
    out += ["torch"] if _torch_wanted(state) is not None else []
    out += ["dev"] if wanted == "dev" and state.get("dev") != _fingerprint(["requirements/dev.txt"]) else []
    return out


def _install(steps: list[str], state: dict[str, object]) -> None:
    """Do the steps and note each in `state`."""
    pip = [str(_PYTHON), "-I", "-m", "pip"]
    # `user = true` in a configuration would be taken for an option of this very command.
    asked = subprocess.run(
        [*pip, "config", "list"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PIP_USER": "0"},
    )
    listed = asked.stdout
    environment = environment_for_pip(listed, dict(os.environ))
    install = [*pip, "install", "--quiet", "--no-deps"]
    if "run" in steps:
        print("installing locked dependencies (about 190 packages; minutes the first time)", flush=True)
        lock = "requirements/run.txt"
        _step(f"installing {lock}", [*install, "--only-binary", ":all:", "-r", lock], environment)
        own = [part for package in _PACKAGES for part in ("-e", package)]
        _step("installing Hourcast", [*install, "--no-build-isolation", *own], environment)
        state["run"] = _fingerprint([lock, *(f"{package}/pyproject.toml" for package in _PACKAGES)])
    if "torch" in steps:
        command = [
            "requirements/install_torch.py",
            "--into",
            str(_PYTHON),
            "--constraint",
            "requirements/run.txt",
        ]
        _step("installing torch", [str(_PYTHON), "-I", *command], environment)
        state["torch"] = _torch_wanted(state)
    if "dev" in steps:
        print("installing what checks and tests need", flush=True)
        lock = "requirements/dev.txt"
        _step(f"installing {lock}", [*install, "--only-binary", ":all:", "-r", lock], environment)
        state["dev"] = _fingerprint([lock])


def main() -> int:
    """Bring the environment to what the locks say."""
    wanted = sys.argv[1]
    asked_for = sys.version_info[:2] if "--this-python" in sys.argv else None
    # The lock goes with the process, however it ends.
    lock = os.open(Path(__file__).parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another make installs at this moment; waiting for it", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        # What a call that was stopped had not yet removed.
        shutil.rmtree(_GONE, ignore_errors=True)
        state = _read_state()
        if _VENV.exists() or _VENV.is_symlink():
            why = _why_anew(state, asked_for)
            if why is not None:
                print(f"the virtual environment .venv is made anew: {why}", flush=True)
                _remove()
                state = None
        if not _VENV.exists():
            _make()
        state = dict(state or {})
        steps = _missing(wanted, state)
        if steps:
            _write_state(state | {"complete": False})
            _install(steps, state)
            _write_state(state | {"complete": True, "at": str(_VENV)})
    except _StoppedError as stopped:
        print(f"make: {stopped}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"make: {error} ({_free()}). Mend it and call make again: it begins this step anew by itself",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\nmake: stopped; the next make begins this step anew by itself", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
