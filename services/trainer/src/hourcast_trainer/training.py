"""One scheduled training: due or not, fit, gate, register, alias."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal

from threadpoolctl import threadpool_limits

from hourcast.contracts import CHAMPION, Bars, date_alias
from hourcast.errors import DataError, UnavailableError
from hourcast.forecaster import load, make_golden
from hourcast.store import Evaluation, Store
from hourcast_trainer.calendar import TrainingPlan, next_due, plan_of
from hourcast_trainer.calibration import carried_on, warmed_up
from hourcast_trainer.championship import Championship, dated, incumbent_of
from hourcast_trainer.choice import Chooser
from hourcast_trainer.gate import Decision, Look
from hourcast_trainer.measuring import Measured, Scores, measure, measure_naive, uncalibrated
from hourcast_trainer.models import MODELS, EpochLosses, FitRequest, Fitted, Hyper
from hourcast_trainer.plots import calibration_plot, forecast_plot, loss_plot
from hourcast_trainer.registry import Registry
from hourcast_trainer.settings import TrainerSettings
from hourcast_trainer.succession import holds, judged, looks_before, served_by

__all__ = ["Outcome", "read_bars", "train_once"]

_LOG = logging.getLogger(__name__)
_CALIBRATIONS = 8
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call of `train_once` did."""

    status: Literal["nothing due", "trained"]
    message: str
    versions: tuple[int, ...] = ()
    alias: str | None = None
    served: int | None = None
    reasons: tuple[str, ...] = field(default=())


def read_bars(store: Store, settings: TrainerSettings, known_at: datetime) -> dict[str, Bars]:
    """Bars of every series that were known at a moment, with how they looked when their hours were closed."""
    symbols = [s.symbol for s in settings.series]
    gone = store.forgotten("hours")
    rolling = settings.train_window == "rolling"
    if gone is not None and (not rolling or gone > known_at - timedelta(days=settings.train_days)):
        _LOG.warning(
            "of hours before %s it is not on record any more what was known at them; their features are made from bars as "
            "they are now",
            f"{gone:%Y-%m-%d %H:%M}",
        )
    return store.read_recorded(settings.model_name, symbols, known_at=known_at)


def train_once(
    settings: TrainerSettings, store: Store, registry: Registry, as_of: datetime, say: Progress
) -> Outcome:
    """Train when a training is due at `as_of`. Safe to kill at any line and to call again.

    Only one training of a store runs at a time.

    Raises:
        UnavailableError: when a dependency does not answer, another training runs, or bars are still too few.
    """
    with store.exclusive("train"), registry.answering():
        registry.ready()
        if interrupted := registry.clear_interrupted():
            _LOG.warning("closed %d run(s) that an interrupted training had left", interrupted)
        for alias, version in registry.finish_aliases():
            say(f"alias {alias} -> version {version}: set what an interrupted training had decided")
        return _train(settings, store, registry, as_of, say)


def _train(
    settings: TrainerSettings, store: Store, registry: Registry, as_of: datetime, say: Progress
) -> Outcome:
    production = [v for v in registry.versions() if v.stage == "production" and v.trained_through]
    # The naive floor comes first on a new installation, so a span is done when a model was tried on it.
    tried = [v.trained_through for v in production if v.kind != "naive" and v.trained_through]
    due = next_due(max(tried, default=None), settings.train_every_days, settings.gate_days)
    if due is not None and as_of < due:
        return Outcome("nothing due", f"nothing due: the next training is due at {due:%Y-%m-%d %H:%M} UTC")
    bars = read_bars(store, settings, as_of)
    target = bars[settings.target.symbol]
    plan = plan_of(as_of, settings)
    have = len(plan.known(target))
    need = MODELS["naive"].history_h(settings)
    if have < need or int(target.close_time[-1]) < plan.gate_end_s:
        raise UnavailableError(
            f"not enough bars of {target.symbol} yet: a training as of {as_of:%Y-%m-%d %H:%M} UTC needs {need} hours "
            f"before {plan.train_end:%Y-%m-%d} and every hour up to {plan.gate_end:%Y-%m-%d}, "
            f"{have} are there; run `hourcast etl run`",
            retry_after_s=30,
        )
    alias = date_alias(plan.trained_through)
    job = _Job(settings, store, registry, plan, bars, say)
    versions: list[int] = []
    reasons: list[str] = []
    floor = next((v.version for v in production if v.kind == "naive" and v.alias == alias), None)
    if floor is None and not any(v.alias_was_set for v in production):
        floor = job.register_floor(alias, "the first version: there is always something to serve")
        versions.append(floor)
    if have < MODELS[settings.model_kind].history_h(settings):
        return Outcome(
            "trained",
            f"alias {alias} -> version {floor} (naive): {have} hours of history are too few for the {settings.model_kind} model",
            tuple(versions), alias, floor,
        )  # fmt: skip
    job.championship.hold_challenge([v for v in production if v.gate == "passed"])
    version, decision = job.train_candidate(alias)
    versions.append(version)
    reasons.append(decision.reason)
    incumbent = None if decision.passed else incumbent_of(registry)
    chosen = served_by(
        decision.passed, floor is not None, lambda: incumbent is not None and job.holds(incumbent)
    )
    if chosen == "incumbent":
        return Outcome(
            "trained",
            f"version {version} failed its gate and gets no alias, {decision.reason}; "
            f"version {incumbent} is still no worse than naive and stays",
            tuple(versions), None, incumbent, tuple(reasons),
        )  # fmt: skip
    served = version if chosen == "candidate" else floor
    if served is None:
        served = job.register_floor(alias, f"version {version} failed its gate, and so would what is served")
        versions.append(served)
    return Outcome(
        "trained",
        f"alias {alias} -> version {served}: version {version} "
        f"{'passed' if decision.passed else 'failed'} its gate, {decision.reason}",
        tuple(versions), alias, served, tuple(reasons),
    )  # fmt: skip


class _Job:
    """Fits, measures and registers on one plan."""

    def __init__(
        self,
        settings: TrainerSettings,
        store: Store,
        registry: Registry,
        plan: TrainingPlan,
        bars: dict[str, Bars],
        say: Progress,
    ) -> None:
        self._settings, self._store, self._registry = settings, store, registry
        self._plan, self._bars, self._say = plan, bars, say
        self.championship = Championship(settings, store, registry, plan, bars, say)
        self._naive = measure_naive(bars[settings.target.symbol], plan.gate_start_s, plan.gate_end_s)

    def register_floor(self, alias: str, why: str) -> int:
        """Register the naive floor, which passes by definition, and give it the alias."""
        fitted = MODELS["naive"].fit(self._request(lambda _losses: None))
        decision = Decision(True, f"the naive floor passes by definition; {why}", {})
        version = self._register(fitted, self._naive, decision, alias)
        self._record(version, fitted, alias, "naive", self._naive.scores, self._naive.scores, decision)
        self._give(version, alias, decision)
        if CHAMPION not in self._registry.aliases():
            self.championship.crown(version, None, "the first champion: there was none to compare it with")
        return version

    def train_candidate(self, alias: str) -> tuple[int, Decision]:
        """Fit the model, put it through the gate, register it; the alias comes last and only when it passed."""
        kind = self._settings.model_kind
        self._say(f"training the {kind} model through {self._plan.trained_through} (alias {alias})")
        # As the walk does: the last bits of a sum depend on how many threads it is made by.
        with threadpool_limits(self._settings.train_threads):
            hyper = Chooser(self._bars, self._settings).hyper(kind, self._plan.decided_at)
            fitted = MODELS[kind].fit(
                self._request(
                    lambda e: self._say(f"epoch {e.epoch}: validation loss {e.validation:.4f}"), hyper
                )
            )
        measured = measure(fitted.forecaster(), self._bars, self._plan.gate_start_s, self._plan.gate_end_s)
        champion = self.championship.holder_on_window()
        found = judged(
            measured, self._naive, champion[1] if champion else None, self._looks(kind), self._settings
        )
        decision = found.decision
        fitted = self._calibrated(fitted)
        version = self._register(fitted, found.candidate, decision, alias)
        for name, baseline in found.baselines.items():
            told = f"champion v{champion[0]}" if name == "champion" and champion else name
            self._record(version, fitted, alias, told, found.candidate.scores, baseline.scores, decision)
        if decision.passed:
            self._give(version, alias, decision)
        else:
            self._say(f"version {version} failed its gate: {decision.reason}")
        return version, decision

    def _looks(self, kind: str) -> list[Look]:
        """What the gate saw of earlier candidates of a kind."""
        made = self._store.evaluations(self._settings.model_name, "gate")
        seen = [
            (e.window_end, e.figures.get("days", {}))
            for e in sorted(made, key=lambda e: e.made_at)
            if e.kind == kind
        ]
        return looks_before(seen, self._plan.gate_end)

    def _calibrated(self, fitted: Fitted) -> Fitted:
        """The candidate with the conformal state that production has got to, or its own over the held-out window."""
        target = self._bars[self._settings.target.symbol]
        state = None
        # The naive floor has none; what was served before it has, and production's record leads on from there.
        for served in dated(self._registry)[:_CALIBRATIONS]:
            try:
                state = load(self._registry.forecaster_of(served)).spec.conformal
            except DataError as error:
                _LOG.warning("the calibration of version %d cannot be taken on: %s", served, error)
            if state is not None:
                break
        if state is None:
            state = warmed_up(fitted.forecaster(), self._bars, self._plan)
        state = carried_on(state, self._store, self._settings.model_name, target, self._plan)
        return replace(fitted, spec=fitted.spec.model_copy(update={"conformal": state}))

    def _request(
        self, on_epoch: Callable[[EpochLosses], None], hyper: Hyper = MappingProxyType({})
    ) -> FitRequest:
        return FitRequest(self._bars, self._plan, self._settings, hyper, on_epoch=on_epoch)

    def holds(self, version: int) -> bool:
        """Whether a version that is served may go on: on this window too it is no worse than naive."""
        try:
            forecaster = load(self._registry.forecaster_of(version))
            measured = uncalibrated(forecaster, self._bars, self._plan.gate_start_s, self._plan.gate_end_s)
        except DataError as error:
            _LOG.warning("version %d cannot be measured: %s", version, error)
            return False
        return holds(measured, self._naive, self._settings)

    def _register(self, fitted: Fitted, measured: Measured, decision: Decision, alias: str) -> int:
        scores = measured.scores
        metrics = {
            f"gate_{span}_{name}": value
            for span, part in scores.as_dict().items()
            for name, value in part.items()
        } | {
            f"gate_ratio {key}".replace(" ", "_").replace("/", "per"): v for key, v in decision.ratios.items()
        }
        plots = {
            "forecast": forecast_plot(
                measured.origin + 3600, measured.actual[:, 0], measured.quantiles[:, 0], measured.levels
            ),
            "calibration": calibration_plot(measured.actual[:, 0], measured.quantiles[:, 0], measured.levels),
        }
        if fitted.epochs:
            plots["loss"] = loss_plot(fitted.epochs)
        golden = make_golden(fitted.forecaster(), self._bars, self._plan.gate_end_s)
        self._say(f"registering the {fitted.spec.kind} version")
        return self._registry.register(
            fitted, golden, self._bars, "production", metrics, plots, decision, alias
        )

    def _record(
        self,
        version: int,
        fitted: Fitted,
        alias: str,
        baseline: str,
        ours: Scores,
        theirs: Scores,
        decision: Decision,
    ) -> None:
        self._store.save_evaluation(
            Evaluation(
                model=self._settings.model_name,
                version=version,
                alias=alias if decision.passed else None,
                kind=fitted.spec.kind,
                stage="gate",
                baseline=baseline,
                window_start=self._plan.train_end,
                window_end=self._plan.gate_end,
                passed=decision.passed,
                figures={
                    "candidate": ours.as_dict(),
                    "baseline": theirs.as_dict(),
                    "ratios": dict(decision.ratios),
                    "tests": dict(decision.evidence),
                    "days": {
                        key: {str(day): gain for day, gain in days.items()}
                        for key, days in decision.look.items()
                        if key.endswith(f" / {baseline.partition(' ')[0]}")
                    },
                    "margin": self._settings.gate_margin,
                    "level": self._settings.gate_p,
                },
                reason=decision.reason,
                made_at=self._plan.decided_at,
            )
        )

    def _give(self, version: int, alias: str, decision: Decision) -> None:
        self._registry.set_alias(version, alias)
        self._say(f"alias {alias} -> version {version}: {decision.reason}")
