"""What is served and why, in two sentences for `kubectl describe`. Pure."""

from collections.abc import Sequence

from hourcast.store import Event
from hourcast_controller.plan import Action, Deployment, Wait

__all__ = ["summary"]


def summary(deployment: Deployment, actions: Sequence[Action], events: Sequence[Event]) -> tuple[str, str]:
    """Status and reason; `events` are the newest first."""
    desired, serving = deployment.desired_version, deployment.serving_version
    waits = [action.reason for action in actions if isinstance(action, Wait)]
    if deployment.rolling and desired != serving:
        before = f"version {serving} is served, and " if serving is not None else ""
        status = f"{before}{_named(desired, deployment.desired_alias)} is being rolled out"
        return status, _why(events, "roll_started", desired)
    if serving is None:
        if desired is None:
            return "nothing is served yet", "; ".join(
                waits
            ) or "no version has passed its gate and been packaged yet"
        failed = deployment.failure or "no server is ready"
        return f"nothing is served: {_named(desired, deployment.desired_alias)} is not ready", failed
    status = f"{_named(serving, deployment.serving_alias)} is served"
    since = next((e.wall_at for e in events if e.kind == "rolled"), None)
    newest = next((e.version for e in events if e.kind == "rolled"), None)
    if since is not None and newest == serving:
        status += f" since {since:%Y-%m-%d %H:%M} UTC"
    if deployment.pin is not None:
        status += f"; pinned to version {deployment.pin}"
    if deployment.hold:
        status += "; held, nothing is rolled until `hourcast release`"
    return status, "; ".join(waits) or _why(events, "rolled", serving)


def _named(version: int | None, alias: str | None) -> str:
    return f"version {version}" + (f" (alias {alias})" if alias and alias != str(version) else "")


def _why(events: Sequence[Event], kind: str, version: int | None) -> str:
    return next((e.reason for e in events if e.kind == kind and e.version == version), "it was found so")
