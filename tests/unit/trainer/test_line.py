"""The back-test decides each week as production's training does, by the same functions and to the same end."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hourcast.conformal import ConformalState, walk
from hourcast.contracts import CHAMPION, Bars, parse_hour
from hourcast.forecaster import save
from hourcast.store import Evaluation, Store, open_store
from hourcast_trainer.calibration import warmed_up
from hourcast_trainer.choice import Chooser
from hourcast_trainer.datasets import realised
from hourcast_trainer.gate import Decision, decide
from hourcast_trainer.lab.backtest import WeekResult, fit_week, remaining, report, run_backtest
from hourcast_trainer.lab.deciding import decide_weeks
from hourcast_trainer.lab.line import Line, Served, Week
from hourcast_trainer.lab.walk import Fold, folds, forecast_hours
from hourcast_trainer.measuring import measure, measure_naive
from hourcast_trainer.models import FitRequest, Fitted
from hourcast_trainer.models.volatility import VolatilityModel
from hourcast_trainer.registry import RegisteredVersion
from hourcast_trainer.settings import TrainerSettings
from hourcast_trainer.training import train_once
from tests.specs import random_walk

_T = "BTC/USDT"
_START = parse_hour("2024-03-04")
_SETTINGS = TrainerSettings(
    model_kind="volatility", series=[{"symbol": _T, "role": "target"}], feature_series=(), train_days=60,
    gate_margin=0.2, champion_days=21, champion_p=0.49,
)  # fmt: skip


@pytest.fixture(scope="module")
def bars() -> dict[str, Bars]:
    """200 days that are calm and wild by turns, of which a model of volatility knows and the naive floor does not."""
    first = random_walk(_T, 24 * 200)
    moves = np.diff(np.log(first.close), prepend=np.log(100.0))
    close = 100 * np.exp(np.cumsum(moves * np.exp(0.7 * np.sin(np.arange(len(first)) * 2 * np.pi / 240))))
    opens = np.concatenate([[100.0], close[:-1]])
    high, low = np.maximum(opens, close) * 1.001, np.minimum(opens, close) * 0.999
    return {_T: Bars.of(_T, first.open_time, np.column_stack([opens, high, low, close, first.volume]))}


def _weeks(number: int) -> list[Fold]:
    return folds(_START, _START + timedelta(weeks=number), 7, _SETTINGS)


@pytest.fixture
def widths(monkeypatch: pytest.MonkeyPatch) -> dict[datetime, float]:
    """How many times too wide the model is that is fitted at a week's start."""
    found: dict[datetime, float] = {}
    fit = VolatilityModel.fit

    def scripted(self: VolatilityModel, request: FitRequest) -> Fitted:
        fitted = fit(self, request)
        factor = found.get(request.plan.gate_end, 1.0)
        base = tuple(tuple(factor * q for q in row) for row in fitted.spec.base or ())
        return replace(fitted, spec=fitted.spec.model_copy(update={"base": base}))

    monkeypatch.setattr(VolatilityModel, "fit", scripted)
    return found


def _fitted(bars: Mapping[str, Bars], weeks: list[Fold]) -> list[WeekResult]:
    chooser = Chooser(bars, _SETTINGS)
    return [fit_week(bars, _SETTINGS, week, chooser) for week in weeks]


def _decided(bars: Mapping[str, Bars], fits: list[WeekResult]) -> list[Served]:
    line = Line(_SETTINGS, bars)
    return [line.step(Week(f.week, f.made.rows, f.fitted.forecaster)) for f in fits]


def test_a_week_whose_candidate_fails_is_served_by_the_incumbent(
    bars: dict[str, Bars], widths: dict[datetime, float]
) -> None:
    """While what was served is no worse than naive it stays, and the week's forecasts are its own and not the floor's."""
    weeks = _weeks(2)
    widths[weeks[1].start] = 4.0
    fits = _fitted(bars, weeks)
    first, second = _decided(bars, fits)
    assert (first.version.fold, first.version.kind) == (weeks[0], "volatility")
    assert not second.decision.passed
    assert second.version is first.version
    assert second.reason.startswith(
        "the version of backtest_20240218 stays, still no worse than naive; the volatility model was not shown"
    )
    raw = forecast_hours(fits[0].fitted.forecaster(), bars, weeks[1], _T)
    np.testing.assert_array_equal(second.measured.origin, raw.origin)
    ours = np.log(second.measured.quantiles[:, 0, 9] / second.measured.last_close)
    np.testing.assert_allclose(ours, raw.returns[:, 0, 9], atol=1e-6)


def test_a_first_week_whose_candidate_fails_is_the_floors(
    bars: dict[str, Bars], widths: dict[datetime, float]
) -> None:
    """Before anything was served there is the naive floor, as there is on a new installation."""
    weeks = _weeks(1)
    widths[weeks[0].start] = 4.0
    (served,) = _decided(bars, _fitted(bars, weeks))
    assert served.version.kind == "naive"
    assert served.reason.startswith(
        "the naive floor; the volatility model was not shown to be at most 20 % worse"
    )
    np.testing.assert_allclose(served.measured.quantiles, served.naive.quantiles, rtol=1e-6)


def test_a_look_that_would_pass_alone_fails_because_of_the_looks_before_it(
    bars: dict[str, Bars], widths: dict[datetime, float]
) -> None:
    """A good candidate after a bad one has to make up for the bad one's days, as at production's gate."""
    weeks = _weeks(2)
    widths[weeks[0].start] = 4.0
    fits = _fitted(bars, weeks)
    served = _decided(bars, fits)[1]
    plan = weeks[1].plan
    known = {_T: bars[_T].known_at(plan.gate_end_s)}
    ours = measure(fits[1].fitted.forecaster(), known, plan.gate_start_s, plan.gate_end_s)
    naive = measure_naive(known[_T], plan.gate_start_s, plan.gate_end_s)
    assert decide(ours, {"naive": naive}, _SETTINGS.gate_margin, _SETTINGS.gate_p).passed
    assert not served.decision.passed
    assert "is asked for at look 2 of a year" in served.reason


def test_calibration_goes_on_through_a_week_of_the_floor(
    bars: dict[str, Bars], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its first candidate's held-out window on it is one walk: the floor's week stays as it is, and teaches too."""
    weeks = _weeks(3)
    chosen = iter(["candidate", "floor", "candidate"])
    monkeypatch.setattr("hourcast_trainer.lab.line.served_by", lambda *_: next(chosen))
    fits = _fitted(bars, weeks)
    served = _decided(bars, fits)
    assert [s.version.kind for s in served] == ["volatility", "naive", "volatility"]
    np.testing.assert_allclose(served[1].measured.quantiles, served[1].naive.quantiles, rtol=1e-6)

    floor = np.log(served[1].naive.quantiles / served[1].naive.last_close[:, None, None]).astype(np.float32)
    returns = np.concatenate([fits[0].made.rows.returns, floor, fits[2].made.rows.returns])
    origin = np.concatenate([f.made.rows.origin for f in fits])
    last = np.concatenate([f.made.rows.last_close for f in fits])
    plan = weeks[0].plan
    state = warmed_up(fits[0].fitted.forecaster(), {_T: bars[_T].known_at(plan.gate_end_s)}, plan)
    still = np.repeat([False, True, False], 168)
    wanted, _ = walk(state, origin, returns, np.log(realised(bars[_T], origin) / last[:, None]), still)
    got = np.concatenate(
        [np.log(s.measured.quantiles / s.measured.last_close[:, None, None]) for s in served]
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-7)
    fresh = ConformalState.start(weeks[2].start, state.horizons, state.levels)
    assert not np.allclose(state.table, fresh.table)
    assert not np.allclose(got[336], fits[2].made.rows.returns[0], rtol=1e-4)


class _Registry:
    """MLflow's part in a training, in memory and a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._aliases: dict[str, int] = {}
        self.made: dict[int, RegisteredVersion] = {}

    def __getattr__(self, name: str) -> Any:
        assert name in ("ready", "clear_interrupted", "finish_aliases")
        return lambda: [] if name == "finish_aliases" else 0

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        yield

    def versions(self) -> list[RegisteredVersion]:
        return list(self.made.values())

    def aliases(self) -> dict[str, int]:
        return dict(self._aliases)

    def register(
        self,
        fitted: Fitted,
        _golden: Any,
        _bars: Any,
        stage: str,
        _m: Any,
        _p: Any,
        decision: Decision | None,
        alias: str,
    ) -> int:
        number = len(self.made) + 1
        save(self.forecaster_of(number), fitted.forecaster())
        gate = "undecided" if decision is None else "passed" if decision.passed else "failed"
        through = fitted.spec.trained_through
        self.made[number] = RegisteredVersion(number, fitted.spec.kind, stage, gate, through, alias, False)
        return number

    def set_alias(self, version: int, alias: str) -> None:
        self._aliases[alias] = version
        self.made[version] = replace(self.made[version], alias_was_set=True)

    def crown(self, version: int, _evidence: Any) -> None:
        self._aliases[CHAMPION] = version

    def note_challenge(self, version: int, _outcome: str) -> None:
        self.made[version] = replace(self.made[version], challenged=True)

    def note_decision(self, version: int, decision: Decision, _alias: str) -> None:
        gate = "undecided" if decision is None else "passed" if decision.passed else "failed"
        self.made[version] = replace(self.made[version], gate=gate)

    def forecaster_of(self, version: int, _into: Path | None = None) -> Path:
        return self._folder / str(version)


@pytest.fixture
def store_of(tmp_path: Path, bars: dict[str, Bars]) -> Iterator[Store]:
    """A store with the bars."""
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    store.upgrade()
    store.upsert_bars(bars[_T], "files", parse_hour("2024-07-01"))
    yield store
    store.close()


def _told(registry: _Registry, version: int | None) -> tuple[str, date | None]:
    assert version is not None
    found = registry.made[version]
    return found.kind, found.trained_through


@pytest.mark.parametrize(
    ("number", "too_wide", "served", "champions"),
    [(7, {0: 2.0, 3: 2.0, 4: 2.0}, 6, 3), (2, {0: 4.0}, 1, 1)],
    ids=["incumbents and champions", "the floor"],
)
def test_production_and_the_back_test_decide_alike(
    bars: dict[str, Bars],
    widths: dict[datetime, float],
    store_of: Store,
    tmp_path: Path,
    number: int,
    too_wide: dict[int, float],
    served: int,
    champions: int,
) -> None:
    """Production's trainings and the same weeks walked: the same reasons, the same served, the same champions."""
    weeks = _weeks(number)
    widths.update({weeks[place].start: factor for place, factor in too_wide.items()})
    registry, settings = _Registry(tmp_path), _SETTINGS
    production = []
    for week in weeks:
        done = train_once(settings, store_of, registry, week.start, lambda _line: None)  # type: ignore[arg-type]
        champion = registry.aliases()[CHAMPION]
        production.append((done.reasons, _told(registry, done.served), _told(registry, champion), champion))
    walked = []
    line = Line(settings, bars)
    for f in _fitted(bars, weeks):
        found, champion_now = line.step(Week(f.week, f.made.rows, f.fitted.forecaster)), line._champion
        assert champion_now is not None
        told = [(v.kind, v.fold.plan.trained_through) for v in (found.version, champion_now)]
        walked.append(((found.decision.reason,), *told, found.champion))
    assert walked == production
    assert len({row[1] for row in walked}) == served
    assert len({row[2] for row in walked}) == champions


def test_weeks_are_decided_once_and_again_when_one_has_changed(
    bars: dict[str, Bars], widths: dict[datetime, float], store_of: Store, tmp_path: Path
) -> None:
    """A second call writes nothing; what an earlier release left is decided anew; a longer span adds to what is there."""
    weeks, registry, model = _weeks(4), _Registry(tmp_path), _SETTINGS.model_name
    widths.update({weeks[0].start: 4.0, weeks[3].start: 4.0})
    old = Evaluation(
        model, 99, weeks[0].alias, "volatility", "backtest", "naive", weeks[0].start, weeks[0].end, True,
        {"recipe": "of an earlier release"}, "", weeks[0].start,
    )  # fmt: skip
    store_of.save_evaluation(old)
    shards: list[tuple[int, int] | None] = [(1, 2), (0, 2), None]

    def backtest(end: datetime, shard: tuple[int, int] | None) -> None:
        span = (_SETTINGS, store_of, registry, _START, end, 7)
        list(run_backtest(*span, 1, shard))  # type: ignore[arg-type]
        if not remaining(_SETTINGS, store_of, _START, end, 7):
            decide_weeks(*span)  # type: ignore[arg-type]

    def left() -> tuple[object, ...]:
        found = store_of.evaluations(model, "backtest")
        return registry.aliases(), dict(registry.made), found

    backtest(weeks[2].end, shards[0])
    assert not registry.aliases()
    backtest(weeks[2].end, shards[1])
    floor = registry.aliases()[weeks[0].alias]
    assert registry.made[floor].kind == "naive"
    assert floor == 4
    before = left()
    backtest(weeks[2].end, shards[2])
    assert left() == before
    backtest(weeks[3].end, None)
    assert {k: v for k, v in registry.aliases().items() if k != weeks[3].alias} == before[0]
    assert len(registry.made) == 5
    told = {e.alias: (e.kind, e.figures.get("served")) for e in store_of.evaluations(model, "backtest")}
    rows = store_of.backtest_rows(model)
    assert told == {r.alias: (registry.made[r.version].kind, r.version) for r in rows}
    assert told[weeks[0].alias] == ("naive", floor)
    assert sum(len(r.origin) for r in rows) == 4 * 168
    found = report(store_of, _SETTINGS, _START, weeks[3].end, 7)
    assert found.models + found.floors == 4
