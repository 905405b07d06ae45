"""A training knows what was known when it was made: what is revised or comes later changes no byte of its version."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hourcast.contracts import HOUR_S, STANDS, Bars, Seen, from_epoch
from hourcast.features import build
from hourcast.forecaster import HORIZONS, naive_quantiles
from hourcast.volatility import HALFLIVES_H, fit_volatility, season
from hourcast_trainer.calendar import plan_of
from hourcast_trainer.choice import Chooser
from hourcast_trainer.datasets import fit_features, realised
from hourcast_trainer.lab.backtest import fit_week
from hourcast_trainer.lab.walk import Fold, forecast_fold, variants_of
from hourcast_trainer.measuring import measure_naive
from hourcast_trainer.models import MODELS, FitRequest
from hourcast_trainer.settings import TrainerSettings
from tests.specs import START, random_walk

_T = "BTC/USDT"
_HISTORY_H, _LIVE_H = 2200, 24 * 30
_BEGINS = START + _HISTORY_H * HOUR_S
"""From this close on hours are recorded; what lies before was loaded then."""
_SETTINGS = TrainerSettings(model_kind="volatility", feature_series=())


def _recorded(revisions: dict[int, tuple[int, float]]) -> Bars:
    """Bars that came a minute after their close, and how they looked at each live hour's close three minutes after it.

    `revisions` maps a bar's place to the epoch second at which its close was revised, and by which factor.
    """
    first = random_walk(_T, _HISTORY_H + _LIVE_H)
    came = np.where(first.close_time <= _BEGINS, _BEGINS, first.close_time) + 60
    later = sorted(revisions)
    prices = np.column_stack([getattr(first, name) for name in ("open", "high", "low", "close", "volume")])
    after = prices.copy()
    for i in later:
        after[i, 1:4] *= revisions[i][1]
    order = np.sort(np.concatenate([np.arange(len(first)), later]).astype(np.int64), kind="stable")
    second = np.concatenate([[False], order[1:] == order[:-1]])
    values = Bars.of(_T, first.open_time[order], np.where(second[:, None], after[order], prices[order]))
    moments = np.array(
        [revisions[i][0] if again else came[i] for i, again in zip(order, second, strict=True)]
    )
    replaced = np.full(len(order), STANDS)
    replaced[np.flatnonzero(second) - 1] = moments[second] * 1_000_000
    hours = first.close_time[first.close_time > _BEGINS]
    seen = Seen(values, moments * 1_000_000, replaced, hours, (hours + 180) * 1_000_000, hours)
    return Bars(_T, first.open_time, first.close_time, *(after[:, i].copy() for i in range(5)), seen=seen)


def _at(hours_before_the_end: int) -> datetime:
    return from_epoch(START + (_HISTORY_H + _LIVE_H - hours_before_the_end) * HOUR_S)


_PLACES = st.integers(_HISTORY_H - 700, _HISTORY_H + _LIVE_H - 1)
_revisions = st.dictionaries(_PLACES, st.floats(0.8, 1.25), max_size=6)


@pytest.mark.parametrize("kind", ["volatility", "naive", "boosting"])
@settings(max_examples=8, deadline=None)
@given(_revisions)
def test_a_bar_that_is_revised_after_a_training_changes_no_byte_of_it(
    kind: str, revised: dict[int, float]
) -> None:
    """Specification and network are the same, whatever is revised a minute after the training was decided or later."""
    made = _at(48)
    moment = int(made.timestamp()) + 60
    quick = _SETTINGS.model_copy(update={"boosting_rounds": 4})

    def fitted(bars: Bars) -> tuple[str, bytes | None]:
        out = MODELS[kind].fit(FitRequest({_T: bars}, plan_of(made, quick), quick))
        return out.spec.model_dump_json(), out.network

    after = {
        i: (max(moment, _BEGINS + (i + 2 - _HISTORY_H) * HOUR_S), factor) for i, factor in revised.items()
    }
    assert fitted(_recorded(after)) == fitted(_recorded({}))


@settings(max_examples=5, deadline=None)
@given(_revisions.filter(bool))
def test_a_revision_that_was_known_is_learned_from(revised: dict[int, float]) -> None:
    """A day before the training is early enough; only bars of the training span count."""
    made = _at(48)
    plan = plan_of(made, _SETTINGS)
    early = int((made - timedelta(days=1)).timestamp())
    before = {i: (early, factor) for i, factor in revised.items() if abs(factor - 1) > 0.01}
    bars = _recorded(before)
    inside = [i for i in before if bars.close_time[i] <= plan.train_end_s]

    def mark(bars: Bars) -> str:
        return MODELS["volatility"].fit(FitRequest({_T: bars}, plan, _SETTINGS)).spec.data_fingerprint

    assert (mark(bars) != mark(_recorded({}))) == bool(inside)


def test_a_fold_of_the_past_is_fitted_on_what_was_known_then() -> None:
    """A walk over recorded hours gives the version that was made then, hyperparameters included."""
    start = _at(24 * 8)
    fold = Fold(start, start + timedelta(days=7), plan_of(start, _SETTINGS))
    late = int(start.timestamp()) + 3600
    revised = _recorded(dict.fromkeys(range(_HISTORY_H - 300, _HISTORY_H + 100, 7), (late, 1.2)))
    variants = variants_of(["volatility"], _SETTINGS)

    def spec(bars: Bars) -> str:
        (made,) = forecast_fold({_T: bars}, _SETTINGS, fold, variants, Chooser({_T: bars}, _SETTINGS))
        assert made.fitted is not None
        return made.fitted.spec.model_dump_json()

    assert spec(revised) == spec(_recorded({}))


def test_the_volatility_is_fitted_on_what_features_are_built_of() -> None:
    """An hour that was closed before its bars were revised counts as it was seen, as every other sample of a training does."""
    places = range(_HISTORY_H + 50, _HISTORY_H + 300, 40)
    bars = {_T: _recorded({i: (_BEGINS + (i + 30 - _HISTORY_H) * HOUR_S, 1.3) for i in places})}
    end_s = int(_at(0).timestamp())
    spec = fit_features(bars, _T, (), 24, 0, end_s)
    origins = bars[_T].close_time[720:]
    made = build(bars, spec.model_copy(update={"window": 1}), origins)
    change = np.log(realised(bars[_T], origins) / made.last_close[:, None])
    ahead = season(spec.seasonal, origins, HORIZONS)
    wanted = fit_volatility(made.log_volatility, ahead, change, HORIZONS, HALFLIVES_H)
    np.testing.assert_allclose(spec.volatility.weights, wanted.weights, rtol=1e-9, atol=1e-12)
    today = {
        _T: Bars.of(
            _T,
            bars[_T].open_time,
            np.column_stack([getattr(bars[_T], n) for n in ("open", "high", "low", "close", "volume")]),
        )
    }
    assert fit_features(today, _T, (), 24, 0, end_s).volatility != spec.volatility


def test_the_floor_of_the_gate_forecasts_from_what_was_known() -> None:
    """It starts from the close that was seen, and is measured against the close that counts today."""
    place = _HISTORY_H + 200
    then = _recorded({})
    bars = _recorded({place: (int(then.close_time[place]) + 5 * HOUR_S, 1.3)})
    origins = then.close_time[place : place + 6]
    was, now = naive_quantiles(then, origins), naive_quantiles(bars, origins)
    for before, after in zip(was, now, strict=True):
        np.testing.assert_array_equal(before[:5], after[:5])
    assert (was[0][5] != now[0][5]).any()
    measured = measure_naive(bars, int(origins[0]) - HOUR_S, int(origins[-1]))
    assert measured.last_close[1] == then.close[place]
    assert measured.actual[0, 0] == bars.close[place] == 1.3 * then.close[place]


def test_a_week_whose_history_came_later_is_the_floors() -> None:
    """A machine that was off had too little to learn from then, and a back-test says so, as the training did."""
    bars = _recorded({})
    assert bars.seen is not None
    came = bars.seen.came.copy()
    came[0] = bars.close_time[0] * 1_000_000
    came[1:_HISTORY_H] = int(_at(24).timestamp()) * 1_000_000
    late = {_T: replace(bars, seen=replace(bars.seen, came=came))}
    start = _at(24 * 8)
    week = Fold(start, start + timedelta(days=7), plan_of(start, _SETTINGS))
    found = fit_week(late, _SETTINGS, week, Chooser(late, _SETTINGS))
    assert found.fitted.spec.kind == "naive"


def test_history_that_is_loaded_later_counts_as_known() -> None:
    """Bars from before the record of their symbol are no news, whenever they were loaded; later ones are."""
    bars = _recorded({})
    assert bars.seen is not None
    came = bars.seen.came.copy()
    late = int(_at(0).timestamp()) * 1_000_000
    came[:100] = came[_HISTORY_H + 5] = late
    loaded = replace(bars, seen=replace(bars.seen, came=came))
    known = loaded.as_of(_at(1)).close_time
    assert known[0] == bars.close_time[0]
    assert bars.close_time[_HISTORY_H + 5] not in known
    assert len(loaded.as_of(from_epoch(_BEGINS))) == len(bars)
    assert loaded.as_of(_at(-1)).close_time.tolist() == bars.close_time.tolist()
