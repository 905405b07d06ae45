"""The LSTM: repeatable, blind to the future, and the same in ONNX as in torch."""

from datetime import UTC, datetime

import numpy as np
import pytest

from hourcast.contracts import Bars
from hourcast.errors import DataError
from hourcast_trainer.backtest import fit_week, weeks
from hourcast_trainer.calendar import plan_for
from hourcast_trainer.datasets import make_samples, realised
from hourcast_trainer.models import MODELS, FitRequest, LstmModel
from hourcast_trainer.settings import TrainerSettings

_AS_OF = datetime(2024, 6, 6, tzinfo=UTC)


@pytest.fixture
def quick() -> TrainerSettings:
    """Settings of a short training."""
    return TrainerSettings(lstm_epochs=1, lstm_hidden=4)


def test_the_same_request_gives_the_same_model(market_bars: dict[str, Bars], quick: TrainerSettings) -> None:
    """Two fits from one seed are equal to the last bit of specification and network."""
    request = FitRequest(market_bars, plan_for(_AS_OF, 14, 60), quick)
    first, second = LstmModel().fit(request), LstmModel().fit(request)
    assert first.spec == second.spec
    assert first.network == second.network


def test_bars_after_the_training_span_change_nothing(
    market_bars: dict[str, Bars], quick: TrainerSettings
) -> None:
    """Cutting off everything after the training span leaves model and fingerprint as they are."""
    plan = plan_for(_AS_OF, 14, 60)
    known = {symbol: part.known_at(plan.train_end_s) for symbol, part in market_bars.items()}
    whole = LstmModel().fit(FitRequest(market_bars, plan, quick))
    cut = LstmModel().fit(FitRequest(known, plan, quick))
    assert whole.network == cut.network
    assert whole.spec == cut.spec


def test_targets_stay_within_their_span(market_bars: dict[str, Bars], quick: TrainerSettings) -> None:
    """No sample's furthest target closes after the end of its span."""
    plan = plan_for(_AS_OF, 14, 60)
    spec = LstmModel().fit(FitRequest(market_bars, plan, quick)).spec.features
    assert spec is not None
    samples = make_samples(market_bars, spec, plan.start_s, plan.train_end_s)
    assert samples.origin.max() + 24 * 3600 <= plan.train_end_s
    ahead = realised(market_bars["BTC/USDT"], samples.origin[-1:], (1, 24))
    place = np.searchsorted(market_bars["BTC/USDT"].close_time, samples.origin[-1] + 3600)
    assert ahead[0, 0] == market_bars["BTC/USDT"].close[place]


def test_too_few_hours_are_refused_with_numbers(market_bars: dict[str, Bars], quick: TrainerSettings) -> None:
    """A fit on too short a history says how many hours there are and how many are needed."""
    short = {symbol: part.take(slice(0, 700)) for symbol, part in market_bars.items()}
    plan = plan_for(datetime(2024, 1, 12, tzinfo=UTC), 14, 60)
    with pytest.raises(DataError) as caught:
        LstmModel().fit(FitRequest(short, plan, quick))
    assert str(caught.value).startswith("only ")
    assert "500 are needed" in str(caught.value)


def test_a_week_is_forecast_by_a_model_that_could_have_existed(
    market_bars: dict[str, Bars], quick: TrainerSettings
) -> None:
    """In a walk-forward step, changing the week itself changes what came and no forecast's first hour."""
    (week,) = weeks(_AS_OF, datetime(2024, 6, 13, tzinfo=UTC), 7, quick)
    before = fit_week(market_bars, quick, week)
    bars = market_bars["BTC/USDT"]
    later = bars.close_time > int(week.start.timestamp())
    shifted = {
        name: np.where(later, getattr(bars, name) * 1.1, getattr(bars, name))
        for name in ("open", "high", "low", "close")
    }
    moved = Bars(bars.symbol, bars.open_time, bars.close_time, **shifted, volume=bars.volume)
    after = fit_week({**market_bars, "BTC/USDT": moved}, quick, week)
    assert before.fitted.network == after.fitted.network
    assert before.decision == after.decision
    np.testing.assert_array_equal(before.measured.quantiles[0], after.measured.quantiles[0])
    assert before.measured.actual[0, 0] != after.measured.actual[0, 0]


def test_every_kind_of_model_keeps_the_interface(
    market_bars: dict[str, Bars], quick: TrainerSettings
) -> None:
    """Each registered kind fits and gives a forecaster with ordered, finite quantiles."""
    for kind, model in MODELS.items():
        forecaster = model.fit(FitRequest(market_bars, plan_for(_AS_OF, 14, 60), quick)).forecaster()
        assert forecaster.spec.kind == kind
        made = forecaster.predict(market_bars, market_bars["BTC/USDT"].close_time[[5000, 6000]])
        assert np.isfinite(made.quantiles).all()
        assert (np.diff(made.quantiles, axis=2) >= 0).all()
