"""Whether the locks hold: for each Python and system that README promises, wheels alone, and nothing that a lock does not name.

Asks the package index for metadata, downloads no wheel. `make check` runs it.
"""

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent
_PYTHONS = ("3.11", "3.12", "3.13", "3.14")
_SYSTEMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
# ONNX Runtime and others have wheels for macOS 14 and newer.
_MACOS = "14.0"
_IMAGES = ("etl", "trainer", "bento", "controller", "viz", "mlflow", "common", "build", "uv")
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)", re.MULTILINE)


def pins(text: str) -> set[tuple[str, str]]:
    """Name and version of each line of a lock, names as the index writes them."""
    return {(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in _PIN.findall(text)}


def _asked(locks: tuple[str, ...], python: str, system: str) -> str | None:
    """Resolve locks for one machine; what is wrong, or None."""
    text = "\n".join((_FOLDER / lock).read_text() for lock in locks)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        # `-c` lines name files beside the lock; the pins are all there.
        file.write("\n".join(line for line in text.splitlines() if not line.startswith("-")))
        file.flush()
        done = subprocess.run(
            [
                sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-config", "--no-header", "--no-annotate",
                "--only-binary", ":all:", "--python-version", python, "--python-platform", system, file.name,
            ],
            capture_output=True, text=True, check=False, env=os.environ | {"MACOSX_DEPLOYMENT_TARGET": _MACOS},
        )  # fmt: skip
    where = f"{', '.join(locks)} with Python {python} on {system}"
    if done.returncode:
        return f"{where}: {done.stderr.strip()}"
    # A CUDA build of torch pins its own packages, and a CPU build needs none of them.
    more = {
        f"{n}=={v}"
        for n, v in pins(done.stdout) - pins(text)
        if not n.startswith(("nvidia-", "cuda-", "triton"))
    }
    return (
        f"{where}: needs {', '.join(sorted(more))}, which no lock names; `make lock` does" if more else None
    )


def main() -> int:
    """Print what does not hold; 0 when all does."""
    machines = [(("run.txt", "torch.txt", "dev.txt"), p, s) for p in _PYTHONS for s in _SYSTEMS]
    # Images have one Python, on Linux.
    machines += [((f"images/{name}.txt",), "3.11", s) for name in _IMAGES for s in _SYSTEMS[:2]]
    with ThreadPoolExecutor(2) as pool:
        wrong = [told for told in pool.map(lambda m: _asked(*m), machines) if told is not None]
    print("\n".join(wrong) or f"the locks hold on {len(machines)} machines")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
