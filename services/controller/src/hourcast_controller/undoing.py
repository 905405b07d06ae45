"""What an undo takes back, and what takes its place. Pure."""

from collections.abc import Sequence

from hourcast.decisions import Standing, Undo
from hourcast.errors import UndecidedError
from hourcast_controller.observed import Deployment

__all__ = ["taken_back", "undo_to"]


def taken_back(deployment: Deployment) -> tuple[int, str | None]:
    """The version, with its alias, that an undo is about: what was asked for last, served or still on its way.

    Raises:
        UndecidedError: when there is none, or it is pinned.
    """
    version, alias = deployment.desired_version, deployment.desired_alias
    if version is None:
        version, alias = deployment.serving_version, deployment.serving_alias
    if version is None:
        raise UndecidedError("nothing is served, so there is nothing to undo")
    if deployment.pin is not None:
        raise UndecidedError(f"version {deployment.pin} is pinned; `hourcast unpin` first, then undo")
    return version, alias


def undo_to(
    version: int,
    alias: str | None,
    deployment: Deployment,
    standing: Standing,
    packaged: frozenset[int] | None,
    floors: Sequence[int] = (),
) -> Undo:
    """What takes the place of a version: what still serves, else what served before it, else a floor.

    Args:
        version: what is taken back.
        alias: under which alias it was served.
        deployment: what serves.
        standing: which versions have served before, and which are in quarantine.
        packaged: versions whose packages are in the bucket; None where it does not answer.
        floors: versions to fall back on when none has served before, the best first.

    Raises:
        UndecidedError: when there is nothing to go back to.
    """
    before = [(served.version, served.alias) for served in standing.served]
    serving = deployment.serving_version
    still = [] if serving is None else [(serving, deployment.serving_alias)]
    others = [(floor, None) for floor in floors]
    for number, name in [*still, *before, *others]:
        if number == version or number in standing.quarantine:
            continue
        if packaged is None or number in packaged:
            return Undo(version, alias, number, name)
    known = sorted({number for number, _ in [*still, *before]} - {version})
    if known:
        told = ", ".join(map(str, known))
        raise UndecidedError(
            f"there is nothing to go back to from version {version}: of the versions that served before, {told}, "
            "each is in quarantine or no longer packaged; `hourcast release --version N` lets one back"
        )
    where = (
        "and the bucket, which would know others, does not answer"
        if packaged is None
        else "and none is packaged"
    )
    raise UndecidedError(
        f"version {version} is the first that was served, {where}; there is none to go back to"
    )
