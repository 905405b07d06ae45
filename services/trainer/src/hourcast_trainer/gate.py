"""The gate: may a candidate be served? Pure.

A candidate passes when, on the held-out window, none of three figures is worse than the naive floor's or the
champion's by more than the margin: the pinball loss one hour ahead, the pinball loss over all horizons, and the
RMSE one hour ahead.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hourcast_trainer.metrics import Figures

__all__ = ["Decision", "Scores", "decide"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Figures of one version on the held-out window: one hour ahead, and over all horizons."""

    next_hour: Figures
    all_horizons: Figures

    def as_dict(self) -> dict[str, dict[str, float]]:
        """JSON-ready."""
        return {"next_hour": self.next_hour.as_dict(), "all_horizons": self.all_horizons.as_dict()}


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a candidate passed, why, and each ratio candidate/baseline (below 1: better)."""

    passed: bool
    reason: str
    ratios: Mapping[str, float]


def decide(candidate: Scores, baselines: Mapping[str, Scores], margin: float) -> Decision:
    """Compare a candidate with each baseline by name (`naive`, `champion`)."""
    ratios: dict[str, float] = {}
    for name, other in baselines.items():
        for label, ours, theirs in (
            ("pinball 1 h", candidate.next_hour.pinball, other.next_hour.pinball),
            ("pinball all", candidate.all_horizons.pinball, other.all_horizons.pinball),
            ("RMSE 1 h", candidate.next_hour.rmse, other.next_hour.rmse),
        ):
            ratios[f"{label} / {name}"] = ours / theirs if theirs else float("inf")
    worse = {key: value for key, value in ratios.items() if not value <= 1 + margin}
    if worse:
        told = ", ".join(f"{key} = {value:.4f}" for key, value in sorted(worse.items()))
        return Decision(False, f"worse than allowed ({1 + margin:.2f}): {told}", ratios)
    told = ", ".join(f"{key} = {value:.4f}" for key, value in sorted(ratios.items()))
    return Decision(True, f"within {margin:.0%} of every baseline: {told}", ratios)
