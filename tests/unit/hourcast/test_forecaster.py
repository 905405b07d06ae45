"""A forecaster is a directory that either loads whole or says what is wrong with it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hourcast.conformal import ConformalState, shifted
from hourcast.contracts import HOUR_S, Bars, from_epoch
from hourcast.errors import ConfigurationError, DataError
from hourcast.features import build, fingerprint
from hourcast.forecaster import (
    HORIZONS,
    LEVELS,
    Forecaster,
    Member,
    check_golden,
    load,
    make_golden,
    naive_quantiles,
    save,
)
from hourcast.volatility import season
from tests.leaks import assert_no_leak
from tests.specs import START, features_of, forecaster_spec, random_walk, volatility_of

_SYMBOL = "BTC/USDT"
_BARS = {
    _SYMBOL: random_walk(_SYMBOL, 900),
    "X": random_walk("X", START + np.arange(0, 900, 3) * HOUR_S + 1800, 2),
}
_TARGET = _BARS[_SYMBOL]
_ORIGINS = _TARGET.close_time[400:403]
_SMALL = (1, 2, 6, 24)
_CENTRE = LEVELS.index(0.5)
_SHAPE = tuple(1.3 * np.sign(level - 0.5) * abs(2 * level - 1) ** 1.5 + (level - 0.5) for level in LEVELS)
_Array = npt.NDArray[np.float64]


def _naive(**changes: object) -> Forecaster:
    return Forecaster(forecaster_spec(**changes))


def _volatility(**changes: object) -> Forecaster:
    """A forecaster of kind volatility over four horizons, with a season, half-lives and a shape."""
    values: dict[str, object] = {
        "kind": "volatility",
        "horizons": _SMALL,
        "features": features_of(_SYMBOL, window=1, vol_lags=168, volatility=volatility_of(_SMALL)),
        "base": tuple(tuple((1 + 0.02 * h) * z for z in _SHAPE) for h in _SMALL),
    }
    return Forecaster(forecaster_spec(**{**values, **changes}))


def _state(shift: float = 0.4, at: int = int(_ORIGINS[0])) -> ConformalState:
    started = ConformalState.start(from_epoch(at), _SMALL, LEVELS)
    row = tuple(round(shift * 2 * abs(level - 0.5), 6) for level in LEVELS)
    return started.model_copy(update={"shift": tuple(tuple(v / h for v in row) for h in _SMALL)})


def _network(width: int, window: int, seed: int = 1) -> bytes:
    """A linear network from x (n, window, width) to ordered z (n, horizons, levels), as ONNX."""
    from onnx import TensorProto, helper, numpy_helper

    out = len(_SMALL) * len(LEVELS)
    rng = np.random.default_rng(seed)
    constants = {
        "weights": rng.normal(0, 0.002, (window * width, out)).astype(np.float32),
        "shape": np.tile(np.asarray(_SHAPE), len(_SMALL)).astype(np.float32)[None],
        "flat": np.array([-1, window * width], np.int64),
        "deep": np.array([-1, len(_SMALL), len(LEVELS)], np.int64),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "weights"], ["moved"]),
        helper.make_node("Add", ["moved", "shape"], ["made"]),
        helper.make_node("Reshape", ["made", "deep"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", window, width])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", len(_SMALL), len(LEVELS)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    made: bytes = model.SerializeToString()
    return made


def _learned(kind: str = "lstm", seed: int = 1, **changes: object) -> Forecaster:
    """A forecaster with a network, a series of its own and a median that is believed by half."""
    features = features_of(_SYMBOL, ("X",), window=5, vol_lags=200, volatility=volatility_of(_SMALL))
    values: dict[str, object] = {
        "kind": kind,
        "horizons": _SMALL,
        "features": features,
        "median_shrink": 0.5,
        "calibration": tuple(tuple(1 + 0.1 * abs(level - 0.5) * h for level in LEVELS) for h in _SMALL),
    }
    return Forecaster(forecaster_spec(**{**values, **changes}), _network(features.width, 5, seed))


def _ensemble(members: list[Forecaster] | None = None, **changes: object) -> Forecaster:
    """The volatility and the naive floor of two days, the former counting more with each horizon."""
    parts = members or [_volatility(), _naive(horizons=_SMALL, naive_window_h=48)]
    share = np.linspace(0.2, 0.9, len(_SMALL))
    weights = [share, *([(1 - share) / max(len(parts) - 1, 1)] * (len(parts) - 1))]
    values: dict[str, object] = {
        "kind": "ensemble",
        "horizons": _SMALL,
        "median_shrink": 1.0,
        "members": tuple(
            Member(kind=part.spec.kind, weights=tuple(column.tolist()))
            for part, column in zip(parts, weights, strict=True)
        ),
    }
    return Forecaster(forecaster_spec(**{**values, **changes}), members=parts)


_MADE: dict[str, Callable[[], Forecaster]] = {
    "naive": lambda: _naive(horizons=_SMALL, naive_window_h=60),
    "volatility": lambda: _volatility(conformal=_state()),
    "lstm": lambda: _learned(conformal=_state(-0.2)),
    "ensemble": lambda: _ensemble(conformal=_state(0.1)),
    "ensemble of networks": lambda: _ensemble(
        [_learned("boosting", 2), _learned("transformer", 3), _volatility()]
    ),
}


def _returns(
    forecaster: Forecaster, bars: dict[str, Bars] = _BARS, origins: npt.NDArray[np.int64] = _ORIGINS
) -> _Array:
    made = forecaster.predict(bars, origins)
    out: _Array = np.log(made.quantiles / made.last_close[:, None, None])
    return out


def test_naive_points_at_the_last_close(market_bars: dict[str, Bars]) -> None:
    """The floor's median is exactly the last close, and its quantiles are ordered around it."""
    bars = market_bars["BTC/USDT"]
    made = _naive().predict({"BTC/USDT": bars})
    assert made.origin.tolist() == [int(bars.close_time[-1])]
    np.testing.assert_allclose(made.point[0], bars.close[-1], rtol=1e-12)
    assert np.all(np.diff(made.quantiles, axis=2) >= 0)
    assert made.quantiles.shape == (1, len(HORIZONS), len(LEVELS))


def test_naive_quantiles_are_those_of_the_last_thirty_days(market_bars: dict[str, Bars]) -> None:
    """The floor agrees with the plain formula, written out for one origin."""
    bars = market_bars["BTC/USDT"]
    at = 5000
    prices, last, usable = naive_quantiles(bars, bars.close_time[[at]], (3,), LEVELS)
    close = bars.close[at - 720 - 3 + 1 : at + 1]
    change = np.log(close[3:] / close[:-3])
    spread = np.quantile(change, LEVELS) - np.quantile(change, 0.5)
    assert usable.all()
    np.testing.assert_allclose(prices[0, 0], last[0] * np.exp(spread), rtol=1e-12)


def test_a_range_is_the_single_forecasts_together(market_bars: dict[str, Bars]) -> None:
    """One batched call gives what a call an hour gives."""
    bars = {"BTC/USDT": market_bars["BTC/USDT"]}
    origins = bars["BTC/USDT"].close_time[3000:3010]
    forecaster = _naive()
    together = forecaster.predict(bars, origins)
    for i, origin in enumerate(origins):
        alone = forecaster.predict(bars, np.array([origin]))
        np.testing.assert_allclose(alone.quantiles[0], together.quantiles[i], rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(0.2, 5))
def test_the_future_moves_no_forecast(factor: float, market_bars: dict[str, Bars]) -> None:
    """Bars after the origin leave the forecast as it is."""
    bars = market_bars["BTC/USDT"]
    origin = bars.close_time[[4000]]
    close = bars.close.copy()
    close[4001:] *= factor
    other = Bars(
        bars.symbol, bars.open_time, bars.close_time, bars.open, bars.high, bars.low, close, bars.volume
    )
    forecaster = _naive()
    before = forecaster.predict({bars.symbol: bars}, origin)
    after = forecaster.predict({bars.symbol: other}, origin)
    assert np.array_equal(before.quantiles, after.quantiles)


def test_too_little_history_is_refused_with_what_is_needed(market_bars: dict[str, Bars]) -> None:
    """An origin without its history is an error that names the hours, or is left out when asked."""
    bars = market_bars["BTC/USDT"].take(slice(0, 300))
    forecaster = _naive()
    with pytest.raises(DataError) as caught:
        forecaster.predict({"BTC/USDT": bars})
    assert str(caught.value) == (
        "a forecast from 2023-12-13T12:00:00+00:00 needs 745 hours of BTC/USDT before it; run `hourcast etl gaps`"
    )
    assert len(forecaster.predict({"BTC/USDT": bars}, bars.close_time, skip_unusable=True).origin) == 0


def test_an_unknown_horizon_is_refused(market_bars: dict[str, Bars]) -> None:
    """A horizon that the model does not have is named, with those that it has."""
    with pytest.raises(DataError) as caught:
        _naive().predict({"BTC/USDT": market_bars["BTC/USDT"]}, horizons=(25,))
    assert str(caught.value) == "horizons [25] are unknown; this model forecasts 1 to 24 hours ahead"


def test_a_hole_before_the_window_is_carried_over(market_bars: dict[str, Bars]) -> None:
    """An hour that is missing where the window begins does not make the floor depend on how much history was read."""
    bars = market_bars[_SYMBOL]
    at = 5000
    holed = bars.take(~np.isin(np.arange(len(bars)), [at - 745, at - 744, at - 743]))
    whole = naive_quantiles(holed, bars.close_time[at - 50 : at + 1])
    alone = naive_quantiles(holed, bars.close_time[[at]])
    assert alone[2].all()
    assert np.array_equal(alone[0][0], whole[0][-1])


@pytest.mark.parametrize("name", _MADE)
def test_what_comes_later_moves_no_forecast(name: str) -> None:
    """A forecast of any kind is the same, to the bit, whatever the bars after its origin hold."""
    forecaster = _MADE[name]()
    assert_no_leak(
        lambda bars: {"quantiles": forecaster.predict(bars, _ORIGINS).quantiles}, _BARS, int(_ORIGINS[-1])
    )


@pytest.mark.parametrize("name", _MADE)
def test_some_horizons_are_a_part_of_all(name: str) -> None:
    """Asking for some horizons, in any order, gives those of all, for one origin as for many."""
    forecaster = _MADE[name]()
    everything = forecaster.predict(_BARS, _ORIGINS)
    assert everything.horizons == _SMALL
    for wanted in ((24, 1), (6,), _SMALL):
        some = forecaster.predict(_BARS, _ORIGINS, wanted)
        assert some.horizons == wanted
        np.testing.assert_array_equal(some.quantiles, everything.only(wanted).quantiles)
        np.testing.assert_array_equal(
            some.target_time, _ORIGINS[:, None] + np.array(wanted, np.int64) * HOUR_S
        )
    alone = forecaster.predict(_BARS, _ORIGINS[1:2], (6,))
    np.testing.assert_allclose(alone.quantiles[0, 0], everything.quantiles[1, 2], rtol=1e-7)


@pytest.mark.parametrize("name", _MADE)
def test_quantiles_are_in_order_around_a_point(name: str) -> None:
    """Whatever the kind, quantiles do not cross, and the point forecast is the median."""
    made = _MADE[name]().predict(_BARS, _TARGET.close_time, skip_unusable=True)
    assert len(made.origin) > 600
    assert (np.diff(made.quantiles, axis=2) >= 0).all()
    assert np.array_equal(made.point, made.quantiles[:, :, _CENTRE])


def test_volatility_is_its_shape_times_the_scale() -> None:
    """A forecast without a network is the last close times exp(scale times base), by the features' own scale."""
    forecaster = _volatility()
    spec = forecaster.spec
    assert spec.features is not None
    features = build(_BARS, spec.features, _ORIGINS)
    ahead = season(spec.features.seasonal, _ORIGINS, _SMALL)
    scale = spec.features.volatility.scale(features.log_volatility, ahead, _SMALL)
    want = features.last_close[:, None, None] * np.exp(scale[:, :, None] * np.asarray(spec.base))
    np.testing.assert_allclose(forecaster.predict(_BARS, _ORIGINS).quantiles, want, rtol=1e-13)


def test_a_network_is_shrunk_calibrated_and_scaled() -> None:
    """What the network gives goes through median shrinkage and calibration, then times the scale."""
    forecaster = _learned()
    spec = forecaster.spec
    assert spec.features is not None
    features = build(_BARS, spec.features, _ORIGINS)
    z = forecaster.run_network(features.x)
    median = z[:, :, _CENTRE : _CENTRE + 1]
    assert np.abs(median).max() > 1e-3
    adjusted = np.sort(0.5 * median + (z - median) * np.asarray(spec.calibration), axis=2)
    ahead = season(spec.features.seasonal, _ORIGINS, _SMALL)
    scale = spec.features.volatility.scale(features.log_volatility, ahead, _SMALL)
    np.testing.assert_allclose(_returns(forecaster), adjusted * scale[:, :, None], rtol=1e-9, atol=1e-13)


def test_an_ensemble_is_the_mean_of_log_returns() -> None:
    """Members are averaged in log-returns, each with its weight at each horizon."""
    ensemble = _ensemble()
    parts = [_returns(member) for member in ensemble.members]
    weights = [np.asarray(member.weights) for member in ensemble.spec.members]
    want = sum(w[:, None] * part for w, part in zip(weights, parts, strict=True))
    np.testing.assert_allclose(_returns(ensemble), want, rtol=1e-9, atol=1e-14)


def test_members_own_states_do_not_count() -> None:
    """An ensemble goes by its own conformal state: what its members were stretched by alone is left out."""
    plain = _ensemble()
    members = [_volatility(conformal=_state(0.6)), plain.members[1]]
    np.testing.assert_array_equal(_returns(_ensemble(members)), _returns(plain))


def test_the_specs_own_shift_is_the_default() -> None:
    """Without a shift the state of the specification stretches; zeros give what the model itself says."""
    state = _state()
    with_state, without = _volatility(conformal=state), _volatility()
    made = with_state.predict(_BARS, _ORIGINS).quantiles
    given = without.predict(_BARS, _ORIGINS, shift=state.table).quantiles
    np.testing.assert_array_equal(made, given)
    none = with_state.predict(_BARS, _ORIGINS, shift=np.zeros_like(state.table)).quantiles
    np.testing.assert_allclose(none, without.predict(_BARS, _ORIGINS).quantiles, rtol=1e-14)
    assert (made[:, :, -1] > none[:, :, -1]).all()


@pytest.mark.parametrize("name", ["volatility", "lstm", "ensemble"])
def test_each_origin_has_its_own_shift(name: str) -> None:
    """A shift (N, H, Q) stretches each origin by its own part, also where unusable origins are left out."""
    forecaster = _MADE[name]()
    shift = np.random.default_rng(1).uniform(-0.5, 0.5, (4, len(_SMALL), len(LEVELS)))
    origins = np.concatenate([_TARGET.close_time[:1], _ORIGINS])
    made = forecaster.predict(_BARS, origins, (6, 1), skip_unusable=True, shift=shift)
    assert made.origin.tolist() == _ORIGINS.tolist()
    flat = forecaster.predict(_BARS, _ORIGINS, (6, 1), shift=np.zeros(shift.shape[1:]))
    returns = np.log(flat.quantiles / flat.last_close[:, None, None])
    want = shifted(returns, shift[1:, [2, 0]], _CENTRE)
    np.testing.assert_allclose(
        np.log(made.quantiles / made.last_close[:, None, None]), want, rtol=1e-9, atol=1e-13
    )


def test_the_floor_is_never_stretched() -> None:
    """The naive floor is the reference: no shift changes it."""
    floor = _MADE["naive"]()
    wide = floor.predict(_BARS, _ORIGINS, shift=np.full((len(_SMALL), len(LEVELS)), 0.5))
    np.testing.assert_array_equal(wide.quantiles, floor.predict(_BARS, _ORIGINS).quantiles)


def test_a_member_without_its_history_refuses_the_ensemble() -> None:
    """An origin that one member cannot forecast is refused with what it lacks, or left out when asked."""
    ensemble = _ensemble([_volatility(), _naive(horizons=_SMALL)])
    bars = {_SYMBOL: _TARGET.take(slice(0, 500))}
    with pytest.raises(DataError) as caught:
        ensemble.predict(bars)
    moment = from_epoch(bars[_SYMBOL].close_time[-1]).isoformat()
    assert str(caught.value) == (
        f"a forecast from {moment} needs 745 hours of BTC/USDT before it; run `hourcast etl gaps`"
    )
    assert len(ensemble.predict(bars, skip_unusable=True).origin) == 0
    short = {_SYMBOL: _TARGET.take(slice(0, 100))}
    with pytest.raises(DataError) as caught:
        _volatility().predict(short)
    assert str(caught.value).endswith(
        "needs 170 hours of BTC/USDT before it (at most 5% missing), but 100 are there; run `hourcast etl gaps`"
    )


def test_an_ensemble_needs_what_its_members_need() -> None:
    """Its history is that of the most demanding member, and it looks at the series of them all."""
    ensemble = _MADE["ensemble of networks"]()
    assert ensemble.history_h == max(member.history_h for member in ensemble.members) == 206
    assert ensemble.symbols == (_SYMBOL, "X")
    assert _ensemble().symbols == (_SYMBOL,)
    assert _ensemble([_volatility(), _naive(horizons=_SMALL)]).history_h == 745
    assert len(ensemble.predict(_BARS, _TARGET.close_time[205:206]).origin) == 1


@pytest.mark.parametrize("name", _MADE)
def test_saved_and_loaded_is_the_same(tmp_path: Path, name: str) -> None:
    """A directory that was saved loads with the same fingerprint, and forecasts the same to the bit."""
    forecaster = _MADE[name]()
    save(tmp_path, forecaster)
    again = load(tmp_path)
    assert again.spec == forecaster.spec
    assert again.fingerprint == forecaster.fingerprint
    assert [member.spec.kind for member in again.members] == [m.spec.kind for m in forecaster.members]
    np.testing.assert_array_equal(
        again.predict(_BARS, _ORIGINS).quantiles, forecaster.predict(_BARS, _ORIGINS).quantiles
    )


def test_the_folder_names_the_member(tmp_path: Path) -> None:
    """A member is a forecaster of its own, in the folder of its kind."""
    save(tmp_path, _MADE["ensemble of networks"]())
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == [
        "members/boosting/network.onnx",
        "members/boosting/spec.json",
        "members/transformer/network.onnx",
        "members/transformer/spec.json",
        "members/volatility/spec.json",
        "spec.json",
    ]
    assert load(tmp_path / "members" / "volatility").fingerprint == _volatility().fingerprint


def test_the_fingerprint_knows_every_part() -> None:
    """Another state, another network or another member is another forecaster."""
    made = [
        _ensemble(),
        _ensemble(conformal=_state()),
        _ensemble([_volatility(seed=2), _naive(horizons=_SMALL, naive_window_h=48)]),
        _ensemble([_volatility(), _naive(horizons=_SMALL, naive_window_h=49)]),
        _learned(),
        _learned(seed=2),
    ]
    assert len({forecaster.fingerprint for forecaster in made}) == len(made)


def test_members_that_do_not_belong_are_refused() -> None:
    """Members of other kinds than the specification says, or of other horizons, are named."""
    spec = _ensemble().spec
    floor = _naive(horizons=_SMALL, naive_window_h=48)
    for parts in ([floor, _volatility()], [_volatility()], []):
        with pytest.raises(DataError) as caught:
            Forecaster(spec, members=parts)
        kinds = [part.spec.kind for part in parts]
        assert str(caught.value) == f"an ensemble of ['volatility', 'naive'] got {kinds}"
    for other in (_naive(naive_window_h=48), _naive(horizons=_SMALL, target="ETH/USDT")):
        with pytest.raises(DataError) as caught:
            Forecaster(spec, members=[_volatility(), other])
        assert str(caught.value) == "the member naive forecasts something else than its ensemble"


_HALF = tuple([0.5] * len(_SMALL))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizons": ()}, "horizons must be positive, ascending and distinct"),
        ({"horizons": (2, 1)}, "horizons must be positive, ascending and distinct"),
        ({"horizons": (0, 1)}, "horizons must be positive, ascending and distinct"),
        ({"levels": (0.1, 0.9)}, "levels must be ascending and distinct and hold 0.5"),
        ({"kind": "lstm"}, "a forecaster of kind lstm needs features"),
        ({"features": features_of()}, "features must be of the same target"),
        ({"features": features_of(_SYMBOL, volatility=volatility_of((1, 2)))},
         "features must hold a volatility of the same horizons"),
        ({"calibration": ((1.0,),)}, "calibration must have the shape (horizons, levels)"),
        ({"horizons": (1, 2), "calibration": ((1.0,) * 19, (1.0,))}, "calibration must have the shape (horizons, levels)"),
        ({"base": ((0.0,) * 19,) * 24}, "a forecaster of kind naive has no base"),
        ({"kind": "volatility", "features": features_of(_SYMBOL)}, "a forecaster of kind volatility needs base"),
        ({"kind": "ensemble"}, "members belong to the kind ensemble, and to no other"),
        ({"members": (Member(kind="naive", weights=(1.0,) * 24),)}, "members belong to the kind ensemble, and to no other"),
        ({"kind": "ensemble", "members": (Member(kind="naive", weights=(0.5,) * 24),)},
         "members' weights must sum to 1 at each horizon"),
        ({"kind": "ensemble", "members": (Member(kind="naive", weights=(1.0,) * 23),)},
         "members' weights must sum to 1 at each horizon"),
        ({"kind": "ensemble", "members": (Member(kind="naive", weights=(0.5,) * 24), Member(kind="naive", weights=(0.5,) * 24))},
         "members must be of different kinds"),
        ({"conformal": _state()}, "conformal must have the same horizons and levels"),
    ],
)  # fmt: skip
def test_a_specification_that_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    """What does not go together is named in one sentence."""
    with pytest.raises(ValidationError) as caught:
        forecaster_spec(**changes)
    assert [error["msg"] for error in caught.value.errors()] == [f"Value error, {message}"]


def test_a_specification_of_a_later_release_is_no_broken_one(tmp_path: Path) -> None:
    """This release is too old for it: a wrong setting, and nothing against the model."""
    (tmp_path / "spec.json").write_text('{"schema_version": 3}')
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        "spec.json has schema 3, and this Hourcast (0.1.0) reads schema 2; upgrade Hourcast"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "spec.json is missing; this is no forecaster"),
        ("{", "spec.json is not valid: spec: Invalid JSON: EOF while parsing an object at line 1 column 1"),
        ("[]", "spec.json is not valid: spec: Input should be an object"),
        (
            '{"schema_version": 1, "kind": "lstm"}',
            "spec.json has schema 1, and this Hourcast reads schema 2; train again with `hourcast train`",
        ),
        ('{"schema_version": 2}', "spec.json is not valid: kind: Field required"),
        ('{"kind": "../prophet"}', "spec.json is not valid: kind: String should match pattern '^[a-z][a-z0-9_]{0,31}$'"),
    ],
)  # fmt: skip
def test_a_broken_directory_says_what_is_wrong(tmp_path: Path, text: str | None, message: str) -> None:
    """A missing, unreadable, old or foreign specification is an error in one sentence."""
    if text is not None:
        (tmp_path / "spec.json").write_text(text)
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert str(caught.value) == message


def test_a_broken_member_is_named(tmp_path: Path) -> None:
    """What is wrong with a member begins with its folder."""
    save(tmp_path, _ensemble())
    (tmp_path / "members" / "naive" / "spec.json").unlink()
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert str(caught.value) == "members/naive: spec.json is missing; this is no forecaster"


@pytest.mark.parametrize("name", ["naive", "volatility", "ensemble"])
def test_a_network_that_should_not_be_there_is_refused(tmp_path: Path, name: str) -> None:
    """Kinds without a network do not load beside one."""
    save(tmp_path, _MADE[name]())
    (tmp_path / "network.onnx").write_bytes(b"junk")
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"a forecaster of kind {name} has no network, but network.onnx is there"


def test_a_network_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """A network that is missing, is no ONNX or has another shape does not become a forecaster."""
    save(tmp_path, _learned())
    path = tmp_path / "network.onnx"

    def refused() -> str:
        with pytest.raises(DataError) as caught:
            load(tmp_path)
        return str(caught.value)

    path.write_bytes(b"junk")
    assert refused().startswith("network.onnx cannot be loaded: ")
    path.write_bytes(_network(3, 5))
    assert refused() == (
        "network.onnx maps [('x', [5, 3])] to [('z', [4, 19])], "
        "but spec.json asks for [('x', [5, 16])] to [('z', [4, 19])]"
    )
    path.unlink()
    assert refused() == "a forecaster of kind lstm needs network.onnx, which is missing"


def test_a_value_that_is_no_number_is_refused() -> None:
    """A forecast is a number or an error that names the kind."""
    broken = _volatility(base=((float("nan"),) * len(LEVELS),) * len(_SMALL))
    with pytest.raises(DataError) as caught:
        broken.predict(_BARS, _ORIGINS)
    assert str(caught.value) == "the volatility model gave a value that is not a number"


@pytest.mark.parametrize("name", _MADE)
def test_golden_holds_only_the_known_and_is_checked(tmp_path: Path, name: str) -> None:
    """A golden prediction is repeated by what was saved, from few bars, and another output is refused with its distance."""
    forecaster = _MADE[name]()
    origin = int(_TARGET.close_time[700])
    golden = make_golden(forecaster, _BARS, origin)
    assert set(golden.bars) == set(forecaster.symbols)
    parts = {symbol: Bars.from_json(part) for symbol, part in golden.bars.items()}
    assert max(part.close_time.max() for part in parts.values()) <= origin
    assert len(parts[_SYMBOL]) <= forecaster.history_h + 4
    save(tmp_path, forecaster)
    check_golden(load(tmp_path), type(golden).model_validate_json(golden.model_dump_json()))
    off = json.loads(golden.model_dump_json())
    off["quantiles"][0][0] *= 1.01
    with pytest.raises(DataError) as caught:
        check_golden(forecaster, type(golden).model_validate(off))
    assert str(caught.value) == "golden prediction differs by 9.90e-03 of the price, more than 1e-04"
    off["quantiles"].pop()
    with pytest.raises(DataError) as caught:
        check_golden(forecaster, type(golden).model_validate(off))
    assert str(caught.value) == "golden prediction has shape (4, 19), but (3, 19) was recorded"


def test_golden_bars_tell_what_a_hole_was_carried_from() -> None:
    """Where the first hours of the needed history are missing, the golden input still gives the same output."""
    forecaster = _MADE["naive"]()
    at = 700
    first = at - forecaster.history_h
    bars = {_SYMBOL: _TARGET.take(~np.isin(np.arange(len(_TARGET)), range(first - 4, first + 3)))}
    origin = _TARGET.close_time[[at]]
    golden = make_golden(forecaster, bars, int(origin[0]))
    np.testing.assert_array_equal(golden.quantiles, forecaster.predict(bars, origin).quantiles[0])


@pytest.mark.parametrize("kind", ["naive", "volatility", "ensemble"])
def test_a_forecast_knows_what_it_was_made_from(kind: str) -> None:
    """Its mark is the same alone and in a run, and for some horizons; only what was known then changes it."""
    forecaster = {"naive": _naive, "volatility": _volatility, "ensemble": _ensemble}[kind]()
    origins = _TARGET.close_time[800:803]
    made = forecaster.predict(_BARS, origins, fingerprints=True)
    assert len(set(made.fingerprints)) == 3
    assert made.only((1, 6)).fingerprints == made.fingerprints
    assert forecaster.predict(_BARS, origins).fingerprints == ()
    if kind == "volatility":
        assert forecaster.spec.features is not None
        assert made.fingerprints == fingerprint(build(_BARS, forecaster.spec.features, origins))
    known = {symbol: part.known_at(int(origins[1])) for symbol, part in _BARS.items()}
    alone = forecaster.predict(known, origins[1:2], (1,), fingerprints=True)
    assert alone.fingerprints == made.fingerprints[1:2]
    close = _TARGET.close.copy()
    close[801] *= 1.001
    revised = {**_BARS, _SYMBOL: replace(_TARGET, close=close, high=np.maximum(_TARGET.high, close))}
    after = forecaster.predict(revised, origins, fingerprints=True).fingerprints
    assert [a == b for a, b in zip(made.fingerprints, after, strict=True)] == [True, False, False]
