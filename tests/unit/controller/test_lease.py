"""One leader, by our own clock alone; and deliveries that all controllers know of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourcast_controller.lease import Alone, Seen, added, deliveries_of, may_take


@pytest.mark.parametrize(
    ("holder", "age_s", "may"),
    [("", 0, True), ("me", 0, True), ("other", 5.9, False), ("other", 6, True)],
)
def test_a_lease_is_taken_when_it_is_ours_nobodys_or_has_run_out(
    holder: str, age_s: float, may: bool
) -> None:
    """Age is how long it has looked the same to us, whatever its stamps say."""
    assert may_take(Seen(holder, "v", 100, 6), "me", 100 + age_s) is may


def test_alone_may_always_act() -> None:
    """On one machine there is one controller."""
    assert Alone().held()


def test_a_delivery_is_known_to_all_once_it_is_written_down() -> None:
    """The same delivery is refused the second time, by whichever controller hears it."""
    text = added({}, "aa", 1000)
    assert text == "aa@1000"
    heard = deliveries_of({"metadata": {"annotations": {"hourcast.io/hints": text}}})
    assert heard == {"aa": 1000.0}
    assert added(heard, "aa", 1001) is None
    assert added(heard, "bb", 1001) == "aa@1000 bb@1001"
    assert added(heard, "bb", 2000) == "bb@2000"


def test_a_spoilt_annotation_is_no_delivery() -> None:
    """Whatever people write there, it is read as far as it makes sense."""
    assert deliveries_of({"metadata": {}}) == {}
    assert deliveries_of({"metadata": {"annotations": {"hourcast.io/hints": "x y@ @3 z@4"}}}) == {"z": 4.0}


@given(st.lists(st.tuples(st.text("abc", min_size=1, max_size=3), st.integers(0, 2000)), max_size=200))
def test_what_is_remembered_is_bounded(deliveries: list[tuple[str, int]]) -> None:
    """Fifty deliveries at most, the newest."""
    heard: dict[str, float] = {}
    for key, at in deliveries:
        text = added(heard, key, at)
        if text is not None:
            heard = deliveries_of({"metadata": {"annotations": {"hourcast.io/hints": text}}})
            assert key in heard
    assert len(heard) <= 50
