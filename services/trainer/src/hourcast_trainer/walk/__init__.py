"""The walk-forward: every kind over the same folds, its rows kept with their lineage."""

from hourcast_trainer.walk.choice import Chooser, Question, questions_of
from hourcast_trainer.walk.engine import (
    FoldResult,
    StoredWalk,
    Variant,
    forecast_fold,
    kept,
    recipe_of,
    rows_of,
    run_walk,
    side_by_side,
    to_do,
    variants_of,
    walk_id,
)
from hourcast_trainer.walk.folds import Fold, folds, plan_of
from hourcast_trainer.walk.rows import WalkRows

__all__ = [
    "Chooser",
    "Fold",
    "FoldResult",
    "Question",
    "StoredWalk",
    "Variant",
    "WalkRows",
    "folds",
    "forecast_fold",
    "kept",
    "plan_of",
    "questions_of",
    "recipe_of",
    "rows_of",
    "run_walk",
    "side_by_side",
    "to_do",
    "variants_of",
    "walk_id",
]
