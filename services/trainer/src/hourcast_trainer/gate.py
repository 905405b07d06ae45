"""The gate: may a candidate be served? Pure.

A candidate passes when it is shown, on the held-out window, to be at most `margin` worse than the naive floor and the
champion: for the pinball loss one hour ahead and over all horizons by a test of non-inferiority each, for the RMSE one
hour ahead by the figure itself. One whose loss is worse by more than the margin passes with a chance of at most `level`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hourcast.contracts import FloatArray
from hourcast_trainer.measuring import Measured, common
from hourcast_trainer.metrics import pinball
from hourcast_trainer.paired import PairedTest, p_in_words, paired_test

__all__ = ["Decision", "decide", "stays"]

_NEXT, _ALL, _RMSE = "pinball 1 h", "pinball all", "RMSE 1 h"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a candidate passed, and why.

    `ratios` are candidate/baseline, below 1: better, by names such as "pinball 1 h / naive"; `evidence` has the test
    of each pinball loss under the same names.
    """

    passed: bool
    reason: str
    ratios: Mapping[str, float]
    evidence: Mapping[str, Any] = field(default_factory=dict)


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


def decide(candidate: Measured, baselines: Mapping[str, Measured], margin: float, level: float) -> Decision:
    """Compare a candidate with each baseline by name (`naive`, `champion`), on the hours that both have."""
    ratios: dict[str, float] = {}
    tests: dict[str, PairedTest] = {}
    for name, baseline in baselines.items():
        ours, theirs = common(candidate, baseline)
        for label, (mine, other) in _losses(ours, theirs).items():
            key = f"{label} / {name}"
            ratios[key] = _ratio(float(mine.mean()), float(other.mean()))
            tests[key] = paired_test((1 + margin) * other - mine, ours.origin)
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
    if failed:
        words = f"not shown to be at most {100 * margin:g} % worse"
        return Decision(False, f"{words}: {', '.join(map(told, failed))}", ratios, evidence)
    words = f"at most {100 * margin:g} % worse than every baseline (each p < {level:g})"
    return Decision(True, f"{words}: {', '.join(map(told, ratios))}", ratios, evidence)


def stays(incumbent: Measured, naive: Measured, margin: float) -> bool:
    """Whether what is served may go on: no figure is worse than naive's by more than the margin.

    It has been shown before not to be; a fortnight that shows nothing either way is no reason to take it back.
    """
    ratios = decide(incumbent, {"naive": naive}, margin, 1.0).ratios
    return all(value <= 1 + margin for value in ratios.values())
