"""Install torch's CPU build; run by a Python that has pip and uv: `python install_torch.py --into PYTHON`.

On x86-64 Linux the package of this name on the common index brings gigabytes of CUDA along, and Hourcast trains in seconds on a
CPU. So pip is asked first what it would fetch. Where that is a CPU build it is taken; else uv, which knows PyTorch's own indexes,
fetches one; where those cannot be reached, what pip finds is taken all the same, after a line that says how much it is.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_TORCH = Path(__file__).resolve().with_name("torch.txt")
# Measured with torch 2.13.0 on x86-64 Linux: what pip fetches, and what then lies in the environment (docs/figures.md).
_CUDA_DOWNLOAD_GB, _CUDA_DISK_GB = 2.7, 4.7


@dataclass(frozen=True)
class Found:
    """What pip would install."""

    version: str
    cuda_packages: int

    @property
    def cpu(self) -> bool:
        """Whether it needs nothing of CUDA."""
        return self.cuda_packages == 0


def found_in(report: str) -> Found:
    """Read pip's installation report of one package."""
    (item,) = json.loads(report)["install"]
    metadata = item["metadata"]
    needs = [r for r in metadata.get("requires_dist", []) if r.startswith(("nvidia-", "cuda-"))]
    # A wheel for macOS names the CUDA packages as well, for Linux; a CPU build says so in its version.
    cuda = sys.platform == "linux" and "+cpu" not in metadata["version"]
    return Found(metadata["version"], len(needs) if cuda else 0)


class _Torch:
    def __init__(self, into: str, prefix: str, index: str, constraint: str, more: list[str]) -> None:
        self._into, self._prefix = into, ["--prefix", prefix] if prefix else []
        self._index = ["--index-url", index] if index else []
        self._constraint = ["-c", constraint] if constraint else []
        there = [] if Path(into).absolute() == Path(sys.executable).absolute() else ["--python", into]
        self._pip = [
            sys.executable,
            "-m",
            "pip",
            *there,
            "install",
            "--quiet",
            "--only-binary",
            ":all:",
            *self._prefix,
            *more,
        ]

    def ask(self) -> Found | None:
        """What pip would take; None after saying that it finds nothing."""
        asked = [
            *self._pip,
            "--dry-run",
            "--ignore-installed",
            "--no-deps",
            "--report",
            "-",
            "-r",
            str(_TORCH),
        ]
        done = subprocess.run([*asked, *self._index], capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stderr.strip(), file=sys.stderr)
            return None
        return found_in(done.stdout)

    def by_pip(self, found: Found) -> int:
        """A CPU build comes alone: what it imports is in our own lock. CUDA's packages are pinned by torch itself."""
        more = ["--no-deps"] if found.cpu else self._constraint
        # CUDA's packages lie beside torch in an index that was named, the others in the common one.
        index = ["--extra-index-url", self._index[1]] if self._index and not found.cpu else self._index
        # `--ignore-installed` is what lets one build replace another of the same version.
        return subprocess.run(
            [*self._pip, "--ignore-installed", *more, "-r", str(_TORCH), *index], check=False
        ).returncode

    def by_uv(self) -> bool:
        """Whether uv has fetched the CPU build from PyTorch's own index."""
        kept = ("UV_CACHE_DIR", "UV_HTTP_TIMEOUT", "UV_OFFLINE", "UV_NO_CACHE")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("UV_") or k in kept}
        # uv reads no configuration of pip's; the way to the network is the same.
        for ours, theirs in (("PIP_CERT", "SSL_CERT_FILE"), ("PIP_PROXY", "ALL_PROXY")):
            if ours in environment:
                environment.setdefault(theirs, environment[ours])
        done = subprocess.run(
            [
                sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-config", "--system-certs", "--python", self._into,
                "--torch-backend", "cpu", "--no-deps", "--only-binary", ":all:", "--reinstall-package", "torch", "-r", str(_TORCH), *self._prefix,
            ],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode == 0

    def room_for_cuda(self) -> bool:
        """Whether the disk has room for a CUDA build; says so when it has not."""
        # pip keeps what it fetches in its cache, and in the temporary folder until it is unpacked.
        home = Path.home()
        needs = (
            (Path(self._into).parent, _CUDA_DISK_GB), (Path(tempfile.gettempdir()), _CUDA_DOWNLOAD_GB),
            (home if home.exists() else Path("/"), _CUDA_DOWNLOAD_GB),
        )  # fmt: skip
        by_disk: dict[int, tuple[Path, float]] = {}
        for place, gb in needs:
            disk = place.stat().st_dev
            by_disk[disk] = (by_disk.get(disk, (place, 0.0))[0], by_disk.get(disk, (place, 0.0))[1] + gb)
        for place, gb in by_disk.values():
            free = shutil.disk_usage(place).free / 1e9
            if free < gb:
                print(
                    f"torch with CUDA, all that pip finds, takes {gb:.1f} GB on the disk of {place}, where {free:.1f} GB are free. "
                    'Make room, or name PyTorch\'s CPU wheel index (its page "Start Locally" shows it): make … TORCH_INDEX=…',
                    file=sys.stderr,
                )
                return False
        return True


def main() -> int:
    """Choose and install; 0 when torch is there."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="Further options go to pip.")
    parser.add_argument("--into", required=True, help="the Python whose environment gets torch")
    parser.add_argument("--prefix", default="", help="a folder that is laid over that environment later")
    parser.add_argument("--constraint", default="", help="lock for what a CUDA build brings along")
    options, more = parser.parse_known_args()
    index, cuda = os.environ.get("TORCH_INDEX", ""), os.environ.get("ALLOW_CUDA") == "1"
    torch = _Torch(options.into, options.prefix, index, options.constraint, more)
    found = torch.ask()
    if found is None:
        print(
            f"pip finds no {_TORCH.read_text().split()[-1]} for this machine"
            + (f" in TORCH_INDEX={index}" if index else "; is there a network?"),
            file=sys.stderr,
        )
        return 1
    if found.cpu or index or cuda:
        return torch.by_pip(found)
    print("pip finds torch with CUDA only; asking PyTorch's own index for the CPU build", flush=True)
    if torch.by_uv():
        return 0
    if not torch.room_for_cuda():
        return 1
    free = shutil.disk_usage(Path(options.into).parent).free / 1e9
    print(
        f"PyTorch's own index cannot be reached, so torch comes with CUDA: {_CUDA_DOWNLOAD_GB} GB to fetch, {_CUDA_DISK_GB} GB on "
        f"the disk, where {free:.0f} GB are free (minutes; nothing to do for you)",
        flush=True,
    )
    return torch.by_pip(found)


if __name__ == "__main__":
    sys.exit(main())
