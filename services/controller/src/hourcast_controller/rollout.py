"""The seam to whatever runs servers: a Deployment of Kubernetes, or the node of one machine."""

from collections.abc import Mapping
from typing import Protocol

from hourcast_controller.observed import Deployment, Job

__all__ = ["RolloutTarget"]


class RolloutTarget(Protocol):
    """Says what serves, and is told what should. Every method may raise `UnavailableError`."""

    def observe(self) -> Deployment:
        """What serves now and what should."""
        ...

    def roll(self, version: int, alias: str) -> None:
        """Ask for a version; the target then starts it, waits until it is ready, moves traffic and drains the old."""
        ...

    def annotate(self, values: Mapping[str, str | None]) -> None:
        """Set annotations of the Deployment, None removing one."""
        ...

    def explain(self, status: str, reason: str) -> None:
        """Keep a sentence of what is served, and one of why, where people look."""
        ...

    def tell(self, kind: str, version: int | None, sentence: str) -> None:
        """Say once that something has happened. Best effort: never raises `UnavailableError`."""
        ...

    def jobs(self) -> Mapping[str, Job]:
        """Packaging jobs by name: `package-<version>` and `index`."""
        ...

    def start_job(self, name: str, version: int | None) -> None:
        """Start packaging a version, or writing the alias index (None), unless that job runs."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...
