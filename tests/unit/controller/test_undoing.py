"""What an undo takes back, and that there is always something to go back to while anything is left."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourcast.decisions import Barred, Served, Standing, Undo
from hourcast.errors import UndecidedError
from hourcast_controller.observed import Deployment
from hourcast_controller.undoing import taken_back, undo_to

_AT = datetime(2026, 1, 1, tzinfo=UTC)
_DEPLOYMENT = Deployment(3, "20240615", 3, "20240615")


def _standing(*served: int, bad: tuple[int, ...] = ()) -> Standing:
    return Standing(
        served=tuple(Served(v, f"alias{v}", "why", _AT) for v in served),
        quarantine={v: Barred("", "why") for v in bad},
    )


def test_what_was_asked_for_last_is_taken_back() -> None:
    """On its way, blocked or served; a pin is a person's word that has to be taken back first."""
    assert taken_back(_DEPLOYMENT) == (3, "20240615")
    assert taken_back(replace(_DEPLOYMENT, serving_version=2, rolling=True)) == (3, "20240615")
    for deployment, told in (
        (Deployment(), "nothing is served, so there is nothing to undo"),
        (replace(_DEPLOYMENT, pin=3), "version 3 is pinned; `hourcast unpin` first, then undo"),
    ):
        with pytest.raises(UndecidedError) as caught:
            taken_back(deployment)
        assert str(caught.value) == told


def test_what_served_before_takes_its_place() -> None:
    """The last that did and may; what still serves comes first of all."""
    served = _standing(3, 2, 1)
    assert undo_to(3, "a", _DEPLOYMENT, served, frozenset({1, 2, 3})) == Undo(3, "a", 2, "alias2")
    assert undo_to(3, "a", _DEPLOYMENT, served, frozenset({1, 3})).to == 1
    assert undo_to(3, "a", _DEPLOYMENT, _standing(3, 2, 1, bad=(2,)), None).to == 1
    rolling = replace(_DEPLOYMENT, serving_version=1, serving_alias="20240601")
    assert undo_to(3, "a", rolling, served, None) == Undo(3, "a", 1, "20240601")


def test_on_the_first_day_the_floor_takes_its_place() -> None:
    """No other version has served, and no other alias is left."""
    assert undo_to(3, "a", _DEPLOYMENT, _standing(3), frozenset({1, 2, 3}), [1, 2]) == Undo(3, "a", 1, None)


@pytest.mark.parametrize(
    ("standing", "packaged", "told"),
    [
        (
            _standing(3), frozenset({3}),
            "version 3 is the first that was served, and none is packaged; there is none to go back to",
        ),
        (
            _standing(3), None,
            "version 3 is the first that was served, and the bucket, which would know others, does not answer; "
            "there is none to go back to",
        ),
        (
            _standing(3, 2, bad=(2,)), frozenset({2, 3}),
            "there is nothing to go back to from version 3: of the versions that served before, 2, each is in quarantine "
            "or no longer packaged; `hourcast release --version N` lets one back",
        ),
    ],
)  # fmt: skip
def test_where_there_is_nothing_it_says_so(
    standing: Standing, packaged: frozenset[int] | None, told: str
) -> None:
    """It names what is in the way; nothing is decided."""
    with pytest.raises(UndecidedError) as caught:
        undo_to(3, "a", _DEPLOYMENT, standing, packaged)
    assert str(caught.value) == told


@given(
    st.lists(st.integers(1, 6), unique=True),
    st.frozensets(st.integers(1, 6)),
    st.none() | st.frozensets(st.integers(1, 6)),
    st.integers(1, 6),
)
def test_an_undo_goes_to_a_version_that_served_and_may(
    served: list[int], bad: frozenset[int], packaged: frozenset[int] | None, version: int
) -> None:
    """Whenever there is one, and never to what was taken back, is in quarantine or is gone."""
    standing = _standing(*served, bad=tuple(bad))
    may = [v for v in served if v != version and v not in bad and (packaged is None or v in packaged)]
    try:
        found = undo_to(version, None, Deployment(version), standing, packaged)
    except UndecidedError:
        assert may == []
    else:
        assert found.to == may[0]
