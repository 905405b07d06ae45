"""The gate: may a candidate be served? Pure.

A candidate passes when it is shown, on the held-out window, to be at most `margin` worse than the naive floor and the
champion: for the pinball loss one hour ahead and over all horizons by a test of non-inferiority each, for the RMSE one
hour ahead by the figure itself. One whose loss is worse by more than the margin passes with a chance of at most `level`.

That is of one look. A training looks every week, and of 52 looks at what is always too bad some would let it through.
So each look must hold as well over the days of the looks before it, a quarter at most, and at a level of its own: look k
within a year spends `level` * 6 / (pi k)^2, which adds up to `level` over all looks, whatever depends on what
(Bonferroni's bound, spent as in Lan and DeMets, "Discrete Sequential Boundaries", Biometrika 70, 1983).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import pi
from typing import Any

import numpy as np

from hourcast.contracts import FloatArray
from hourcast.verification import pinball
from hourcast_trainer.measuring import Measured, common
from hourcast_trainer.paired import PairedTest, daily, daily_test, p_in_words, paired_test

__all__ = ["Decision", "Look", "decide", "level_of_look", "pooled", "stays"]

_NEXT, _ALL, _RMSE = "pinball 1 h", "pinball all", "RMSE 1 h"


_DAY_S = 86_400
_POOLED_DAYS, _YEAR_DAYS = 91, 364
Look = Mapping[str, Mapping[int, float]]
"""Of each test by name: UTC days since 1970, and by how much the candidate was within the margin on each."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a candidate passed, and why.

    `ratios` are candidate/baseline, below 1: better, by names such as "pinball 1 h / naive"; `evidence` has the test
    of each pinball loss under the same names, and `look` what later looks need of this one.
    """

    passed: bool
    reason: str
    ratios: Mapping[str, float]
    evidence: Mapping[str, Any] = field(default_factory=dict)
    look: Look = field(default_factory=dict)


def _losses(candidate: Measured, baseline: Measured) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Losses (n,) of both for each test; over all horizons each counts alike, though longer ones lose more."""
    ours = pinball(candidate.actual, candidate.quantiles, candidate.levels)
    theirs = pinball(baseline.actual, baseline.quantiles, baseline.levels)
    size = np.nanmean(theirs, axis=0)
    return {
        _NEXT: (ours[:, 0], theirs[:, 0]),
        _ALL: (np.nanmean(ours / size, axis=1), np.nanmean(theirs / size, axis=1)),
    }


def _ratio(ours: float, theirs: float) -> float:
    return ours / theirs if theirs else float("inf")


def level_of_look(number: int, level: float) -> float:
    """What look `number`, from 1 on, may spend of a year's level."""
    return level * 6 / (pi * number) ** 2


def pooled(earlier: Sequence[Look], key: str, own: Mapping[int, float]) -> tuple[PairedTest, int]:
    """The test over the days of this look and of those before it, and which look within a year this is.

    Each day counts once, by the candidate that was the first to be judged on it; a quarter is looked back at.

    Args:
        earlier: looks at candidates of the same kind, the oldest first.
        key: name of the test.
        own: the days of this look, one at least.
    """
    newest = max(own)
    looks = [look[key] for look in earlier if look.get(key) and newest - max(look[key]) < _YEAR_DAYS]
    days: dict[int, float] = {}
    for look in [*looks, own]:
        for day, gain in look.items():
            if newest - day < _POOLED_DAYS:
                days.setdefault(day, gain)
    gains = np.array([gain for _, gain in sorted(days.items())])
    return daily_test(gains, float(gains.mean())), len(looks) + 1


def decide(
    candidate: Measured,
    baselines: Mapping[str, Measured],
    margin: float,
    level: float,
    earlier: Sequence[Look] | None = None,
) -> Decision:
    """Compare a candidate with each baseline by name (`naive`, `champion`), on the hours that both have.

    With `earlier`, the looks before this one, the oldest first, the level is that of a year's looks and not of one.
    """
    ratios: dict[str, float] = {}
    tests: dict[str, PairedTest] = {}
    look: dict[str, dict[int, float]] = {}
    for name, baseline in baselines.items():
        ours, theirs = common(candidate, baseline)
        for label, (mine, other) in _losses(ours, theirs).items():
            key = f"{label} / {name}"
            ratios[key] = _ratio(float(mine.mean()), float(other.mean()))
            gain = (1 + margin) * other - mine
            tests[key] = paired_test(gain, ours.origin)
            if tests[key].days:
                at = np.unique(ours.origin // _DAY_S).tolist()
                look[key] = dict(zip(at, daily(gain, ours.origin).tolist(), strict=True))
        ratios[f"{_RMSE} / {name}"] = _ratio(ours.scores.next_hour.rmse, theirs.scores.next_hour.rmse)

    def told(key: str) -> str:
        return f"{key} = {ratios[key]:.4f}" + (f" ({p_in_words(tests[key].p)})" if key in tests else "")

    failed = [
        key
        for key, value in ratios.items()
        if not (tests[key].p < level if key in tests else value <= 1 + margin)
    ]
    evidence = {
        key: {"ratio": ratios[key], "difference": test.gain, "t": test.t, "p": test.p, "days": test.days}
        for key, test in tests.items()
    }
    words = f"not shown to be at most {100 * margin:g} % worse"
    if failed:
        return Decision(False, f"{words}: {', '.join(map(told, failed))}", ratios, evidence, look)
    unproved = []
    for key, days in look.items() if earlier is not None else ():
        test, number = pooled(earlier or (), key, days)
        asked = level_of_look(number, level)
        evidence[key] |= {"look": number, "pooled_p": test.p, "pooled_days": test.days, "asked": asked}
        if not test.p < asked:
            unproved.append(
                f"{key} over {test.days} days ({p_in_words(test.p)}, and {asked:.2g} is asked for at look {number} of a year)"
            )
    if unproved:
        return Decision(False, f"{words}: {', '.join(unproved)}", ratios, evidence, look)
    words = f"at most {100 * margin:g} % worse than every baseline (each p < {level:g})"
    return Decision(True, f"{words}: {', '.join(map(told, ratios))}", ratios, evidence, look)


def stays(incumbent: Measured, naive: Measured, margin: float) -> bool:
    """Whether what is served may go on: no figure is worse than naive's by more than the margin.

    It has been shown before not to be; a fortnight that shows nothing either way is no reason to take it back.
    """
    ratios = decide(incumbent, {"naive": naive}, margin, 1.0).ratios
    return all(value <= 1 + margin for value in ratios.values())
