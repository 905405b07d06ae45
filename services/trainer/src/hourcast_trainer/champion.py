"""The challenge: is a version proved better than the champion? Pure.

Both forecast a span of weeks on which neither was trained. The challenger wins when its pinball loss one hour ahead is
smaller at the level that is asked for, and stays so

- without any seven days in a row, so that no lucky week can buy it;
- when the champion's intervals are made wider or narrower by the one factor that fits the span best in hindsight, so
  that to have guessed the mood of these weeks is not enough. Online calibration would find that factor by itself;

and when it passes the gate of non-inferiority over all horizons against the champion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np

from hourcast.contracts import HOUR_S, FloatArray, from_epoch
from hourcast.verification import pinball
from hourcast_trainer.calendar import TrainingPlan
from hourcast_trainer.gate import Decision, decide
from hourcast_trainer.measuring import Measured, common
from hourcast_trainer.paired import PairedTest, p_in_words, paired_test, weakest_without_a_week

__all__ = ["Challenge", "best_width", "challenge", "due"]


@dataclass(frozen=True, slots=True)
class Challenge:
    """Whether the challenger won, why in a sentence, and every figure that decided, ready for JSON."""

    won: bool
    reason: str
    evidence: Mapping[str, Any]


def best_width(actual: FloatArray, quantiles: FloatArray, levels: Sequence[float]) -> float:
    """The factor on every quantile's distance from the median that would have had the least pinball loss.

    The loss is piecewise linear and convex in the factor: its least lies where the slope changes sign, at one of the
    ratios of what came to what was forecast.

    Args:
        actual: (n,) what came.
        quantiles: (n, Q) what was forecast.
        levels: (Q,) their levels, 0.5 among them.
    """
    level = np.asarray(levels)
    centre = list(levels).index(0.5)
    median = quantiles[:, centre : centre + 1]
    spread = np.delete(quantiles - median, centre, axis=1).ravel()
    target = np.repeat((actual - median[:, 0])[:, None], len(level) - 1, axis=1).ravel()
    tau = np.broadcast_to(np.delete(level, centre), (len(actual), len(level) - 1)).ravel()
    moves = spread != 0
    if not moves.any():
        return 1.0
    spread, target, tau = spread[moves], target[moves], tau[moves]
    # At factor 0 a target on its quantile's side lies beyond it, and is passed as the factor grows.
    ahead = target / spread > 0
    slope = float(np.sum(np.where(target > 0, -tau, 1 - tau) * spread))
    turns = (target[ahead] / spread[ahead]).astype(float)
    order = np.argsort(turns)
    slopes = slope + np.cumsum(np.abs(spread[ahead][order]))
    place = int(np.searchsorted(slopes, 0.0))
    return float(turns[order][min(place, len(turns) - 1)]) if len(turns) and slope < 0 else 0.0


def due(
    versions: Mapping[int, tuple[date, bool]], champion: int, plan: TrainingPlan, days: int
) -> tuple[int, datetime] | None:
    """The version whose challenge is due at a training, and from when on neither it nor the champion was trained.

    It is the newest of those that came after the champion and have been out of training for `days`; one that has had
    its challenge gets no second, and older ones are past their turn: a training holds one challenge at most.

    Args:
        versions: the day through which each was trained and whether it has challenged, the champion among them.
        champion: which of them is champion.
        plan: the training that is under way.
        days: how long neither may have been trained.
    """

    def since(version: int) -> datetime:
        newest = max(versions[version][0], versions[champion][0])
        return datetime.combine(newest + timedelta(days=1), time(), tzinfo=UTC)

    out = [v for v in versions if v > champion and plan.gate_end - since(v) >= timedelta(days=days)]
    newest = max(out, default=None)
    if newest is None or versions[newest][1]:
        return None
    return newest, since(newest) + (plan.gate_start - plan.train_end)


@dataclass(frozen=True, slots=True)
class _Proofs:
    """Tests of the gain over all days and without the best week (`week`); against the champion as it is, and `width` times as wide."""

    share: float
    plain: PairedTest
    rest: PairedTest
    week: str
    width: float
    fitted: PairedTest
    fitted_rest: PairedTest
    fitted_week: str

    @property
    def p(self) -> float:
        """Of the weakest."""
        return max(self.plain.p, self.rest.p, self.fitted.p, self.fitted_rest.p)


def _without(gain: FloatArray, rows: Measured) -> tuple[PairedTest, str]:
    first, test = weakest_without_a_week(gain, rows.origin)
    return test, f"{from_epoch(first):%Y-%m-%d}"


def _proofs(ours: Measured, theirs: Measured) -> _Proofs:
    levels, actual, held = theirs.levels, theirs.actual[:, 0], theirs.quantiles[:, 0]
    loss, other = ours.next_hour_loss, theirs.next_hour_loss
    gain = other - loss
    rest, week = _without(gain, ours)
    width = best_width(actual, held, levels)
    centre = held[:, list(levels).index(0.5)][:, None]
    against_width = pinball(actual, centre + width * (held - centre), levels) - loss
    fitted_rest, fitted_week = _without(against_width, ours)
    share = float(gain.mean() / other.mean()) if other.mean() else 0.0
    plain, fitted = paired_test(gain, ours.origin), paired_test(against_width, ours.origin)
    return _Proofs(share, plain, rest, week, width, fitted, fitted_rest, fitted_week)


def _sentence(found: _Proofs, over_all: Decision | None, rival: str, level: float) -> str:
    """Why a challenge was won, or at which proof it was lost."""
    amount = f"{100 * abs(found.share):.1f} % {'less' if found.share > 0 else 'more'} loss"
    how = f"{100 * abs(found.width - 1):.0f} % {'wider' if found.width > 1 else 'narrower'}"
    asked = f"and {level:g} is asked for"
    plain, rest, fitted, fitted_rest = found.plain, found.rest, found.fitted, found.fitted_rest
    if not plain.p < level:
        return f"not proved better than {rival}: {amount} over {plain.days} days ({p_in_words(plain.p)}, {asked})"
    if not rest.p < level:
        return (
            f"not proved better than {rival} without the week from {found.week}: {p_in_words(plain.p)} with it, "
            f"{p_in_words(rest.p)} without, {asked}"
        )
    if not fitted.p < level:
        return f"{rival} with intervals {how} would have done nearly as well: {p_in_words(fitted.p)} against it, {asked}"
    if not fitted_rest.p < level:
        return (
            f"not proved better than {rival} with intervals {how} without the week from {found.fitted_week}: "
            f"{p_in_words(fitted.p)} with it, {p_in_words(fitted_rest.p)} without, {asked}"
        )
    assert over_all is not None
    if not over_all.passed:
        return f"better than {rival} one hour ahead, but {over_all.reason}"
    return (
        f"better than {rival}: {amount} over {plain.days} days ({p_in_words(plain.p)}, "
        f"without the week that helped most {p_in_words(max(rest.p, fitted_rest.p))}, {asked})"
    )


def challenge(
    challenger: Measured,
    champion: Measured,
    rival: str,
    *,
    level: float,
    margin: float,
    gate_level: float,
) -> Challenge:
    """Hold a challenge on the hours that both forecast; `rival` names the champion in the sentence."""
    ours, theirs = common(challenger, champion)
    found = _proofs(ours, theirs)
    over_all = decide(ours, {"champion": theirs}, margin, gate_level) if found.p < level else None
    won = over_all is not None and over_all.passed
    reason = _sentence(found, over_all, rival, level)
    evidence = {
        "start": from_epoch(int(ours.origin[0])).isoformat(),
        "end": from_epoch(int(ours.origin[-1]) + HOUR_S).isoformat(),
        "hours": len(ours.origin),
        "days": found.plain.days,
        "loss": float(ours.next_hour_loss.mean()),
        "champion_loss": float(theirs.next_hour_loss.mean()),
        "gain": found.plain.gain,
        "gain_share": found.share,
        "t": found.plain.t,
        "p": found.plain.p,
        "level": level,
        "without_best_week": {"from": found.week, "gain": found.rest.gain, "p": found.rest.p},
        "champion_refitted": {
            "width": found.width,
            "gain": found.fitted.gain,
            "p": found.fitted.p,
            "without_best_week": {"from": found.fitted_week, "p": found.fitted_rest.p},
        },
        "all_horizons": None
        if over_all is None
        else {"passed": over_all.passed, "margin": margin, "level": gate_level, **_short(over_all.evidence)},
        "won": won,
        "reason": reason,
    }
    return Challenge(won, reason, evidence)


def _short(tests: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    found = tests["pinball all / champion"]
    return {"ratio": found["ratio"], "p": found["p"]}
