"""What the plan reads: the whole truth, seen once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from hourcast.decisions import Standing
from hourcast_controller.blame import Fault
from hourcast_controller.policy import PolicyName, RegistryState

__all__ = ["Deployment", "Job", "Observed"]


@dataclass(frozen=True, slots=True)
class Deployment:
    """What serves now and what should; versions are None where nothing is served or asked for.

    `fetching` says that a roll is under way and servers of it wait for their package, and not only since a moment ago. `fault` says what a failure speaks against, and `proved` whether the version's own checks have said so.
    `pin` and `hold` are its annotations, as they were written after the decision `decided`, or by hand since.
    """

    desired_version: int | None = None
    desired_alias: str | None = None
    serving_version: int | None = None
    serving_alias: str | None = None
    rolling: bool = False
    fetching: bool = False
    failed_version: int | None = None
    failure: str | None = None
    fault: Fault | None = None
    proved: bool = False
    pin: int | None = None
    hold: bool = False
    decided: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A packaging job. `retry_due` is True when one that ended may be started again."""

    state: Literal["running", "succeeded", "failed"]
    exit_code: int | None = None
    message: str = ""
    retry_due: bool = True
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that a decision needs; None where a read failed.

    `packaged` are the versions whose manifests are in the bucket, `index` is the alias index there, `bucket_problem` says
    why neither could be read. `standing` is how things stand after the last decision.
    """

    registry: RegistryState | None
    packaged: frozenset[int] | None
    index: Mapping[str, int] | None
    deployment: Deployment | None
    jobs: Mapping[str, Job] | None
    standing: Standing | None
    policy: PolicyName = "newest"
    package_backtests: bool = True
    bucket_problem: str | None = None
