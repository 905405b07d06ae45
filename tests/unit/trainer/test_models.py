"""What every kind of model promises, whatever it is."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from hourcast.contracts import HOUR_S, Bars, FloatArray, IntArray, from_epoch
from hourcast.errors import ConfigurationError, DataError
from hourcast.forecaster import HORIZONS, LEVELS, load, save
from hourcast_trainer.calendar import plan_for
from hourcast_trainer.measuring import measure
from hourcast_trainer.models import COMPARED, MODELS, FitRequest, Fitted
from hourcast_trainer.models._parity import check_parity
from hourcast_trainer.settings import TrainerSettings
from tests.leaks import futures
from tests.markets import START, market

_HOURS = 2700
_AS_OF = from_epoch(START + (_HOURS - 5 * 24) * HOUR_S)
_PLAN = plan_for(_AS_OF, 7, 60)
_BARS = {
    "BTC/USDT": market(_HOURS, 1, omen=0.6),
    "QQQ": market(_HOURS, 2, symbol="QQQ"),
}
_ORIGINS = _BARS["BTC/USDT"].close_time[-120:]
_FITTED: dict[str, Fitted] = {}

each_kind = pytest.mark.parametrize("kind", MODELS)


def _settings() -> TrainerSettings:
    """Settings of short fits that look at one exogenous series."""
    return TrainerSettings(
        lstm_epochs=2, lstm_hidden=4, boosting_rounds=4,
        ensemble_members=("volatility", "boosting", "lstm"), feature_series=("QQQ",),
    )  # fmt: skip


def _request(**changes: object) -> FitRequest:
    return replace(FitRequest(_BARS, _PLAN, _settings()), **changes)  # type: ignore[arg-type]


@pytest.fixture
def fitted() -> Callable[[str], Fitted]:
    """Each kind's fit, made once."""

    def fit(kind: str) -> Fitted:
        if kind not in _FITTED:
            _FITTED[kind] = MODELS[kind].fit(_request())
        return _FITTED[kind]

    return fit


def _quantiles(made: Fitted, bars: dict[str, Bars]) -> FloatArray:
    return made.forecaster().predict(bars, _ORIGINS).quantiles


@each_kind
def test_what_is_saved_forecasts_the_same(kind: str, fitted: Callable[[str], Fitted], tmp_path: Path) -> None:
    """A forecaster's directory holds no more than specification, network and members, and gives the same bits."""
    forecaster = fitted(kind).forecaster()
    save(tmp_path, forecaster)
    read = load(tmp_path)
    assert read.fingerprint == forecaster.fingerprint
    assert read.spec.kind == kind
    np.testing.assert_array_equal(read.predict(_BARS, _ORIGINS).quantiles, _quantiles(fitted(kind), _BARS))
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    own = {"spec.json", "network.onnx"} if kind in ("boosting", "lstm") else {"spec.json"}
    members = {
        f"members/{member}/{name}"
        for member in (_settings().ensemble_members if kind == "ensemble" else ())
        for name in (("spec.json",) if member == "volatility" else ("spec.json", "network.onnx"))
    }
    assert found == own | members


@each_kind
def test_quantiles_are_numbers_in_order(kind: str, fitted: Callable[[str], Fitted]) -> None:
    """All 24 horizons and 19 levels, ascending, above 0, around the last close, as wide as a walk goes."""
    made = fitted(kind).forecaster().predict(_BARS, _ORIGINS)
    assert made.quantiles.shape == (len(_ORIGINS), len(HORIZONS), len(LEVELS))
    assert np.isfinite(made.quantiles).all()
    assert made.quantiles.min() > 0
    assert (np.diff(made.quantiles, axis=2) > 0).all()
    width = np.log(made.quantiles[:, :, -1] / made.quantiles[:, :, 0]).mean(axis=0)
    np.testing.assert_allclose(width / width[0], np.sqrt(HORIZONS), rtol=0.35)
    np.testing.assert_allclose(made.point, np.repeat(made.last_close[:, None], 24, axis=1), rtol=1e-6)


@each_kind
def test_the_same_request_gives_the_same_model(kind: str, fitted: Callable[[str], Fitted]) -> None:
    """Two fits from one seed are equal to the last bit of specification, network and members."""
    assert fitted(kind).params.get("epochs", 1) != 0, "a network that learned nothing proves nothing"
    assert MODELS[kind].fit(_request()).forecaster().fingerprint == fitted(kind).forecaster().fingerprint


@each_kind
def test_a_kind_needs_no_exogenous_series(kind: str) -> None:
    """`HOURCAST_FEATURE_SERIES=none`: it looks at the target alone, and gives quantiles in order."""
    alone = _settings().model_copy(update={"feature_series": ()})
    made = MODELS[kind].fit(_request(settings=alone))
    forecast = made.forecaster().predict({"BTC/USDT": _BARS["BTC/USDT"]}, _ORIGINS)
    assert np.all(np.diff(forecast.quantiles, axis=-1) >= 0)


@each_kind
def test_bars_after_the_training_span_change_nothing(kind: str, fitted: Callable[[str], Fitted]) -> None:
    """Moved, shuffled or cut off, what comes after the training span leaves the model as it is, to the last bit."""
    for how, bars in futures(_BARS, _PLAN.train_end_s):
        again = MODELS[kind].fit(_request(bars=bars))
        assert again.forecaster().fingerprint == fitted(kind).forecaster().fingerprint, how


@each_kind
def test_bars_after_an_origin_change_no_forecast(kind: str, fitted: Callable[[str], Fitted]) -> None:
    """Neither the target's future nor the exogenous series' reaches a forecast."""
    moment = int(_ORIGINS[60])
    forecaster = fitted(kind).forecaster()
    known = _ORIGINS[:61]
    want = forecaster.predict(_BARS, known).quantiles
    for how, bars in futures(_BARS, moment):
        np.testing.assert_array_equal(forecaster.predict(bars, known).quantiles, want, err_msg=how)


@pytest.mark.parametrize("kind", ["boosting", "ensemble", "lstm"])
def test_what_it_looks_at_is_its_features(kind: str, fitted: Callable[[str], Fitted]) -> None:
    """A series that the settings name is among the symbols that serving must bring; without it a fit is another."""
    assert fitted(kind).forecaster().symbols == ("BTC/USDT", "QQQ")
    without = _settings().model_copy(update={"feature_series": ()})
    other = MODELS[kind].fit(_request(settings=without)).forecaster()
    assert other.symbols == ("BTC/USDT",)
    assert not np.array_equal(other.predict(_BARS, _ORIGINS).quantiles, _quantiles(fitted(kind), _BARS))


@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind != "naive"])
@pytest.mark.parametrize(
    ("there", "told"),
    [
        (lambda hour: hour % 8 != 0, "only 0 whole hours to train on before "),
        (lambda hour: hour < 800, "whole hours of BTC/USDT to learn a volatility from, 720 are needed"),
    ],
    ids=["holes", "nothing new"],
)
def test_too_few_hours_are_told(
    kind: str, there: Callable[[IntArray], npt.NDArray[np.bool_]], told: str
) -> None:
    """Bars full of holes, and bars that ended before the training span, say what is missing and how to get it."""
    whole = _BARS["BTC/USDT"]
    few = whole.take(there((whole.close_time - START) // HOUR_S))
    with pytest.raises(DataError) as caught:
        MODELS[kind].fit(_request(bars={**_BARS, "BTC/USDT": few}))
    assert told in str(caught.value)
    assert str(caught.value).endswith("load more history with `hourcast etl backfill`")


@pytest.mark.parametrize("kind", ["volatility", "boosting", "lstm"])
def test_hyperparameters_that_were_chosen_are_used(kind: str, fitted: Callable[[str], Fitted]) -> None:
    """No hyperparameters are those of the first candidate; the last one's are told by the fit, and give another model."""
    first, *_, last = MODELS[kind].candidates(_settings())
    assert {name: fitted(kind).params[name] for name in first} == dict(first)
    other = MODELS[kind].fit(_request(hyper=last))
    assert {name: other.params[name] for name in last} == dict(last)
    assert other.forecaster().fingerprint != fitted(kind).forecaster().fingerprint


@pytest.mark.parametrize("kind", ["boosting", "lstm"])
def test_an_export_that_differs_is_refused(kind: str, fitted: Callable[[str], Fitted]) -> None:
    """Beyond a ten-thousandth a network that gives something else than was fitted is told with the difference."""
    made = fitted(kind)
    assert made.network is not None
    assert made.spec.features is not None
    x = np.zeros((3, made.spec.features.window, made.spec.features.width), np.float32)
    z = made.forecaster().run_network(x)
    check_parity(made.spec, made.network, x, z + 5e-5)
    z[2, 1, 4] += 0.25
    with pytest.raises(DataError) as caught:
        check_parity(made.spec, made.network, x, z)
    assert str(caught.value) == (
        f"the exported {kind} network differs from the trained one by 2.50e-01, more than 1e-04"
    )


def test_loading_and_forecasting_need_nothing_of_training(
    fitted: Callable[[str], Fitted], tmp_path: Path
) -> None:
    """In a process of its own every kind forecasts the same, without torch, LightGBM, onnx, MLflow or a pickle."""
    for kind in MODELS:
        save(tmp_path / kind, fitted(kind).forecaster())
    for symbol, part in _BARS.items():
        (tmp_path / f"{symbol.replace('/', '-')}.json").write_text(json.dumps(part.to_json()))
    np.savez(tmp_path / "want.npz", **{kind: _quantiles(fitted(kind), _BARS) for kind in MODELS})
    code = """
import json, pickle, sys
from pathlib import Path
import numpy as np
def refuse(*_args, **_named): raise AssertionError("unpickled")
folder = Path(sys.argv[1])
want = dict(np.load(folder / "want.npz"))
pickle.load = pickle.loads = pickle.Unpickler = refuse
from hourcast.contracts import Bars
from hourcast.forecaster import load
read = lambda name: Bars.from_json(json.loads((folder / name).read_text()))
bars = {"BTC/USDT": read("BTC-USDT.json"), "QQQ": read("QQQ.json")}
for kind, quantiles in want.items():
    made = load(folder / kind).predict(bars, bars["BTC/USDT"].close_time[-120:])
    assert np.array_equal(made.quantiles, quantiles), kind
print(sorted({"torch", "lightgbm", "onnx", "mlflow", "pandas", "prophet"} & set(sys.modules)), len(want))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"[] {len(MODELS)}"), done.stderr


def test_volatility_is_calibrated_where_its_shape_is_true() -> None:
    """On a simulated market the shares below each quantile are its levels, near and far, in calm and in wild hours."""
    bars = {"BTC/USDT": market(9000, 5)}
    end = START + 6000 * HOUR_S
    plan = plan_for(from_epoch(end), 5, 3650)
    forecaster = MODELS["volatility"].fit(FitRequest(bars, plan, TrainerSettings())).forecaster()
    measured = measure(forecaster, bars, end, START + 9000 * HOUR_S)
    wild = measured.quantiles[:, 0, -1] / measured.quantiles[:, 0, 0]
    wild_half = wild > np.median(wild)
    for chosen in (wild_half, ~wild_half):
        below = measured.actual[chosen, 0, None] <= measured.quantiles[chosen, 0]
        np.testing.assert_allclose(below.mean(axis=0), LEVELS, atol=0.04)
    came = np.isfinite(measured.actual[:, -1])
    below = measured.actual[came, -1, None] <= measured.quantiles[came, -1]
    np.testing.assert_allclose(below.mean(axis=0), LEVELS, atol=0.08)


def test_prophet_is_compared_and_never_served() -> None:
    """It is the one kind that can be compared and is no forecaster to serve."""
    assert set(COMPARED) - set(MODELS) == {"prophet"}
    assert all(COMPARED[kind] is model for kind, model in MODELS.items())
    assert all(COMPARED[kind].kind == kind for kind in COMPARED)


def test_a_prophet_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever compares with it without the extra is told how to get it."""
    monkeypatch.setitem(sys.modules, "prophet", None)
    with pytest.raises(ConfigurationError) as caught:
        COMPARED["prophet"].fit(_request())
    assert str(caught.value) == (
        "Prophet is not installed; it is for comparison only and comes with `pip install 'hourcast-trainer[prophet]'`"
    )
