"""What is served and why, in two sentences for `kubectl describe`. Pure."""

from collections.abc import Sequence

from hourcast.decisions import Asked, Served, Standing
from hourcast_controller.actions import Action, Wait
from hourcast_controller.observed import Deployment

__all__ = ["summary"]


def summary(deployment: Deployment, actions: Sequence[Action], standing: Standing) -> tuple[str, str]:
    """Status and reason."""
    desired, serving = deployment.desired_version, deployment.serving_version
    waits = [action.reason for action in actions if isinstance(action, Wait)]
    blocked = standing.blocks(desired)
    if deployment.rolling and desired != serving and not blocked:
        before = f"version {serving} is served, and " if serving is not None else ""
        status = f"{before}{_named(desired, deployment.desired_alias)} is being rolled out"
        return status, _why(standing.asked, desired)
    if serving is None:
        if desired is None:
            return "nothing is served yet", "; ".join(
                waits
            ) or "no version has passed its gate and been packaged yet"
        failed = deployment.failure or "; ".join(waits) or "no server is ready"
        return f"nothing is served: {_named(desired, deployment.desired_alias)} is not ready", failed
    status = f"{_named(serving, deployment.serving_alias)} is served"
    last = standing.last
    if last is not None and last.version == serving:
        status += f" since {last.wall_at:%Y-%m-%d %H:%M} UTC"
    if deployment.pin is not None:
        status += f"; pinned to version {deployment.pin}"
    if deployment.hold:
        status += "; held, nothing is rolled until `hourcast release`"
    return status, "; ".join(waits) or _why(last, serving)


def _named(version: int | None, alias: str | None) -> str:
    return f"version {version}" + (f" (alias {alias})" if alias and alias != str(version) else "")


def _why(told: Asked | Served | None, version: int | None) -> str:
    return told.reason if told is not None and told.version == version else "it was found so"
