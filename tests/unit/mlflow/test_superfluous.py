"""Which versions and packages may go: nothing that serves, may serve again, or proves something."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from hourcast.decisions import Asked, Barred, Blocked, Served, Standing, Undo
from hourcast_mlflow.superfluous import Registered, spared, superfluous_packages, superfluous_versions

_NOW = datetime(2026, 6, 1, tzinfo=UTC)
_NUMBERS = st.integers(1, 12)


def _version(number: int, age: int = 200, kind: str = "ensemble", gate: str = "passed") -> Registered:
    return Registered(number, f"r{number}", f"m{number}", kind, gate, _NOW - timedelta(days=age))


@st.composite
def _standings(draw: st.DrawFn) -> Standing:
    some = st.none() | _NUMBERS
    asked, blocked, blamed, undone = (draw(some) for _ in range(4))
    return Standing(
        pin=draw(some),
        champion=draw(some),
        quarantine={n: Barred("", "why") for n in draw(st.sets(_NUMBERS, max_size=3))},
        served=tuple(Served(n, None, "", _NOW) for n in draw(st.sets(_NUMBERS, max_size=4))),
        asked=Asked(asked, None, "", _NOW) if asked else None,
        undo=Undo(undone, None, draw(_NUMBERS), None) if undone else None,
        blamed=(blamed, "why") if blamed else None,
        blocked=Blocked(blocked, "place", "why") if blocked else None,
    )


@given(
    standing=_standings(),
    aliased=st.dictionaries(
        st.sampled_from(["20260101", "20260108", "backtest_20250101", "champion", "mine"]),
        _NUMBERS,
        min_size=1,
    ),
    ages=st.dictionaries(_NUMBERS, st.integers(0, 400), min_size=1),
    naive=st.sets(_NUMBERS, max_size=4),
)
def test_what_is_needed_never_goes(
    standing: Standing, aliased: dict[str, int], ages: dict[int, int], naive: set[int]
) -> None:
    """Whatever stands and whatever is old: no alias, no version of the standing and no last floor loses its version or package."""
    versions = [_version(n, age, "naive" if n in naive else "ensemble") for n, age in ages.items()]
    before = _NOW - timedelta(days=90)
    gone = {v.version for v in superfluous_versions(versions, aliased, standing, before)}
    packages = {n: _NOW - timedelta(days=300) for n in range(1, 13)}
    unpacked = set(superfluous_packages(packages, versions, aliased, standing, before))
    needed = set(aliased.values()) | standing.proven | set(standing.quarantine)
    needed |= {n for n in (standing.pin, standing.champion) if n}
    needed |= {standing.undo.version, standing.undo.to} if standing.undo else set()
    assert not needed & (gone | unpacked)
    assert needed <= spared(versions, aliased, standing)
    assert all(ages[n] > 90 for n in gone)
    assert not unpacked & (set(ages) - gone)
    floors = naive & set(ages)
    assert not floors or max(floors) not in gone | unpacked
    # Done again, with what is left, nothing more goes.
    left = [v for v in versions if v.version not in gone]
    assert superfluous_versions(left, aliased, standing, before) == []
    again = {n: at for n, at in packages.items() if n not in unpacked}
    assert superfluous_packages(again, left, aliased, standing, before) == []


def test_what_failed_its_gate_long_ago_goes_and_what_waits_for_its_alias_stays() -> None:
    """Version 2 failed, 4 is newer than the newest alias, 5 was deleted from the registry with its package left."""
    versions = [_version(1, kind="naive"), _version(2, gate="failed"), _version(3), _version(4)]
    before = _NOW - timedelta(days=90)
    aliases = {"20260101": 3}
    assert [v.version for v in superfluous_versions(versions, aliases, Standing(), before)] == [2]
    packages = {2: _NOW, 3: _NOW - timedelta(days=200), 5: _NOW - timedelta(days=200), 6: _NOW}
    assert superfluous_packages(packages, versions, aliases, Standing(), before) == [2, 5]


def test_a_registry_that_shows_no_alias_is_not_believed() -> None:
    """It may be another one, or one that was just made anew."""
    before = _NOW - timedelta(days=90)
    assert superfluous_versions([_version(2)], {}, Standing(), before) == []
    assert superfluous_packages({1: _NOW - timedelta(days=300)}, [], {}, Standing(), before) == []
