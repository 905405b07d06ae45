"""One scheduled training: due or not, fit, gate, register, alias."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from hourcast.contracts import CHAMPION, Bars, alias_kind, date_alias
from hourcast.errors import DataError, UnavailableError
from hourcast.forecaster import load, make_golden
from hourcast.store import Evaluation, Store
from hourcast_trainer.calendar import TrainingPlan, next_due, plan_for
from hourcast_trainer.gate import Decision, Scores, decide
from hourcast_trainer.measuring import Measured, common, measure, measure_naive
from hourcast_trainer.metrics import better_p
from hourcast_trainer.models import MODELS, EpochLosses, FitRequest, Fitted
from hourcast_trainer.plots import calibration_plot, forecast_plot, loss_plot
from hourcast_trainer.registry import Registry
from hourcast_trainer.settings import TrainerSettings

__all__ = ["Outcome", "read_bars", "train_once"]

_LOG = logging.getLogger(__name__)
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
    """Bars of every series that were known at a moment."""
    return store.read_many((s.symbol for s in settings.series), known_at=known_at)


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
    # The naive floor comes first on a new installation, so a span is done when a network was tried on it.
    tried = [v.trained_through for v in production if v.kind != "naive" and v.trained_through]
    due = next_due(max(tried, default=None), settings.train_every_days, settings.gate_days)
    if due is not None and as_of < due:
        return Outcome("nothing due", f"nothing due: the next training is due at {due:%Y-%m-%d %H:%M} UTC")
    bars = read_bars(store, settings, as_of)
    target = bars[settings.target.symbol]
    plan = plan_for(as_of, settings.gate_days, settings.train_days)
    have = _hours_before(target, plan)
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
    if have < MODELS["lstm"].history_h(settings):
        return Outcome(
            "trained",
            f"alias {alias} -> version {floor} (naive): {have} hours of history are too few for the LSTM",
            tuple(versions), alias, floor,
        )  # fmt: skip
    version, decision = job.train_candidate(alias)
    versions.append(version)
    reasons.append(decision.reason)
    if decision.passed:
        served = version
    elif floor is not None:
        served = floor
    else:
        incumbent = _incumbent(registry)
        if incumbent is not None and job.holds(incumbent):
            return Outcome(
                "trained",
                f"version {version} failed its gate and gets no alias, {decision.reason}; "
                f"version {incumbent} is still no worse than naive and stays",
                tuple(versions), None, incumbent, tuple(reasons),
            )  # fmt: skip
        served = job.register_floor(alias, f"version {version} failed its gate, and so would what is served")
        versions.append(served)
    return Outcome(
        "trained",
        f"alias {alias} -> version {served}: version {version} "
        f"{'passed' if decision.passed else 'failed'} its gate, {decision.reason}",
        tuple(versions), alias, served, tuple(reasons),
    )  # fmt: skip


def _hours_before(target: Bars, plan: TrainingPlan) -> int:
    return len(target.known_at(plan.train_end_s))


def _incumbent(registry: Registry) -> int | None:
    """The version behind the newest date alias."""
    dated = {alias: version for alias, version in registry.aliases().items() if alias_kind(alias) == "date"}
    return dated[max(dated)] if dated else None


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
        self._naive = measure_naive(bars[settings.target.symbol], plan.train_end_s, plan.gate_end_s)

    def register_floor(self, alias: str, why: str) -> int:
        """Register the naive floor, which passes by definition, and give it the alias."""
        fitted = MODELS["naive"].fit(self._request(lambda _losses: None))
        decision = Decision(True, f"the naive floor passes by definition; {why}", {})
        version = self._register(fitted, self._naive, decision, alias)
        self._record(version, fitted, alias, "naive", self._naive.scores, self._naive.scores, decision)
        self._give(version, alias, decision)
        if CHAMPION not in self._registry.aliases():
            self._registry.set_alias(version, CHAMPION)
        return version

    def train_candidate(self, alias: str) -> tuple[int, Decision]:
        """Fit the LSTM, put it through the gate, register it; the alias comes last and only when it passed."""
        self._say(f"training the LSTM through {self._plan.trained_through} (alias {alias})")
        total = self._settings.lstm_epochs
        fitted = MODELS["lstm"].fit(
            self._request(lambda e: self._say(f"epoch {e.epoch}/{total}: validation loss {e.validation:.4f}"))
        )
        measured = measure(fitted.forecaster(), self._bars, self._plan.train_end_s, self._plan.gate_end_s)
        champion = self._champion()
        parts = common(measured, self._naive, *([champion[1]] if champion else []))
        baselines = {"naive": parts[1].scores}
        if champion:
            baselines["champion"] = parts[2].scores
        decision = decide(parts[0].scores, baselines, self._settings.gate_margin)
        version = self._register(fitted, parts[0], decision, alias)
        for name, scores in baselines.items():
            told = f"champion v{champion[0]}" if name == "champion" and champion else name
            self._record(version, fitted, alias, told, parts[0].scores, scores, decision)
        if decision.passed:
            self._give(version, alias, decision)
            self._challenge(version, parts, champion)
        else:
            self._say(f"version {version} failed its gate: {decision.reason}")
        return version, decision

    def _request(self, on_epoch: Callable[[EpochLosses], None]) -> FitRequest:
        return FitRequest(self._bars, self._plan, self._settings, on_epoch)

    def holds(self, version: int) -> bool:
        """Whether a version that is served would pass against naive on this window too."""
        try:
            forecaster = load(self._registry.forecaster_of(version))
            measured = measure(forecaster, self._bars, self._plan.train_end_s, self._plan.gate_end_s)
        except DataError as error:
            _LOG.warning("version %d cannot be measured: %s", version, error)
            return False
        ours, theirs = common(measured, self._naive)
        return decide(ours.scores, {"naive": theirs.scores}, self._settings.gate_margin).passed

    def _champion(self) -> tuple[int, Measured] | None:
        version = self._registry.aliases().get(CHAMPION)
        if version is None:
            return None
        try:
            forecaster = load(self._registry.forecaster_of(version))
            return version, measure(forecaster, self._bars, self._plan.train_end_s, self._plan.gate_end_s)
        except DataError as error:
            _LOG.warning("champion (version %d) cannot be measured and is left out: %s", version, error)
            return None

    def _challenge(
        self, version: int, parts: tuple[Measured, ...], champion: tuple[int, Measured] | None
    ) -> None:
        """Move the champion only on proof."""
        if champion is None:
            self._registry.set_alias(version, CHAMPION)
            return
        p = better_p(parts[0].next_hour_loss, parts[2].next_hour_loss)
        if p < self._settings.champion_p:
            self._registry.set_alias(version, CHAMPION)
            self._say(f"champion -> version {version}: better than version {champion[0]} with p = {p:.4f}")

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
        version, _run = self._registry.register(
            fitted, golden, self._bars, "production", metrics, plots, f"{fitted.spec.kind} {alias}"
        )
        self._registry.decide(
            version, fitted, decision, "production", alias if decision.passed else None, metrics
        )
        return version

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
                    "margin": self._settings.gate_margin,
                },
                reason=decision.reason,
                made_at=self._plan.decided_at,
            )
        )

    def _give(self, version: int, alias: str, decision: Decision) -> None:
        self._registry.set_alias(version, alias)
        self._say(f"alias {alias} -> version {version}: {decision.reason}")
