"""The sections of the page, in their order, each from the analysis alone."""

from collections.abc import Sequence
from datetime import datetime

from hourcast_trainer.lab.analysis import Analysis
from hourcast_trainer.lab.report import _calibration, _cuts, _proof, _skill, _top
from hourcast_trainer.lab.report._content import About, Fold
from hourcast_trainer.lab.report._parts import Section

__all__ = ["sections"]


def sections(analysis: Analysis, about: About, folds: Sequence[Fold], made_at: datetime) -> list[Section]:
    """Every section, in order."""
    return [
        Section("measured", "What was measured", _top.measured(analysis, about, folds, made_at)),
        Section("models", "Models side by side", _top.models(analysis, about)),
        Section("promises", "Promises", _top.promises(analysis)),
        Section("time", "Skill over time", _skill.over_time(analysis)),
        Section("horizons", "By horizon", _skill.by_horizon(analysis)),
        Section("months", "By month", _cuts.by_month(analysis)),
        Section("volatility", "By volatility", _cuts.by_volatility(analysis)),
        Section("hours", "By hour of the week", _cuts.by_hour(analysis)),
        Section("pit", "PIT histograms", _calibration.pit(analysis)),
        Section("reliability", "Reliability", _calibration.reliability(analysis)),
        Section("calibration", "Calibration before and after", _calibration.calibration(analysis)),
        Section("coverage", "Coverage", _calibration.coverage(analysis)),
        Section("ablations", "Ablations", _proof.ablations(analysis)),
        Section("comparisons", "Models against each other", _proof.comparisons(analysis)),
        Section("folds", "Folds", _proof.lineage(analysis, folds)),
        Section("methods", "Methods and sources", _proof.methods()),
    ]
