"""`hourcast features`: the table that a model saw agrees with what its forecasts carry."""

import hashlib
import io
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from hourcast.contracts import HOUR_S, Bars, from_epoch, to_epoch
from hourcast.errors import DataError
from hourcast.features import FeatureSpec, build, feature_names, fingerprint
from hourcast.forecaster import LEVELS, Forecaster, Member
from hourcast.store import Hour, SeriesState, Store, open_store
from hourcast_trainer.table import feature_table, write_table
from tests.specs import START, features_of, forecaster_spec, random_walk, volatility_of

_HOURS = 700
_END = START + _HOURS * HOUR_S
_SHAPE = (tuple(np.linspace(-1, 1, len(LEVELS)).tolist()),) * 24
_SEES_X = features_of("T", ("X",), window=6, vol_lags=168)
_ALONE = features_of("T", window=1, vol_lags=168, volatility=volatility_of(halflives_h=(12, 48, 96)))


def _model(features: FeatureSpec) -> Forecaster:
    return Forecaster(forecaster_spec(kind="volatility", target="T", base=_SHAPE, features=features))


def _network(window: int, width: int) -> bytes:
    """A network that gives the same shape whatever it sees, as ONNX."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "nothing": np.zeros((window * width, 24 * len(LEVELS)), np.float32),
        "shape": np.asarray(_SHAPE, np.float32).reshape(1, -1),
        "flat": np.array([-1, window * width], np.int64),
        "deep": np.array([-1, 24, len(LEVELS)], np.int64),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "shape"], ["made"]),
        helper.make_node("Reshape", ["made", "deep"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes, "constant",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", window, width])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 24, len(LEVELS)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    made: bytes = model.SerializeToString()
    return made


def _ensemble() -> Forecaster:
    """Members that look at two tables of features, and one that looks at closes alone."""
    members = (
        _model(_ALONE),
        Forecaster(
            forecaster_spec(kind="lstm", target="T", features=_SEES_X),
            _network(_SEES_X.window, _SEES_X.width),
        ),
        Forecaster(forecaster_spec(target="T", naive_window_h=48)),
    )
    named = tuple(Member(kind=m.spec.kind, weights=(1 / 3,) * 24) for m in members)
    return Forecaster(forecaster_spec(kind="ensemble", target="T", members=named), None, members)


def _market() -> dict[str, Bars]:
    hours = START + np.arange(_HOURS) * HOUR_S
    return {"T": random_walk("T", _HOURS, 1), "X": random_walk("X", hours[::2] + 1800, 2)}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with the market, loaded at its end; nothing is recorded."""
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        opened.upgrade()
        for bars in _market().values():
            opened.upsert_bars(bars, "s", from_epoch(_END))
        yield opened


def _read(body: bytes) -> pa.Table:
    return parquet.read_table(io.BytesIO(body))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hours=st.sets(st.integers(_SEES_X.history_h, _HOURS), min_size=1, max_size=5), ensemble=st.booleans())
def test_online_and_offline_tables_agree(hours: set[int], ensemble: bool, store: Store) -> None:
    """At random hours what a forecast carries, made from serving's read of the last weeks, is in the row of the whole history."""
    forecaster = _ensemble() if ensemble else _model(_SEES_X)
    whole = store.read_recorded("m", forecaster.symbols, known_at=from_epoch(_END))
    table = feature_table(forecaster, whole, START, _END + 1)
    for number in hours:
        origin = START + number * HOUR_S
        start = from_epoch(origin) - timedelta(hours=forecaster.history_h + 4, weeks=1)
        bars = store.read_many(forecaster.symbols, start=start, known_at=from_epoch(origin))
        online = forecaster.predict(bars, np.array([origin]), fingerprints=True)
        (place,) = np.flatnonzero(table.origin == origin)
        assert table.looked.fingerprints[place] == online.fingerprints[0]
        for spec, features in table.looked.tables.items():
            alone = build(bars, spec, np.array([origin]))
            for name in ("x", "log_volatility", "last_close", "usable"):
                assert getattr(features, name)[place].tobytes() == getattr(alone, name)[0].tobytes()


def test_yesterdays_features_keep_their_bytes(store: Store) -> None:
    """After a revision the table as of then is the same file; as of now the revised hours are others."""
    start, then = _END - 24 * HOUR_S, from_epoch(_END) + timedelta(minutes=1)
    forecaster = _ensemble()

    def written(as_of: datetime | None) -> bytes:
        bars = store.read_recorded("m", forecaster.symbols, known_at=from_epoch(_END), as_of=as_of)
        return write_table(feature_table(forecaster, bars, start, _END + 1), {"model": "m"})

    before = written(None)
    revised = random_walk("T", _HOURS, 3).take(slice(-30, None))
    assert store.upsert_bars(revised, "s", then + timedelta(minutes=1)).revised == 30
    assert written(then) == before
    assert written(None) != before


def test_a_recorded_hour_is_what_was_known_at_it(store: Store) -> None:
    """It is marked, and the others are reconstructed; what was revised since is as it was, the forecast's mark with it."""
    forecaster, hour = _model(_SEES_X), from_epoch(_END)
    states = {
        "T": SeriesState("there", hour),
        "X": SeriesState("given_up", hour - timedelta(hours=2, minutes=30)),
    }
    store.close_hour(Hour("m", hour, hour, hour, states))
    closed = store.hours("m")[0]
    bars = closed.known(store.read_many(forecaster.symbols, known_at=hour, as_of=closed.closed_at))
    online = forecaster.predict(bars, np.array([_END]), fingerprints=True).fingerprints
    store.upsert_bars(random_walk("T", _HOURS, 3).take(slice(-3, None)), "s", hour + timedelta(hours=1))
    read = store.read_recorded("m", forecaster.symbols, known_at=hour)
    found = _read(write_table(feature_table(forecaster, read, _END - HOUR_S, _END + 1), {}))
    assert found.column("recorded").to_pylist() == [False, True]
    assert found.column("fingerprint").to_pylist()[1:] == list(online)
    assert found.column("volatility.X_age").to_pylist()[1] == pytest.approx(2.5 / 30)


def test_the_file_says_all_that_a_model_saw() -> None:
    """From the file alone the fingerprint can be made again; every feature has a name and hours that are not usable are null."""
    forecaster = _model(_SEES_X)
    table = feature_table(forecaster, _market(), START, _END + 1)
    found = _read(write_table(table, {"model": "m", "version": "3"}))
    assert found.schema.metadata[b"version"] == b"3"
    assert found.column_names[:5] == ["hour", "usable", "recorded", "fingerprint", "last_close"]
    named = [f"volatility.{n}" for n in feature_names(_SEES_X)]
    assert found.column_names[5 : 5 + _SEES_X.width] == named
    halflives = [f"volatility.log_volatility_{h:g}h" for h in _SEES_X.volatility.halflives_h]
    assert found.column_names[5 + _SEES_X.width :] == [*halflives, "volatility.window"]
    rows = found.to_pylist()
    assert rows[-1]["hour"] == from_epoch(_END)
    assert rows[0]["usable"] is False
    assert {rows[0][name] for name in found.column_names[3:]} == {None}
    for row in (rows[-1], rows[-100]):
        window = np.array(row["volatility.window"], "<f4")
        tail = np.array([row[h] for h in halflives] + [row["last_close"]], "<f8")
        assert hashlib.sha256(window.tobytes() + tail.tobytes()).hexdigest()[:16] == row["fingerprint"]
        assert [row[n] for n in named] == window.reshape(6, -1)[-1].tolist()
        mark = fingerprint(build(_market(), _SEES_X, np.array([to_epoch(row["hour"])])))
        assert mark == (row["fingerprint"],)


def test_what_cannot_be_a_table_says_why() -> None:
    """The naive floor sees no features; without bars there is no table; a span may hold no hour."""
    with pytest.raises(DataError) as floor:
        feature_table(Forecaster(forecaster_spec(target="T")), _market(), START, _END)
    assert str(floor.value) == "the naive model sees no features; name another version with --alias"
    with pytest.raises(DataError) as empty:
        feature_table(_model(_ALONE), {}, START, _END)
    assert str(empty.value) == "there are no bars of T yet; run `hourcast etl run`"
    with pytest.raises(DataError) as span:
        feature_table(_model(_ALONE), _market(), START + 60, START + 120)
    assert str(span.value) == "no bar of T closes in that span; hours end 0 minutes past"
