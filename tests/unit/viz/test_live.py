"""Live figures in words: what is known, and how little it sometimes is."""

from typing import Any

import pytest

from hourcast_viz.live import Card, calibration_card, given_up, issued, live_cards, live_table


def _window(days: int = 7, horizon: int | None = 1, **changes: Any) -> dict[str, Any]:
    return {
        "days": days, "horizon": horizon, "n": 168, "independent": 168.0, "coverage_50": 0.5, "coverage_90": 0.91,
        "coverage_90_low": 0.857, "coverage_90_high": 0.944, "pinball": 97.0, "pinball_naive": 100.0, "skill": 0.03,
        "skill_low": 0.01, "skill_high": 0.05, **changes,
    }  # fmt: skip


def test_a_week_is_told_with_what_was_expected() -> None:
    """Share, number, expectation; skill with its bounds; only the windows of the chosen horizon."""
    live = [_window(), _window(days=30, n=720), _window(horizon=6, coverage_90=0.5), _window(horizon=None)]
    first, second, third, fourth = live_cards(live, 1)
    assert first == Card(
        "Inside 90 %, last 7 days", "91 %", "of 168 forecasts. Expected: 90 %; the difference is within chance.",
        0.857, 0.91, 0.944,
    )  # fmt: skip
    assert second == Card(
        "Skill, last 7 days", "3.0 % better", "than “the price stays”; 95 % sure of +1.0 % to +5.0 %."
    )
    assert (third.title, third.note[:17]) == ("Inside 90 %, last 30 days", "of 720 forecasts.")
    assert fourth.title == "Skill, last 30 days"


@pytest.mark.parametrize(
    ("change", "place", "note"),
    [
        ({"coverage_90": 0.8, "coverage_90_high": 0.85}, 0, "of 168 forecasts. Expected: 90 %: the intervals were too narrow."),
        ({"coverage_90": 0.98, "coverage_90_low": 0.95}, 0, "of 168 forecasts. Expected: 90 %: the intervals were too wide."),
        ({"n": 5, "independent": 5.0}, 0, "of 5 forecasts: too little to judge. Expected: 90 %."),
        ({"n": 1, "independent": 1.0}, 0, "of 1 forecast: too little to judge. Expected: 90 %."),
        ({"skill_low": -0.01}, 1, "than “the price stays”; 95 % sure of −1.0 % to +5.0 %, so it may be chance."),
        ({"skill_low": None}, 1, "than “the price stays”; too few days to tell it from chance."),
        ({"skill": None}, 1, "“The price stays” lacked the history to compare with."),
    ],
)  # fmt: skip
def test_what_says_little_is_said_to(change: dict[str, Any], place: int, note: str) -> None:
    """Outside of chance a side is named; few closes, few days and bounds around 0 are told as what they are."""
    assert live_cards([_window(**change)], 1)[place].note == note


@pytest.mark.parametrize(("independent", "much"), [(7.0, "7"), (0.4, "one")])
def test_forecasts_that_overlap_are_not_counted_twice(independent: float, much: str) -> None:
    """168 forecasts a day ahead are worth seven."""
    (card, _) = live_cards([_window(horizon=24, independent=independent)], 24)
    assert card.note == (
        f"of 168 forecasts, which overlap and tell as much as {much}: too little to judge. Expected: 90 %."
    )


@pytest.mark.parametrize(("horizon", "ahead"), [(1, "an hour"), (24, "24 h")])
def test_before_the_first_close_one_sentence_says_so(horizon: int, ahead: str) -> None:
    """No empty figures: a card that says that nothing came yet."""
    empty = _window(horizon=horizon, n=0, coverage_90=None)
    expected = [Card("Live forecasts", "–", f"No close has come yet for one that was made {ahead} before.")]
    assert live_cards([], horizon) == live_cards([empty], horizon) == expected
    assert live_table([empty]).empty


def test_worse_is_called_worse() -> None:
    """Skill below 0 is a loss above that of the naive floor."""
    assert live_cards([_window(skill=-0.021, skill_low=-0.04, skill_high=-0.01)], 1)[1].value == "2.1 % worse"


@pytest.mark.parametrize(
    ("change", "value", "note"),
    [
        ({}, "3.1 % wider", "than at training, by 3,456 outcomes since 24 Apr 00:00 UTC."),
        (
            {"stretch_90": 0.98},
            "2.0 % narrower",
            "than at training, by 3,456 outcomes since 24 Apr 00:00 UTC.",
        ),
        (
            {"stretch_90": 1.002},
            "as trained",
            "Nothing to correct, by 3,456 outcomes since 24 Apr 00:00 UTC.",
        ),
        ({"outcomes": 0}, "as trained", "No close has come since 24 Apr 00:00 UTC for a live forecast."),
        ({"adaptive": False}, "off", "The naive floor is the reference and stays as it is."),
    ],
)
def test_calibration_is_a_line(change: dict[str, Any], value: str, note: str) -> None:
    """Wider or narrower than at training, and by how many outcomes; off for the floor."""
    body = {
        "kind": "naive", "adaptive": True, "outcomes": 3456, "since": "2025-04-24T00:00:00Z", "stretch_90": 1.0310,
        "trained_stretch_90": 1.0, **change,
    }  # fmt: skip
    assert calibration_card(body) == Card("Calibration", value, note)


def test_an_api_without_calibration_has_no_card() -> None:
    """Serving of an older release: the page does without."""
    assert calibration_card(None) is None


def test_the_table_holds_every_window() -> None:
    """All horizons together are named so; what is null stays empty."""
    table = live_table([_window(), _window(horizon=None, skill_low=None)])
    assert table["horizon"].tolist() == ["1 h", "all"]
    assert table["skill_low"].isna().tolist() == [False, True]


def test_a_series_that_was_given_up_is_told() -> None:
    """A sentence that names hour and series; none where nothing was given up or serving does not say."""
    hour = {"hour": "2025-06-26T10:00:00Z", "closed_at": "2025-06-26T10:05:00Z", "given_up": ["QQQ", "GC=F"]}
    assert given_up(hour) == (
        "The hour 2025-06-26 10:00 UTC was closed without a bar of QQQ and GC=F, which had not come by the deadline. "
        "The forecast uses what was known of it."
    )
    assert given_up({**hour, "given_up": []}) is None
    assert given_up(None) is None


@pytest.mark.parametrize(
    ("present", "told"),
    [
        (
            {"alias": "a", "version": 1, "kind": "naive", "issued_at": "2025-01-02T23:00:05Z", "source": "issued"},
            "alias a (v1, naive), issued 23:00 UTC",
        ),
        ({"alias": "b", "version": 2, "kind": "ensemble", "issued_at": None, "source": "computed"}, "alias b (v2, ensemble), not on record"),
        ({"alias": "a", "version": 1, "kind": None, "issued_at": "2025-01-02T23:00:05Z"}, "alias a (v1), issued 23:00 UTC"),
        ({"alias": "b", "version": 2, "kind": None}, "alias b (v2, ensemble)"),
    ],
)  # fmt: skip
def test_the_headline_says_who_issued_the_forecast(present: dict[str, Any], told: str) -> None:
    """Alias, version, kind and hour of issue; what is not recorded says so, and an earlier release's answer reads as before."""
    assert issued(present, {"alias": "b", "version": 2, "kind": "ensemble"}) == told
