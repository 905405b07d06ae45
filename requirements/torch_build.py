"""Stop before pip fetches torch with gigabytes of CUDA that nobody asked for."""

import json
import os
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Ask pip what it would install; 0 when that is a CPU build or CUDA was asked for."""
    if os.environ.get("ALLOW_CUDA") == "1":
        return 0
    wanted = Path(__file__).with_name("torch.txt")
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps",
        "--report", "-", "-r", str(wanted), *sys.argv[1:],
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr.strip(), file=sys.stderr)
        print(
            'pip finds no torch for this machine; name PyTorch\'s CPU wheel index (its page "Start Locally" shows it): '
            "make install TORCH_INDEX=…",
            file=sys.stderr,
        )
        return 1
    (found,) = json.loads(done.stdout)["install"]
    needs = [r for r in found["metadata"].get("requires_dist", []) if r.startswith(("nvidia-", "cuda-"))]
    if needs and "+cpu" not in found["metadata"]["version"]:
        print(
            f"pip would fetch torch {found['metadata']['version']} with {len(needs)} CUDA packages, several gigabytes. "
            'For the CPU build name PyTorch\'s CPU wheel index (its page "Start Locally" shows it): '
            "make install TORCH_INDEX=…   To take CUDA all the same: make install ALLOW_CUDA=1",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
