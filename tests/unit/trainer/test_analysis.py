"""Figures of a walk, held against hand-made cases and against walks whose truth is known."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourcast.contracts import HOUR_S, FloatArray, parse_hour, to_epoch
from hourcast.errors import ConfigurationError, DataError
from hourcast.forecaster import LEVELS
from hourcast.verification import figures
from hourcast_trainer.lab.analysis import (
    Analysis,
    DieboldMariano,
    Skill,
    analyse,
    cut,
    diebold_mariano,
    hac_lags,
    hours_of_week,
    months,
    over_time,
    pit,
    quintiles,
    ratio_interval,
    score,
    skill,
    trailing_volatility,
    verdicts,
    winkler,
)
from hourcast_trainer.lab.walk.rows import WalkRows
from hourcast_trainer.paired import mean_test
from tests.walks import START_S, ablated, scaled, synthetic_walk

_N = 1800
_BOUNDARY_S = START_S + 1200 * HOUR_S


@pytest.fixture(scope="module")
def walk() -> dict[str, WalkRows]:
    """Seventy-five days."""
    return synthetic_walk(_N)


@pytest.fixture(scope="module")
def analysis(walk: dict[str, WalkRows]) -> Analysis:
    """Of the walk, with the last twenty-five days untouched."""
    return analyse(walk, untouched_from_s=_BOUNDARY_S, draws=400)


def _tiny(actual: list[float], origin: list[int] | None = None) -> WalkRows:
    """One horizon, last close 100, the quantile of level p at 100 + 40 (p - 0.5): 90 % from 82 to 118."""
    n = len(actual)
    prices = 100 + 40 * (np.array(LEVELS) - 0.5)
    returns = np.broadcast_to(np.log(prices / 100), (n, 1, len(LEVELS))).copy()
    at = np.array(origin if origin is not None else [START_S + i * HOUR_S for i in range(n)], np.int64)
    return WalkRows("tiny", at, np.full(n, 100.0), np.array(actual)[:, None], returns, returns)


# -- scores of a forecast -----------------------------------------------------------------------------


def test_winkler_is_the_textbook_one() -> None:
    """Width where the close is inside, and twenty times the miss on top at 90 % where it is not."""
    found = winkler(np.array([95.0, 80.0, 121.0]), np.full(3, 90.0), np.full(3, 120.0), 0.9)
    assert found == pytest.approx([30.0, 30 + 20 * 10, 30 + 20 * 1])


def test_scores_by_hand() -> None:
    """Inside, far below and where none came: interval, bin, error, and nothing at all."""
    found = score(_tiny([101.0, 70.0, float("nan")]))
    assert found.came[:, 0].tolist() == [True, True, False]
    assert found.winkler[:2, 0] == pytest.approx([36.0, 36 + 20 * 12])
    assert found.within[:, :2, 0].tolist() == [[True, False]] * 3
    assert found.above[:2, 0].tolist() == [10, 0]
    assert found.off[:2, 0] == pytest.approx([-1.0, 30.0])
    assert np.isnan(found.pinball[2, 0])


def test_scores_agree_with_the_gate(walk: dict[str, WalkRows], analysis: Analysis) -> None:
    """The analysis and the gate give one figure one value."""
    rows = walk["exact"]
    found, total = (
        figures(rows.actual[:, 0], rows.quantiles[:, 0], LEVELS),
        analysis.whole.kinds["exact"].total,
    )
    assert (total.n, total.pinball, total.rmse) == (
        found.n,
        pytest.approx(found.pinball),
        pytest.approx(found.rmse),
    )
    assert (total.mae, total.coverage_90) == (pytest.approx(found.mae), pytest.approx(found.coverage_90))


def test_rows_that_do_not_fit_are_refused() -> None:
    """Shapes, order and numbers are checked before anything is said of them."""
    rows = _tiny([100.0, 101.0])
    with pytest.raises(DataError) as shape:
        score(replace(rows, actual=np.zeros((2, 2))))
    assert str(shape.value) == (
        "rows of tiny do not fit together: returns (2, 1, 19), raw (2, 1, 19), actual (2, 2), 2 origins, 19 levels"
    )
    with pytest.raises(DataError) as order:
        score(replace(rows, origin=rows.origin[::-1].copy()))
    assert str(order.value) == "origins of tiny are not ascending; put the folds in order of time"
    with pytest.raises(DataError) as nan:
        score(replace(rows, returns=rows.returns * np.nan))
    assert str(nan.value) == "a forecast of tiny 1 h ahead is not a number; walk it again"


# -- groups of hours ----------------------------------------------------------------------------------


def test_coverage_by_month_by_hand() -> None:
    """Two of three in March, none of one in April, and hours without a close count nowhere."""
    late = to_epoch(parse_hour("2024-04-02"))
    rows = _tiny(
        [100.0, 118.0, 119.0, 60.0, float("nan")],
        [START_S, START_S + 3600, START_S + 7200, late, late + 3600],
    )
    scored = score(rows)
    place, names = months(scored.origin)
    found = cut(scored, scored.came, place, names)
    assert names == ("2024-03", "2024-04")
    assert found.n[:, 0].tolist() == [3, 1]
    assert found.coverage[-1, :, 0] == pytest.approx([2 / 3, 0.0])
    assert found.rmse[:, 0] == pytest.approx([np.sqrt((18**2 + 19**2) / 3), 40.0])
    part = skill(found, found, 0)
    assert (part.pinball_ratio, part.winkler_ratio, part.rmse_ratio, part.width_ratio) == (1.0, 1.0, 1.0, 1.0)


def test_an_hour_of_no_group_is_counted_in_none() -> None:
    """Groups may leave hours out, and a group may be empty."""
    scored = score(_tiny([100.0, 60.0, 100.0]))
    found = cut(scored, scored.came, np.array([-1, 2, 2]), ("a", "b", "c"))
    assert found.n[:, 0].tolist() == [0, 0, 2]
    assert found.coverage[-1, 2, 0] == 0.5
    assert np.isnan(found.pinball[:2, 0]).all()


def test_the_week_begins_on_monday() -> None:
    """Monday 00:00 UTC is hour 0, Sunday 23:00 the last."""
    at = [to_epoch(parse_hour(text)) for text in ("2024-01-01T00:00", "2024-01-01T05:00", "2024-01-07T23:00")]
    assert hours_of_week(np.array(at)).tolist() == [0, 5, 167]


def test_volatility_by_hand() -> None:
    """Hourly moves of 1 % are a day's volatility of root 24 per cent; it is unknown at the beginning and after a gap."""
    n = 60
    close = 100 * np.exp(0.01 * (np.arange(n) % 2))
    origin = START_S + np.arange(n) * HOUR_S
    origin[40:] += 20 * HOUR_S
    found = trailing_volatility(origin, close)
    assert np.isnan(found[:18]).all()
    assert found[18:40] == pytest.approx(0.01 * np.sqrt(24))
    assert np.isnan(found[40:58]).all()
    assert found[58:] == pytest.approx(0.01 * np.sqrt(24))


def test_volatility_knows_no_future(walk: dict[str, WalkRows]) -> None:
    """What comes after an origin does not move its volatility."""
    rows = walk["naive"]
    moved = rows.last_close.copy()
    moved[901:] *= np.random.default_rng(1).uniform(0.5, 2, len(moved) - 901)
    before, after = (trailing_volatility(rows.origin, close) for close in (rows.last_close, moved))
    assert np.array_equal(before[:901], after[:901], equal_nan=True)
    assert not np.isclose(before[901], after[901])


def test_fifths_are_of_equal_size() -> None:
    """Five groups in order of the value; what is unknown or not counted is in none."""
    values = np.random.default_rng(2).permutation(np.arange(103.0))
    values[0] = np.nan
    counted = np.ones(103, bool)
    counted[1] = False
    place, edges = quintiles(values, counted)
    assert np.bincount(place[place >= 0]).tolist() in ([21, 20, 20, 20, 20], [20, 20, 21, 20, 20])
    assert place[:2].tolist() == [-1, -1]
    assert np.all(np.diff(edges) > 0)
    assert values[place == 0].max() < values[place == 1].min()


# -- tests and intervals ------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(30, 400), st.integers(1, 30))
def test_one_step_ahead_it_is_the_gates_test(seed: int, n: int, lags: int) -> None:
    """The same t and p as the test that the gate goes by."""
    rng = np.random.default_rng(seed)
    loss, reference = rng.normal(size=n), np.convolve(rng.normal(size=n + 4), np.ones(5), "valid")
    found = diebold_mariano(loss, reference, lags=lags)
    t, p = mean_test(reference - loss, min(lags, n - 1))
    assert (found.t, found.p) == (pytest.approx(t, rel=1e-7, abs=1e-9), pytest.approx(p, rel=1e-7, abs=1e-9))


def test_equal_losses_prove_nothing_and_a_steady_gain_all() -> None:
    """Without any difference p is one half, and where every hour says the same it is zero or one."""
    loss = np.random.default_rng(3).uniform(1, 2, 500)
    assert diebold_mariano(loss, loss) == DieboldMariano(500, 0.0, 0.0, 0.5, 24)
    assert diebold_mariano(loss - 0.1, loss).p == pytest.approx(0.0, abs=1e-12)
    assert diebold_mariano(loss + 0.1, loss).p == pytest.approx(1.0, abs=1e-12)


def test_losses_that_hang_together_need_more_proof() -> None:
    """Of a thousand placebos with correlated hours about 5 in 100 seem better at p < 0.05; without lags far more do."""
    rng = np.random.default_rng(4)
    draws = rng.normal(size=(1000, 1020))
    smooth = np.stack([np.convolve(row, np.ones(13), "valid") for row in draws])
    nothing = np.zeros(smooth.shape[1])
    share = np.mean([diebold_mariano(row, nothing, horizon=12).p < 0.05 for row in smooth])
    naive = np.mean([diebold_mariano(row, nothing, lags=0).p < 0.05 for row in smooth])
    assert 0.03 <= share <= 0.08
    assert naive > 0.25


def test_long_horizons_have_more_lags() -> None:
    """A day at least, twice the horizon, and never as many as there are hours."""
    assert [hac_lags(12_000, h) for h in (1, 12, 24)] == [24, 24, 48]
    assert hac_lags(10, 24) == 9


def test_intervals_hold_what_they_say() -> None:
    """Of 300 intervals at 90 % for correlated losses about 90 % hold the true ratio."""
    rng = np.random.default_rng(5)
    held = 0
    for i in range(300):
        common = np.convolve(rng.exponential(size=2011), np.ones(12) / 12, "valid")
        loss, reference = (common * np.exp(rng.normal(0, 0.3, 2000)) for _ in range(2))
        found = ratio_interval(loss, reference, draws=300, share=0.9, seed=i)
        held += found.low <= 1 <= found.high
    assert 0.85 <= held / 300 <= 0.95


def test_an_exact_ratio_has_an_exact_interval() -> None:
    """A loss that is nine tenths of the other each hour leaves nothing to chance; the seed decides the draws."""
    loss = np.random.default_rng(6).exponential(size=1000)
    exact = ratio_interval(0.9 * loss, loss)
    assert (exact.low, exact.high) == (pytest.approx(0.9), pytest.approx(0.9))
    other = loss[::-1].copy()
    assert ratio_interval(other, loss, seed=1) == ratio_interval(other, loss, seed=1)
    assert ratio_interval(other, loss, seed=1) != ratio_interval(other, loss, seed=2)


# -- calibration --------------------------------------------------------------------------------------


def test_true_quantiles_give_a_flat_histogram(walk: dict[str, WalkRows], analysis: Analysis) -> None:
    """Who knows the distribution has a flat PIT, as flat as chance makes one; half the width gives a bowl."""
    one = analysis.whole.kinds["exact"].pits[0]
    assert one.bins.sum() == pytest.approx(1.0)
    assert one.distance < 1.5 * one.expected
    assert one.worst < 0.03
    narrow = score(scaled(walk["exact"], "narrow", 0.5))
    bowl = pit(narrow, narrow.came, 1, np.array(LEVELS))
    assert bowl.distance > 5 * bowl.expected
    assert bowl.bins[0] > 0.15
    assert bowl.bins[-1] > 0.15


def test_reliability_by_hand() -> None:
    """A close at a quantile counts as not above it."""
    scored = score(_tiny([100.0, 101.0, 60.0, 140.0]))
    found = pit(scored, scored.came, 1, np.array(LEVELS))
    assert found.below[LEVELS.index(0.5)] == 0.5
    assert found.below[0] == 0.25
    assert found.bins[-1] == 0.25


def test_calibration_shows_before_and_after(analysis: Analysis) -> None:
    """Forecasts a fifth too narrow before calibration cover too little before, and what they say after."""
    found = analysis.whole.kinds["exact"].horizons
    assert found.raw_coverage[-1, 0] < 0.84
    assert found.coverage[-1, 0] == pytest.approx(0.9, abs=0.02)
    assert np.all(found.raw_pinball_ratio > found.pinball_ratio)


def test_skill_over_time_by_hand() -> None:
    """Half the loss in the first forty days, all of it afterwards: 30 days later nothing is left but the mean."""
    n = 80 * 24
    narrow, wide = _tiny([100.0] * n), _tiny([100.0] * n)
    ours = replace(score(narrow), pinball=np.where(np.arange(n)[:, None] < 40 * 24, 0.5, 1.0))
    theirs = replace(score(wide), pinball=np.ones((n, 1)))
    found = over_time(ours, theirs, ours.came)
    day = (found.at - START_S) // (24 * HOUR_S)
    assert np.isnan(found.skill[day < 29]).all()
    assert found.skill[day == 35] == pytest.approx(0.5)
    assert found.skill[day == 75] == pytest.approx(0.0)
    assert found.cumulative[-1] == pytest.approx(0.25, abs=0.01)
    assert found.coverage[:, day >= 30] == pytest.approx(1.0)


# -- the whole ----------------------------------------------------------------------------------------


def test_known_truths_come_out(analysis: Analysis) -> None:
    """Who knows the volatility is better beyond doubt, a copy of the reference is exactly it."""
    exact, copy = analysis.whole.kinds["exact"], analysis.whole.kinds["copy"]
    assert analysis.kinds == ("exact", "copy", "naive")
    assert exact.total.pinball_ratio < 0.96
    assert exact.next_hour_interval.low < exact.total.pinball_ratio < exact.next_hour_interval.high < 1
    assert exact.next_hour.p < 1e-6
    assert exact.all_horizons.p < 0.05
    assert (exact.total.rmse_ratio, exact.total.mae_ratio) == (pytest.approx(1.0), pytest.approx(1.0))
    assert (copy.total.pinball_ratio, copy.next_hour.p, copy.next_hour_interval.low) == (1.0, 0.5, 1.0)
    assert analysis.whole.next_hour.p[0, 2] == exact.next_hour.p
    assert analysis.whole.next_hour.p[2, 0] == pytest.approx(1 - exact.next_hour.p)
    fifths = [part.coverage_90 for part in analysis.whole.kinds["naive"].quintiles]
    assert fifths[0] > 0.94
    assert fifths[-1] < 0.86
    assert all(abs(part.coverage_90 - 0.9) < 0.05 for part in exact.quintiles)


def test_a_close_after_the_boundary_is_in_no_span_before(analysis: Analysis) -> None:
    """The longest horizon loses a day at the end of the span before; the spans share no close."""
    before, after = analysis.spans[1:]
    assert [part.span.name for part in analysis.spans] == ["whole", "chosen on", "untouched"]
    assert (before.kinds["exact"].total.n, after.kinds["exact"].total.n) == (1200, 600)
    assert before.kinds["exact"].pits[-1].n == 1200 - 23


def test_the_untouched_span_moves_no_choice(walk: dict[str, WalkRows], analysis: Analysis) -> None:
    """Whatever comes after the boundary, the figures before it and the choice of the headline stay the same."""
    later = np.where(walk["exact"].origin >= _BOUNDARY_S, 3.0, 1.0)
    spoilt = {**walk, "exact": scaled(walk["exact"], "exact", later)}
    found = analyse(spoilt, untouched_from_s=_BOUNDARY_S, draws=400)
    assert found.headline == "exact"
    assert found.spans[1].kinds["exact"].total == analysis.spans[1].kinds["exact"].total
    assert found.spans[2].kinds["exact"].total.pinball_ratio > 1
    assert found.whole.kinds["exact"].total.pinball_ratio > analysis.whole.kinds["exact"].total.pinball_ratio


def test_prophet_heads_nothing(walk: dict[str, WalkRows]) -> None:
    """Prophet is for comparison: it may be best and is not taken, unless it is asked for."""
    rows = {"naive": walk["naive"], "copy": walk["copy"], "prophet": scaled(walk["exact"], "prophet", 1.0)}
    assert analyse(rows, draws=10).headline == "copy"
    assert analyse(rows, headline="prophet", draws=10).headline == "prophet"


def test_ablations_count_what_the_part_is_worth(walk: dict[str, WalkRows]) -> None:
    """Better with a part added, worse with one taken away: both are gains of the part; noise is none."""
    base = ablated(walk["exact"], "base", 0.4, 7)
    rows = {
        "naive": walk["naive"],
        "base": base,
        "base+good": scaled(walk["exact"], "base+good", 1.0),
        "base+bad": ablated(base, "base+bad", 0.3, 8),
        "base-vital": ablated(base, "base-vital", 0.3, 9),
    }
    found = {item.kind: item for item in analyse(rows, untouched_from_s=_BOUNDARY_S, draws=200).ablations}
    assert {(item.base, item.sign, item.part) for item in found.values()} == {
        ("base", "+", "good"), ("base", "+", "bad"), ("base", "-", "vital"),
    }  # fmt: skip
    for kind, helps in (("base+good", True), ("base+bad", False), ("base-vital", True)):
        for name in ("whole", "chosen on", "untouched"):
            part = found[kind].spans[name]
            assert (part.gain_next_hour > 0, part.p_next_hour < 0.01, part.p_all < 0.05) == (helps,) * 3
            assert part.interval_next_hour.low < part.gain_next_hour < part.interval_next_hour.high


def test_kinds_are_measured_on_the_hours_that_all_have(walk: dict[str, WalkRows]) -> None:
    """A kind that began later cuts the others, and how much is told; an ablation cuts nobody."""
    late = walk["exact"].take(np.arange(100, _N))
    short = scaled(late.take(np.arange(500)), "exact+x", 1.1)
    found = analyse({"naive": walk["naive"], "exact": late, "exact+x": short}, draws=10)
    assert found.whole.kinds["naive"].total.n == _N - 100
    assert found.dropped == {"exact": 0, "naive": 100}
    assert found.ablations[0].spans["whole"].n == 500


def test_what_cannot_be_compared_is_refused(walk: dict[str, WalkRows]) -> None:
    """A missing reference, a missing base, other hours and other bars each have their sentence."""
    exact, naive = walk["exact"], walk["naive"]
    with pytest.raises(ConfigurationError) as missing:
        analyse({"exact": exact})
    assert str(missing.value) == "the reference 'naive' was not walked; there are exact"
    with pytest.raises(ConfigurationError) as base:
        analyse({"naive": naive, "lstm+QQQ": scaled(exact, "lstm+QQQ", 1.0)}, draws=10)
    assert str(base.value) == "'lstm+QQQ' is an ablation of 'lstm', which was not walked; walk that too"
    with pytest.raises(DataError) as hours:
        analyse({"naive": naive.take(np.arange(10)), "exact": exact.take(np.arange(20, 30))})
    assert str(hours.value) == "naive, exact share no origin; walk them over the same span"
    with pytest.raises(DataError) as bars:
        analyse({"naive": naive, "exact": replace(exact, last_close=exact.last_close * 1.01)})
    assert (
        str(bars.value)
        == "exact and naive were walked over different bars; walk both again with the same data"
    )


def test_rows_are_asked_for_once_each(walk: dict[str, WalkRows]) -> None:
    """A walk that loads its rows when asked is asked once a kind, and so never holds them all."""
    asked = []

    class Loading(Mapping[str, WalkRows]):
        def __getitem__(self, kind: str) -> WalkRows:
            asked.append(kind)
            return walk[kind.split("+")[0]]

        def __iter__(self) -> Iterator[str]:
            return iter([*walk, "exact+x"])

        def __len__(self) -> int:
            return 4

    analyse(Loading(), draws=10)
    assert asked == ["naive", "exact", "copy", "exact+x"]


def test_the_analysis_is_json(analysis: Analysis) -> None:
    """Every figure can be written as JSON that any reader takes, and reads as it was."""
    read = json.loads(json.dumps(analysis.as_dict(), allow_nan=False))
    assert (
        read["spans"][0]["kinds"]["exact"]["total"]["pinball"] == analysis.whole.kinds["exact"].total.pinball
    )
    assert read["spans"][0]["next_hour"]["p"][0][0] is None
    assert "hours" not in read


def test_the_seeds_hours_are_cut_out(walk: dict[str, WalkRows], analysis: Analysis) -> None:
    """RMSE between two moments is that of the closes within, and of no hour where none is."""
    rows = walk["exact"]
    n, found = analysis.rmse_between(int(rows.origin[10]), int(rows.origin[20]))
    off = rows.last_close[10:20] - rows.actual[10:20, 0]
    assert (n, found["naive"]) == (10, pytest.approx(np.sqrt(np.mean(off**2))))
    n, found = analysis.rmse_between(0, 3600)
    assert n == 0
    assert np.isnan(found["naive"])


# -- promises -----------------------------------------------------------------------------------------

_GOOD = Skill(
    n=13_000, pinball=97.0, pinball_ratio=0.97, pinball_all=99.0, pinball_all_ratio=0.99, winkler=88.0, winkler_ratio=0.88,
    winkler_all=90.0, winkler_all_ratio=0.9, coverage_50=0.5, coverage_80=0.8, coverage_90=0.915, coverage_90_all=0.9,
    rmse=1.0, rmse_ratio=1.001, mae=1.0, mae_ratio=1.001, width=1.0, width_ratio=0.9,
)  # fmt: skip
_FIFTH = replace(_GOOD, coverage_90=0.86)
_MONTH = replace(_GOOD, n=700, coverage_90=0.93, rmse_ratio=1.01, mae_ratio=1.01)
_SURE = DieboldMariano(13_000, 1.0, 5.0, 0.001, 24)


def _unmet(total: Skill = _GOOD, month: Skill = _MONTH, fifth: Skill = _FIFTH, p: float = 0.001) -> list[str]:
    found = verdicts(total, {"2024-03": _MONTH, "2024-04": month}, [_FIFTH, fifth], replace(_SURE, p=p))
    return [
        f"{v.promise}: {v.told}{' in ' if v.where else ''}{v.where}, {v.limit}" for v in found if not v.met
    ]


def test_at_the_limit_a_promise_is_met() -> None:
    """Twelve promises, each met at its very limit."""
    assert _unmet() == []
    assert len(verdicts(_GOOD, {"2024-03": _MONTH}, [_FIFTH], _SURE)) == 12


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"n": 11_999}, "hours out of sample: 11,999, 12,000 or more"),
        ({"pinball_ratio": 0.9701}, "pinball loss at 1 h, against the reference: 0.9701, at most 0.97"),
        (
            {"pinball_all_ratio": 1.0},
            "pinball loss over all horizons, against the reference: 1.0000, below 1",
        ),
        (
            {"winkler_ratio": 0.8801},
            "Winkler score of 90 % at 1 h, against the reference: 0.8801, at most 0.88",
        ),
        ({"coverage_90": 0.9151}, "coverage of 90 % at 1 h: 91.51 %, 90 ± 1.5 %"),
        ({"coverage_90": 0.8849}, "coverage of 90 % at 1 h: 88.49 %, 90 ± 1.5 %"),
        ({"rmse_ratio": 1.0011}, "RMSE of the median at 1 h, against the reference: 1.0011, at most 1.001"),
        ({"mae_ratio": 1.0011}, "MAE of the median at 1 h, against the reference: 1.0011, at most 1.001"),
        ({"pinball_ratio": float("nan")}, "pinball loss at 1 h, against the reference: nan, at most 0.97"),
    ],
)
def test_each_figure_alone_breaks_its_promise(changed: dict[str, float], told: str) -> None:
    """Just beyond its limit a figure breaks one promise, which says where it is and where it should be; NaN is beyond."""
    assert _unmet(total=replace(_GOOD, **changed)) == [told]


def test_the_worst_group_is_named() -> None:
    """Fifths and months are held to limits of their own, and the group that breaks one is named."""
    assert _unmet(p=0.01) == ["p of the same, one-sided Diebold–Mariano: 0.0100, below 0.01"]
    assert _unmet(fifth=replace(_FIFTH, coverage_90=0.8599)) == [
        "the same coverage in the worst fifth of volatility: 85.99 % in fifth 2, 90 ± 4 %"
    ]
    assert _unmet(month=replace(_MONTH, coverage_90=0.8699)) == [
        "the same coverage in the worst month: 86.99 % in 2024-04, 90 ± 3 %"
    ]
    assert _unmet(month=replace(_MONTH, rmse_ratio=1.0101, mae_ratio=1.02)) == [
        "the same RMSE in the worst month: 1.0101 in 2024-04, at most 1.01",
        "the same MAE in the worst month: 1.0200 in 2024-04, at most 1.01",
    ]


def test_a_scrap_of_a_month_is_not_judged() -> None:
    """Fewer hours than a week say nothing that luck could not have said."""
    wild = replace(_MONTH, n=167, coverage_90=0.5, rmse_ratio=2.0)
    assert _unmet(month=wild) == []
    assert len(_unmet(month=replace(wild, n=168))) == 2


def test_an_interval_costs_blocks_and_not_hours() -> None:
    """Two thousand resamples of a year and a half of hours are a matter of moments: two seconds are ten times enough."""
    losses: FloatArray = np.random.default_rng(0).exponential(size=(2, 12_000))
    began = time.process_time()
    ratio_interval(losses[0], losses[1])
    assert time.process_time() - began < 2
