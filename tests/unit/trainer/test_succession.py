"""Who is served after a training, and which looks count: the decisions that production and the back-test share."""

from datetime import datetime

import pytest

from hourcast.contracts import parse_hour
from hourcast_trainer.succession import looks_before, served_by

_KEY = "pinball 1 h / naive"


@pytest.mark.parametrize(
    ("passed", "floor_is_there", "incumbent_holds", "served"),
    [
        (True, True, False, "candidate"),
        (True, False, True, "candidate"),
        (False, True, True, "floor"),
        (False, False, True, "incumbent"),
        (False, False, False, "floor"),
    ],
)
def test_who_serves(passed: bool, floor_is_there: bool, incumbent_holds: bool, served: str) -> None:
    """A candidate that passed; else the floor where it has the alias; else the incumbent while it holds; else the floor."""
    assert served_by(passed, floor_is_there, lambda: incumbent_holds) == served


def test_the_incumbent_is_measured_only_where_it_matters() -> None:
    """A candidate that passed is served without a look at what was served before."""

    def never() -> bool:
        raise AssertionError

    assert served_by(True, False, never) == "candidate"


def test_looks_of_other_windows_count_and_a_repeated_training_is_one_look() -> None:
    """Earlier windows alone, the oldest first; of the same window both baselines' days, and of a repetition the later ones."""
    first, second, now = (parse_hour(f"2024-06-{day}") for day in ("06", "13", "20"))
    seen: list[tuple[datetime, dict[str, dict[str, float]]]] = [
        (second, {_KEY: {"20": 0.5}}),
        (first, {_KEY: {"10": 0.1}}),
        (first, {_KEY: {"10": 0.2}}),
        (first, {"pinball 1 h / champion": {"10": 0.3}}),
        (now, {_KEY: {"30": 0.9}}),
    ]
    assert looks_before(seen, now) == [
        {_KEY: {10: 0.2}, "pinball 1 h / champion": {10: 0.3}},
        {_KEY: {20: 0.5}},
    ]
