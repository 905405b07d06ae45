"""How good the forecasts of a walk were, of every kind beside the reference. Pure functions of arrays."""

from hourcast_trainer.lab.analysis._analysis import analyse
from hourcast_trainer.lab.analysis._calibration import OverTime, Pit, over_time, pit
from hourcast_trainer.lab.analysis._cuts import (
    Cut,
    Skill,
    cut,
    hours_of_week,
    months,
    quintiles,
    skill,
    trailing_volatility,
)
from hourcast_trainer.lab.analysis._results import (
    Ablation,
    AblationFigures,
    Analysis,
    Horizons,
    HoursOfWeek,
    KindResult,
    Matrix,
    Span,
    SpanResult,
)
from hourcast_trainer.lab.analysis._scored import WIDTHS, Scored, common_origins, score, winkler
from hourcast_trainer.lab.analysis._statistics import (
    DieboldMariano,
    Interval,
    diebold_mariano,
    hac_lags,
    ratio_interval,
)
from hourcast_trainer.lab.analysis._verdicts import JUDGED_MONTH_H, LIMITS, Limits, Verdict, verdicts

__all__ = [
    "JUDGED_MONTH_H",
    "LIMITS",
    "WIDTHS",
    "Ablation",
    "AblationFigures",
    "Analysis",
    "Cut",
    "DieboldMariano",
    "Horizons",
    "HoursOfWeek",
    "Interval",
    "KindResult",
    "Limits",
    "Matrix",
    "OverTime",
    "Pit",
    "Scored",
    "Skill",
    "Span",
    "SpanResult",
    "Verdict",
    "analyse",
    "common_origins",
    "cut",
    "diebold_mariano",
    "hac_lags",
    "hours_of_week",
    "months",
    "over_time",
    "pit",
    "quintiles",
    "ratio_interval",
    "score",
    "skill",
    "trailing_volatility",
    "verdicts",
    "winkler",
]
