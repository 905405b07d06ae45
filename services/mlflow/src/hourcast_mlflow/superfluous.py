"""Which versions and packages may go. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from hourcast.contracts import alias_kind
from hourcast.decisions import Standing

__all__ = ["Registered", "spared", "superfluous_packages", "superfluous_versions"]


@dataclass(frozen=True, slots=True)
class Registered:
    """A version as the registry has it; `model_id` is MLflow's logged model, where it has one."""

    version: int
    run_id: str
    model_id: str | None
    kind: str
    gate: str
    made_at: datetime


def spared(versions: Iterable[Registered], aliases: Mapping[str, int], standing: Standing) -> frozenset[int]:
    """Versions that never go, however old.

    Those that an alias names; that served, are asked for, pinned, in quarantine, champion, or named by an undo; that are
    newer than the newest alias of production, because theirs may be set any moment; and the newest naive floor that passed
    its gate, because an undo must always find one.
    """
    versions = list(versions)
    out = set(aliases.values()) | standing.proven | set(standing.quarantine)
    out |= {v for v in (standing.pin, standing.champion) if v is not None}
    if standing.asked is not None:
        out.add(standing.asked.version)
    if standing.undo is not None:
        out |= {standing.undo.version, standing.undo.to}
    if standing.blocked is not None:
        out.add(standing.blocked.version)
    if standing.blamed is not None:
        out.add(standing.blamed[0])
    newest = max((v for a, v in aliases.items() if alias_kind(a) == "date"), default=0)
    out |= {v.version for v in versions if v.version > newest}
    floors = [v.version for v in versions if v.kind == "naive" and v.gate == "passed"]
    return frozenset(out | ({max(floors)} if floors else set()))


def superfluous_versions(
    versions: Iterable[Registered], aliases: Mapping[str, int], standing: Standing, before: datetime
) -> list[Registered]:
    """Versions made before a moment that nothing needs, the oldest first; none while the registry shows no alias at all."""
    if not aliases:
        return []
    versions = sorted(versions, key=lambda v: v.version)
    kept = spared(versions, aliases, standing)
    return [v for v in versions if v.version not in kept and v.made_at < before]


def superfluous_packages(
    packages: Mapping[int, datetime],
    versions: Collection[Registered],
    aliases: Mapping[str, int],
    standing: Standing,
    before: datetime,
) -> list[int]:
    """Packages made before a moment whose version goes or is no more, the oldest first; none without any alias."""
    if not aliases:
        return []
    going = {v.version for v in superfluous_versions(versions, aliases, standing, before)}
    there = {v.version for v in versions} - going
    kept = spared(versions, aliases, standing) | there
    return sorted(v for v, made_at in packages.items() if v not in kept and (made_at < before or v in going))
