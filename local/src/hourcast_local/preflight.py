"""What children cannot load, seen before any starts."""

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from hourcast.errors import ConfigurationError

__all__ = ["Preflight", "sentence"]

# Compiled libraries that ask the system for others: package, file below it, what it is for.
_LIBRARIES = (
    ("lightgbm", "lib/lib_lightgbm.*", "LightGBM, which the trainer needs,"),
    ("onnxruntime", "capi/onnxruntime_pybind11_state*", "ONNX Runtime, which forecasts,"),
    ("torch", "_C.*", "PyTorch, which the trainer needs,"),
    ("curl_cffi", "_wrapper.*", "curl_cffi, which asks Yahoo,"),
)
# Library to the package that has it, by the program that installs packages.
_PACKAGES = {
    "libgomp": {
        "apt-get": "libgomp1",
        "dnf": "libgomp",
        "yum": "libgomp",
        "zypper": "libgomp1",
        "pacman": "gcc-libs",
    },
    "libomp": {"brew": "libomp", "apt-get": "libomp5"},
    "libstdc++": {
        "apt-get": "libstdc++6",
        "dnf": "libstdc++",
        "yum": "libstdc++",
        "zypper": "libstdc++6",
        "pacman": "gcc-libs",
    },
}
_COMMANDS = {"pacman": "pacman -S", "brew": "brew install"}


def _mend(library: str) -> str:
    """The command that installs a library here, or a hint."""
    for name, by_program in _PACKAGES.items():
        if library.startswith(name + "."):
            for program, package in by_program.items():
                if shutil.which(program):
                    sudo = (
                        "" if program == "brew" or os.geteuid() == 0 or not shutil.which("sudo") else "sudo "
                    )
                    return f"`{sudo}{_COMMANDS.get(program, f'{program} install')} {package}` mends it"
    return "install the package of your system that has it"


def sentence(who: str, error: str) -> str:
    """What to tell a person about what the loader of Linux or macOS said."""
    found = re.match(r"(\S+\.so[.\d]*): cannot open", error) or re.search(
        r"not loaded: (?:\S*/)?(\S+\.dylib)", error
    )
    if found is None:
        return f"{who} cannot be loaded: {error}"
    return f"{who} cannot load {found[1]}: {_mend(found[1])}"


class Preflight:
    """Loads each library in a process of its own, as the children will, while other things are looked at."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hourcast_local.preflight"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def check(self) -> None:
        """Wait for the answer.

        Raises:
            ConfigurationError: naming what cannot be loaded and the command that mends it.
        """
        printed, _ = self._process.communicate()
        if self._process.returncode:
            # Of a traceback the last line says most.
            told = [line for line in printed.splitlines() if line] or [
                f"ended with {self._process.returncode}"
            ]
            raise ConfigurationError("; ".join(told if told[0].count("cannot") else told[-1:]))

    def end(self) -> None:
        """Leave nothing behind, whether the answer was waited for or not."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def main() -> int:
    """Print a sentence for each library that cannot be loaded."""
    failed = 0
    for package, pattern, who in _LIBRARIES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            print(f"{who} is not installed: `make install` mends it")
            failed = 1
            continue
        for file in Path(spec.origin).parent.glob(pattern):
            try:
                ctypes.CDLL(str(file))
            except OSError as error:
                print(sentence(who, str(error)))
                failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
