"""An ensemble: the weighted mean of its members' quantiles.

Quantiles are averaged, not probabilities (Lichtendahl, Grushka-Cockayne and Winkler, "Is It Better to Average
Probabilities or Quantiles?", Management Science 59, 2013): members that are honest about their width give a mean that
is. The weights are learned on the last part of the training span, from members that were fitted without it, by
exponentiated gradient (Kivinen and Warmuth 1997) from equal weights on; few steps keep them near equal where the
members are close, which is what forecast combination does best (Claeskens et al., International Journal of
Forecasting 32, 2016).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np

from hourcast.contracts import HOUR_S, Bars, FloatArray, from_epoch
from hourcast.forecaster import HORIZONS, LEVELS, ForecasterSpec, Member
from hourcast_trainer.datasets import realised
from hourcast_trainer.models._interface import FitRequest, Fitted, Model, describe
from hourcast_trainer.settings import TrainerSettings

__all__ = ["EnsembleModel"]

_SHARE = 0.15
_LONGEST_DAYS = 42
_GROUPS = (range(1, 5), range(5, 13), range(13, 25))
_STEPS, _STEP = 60, 4.0


class EnsembleModel(Model):
    """Fits its members twice: without the last weeks, to weigh them there, and with them, to serve."""

    kind = "ensemble"

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = models

    def history_h(self, settings: TrainerSettings) -> int:
        """What its most demanding member needs, and the weeks on which members are weighed."""
        most = max(self._models[kind].history_h(settings) for kind in settings.ensemble_members)
        return most + 14 * 24

    def members(self, settings: TrainerSettings) -> tuple[str, ...]:
        """The kinds that the settings name."""
        return settings.ensemble_members

    def fit(self, request: FitRequest) -> Fitted:
        """Weigh and fit the members.

        Raises:
            DataError: when a member cannot be fitted.
        """
        plan, settings, known = request.plan, request.settings, request.known
        target = known[settings.target.symbol]
        first = max(plan.start_s, int(target.close_time[0]))
        days = min(_LONGEST_DAYS, int(_SHARE * (plan.train_end_s - first) / (24 * HOUR_S)))
        before = plan.train_end - timedelta(days=days)
        earlier = replace(plan, train_end=before, trained_through=(before - timedelta(days=1)).date())
        start_s = int((before + timedelta(hours=settings.embargo_h)).timestamp())
        trials = [
            self._member(kind, replace(request, plan=earlier, on_epoch=lambda _losses: None))
            for kind in settings.ensemble_members
        ]
        weights = weigh(trials, known, target, start_s, plan.train_end_s)
        members = [
            request.ready[kind] if kind in request.ready else self._member(kind, request)
            for kind in settings.ensemble_members
        ]
        training = members[-1].spec.training
        spec = ForecasterSpec(
            kind="ensemble",
            members=tuple(
                Member(kind=fitted.spec.kind, weights=tuple(column.tolist()))
                for fitted, column in zip(members, weights.T, strict=True)
            ),
            median_shrink=1.0,
            **describe(request, training.start, training.end, training.rows),
        )
        params: dict[str, float | int | str] = {
            f"weight_{fitted.spec.kind}_{h}h": round(float(weights[HORIZONS.index(h), i]), 4)
            for i, fitted in enumerate(members)
            for h in (1, 24)
        }
        params |= {f"{f.spec.kind}_{name}": value for f in members for name, value in f.params.items()}
        params["weighed_from"] = from_epoch(start_s).isoformat()
        return Fitted(spec, members=tuple(members), epochs=members[-1].epochs, params=params)

    def _member(self, kind: str, request: FitRequest) -> Fitted:
        mine = f"{kind}."
        hyper = {n.removeprefix(mine): v for n, v in request.hyper.items() if n.startswith(mine)}
        return self._models[kind].fit(replace(request, hyper=hyper))


def weigh(
    fitted: Sequence[Fitted], bars: dict[str, Bars], target: Bars, start_s: int, end_s: int
) -> FloatArray:
    """(H, members): weights that sum to 1 at each horizon, from forecasts whose closes came in (start_s, end_s]."""
    at = target.close_time
    origins = at[(at >= start_s) & (at < end_s)]
    equal = np.full((len(HORIZONS), len(fitted)), 1 / len(fitted))
    if not len(origins):
        return equal
    made = [f.forecaster().predict(bars, origins, skip_unusable=True) for f in fitted]
    shared = made[0].origin
    for part in made[1:]:
        shared = np.intersect1d(shared, part.origin)
    last = made[0].last_close[np.isin(made[0].origin, shared)]
    came = np.log(realised(target.known_at(end_s), shared) / last[:, None])
    returns = [np.log(p.quantiles[np.isin(p.origin, shared)] / last[:, None, None]) for p in made]
    levels = np.asarray(LEVELS)
    out = equal.copy()
    for group in _GROUPS:
        rows = [HORIZONS.index(h) for h in group]
        usable = np.isfinite(came[:, rows]).all(axis=1)
        if not usable.any():
            continue
        actual = came[usable][:, rows, None]
        parts = np.stack([r[usable][:, rows] for r in returns])
        # Horizons of a group count alike, though longer ones move further.
        size = np.abs(actual).mean(axis=0, keepdims=True) + 1e-12
        actual, parts = actual / size, parts / size[None]
        weights = np.full(len(fitted), 1 / len(fitted))
        for _ in range(_STEPS):
            below = actual <= np.tensordot(weights, parts, axes=1)
            slope = ((below - levels) * parts).mean(axis=(1, 2, 3))
            weights = weights * np.exp(-_STEP * (slope - slope.mean()))
            weights /= weights.sum()
        out[rows] = weights
    return out
