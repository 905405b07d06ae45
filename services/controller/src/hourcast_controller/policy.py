"""Which version should be served. Pure.

`newest`: the highest date alias, and of two versions of one date the higher. `champion`: the alias of that name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from hourcast.contracts import CHAMPION, alias_date, alias_kind

__all__ = [
    "Candidate",
    "PolicyName",
    "RegistryState",
    "VersionFacts",
    "candidates",
    "ignored",
    "misread",
    "named",
    "rank",
]

PolicyName = Literal["newest", "champion"]


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """What the registry says about a version. `gate` other than `passed` is never served.

    `misread` says which of its tags cannot be understood; such a version is neither packaged nor taken by the policy.
    """

    version: int
    run_id: str
    kind: str
    gate: str
    stage: str = "unknown"
    misread: str | None = None

    @property
    def usable(self) -> bool:
        """Whether it passed its gate and its tags can be understood."""
        return self.gate == "passed" and self.misread is None


@dataclass(frozen=True, slots=True)
class RegistryState:
    """Aliases, the versions that they point to, and the newest versions besides."""

    aliases: Mapping[str, int]
    versions: Mapping[int, VersionFacts]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that may be served, under the alias that makes it so."""

    version: int
    alias: str
    run_id: str


def rank(alias: str | None, version: int) -> tuple[date, int]:
    """Order of `newest`: the day that an alias names, then the version."""
    return (alias_date(alias or "") or date.min, version)


def candidates(registry: RegistryState, policy: PolicyName) -> list[Candidate]:
    """Versions that the policy allows, the best first."""
    wanted = "date" if policy == "newest" else "champion"
    found = []
    for alias, version in registry.aliases.items():
        facts = registry.versions.get(version)
        if alias_kind(alias) == wanted and facts is not None and facts.usable:
            found.append(Candidate(version, alias, facts.run_id))
    return sorted(found, key=lambda c: rank(c.alias, c.version), reverse=True)


def named(registry: RegistryState, version: int) -> Candidate | None:
    """A version by number, under its best alias if it has one."""
    facts = registry.versions.get(version)
    if facts is None:
        return None
    aliases = [alias for alias, number in registry.aliases.items() if number == version and alias != CHAMPION]
    best = max(aliases, key=lambda alias: rank(alias, version), default=None)
    return Candidate(version, best or str(version), facts.run_id)


def misread(registry: RegistryState) -> dict[int, str]:
    """Versions that are skipped because their tags cannot be understood, with the reason."""
    return {v: facts.misread for v, facts in sorted(registry.versions.items()) if facts.misread is not None}


def ignored(aliases: Iterable[str]) -> dict[str, str]:
    """Aliases that are not acted on, with the reason."""
    return {
        alias: "it is not YYYYMMDD, backtest_YYYYMMDD or champion"
        for alias in sorted(aliases)
        if alias_kind(alias) == "unknown"
    }
