"""A whole Hourcast of its own for a measurement: state in a temporary folder, on free ports."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.ports import find_port

__all__ = ["DATA", "Ground", "ground", "wait_for"]

DATA = Path(os.environ.get("HOURCAST_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "market"


def wait_for(condition: Any, limit_s: float, what: str, every_s: float = 0.05) -> None:
    """Wait until `condition()` is true; SystemExit naming `what` when it never was."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"within {limit_s:g} s there was no {what}")
        time.sleep(every_s)


@dataclass
class Ground:
    """Settings of one Hourcast, and `hourcast up` when it runs."""

    folder: Path
    environment: dict[str, str]
    up: "subprocess.Popen[bytes] | None" = None

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.folder / "state"

    @property
    def api(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.environment['HOURCAST_API_PORT']}"

    @property
    def mlflow(self) -> str:
        """Where MLflow answers."""
        return self.environment["HOURCAST_MLFLOW_URL"]

    @property
    def log(self) -> str:
        """What `hourcast up` has printed."""
        path = self.folder / "up.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, *words: str) -> None:
        """`hourcast up` with these words, until it says that it is up."""
        seen = self.log.count("Hourcast is up after")
        with (self.folder / "up.log").open("ab") as out:
            self.up = subprocess.Popen(
                [sys.executable, "-m", "hourcast.cli", "up", "--no-dashboard", "--state-dir", str(self.state), *words],
                env=os.environ | self.environment, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        wait_for(
            lambda: (
                self.log.count("Hourcast is up after") > seen or self.up is None or self.up.poll() is not None
            ),
            180,
            "welcome of `hourcast up`",
        )
        if self.up.poll() is not None:
            sys.exit(f"`hourcast up` ended with {self.up.returncode}:\n{self.log[-3000:]}")

    def run(self, *words: str, more: Mapping[str, str] | None = None) -> tuple[float, str]:
        """Run a command to its end; seconds and output."""
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "hourcast.cli", *words],
            env=os.environ | self.environment | dict(more or {}), capture_output=True, text=True, check=False,
        )  # fmt: skip
        took = time.perf_counter() - began
        if done.returncode:
            sys.exit(f"hourcast {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return took, done.stdout

    def predict(self, **query: Any) -> Any:
        """A forecast, or None where there is none."""
        with contextlib.suppress(httpx.HTTPError, ValueError):
            answer = httpx.get(f"{self.api}/predict", params=query, timeout=30, trust_env=False)
            return answer.json() if answer.status_code == 200 else None
        return None

    def health(self) -> dict[str, Any]:
        """What the server says of itself; empty where none answers."""
        with contextlib.suppress(httpx.HTTPError, ValueError):
            answer = httpx.get(f"{self.api}/health", timeout=30, trust_env=False)
            found: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
            return found
        return {}

    def served(self) -> int | None:
        """The version that answers; what it answers may be an earlier one's, which issued the hour's forecast."""
        with contextlib.suppress(httpx.HTTPError, KeyError, ValueError):
            answer = httpx.get(f"{self.api}/predict", params={"horizon": "1"}, timeout=30, trust_env=False)
            return int(answer.headers["X-Hourcast-Served-Version"]) if answer.status_code == 200 else None
        return None

    def end(self) -> None:
        """Ctrl-C."""
        if self.up is not None and self.up.poll() is None:
            self.up.send_signal(signal.SIGINT)
            self.up.wait(60)


@contextlib.contextmanager
def ground(**more: str) -> Iterator[Ground]:
    """A ground whose processes and files are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="hourcast-bench-") as name:
        mlflow, node = find_port(), find_port()
        folder = Path(name)
        made = Ground(
            folder,
            {
                "HOURCAST_STATE_DIR": str(folder / "state"), "HOURCAST_API_PORT": str(find_port()),
                "HOURCAST_NODE_PORT": str(node), "HOURCAST_NODE_URL": f"http://127.0.0.1:{node}",
                "HOURCAST_MLFLOW_PORT": str(mlflow), "HOURCAST_MLFLOW_URL": f"http://127.0.0.1:{mlflow}",
                "HOURCAST_VIZ_PORT": str(find_port()), **more,
            },
        )  # fmt: skip
        try:
            yield made
        finally:
            made.end()
