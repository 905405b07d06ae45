"""What a person's command asks before it decides, and how it decides."""

from contextlib import suppress
from typing import TYPE_CHECKING

from hourcast.errors import RefusedError, UnavailableError, UndecidedError
from hourcast_controller.room import Room

if TYPE_CHECKING:
    from hourcast.contracts import PackageManifest
    from hourcast.decisions import DecisionKind, Standing, Undo
    from hourcast_controller.observed import Deployment

__all__ = ["decide", "manifest_of", "minded_deployment", "must_be_good", "standing_of", "where_to_go_back"]


def decide(
    room: Room,
    kind: "DecisionKind",
    version: int | None,
    alias: str | None = None,
    reason: str = "by an operator",
    evidence: dict[str, object] | None = None,
    *,
    seen: int | None = None,
) -> None:
    """Store a person's decision; the controller acts on it at its next look.

    Raises:
        UndecidedError: when it is not stored.
    """
    try:
        room.journal.decide(kind, version, alias, reason, evidence, seen=seen)
    except UnavailableError as error:
        raise UndecidedError(f"this could not be stored, and nothing has changed: {error}") from error


def standing_of(room: Room) -> "Standing":
    """How things stand.

    Raises:
        UndecidedError: when the store does not say.
    """
    try:
        return room.store.standing(room.settings.model_name)
    except UnavailableError as error:
        raise UndecidedError(f"nothing was decided: {error}") from error


def minded_deployment(room: Room, standing: "Standing") -> "Deployment":
    """The Deployment, with the pin and the hold that count.

    Raises:
        UndecidedError: when it cannot be read.
    """
    from hourcast_controller.plan import minded

    try:
        return minded(standing, room.target.observe())[1]
    except UnavailableError as error:
        raise UndecidedError(f"nothing was decided: {error}") from error


def manifest_of(room: Room, version: int) -> "PackageManifest | None":
    """What the bucket says of a version; None where it is not packaged, or the bucket does not answer."""
    from hourcast.bucket import manifest_key, open_bucket
    from hourcast.contracts import PackageManifest

    settings = room.settings
    try:
        bucket = open_bucket(settings.resolved_bucket_url, settings.s3_endpoint_url)
        body = bucket.get(manifest_key(settings.model_name, version))
        return None if body is None else PackageManifest.model_validate_json(body)
    except (UnavailableError, ValueError):
        return None


def must_be_good(room: Room, version: int) -> None:
    """Ask MLflow about a version that has no package yet.

    Raises:
        RefusedError: when there is no such version, or it did not pass its gate.
        UndecidedError: when MLflow does not say.
    """
    try:
        numbers = room.registry.numbers()
        if version not in numbers:
            raise RefusedError(
                f"version {version} of {room.settings.model_name} does not exist; "
                f"versions are {', '.join(map(str, numbers[-20:])) or 'none yet'}"
            )
        facts = room.registry.version(version)
    except UnavailableError as error:
        raise UndecidedError(
            f"version {version} has no package in the bucket, and nobody else can say that it may be served: {error}"
        ) from error
    if facts.gate != "passed":
        raise RefusedError(f"version {version} did not pass its gate ({facts.gate}); it is never served")


def where_to_go_back(
    room: Room, version: int, alias: str | None, deployment: "Deployment", standing: "Standing"
) -> "Undo":
    """Which version takes the place of one that is undone.

    Raises:
        RefusedError: when there is none.
    """
    from hourcast.bucket import open_bucket
    from hourcast_controller.packages import floors, packaged
    from hourcast_controller.undoing import undo_to

    settings = room.settings
    there: frozenset[int] | None = None
    fallbacks: list[int] = []
    with suppress(UnavailableError):
        bucket = open_bucket(settings.resolved_bucket_url, settings.s3_endpoint_url)
        there = packaged(bucket, settings.model_name)
        fallbacks = floors(bucket, settings.model_name, there, version)
    return undo_to(version, alias, deployment, standing, there, fallbacks)
