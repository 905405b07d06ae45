"""The network: it learns what there is to learn, and believes nothing else."""

from datetime import timedelta

import numpy as np
import pytest
import torch

from bench.device import difference
from hourcast.contracts import HOUR_S, Bars, from_epoch
from hourcast.errors import ConfigurationError, DataError
from hourcast_trainer.calendar import TrainingPlan, plan_for
from hourcast_trainer.datasets import fit_features, make_samples, realised
from hourcast_trainer.measuring import common, measure
from hourcast_trainer.models import DEVICE_TOLERANCE, MODELS, EpochLosses, FitRequest, Fitted
from hourcast_trainer.settings import TrainerSettings
from tests.markets import START, market

_HOURS, _TEST_H = 3600, 720
_END = START + (_HOURS - _TEST_H) * HOUR_S
_PLAN = plan_for(from_epoch(_END) + timedelta(days=3), 5, 3650)

each_network = pytest.mark.parametrize("kind", ["lstm"])


def _fit(kind: str, bars: Bars, plan: TrainingPlan = _PLAN, **settings: object) -> Fitted:
    chosen = TrainerSettings.model_validate({"lstm_epochs": 10, "lstm_hidden": 8, **settings})
    hyper = {} if kind == "volatility" else {"learning_rate": 0.01}
    return MODELS[kind].fit(FitRequest({"BTC/USDT": bars}, plan, chosen, hyper))


def _loss_against_volatility(kind: str, bars: Bars) -> tuple[float, float]:
    """Pinball loss in the month after the training, over that of the kind `volatility`: 1 h ahead, and all horizons."""
    own, simple = common(
        *(
            measure(_fit(k, bars).forecaster(), {"BTC/USDT": bars}, _END, START + _HOURS * HOUR_S)
            for k in (kind, "volatility")
        )
    )
    pairs = [(s.next_hour.pinball, s.all_horizons.pinball) for s in (own.scores, simple.scores)]
    return pairs[0][0] / pairs[1][0], pairs[0][1] / pairs[1][1]


@each_network
def test_what_foretells_the_width_is_learned(kind: str) -> None:
    """Where an hour's volume tells the next hour's volatility, a network is better than the volatility alone by 2 %."""
    next_hour, _ = _loss_against_volatility(kind, market(_HOURS, 4, omen=0.9))
    assert next_hour < 0.98


@each_network
def test_where_there_is_nothing_to_learn_nothing_is_believed(kind: str) -> None:
    """On a market whose volatility is all there is, a network loses no more than half a per cent to it."""
    next_hour, every = _loss_against_volatility(kind, market(_HOURS, 4))
    assert next_hour < 1.005
    assert every < 1.005


@each_network
def test_epochs_that_do_not_beat_the_start_are_not_kept(kind: str) -> None:
    """With a rate at which it can only get worse, no epoch is taken, and the quantiles are those of `volatility`."""
    bars = market(_HOURS, 4)
    settings = TrainerSettings(lstm_hidden=8)
    told: list[EpochLosses] = []
    request = FitRequest({"BTC/USDT": bars}, _PLAN, settings, {"learning_rate": 3.0}, on_epoch=told.append)
    made = MODELS[kind].fit(request)
    assert made.params["epochs"] == 0
    assert made.params["believed_1h"] == 0
    assert [losses.epoch for losses in told] == [1, 2], "it stops after two epochs that were no better"
    assert made.epochs == tuple(told)
    assert made.spec.features is not None
    x = np.random.default_rng(0).normal(size=(2, made.spec.features.window, made.spec.features.width))
    z = made.forecaster().run_network(x.astype(np.float32))
    np.testing.assert_array_equal(z[0], z[1])
    simple = _fit("volatility", bars)
    assert simple.spec.base is not None
    # Their samples differ by a network's longer window.
    np.testing.assert_allclose(z[0], np.asarray(simple.spec.base), atol=0.05)


@each_network
def test_devices_agree(kind: str) -> None:
    """The CPU and the device that `auto` finds (CUDA where there is one) give quantiles within the stated tolerance."""
    bars = market(_HOURS, 4, omen=0.6)
    cpu, auto = (_fit(kind, bars, trainer_device=device, lstm_epochs=3) for device in ("cpu", "auto"))
    assert cpu.params["device"] == "cpu"
    assert auto.params["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert cpu.params["epochs"] == auto.params["epochs"] == 3
    apart = difference(cpu, auto, FitRequest({"BTC/USDT": bars}, _PLAN, TrainerSettings()))
    assert apart <= DEVICE_TOLERANCE
    other = _fit(kind, bars, seed=8, lstm_epochs=3)
    assert difference(cpu, other, FitRequest({"BTC/USDT": bars}, _PLAN, TrainerSettings())) > DEVICE_TOLERANCE


@each_network
def test_rounding_stays_far_within_the_tolerance(kind: str) -> None:
    """Volumes that are off by a rounding of single precision, as another device's arithmetic is, move no quantile far."""
    bars = market(_HOURS, 4, omen=0.6)
    noise = 1 + 1e-7 * np.random.default_rng(0).choice([-1, 1], len(bars))
    off = Bars(
        bars.symbol,
        bars.open_time,
        bars.close_time,
        bars.open,
        bars.high,
        bars.low,
        bars.close,
        bars.volume * noise,
    )
    one, other = (_fit(kind, part, lstm_epochs=3) for part in (bars, off))
    assert one.network != other.network
    request = FitRequest({"BTC/USDT": bars}, _PLAN, TrainerSettings())
    assert difference(one, other, request) <= DEVICE_TOLERANCE / 10


def test_a_fit_leaves_torch_as_it_was() -> None:
    """Threads, random numbers and the choice of algorithms of whoever calls are his own."""
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    _fit("lstm", market(2000), lstm_epochs=1)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
    assert torch.equal(torch.rand(3), want)


@each_network
def test_cuda_that_is_not_there_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for and not found, CUDA is no silent CPU; the sentence says what to do."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError) as caught:
        _fit(kind, market(2000), trainer_device="cuda")
    assert str(caught.value) == (
        f"HOURCAST_TRAINER_DEVICE=cuda, but torch {torch.__version__} finds no CUDA device; set it to auto or cpu, or "
        "train where there is a GPU, with a CUDA build of torch (`make install ALLOW_CUDA=1`)"
    )


def test_targets_stay_within_their_span() -> None:
    """No sample's furthest target closes after the end of its span, and each is the close that came."""
    bars = {"BTC/USDT": market(2000)}
    end = START + 1900 * HOUR_S
    spec = fit_features(bars, "BTC/USDT", (), 24, START, end)
    samples = make_samples(bars, spec, START, end)
    assert samples.origin[-1] + 24 * HOUR_S == end
    ahead = realised(bars["BTC/USDT"], samples.origin[-1:], (1, 24))
    place = np.searchsorted(bars["BTC/USDT"].close_time, samples.origin[-1])
    np.testing.assert_array_equal(ahead[0], bars["BTC/USDT"].close[[place + 1, place + 24]])


@each_network
def test_too_few_hours_are_refused_with_numbers(kind: str) -> None:
    """A fit on too short a history says how many hours there are and how many are needed."""
    plan = plan_for(from_epoch(START) + timedelta(hours=1500, days=3), 5, 3650)
    with pytest.raises(DataError) as caught:
        _fit(kind, market(1500), plan, **{f"{kind}_window_h": 300})
    assert str(caught.value) == (
        f"only 447 whole hours to train on before {plan.train_end:%Y-%m-%d}, 500 are needed; "
        "load more history with `hourcast etl backfill`"
    )
