"""Hours ahead are named in three forms; whatever else comes is told what would be right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourcast_bento.horizons import FORMS, parse_horizons


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("6", (6,)),
        ("1..24", tuple(range(1, 25))),
        ("1,6,24", (1, 6, 24)),
        ("24,1", (1, 24)),
        ("3,3,3", (3,)),
        (" 1 .. 3 , 12 ", (1, 2, 3, 12)),
        ("5..5", (5,)),
    ],
)
def test_numbers_ranges_and_lists_are_read(text: str, hours: tuple[int, ...]) -> None:
    """Each form, and mixtures of them, give ascending hours, each once."""
    assert parse_horizons(text) == hours


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("soon", "'soon' is not a number of hours; write 6, a range as 1..24, or a list as 1,6,24"),
        ("", "'' is not a number of hours; write 6, a range as 1..24, or a list as 1,6,24"),
        ("1,,6", "'' is not a number of hours; write 6, a range as 1..24, or a list as 1,6,24"),
        ("1-24", "'1-24' is not a number of hours; write 6, a range as 1..24, or a list as 1,6,24"),
        ("1..2..3", "'1..2..3' is not a number of hours; write 6, a range as 1..24, or a list as 1,6,24"),
        ("1..", "'1..' is not a number of hours; write 6, a range as 1..24, or a list as 1,6,24"),
        ("-1", "'-1' is not a number of hours; write 6, a range as 1..24, or a list as 1,6,24"),
        ("²", "'²' is not a number of hours; write 6, a range as 1..24, or a list as 1,6,24"),
        ("0", "0 h is not forecast; give 1 to 24"),
        ("25", "25 h is not forecast; give 1 to 24"),
        ("1..48", "48 h is not forecast; give 1 to 24"),
        ("6..1", "the range 6..1 is empty; write 1..6"),
    ],
)
def test_bad_hours_are_told_what_would_be_right(text: str, told: str) -> None:
    """The message names the part that is wrong and the form or the limit."""
    with pytest.raises(ValueError) as error:
        parse_horizons(text)
    assert str(error.value) == told


@given(st.sets(st.integers(1, 24), min_size=1))
def test_every_list_of_hours_is_read_back(hours: set[int]) -> None:
    """Whatever hours are listed are those that are answered."""
    assert parse_horizons(",".join(map(str, hours))) == tuple(sorted(hours))


def test_the_documented_forms_are_read() -> None:
    """The examples of the API's documentation work."""
    assert [len(parse_horizons(form)) for form in FORMS] == [1, 24, 3]
