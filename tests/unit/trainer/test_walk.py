"""The walk-forward engine: the same rows however it is cut, none that the future could reach."""

import contextlib
import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from hourcast.contracts import HOUR_S, Bars, parse_hour, to_epoch
from hourcast.errors import ConfigurationError, DataError
from hourcast.forecaster import Forecasts
from hourcast.store import Store, WalkFold, open_store
from hourcast_trainer.calendar import plan_of
from hourcast_trainer.choice import Chooser
from hourcast_trainer.lab.walk import (
    Fold,
    StoredWalk,
    Variant,
    folds,
    forecast_fold,
    rows_of,
    run_walk,
    to_do,
    variants_of,
    walk_id,
)
from hourcast_trainer.lab.walk.rows import FoldRows, read_parquet, write_parquet
from hourcast_trainer.models import MODELS, FitRequest, Fitted, Kind, Model, register, unregister
from hourcast_trainer.models.volatility import VolatilityModel
from hourcast_trainer.settings import TrainerSettings
from tests.leaks import assert_no_leak

_START, _END = parse_hour("2024-05-16"), parse_hour("2024-06-13")
_MADE = parse_hour("2024-07-01")


@pytest.fixture(scope="module")
def settings() -> TrainerSettings:
    """An ensemble without networks, which would take most of the time."""
    return TrainerSettings(
        ensemble_members=("volatility", "boosting"), train_days=120, boosting_rounds=6, feature_series=()
    )


@pytest.fixture
def bars(market_bars: dict[str, Bars]) -> dict[str, Bars]:
    """What was known at the end of the walk and some days more."""
    return {symbol: part.known_at(to_epoch(parse_hour("2024-06-20"))) for symbol, part in market_bars.items()}


def _walk(
    store: Store,
    settings: TrainerSettings,
    bars: Mapping[str, Bars],
    names: str,
    *,
    start: datetime = _START,
    end: datetime = _END,
    jobs: int = 1,
    shard: tuple[int, int] = (0, 1),
) -> list[Fold]:
    steps = folds(start, end, 7, settings)[shard[0] :: shard[1]]
    variants = variants_of(names.split(","), settings)
    for _done in run_walk(settings, store, bars, steps, variants, walk_id(settings, 7), jobs, _MADE):
        pass
    return steps


def _kept(store: Store, settings: TrainerSettings, names: str) -> list[WalkFold]:
    walk = walk_id(settings, 7)
    return [fold for name in names.split(",") for fold in store.walk_folds(settings.model_name, walk, name)]


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Callable[[str], Store]]:
    """Make stores by name, with every table; they are closed afterwards."""
    with contextlib.ExitStack() as opened:

        def made(name: str) -> Store:
            store = opened.enter_context(open_store(f"sqlite:///{tmp_path / f'{name}.db'}"))
            store.upgrade()
            return store

        yield made


@pytest.fixture
def with_kind() -> Iterator[Callable[[Model], None]]:
    """Register a kind for the time of a test, in place of one that was registered before by the same name."""
    names: set[str] = set()

    def registered(model: Model) -> None:
        unregister(model.kind)
        register(Kind(model))
        names.add(model.kind)

    yield registered
    for name in names:
        unregister(name)


def test_processes_and_shards_give_the_same_bytes(
    fresh: Callable[[str], Store], settings: TrainerSettings, bars: dict[str, Bars]
) -> None:
    """One process, two, and shards in any order keep the same files and lineage, to the last byte."""
    names = "naive,volatility,boosting,ensemble"
    one, two, cut = (fresh(name) for name in ("one", "two", "cut"))
    _walk(one, settings, bars, names)
    _walk(two, settings, bars, names, jobs=2)
    for i in (2, 0, 1):
        _walk(cut, settings, bars, names, shard=(i, 3))
    assert len(_kept(one, settings, names)) == 16
    assert _kept(one, settings, names) == _kept(two, settings, names) == _kept(cut, settings, names)


def test_a_walk_that_was_stopped_goes_on(
    fresh: Callable[[str], Store],
    settings: TrainerSettings,
    bars: dict[str, Bars],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is kept is not fitted again; what a revised bar decides is."""
    store = fresh("walk")
    fitted: list[datetime] = []
    fit = VolatilityModel.fit

    def counting(self: VolatilityModel, request: FitRequest) -> Fitted:
        fitted.append(request.plan.gate_end)
        return fit(self, request)

    monkeypatch.setattr(VolatilityModel, "fit", counting)
    steps, variants = folds(_START, _END, 7, settings), variants_of(["volatility"], settings)
    going = run_walk(settings, store, bars, steps, variants, walk_id(settings, 7), 1, _MADE)
    assert [next(going), next(going)] == [(0, 4), (1, 4)]
    going.close()
    fitted.clear()
    seen = list(run_walk(settings, store, bars, steps, variants, walk_id(settings, 7), 1, _MADE))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert steps[0].plan.gate_end not in fitted
    assert not to_do(store, settings, walk_id(settings, 7), bars, steps, variants)
    revised = bars["BTC/USDT"].close.copy()
    place = int(np.searchsorted(bars["BTC/USDT"].close_time, to_epoch(steps[2].start)))
    revised[place] *= 1.001
    changed = {**bars, "BTC/USDT": replace(bars["BTC/USDT"], close=revised)}
    assert list(to_do(store, settings, walk_id(settings, 7), changed, steps, variants)) == steps[2:]


def test_extending_a_walk_changes_no_earlier_row(
    fresh: Callable[[str], Store], settings: TrainerSettings, bars: dict[str, Bars]
) -> None:
    """A walk that ended amid a week and goes on later has the same earlier forecasts, calibrated or not."""
    store = fresh("walk")
    target = bars["BTC/USDT"]
    early = parse_hour("2024-06-02T09:00")
    steps = _walk(
        store, settings, {s: b.known_at(to_epoch(early)) for s, b in bars.items()}, "ensemble", end=early
    )
    known = target.known_at(to_epoch(early))
    before = rows_of(store, settings, walk_id(settings, 7), steps, "ensemble", known)
    files = {fold.start: fold.parquet for fold in _kept(store, settings, "ensemble")}
    steps = _walk(store, settings, bars, "ensemble")
    after = rows_of(store, settings, walk_id(settings, 7), steps, "ensemble", target)
    n = len(before)
    assert n == (early - _START) // timedelta(hours=1)
    assert len(after) == 4 * 168
    for name in ("origin", "last_close", "returns", "raw"):
        assert getattr(before, name).tobytes() == getattr(after, name)[:n].tobytes(), name
    kept = {fold.start: fold.parquet for fold in _kept(store, settings, "ensemble")}
    assert [kept[start] == body for start, body in files.items()] == [True, True, False]


@pytest.mark.parametrize("kind", ["volatility", "boosting", "ensemble"])
def test_no_forecast_sees_its_future(settings: TrainerSettings, bars: dict[str, Bars], kind: str) -> None:
    """Whatever comes after an hour of the week, forecasts made by that hour are the same bits."""
    week = folds(_START, _END, 7, settings)[1]
    moment = to_epoch(week.start) + 50 * HOUR_S
    assert_no_leak(lambda given: _by_then(given, settings, week, kind, moment), bars, moment)


def test_no_fit_sees_the_embargo_or_the_week(settings: TrainerSettings, bars: dict[str, Bars]) -> None:
    """A model depends on nothing after its training span: neither embargo, held-out window nor week."""
    week = folds(_START, _END, 7, settings)[1]

    def fingerprint(given: Mapping[str, Bars]) -> dict[str, npt.ArrayLike]:
        (made,) = forecast_fold(given, settings, week, variants_of(["boosting"], settings))
        return {"model": made.lineage["forecaster"], "data": made.lineage["data_fingerprint"]}

    # Until the week begins there must be bars to forecast from.
    moment = week.plan.train_end_s
    kept = fingerprint(bars)
    shaken = {symbol: _shaken(part, moment) for symbol, part in bars.items()}
    assert fingerprint(shaken) == kept
    assert fingerprint({symbol: _shaken(part, moment - HOUR_S) for symbol, part in bars.items()}) != kept


def test_a_planted_leak_is_caught(
    settings: TrainerSettings, bars: dict[str, Bars], with_kind: Callable[[Model], None]
) -> None:
    """The check above fails on a model that peeks one hour ahead."""

    class Peeking(Model):
        kind = "peeking"

        def history_h(self, settings: TrainerSettings) -> int:
            return 0

        def fit(self, request: FitRequest) -> Fitted:
            fitted = MODELS["volatility"].fit(request)
            return _Peek(fitted.spec, params=fitted.params)

    with_kind(Peeking())
    week = folds(_START, _END, 7, settings)[1]
    moment = to_epoch(week.start) + 50 * HOUR_S
    with pytest.raises(AssertionError, match="returns changed when what comes later was moved"):
        assert_no_leak(lambda given: _by_then(given, settings, week, "peeking", moment), bars, moment)


class _Peek(Fitted):
    def forecaster(self) -> "_Ahead":  # type: ignore[override]
        return _Ahead(super().forecaster())


class _Ahead:
    def __init__(self, honest: object) -> None:
        self._honest = honest

    def __getattr__(self, name: str) -> object:
        return getattr(self._honest, name)

    def predict(self, bars: Mapping[str, Bars], origins: npt.NDArray[np.int64], **how: bool) -> Forecasts:
        made: Forecasts = self._honest.predict(bars, origins, **how)  # type: ignore[attr-defined]
        ahead = np.roll(made.last_close, -1) / made.last_close
        return replace(made, quantiles=made.quantiles * ahead[:, None, None])


def _by_then(
    bars: Mapping[str, Bars], settings: TrainerSettings, week: Fold, kind: str, moment: int
) -> dict[str, npt.ArrayLike]:
    """What was forecast at a moment and before."""
    whole = Fold(week.start, datetime.fromtimestamp(moment + HOUR_S, UTC), week.plan)
    if bars["BTC/USDT"].close_time[-1] > moment:
        whole = week
    (made,) = forecast_fold(bars, settings, whole, variants_of([kind], settings))
    known = made.rows.origin <= moment
    return {"origin": made.rows.origin[known], "returns": made.rows.returns[known]}


def _shaken(bars: Bars, moment_s: int) -> Bars:
    later = bars.close_time > moment_s
    factor = np.where(later, 1 + 0.01 * np.sin(np.arange(len(bars))), 1.0)
    return replace(bars, **{name: getattr(bars, name) * factor for name in ("open", "high", "low", "close")})


def test_the_choice_never_sees_the_span_that_is_forecast(
    settings: TrainerSettings, bars: dict[str, Bars]
) -> None:
    """Hyperparameters are those of the quarter's first moment, whatever comes after its training span."""
    at = parse_hour("2024-06-06")
    kinds = ("volatility", "boosting")
    chosen = [Chooser(bars, settings).hyper(kind, at) for kind in kinds]
    cut = plan_of(parse_hour("2024-04-01"), settings).train_end_s
    known = {symbol: part.known_at(cut) for symbol, part in bars.items()}
    assert [Chooser(known, settings).hyper(kind, parse_hour("2024-04-01")) for kind in kinds] == chosen
    ensemble = Chooser(bars, settings).hyper("ensemble", at)
    assert ensemble == {
        f"{k}.{n}": v for k, hyper in zip(kinds, chosen, strict=True) for n, v in hyper.items()
    }


def test_the_best_candidate_is_chosen(
    settings: TrainerSettings, bars: dict[str, Bars], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two candidates the one with less loss on the last weeks of the training span wins, in either order."""
    fit = VolatilityModel.fit

    def worse(self: VolatilityModel, request: FitRequest) -> Fitted:
        fitted = fit(self, request)
        if request.hyper.get("halflives") != "day to month":
            return fitted
        base = tuple(tuple(2 * q for q in row) for row in fitted.spec.base or ())
        return replace(fitted, spec=fitted.spec.model_copy(update={"base": base}))

    monkeypatch.setattr(VolatilityModel, "fit", worse)
    for order in (("short to long", "day to month"), ("day to month", "short to long")):
        monkeypatch.setattr(
            VolatilityModel,
            "candidates",
            lambda _self, _settings, order=order: [{"halflives": n} for n in order],
        )
        hyper = Chooser(bars, settings).hyper("volatility", parse_hour("2024-06-06"))
        assert hyper == {"halflives": "short to long"}


def test_folds_keep_their_distance() -> None:
    """Embargo, held-out window and training span lie one after the other before each week; the last may be shorter."""
    steps = folds(
        _START, parse_hour("2024-06-01"), 7, TrainerSettings(embargo_h=48, gate_days=10, train_days=60)
    )
    assert [step.end - step.start for step in steps] == [
        timedelta(days=7),
        timedelta(days=7),
        timedelta(days=2),
    ]
    for step in steps:
        plan = step.plan
        assert plan.gate_end == step.start
        assert plan.gate_start - plan.train_end == timedelta(hours=48)
        assert plan.gate_end - plan.train_end == timedelta(days=10)
        assert plan.train_end - plan.start == timedelta(days=60)
    whole = folds(_START, _END, 7, TrainerSettings(train_window="expanding"))
    assert {step.plan.start for step in whole} == {datetime(2000, 1, 1, tzinfo=UTC)}


@pytest.mark.parametrize("embargo_h", [49, 168])
def test_an_embargo_that_leaves_too_little_to_prove_anything_is_refused(embargo_h: int) -> None:
    """Five days are the least that a gate can be passed on; of seven, 48 hours may go."""
    assert folds(_START, _END, 7, TrainerSettings(embargo_h=48, gate_days=7))
    with pytest.raises(ConfigurationError) as caught:
        folds(_START, _END, 7, TrainerSettings(embargo_h=embargo_h, gate_days=7))
    assert str(caught.value) == (
        f"HOURCAST_EMBARGO_H={embargo_h} leaves less than 5 days of the 7 on which a candidate is measured, and they "
        "prove nothing; make HOURCAST_GATE_DAYS longer"
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["gru"], "there is no kind of model 'gru'; there are naive, volatility"),
        (["lstm+SPY"], "there is no exogenous series 'SPY'; there are QQQ, ^VIX, GC=F"),
        (["lstm", "lstm"], "each kind is compared once, but the names are lstm, lstm"),
    ],
)
def test_unknown_names_are_told(names: list[str], message: str) -> None:
    """A kind or a series that there is not, and what there is."""
    with pytest.raises(ConfigurationError) as caught:
        variants_of(names, TrainerSettings())
    assert str(caught.value).startswith(message)


def test_names_add_series_and_take_them_away() -> None:
    """`+` adds to what the settings name, `-` takes from it; a symbol may hold either sign."""
    odd = TrainerSettings(
        series=[{"symbol": "A", "role": "target"}, {"symbol": "B-C"}, {"symbol": "D"}], feature_series=["D"]
    )
    found = variants_of(["lstm", "lstm+B-C", "lstm-D"], odd)
    assert [v.series for v in found] == [("D",), ("D", "B-C"), ()]
    assert [v.kind for v in found] == ["lstm"] * 3


def test_a_variant_looks_at_its_series(settings: TrainerSettings, bars: dict[str, Bars]) -> None:
    """`boosting+QQQ` has QQQ among its features and another forecast; `boosting` has not."""
    week = folds(_START, _END, 7, settings)[0]
    plain, more = forecast_fold(bars, settings, week, variants_of(["boosting", "boosting+QQQ"], settings))
    assert plain.fitted is not None
    assert more.fitted is not None
    assert plain.fitted.forecaster().symbols == ("BTC/USDT",)
    assert more.fitted.forecaster().symbols == ("BTC/USDT", "QQQ")
    assert (plain.lineage["series"], more.lineage["series"]) == ([], ["QQQ"])
    assert not np.array_equal(plain.rows.returns, more.rows.returns)


def test_rows_are_kept_as_parquet_and_read_back() -> None:
    """Equal rows give equal files; what is no such file is refused."""
    rng = np.random.default_rng(1)
    rows = FoldRows(
        np.arange(5) * HOUR_S, rng.random(5), np.sort(rng.normal(size=(5, 24, 19)), axis=2).astype(np.float32)
    )
    body = write_parquet(rows)
    assert body == write_parquet(rows)
    read = read_parquet(body)
    for name in ("origin", "last_close", "returns"):
        assert getattr(read, name).tobytes() == getattr(rows, name).tobytes()
    with pytest.raises(DataError, match="a fold of the walk cannot be read: "):
        read_parquet(body[:-40])


def test_rows_that_were_changed_or_are_missing_are_refused(
    fresh: Callable[[str], Store], settings: TrainerSettings, bars: dict[str, Bars]
) -> None:
    """A fold whose sum does not fit, and a span that was not walked."""
    store = fresh("walk")
    steps = _walk(store, settings, bars, "naive")
    walk = walk_id(settings, 7)
    fold = store.walk_folds(settings.model_name, walk, "naive")[1]
    store.save_walk_folds([replace(fold, sha256="0" * 64)])
    with pytest.raises(DataError) as caught:
        rows_of(store, settings, walk, steps, "naive", bars["BTC/USDT"])
    assert str(caught.value) == "the rows of naive from 2024-05-23 are not those that were kept; run it again"
    with pytest.raises(DataError) as caught:
        rows_of(store, settings, walk, steps, "lstm", bars["BTC/USDT"])
    assert str(caught.value) == (
        "the walk has no rows of lstm from 2024-05-16 to 2024-05-23; run `hourcast compare`"
    )


def test_rows_leave_with_their_lineage(
    tmp_path: Path, fresh: Callable[[str], Store], settings: TrainerSettings, bars: dict[str, Bars]
) -> None:
    """An export is a file a fold and kind, with a line each that says where it comes from."""
    store = fresh("walk")
    steps = _walk(store, settings, bars, "naive,boosting+^VIX")
    stored = StoredWalk(
        store, settings, walk_id(settings, 7), steps, ["naive", "boosting+^VIX"], bars["BTC/USDT"]
    )
    files = stored.export(tmp_path / "out")
    assert [f.name for f in files[::4]] == ["naive-20240516T00.parquet", "boosting__VIX-20240516T00.parquet"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "lineage.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == [f.name for f in files]
    told = lines[4]
    assert (told["kind"], told["series"], told["trained_through"]) == (
        "boosting+^VIX",
        ["^VIX"],
        "2024-05-01",
    )
    assert read_parquet(files[4].read_bytes()).returns.shape == (168, 24, 19)
    assert len(stored["naive"]) == 4 * 168
    with pytest.raises(KeyError):
        stored["lstm"]


def test_the_conformal_state_is_carried_over_the_folds(
    fresh: Callable[[str], Store], settings: TrainerSettings, bars: dict[str, Bars]
) -> None:
    """Calibration begins with nothing, goes on over refits, and leaves the naive reference alone."""
    store = fresh("walk")
    steps = _walk(store, settings, bars, "naive,volatility")
    walk = walk_id(settings, 7)
    ours = rows_of(store, settings, walk, steps, "volatility", bars["BTC/USDT"])
    naive = rows_of(store, settings, walk, steps, "naive", bars["BTC/USDT"])
    assert naive.returns is naive.raw
    np.testing.assert_array_equal(ours.returns[0], ours.raw[0])
    # Each fold is calibrated by all before it: alone it would begin anew.
    alone = rows_of(store, settings, walk, steps[1:], "volatility", bars["BTC/USDT"])
    assert not np.array_equal(ours.returns[168], alone.returns[0])
    np.testing.assert_array_equal(alone.returns[0], ours.raw[168])


_PLANTED = """
from dataclasses import replace

from hourcast_trainer.models.volatility import VolatilityModel


class Model(VolatilityModel):
    kind = "planted"

    def candidates(self, settings):
        return ({},)

    def fit(self, request):
        made = super().fit(request)
        return replace(made, spec=made.spec.model_copy(update={"median_shrink": SHRINK}))
"""


def test_a_model_that_was_changed_is_fitted_again(
    fresh: Callable[[str], Store],
    settings: TrainerSettings,
    bars: dict[str, Bars],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    with_kind: Callable[[Model], None],
) -> None:
    """Its kept rows are of what it was; those of a kind that has not changed stay, and so do they after a comment."""
    store, path = fresh("changed"), tmp_path / "planted_kind.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    end = _START + timedelta(days=7)

    def planted(source: str) -> dict[Fold, dict[Variant, str]]:
        path.write_text(source)
        sys.modules.pop("planted_kind", None)
        importlib.invalidate_caches()
        with_kind(importlib.import_module("planted_kind").Model())
        steps, variants = folds(_START, end, 7, settings), variants_of(("volatility", "planted"), settings)
        return to_do(store, settings, walk_id(settings, 7), bars, steps, variants)

    planted(_PLANTED.replace("SHRINK", "1.0"))
    _walk(store, settings, bars, "volatility,planted", end=end)
    assert planted(_PLANTED.replace("SHRINK", "1.0") + "# why\n") == {}
    ((recipes),) = planted(_PLANTED.replace("SHRINK", "0.25")).values()
    assert [variant.name for variant in recipes] == ["planted"]


def test_what_models_look_at_decides_their_rows(
    fresh: Callable[[str], Store], settings: TrainerSettings, bars: dict[str, Bars]
) -> None:
    """A kept fold of a model with QQQ is none of the same kind without it."""
    store = fresh("series")
    end = _START + timedelta(days=7)
    _walk(store, settings, bars, "boosting", end=end)
    other = settings.model_copy(update={"feature_series": ("QQQ",)})
    steps = folds(_START, end, 7, settings)
    assert to_do(store, other, walk_id(settings, 7), bars, steps, variants_of(("boosting",), other))
