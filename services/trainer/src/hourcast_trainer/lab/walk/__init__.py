"""The walk-forward: every kind over the same folds, its rows kept with their lineage."""

from hourcast_trainer.lab.walk.engine import (
    FoldResult,
    StoredWalk,
    Variant,
    forecast_fold,
    forecast_hours,
    kept,
    recipe_of,
    rows_of,
    run_walk,
    to_do,
    variants_of,
    walk_id,
)
from hourcast_trainer.lab.walk.folds import Fold, folds
from hourcast_trainer.lab.walk.processes import side_by_side
from hourcast_trainer.lab.walk.rows import WalkRows

__all__ = [
    "Fold",
    "FoldResult",
    "StoredWalk",
    "Variant",
    "WalkRows",
    "folds",
    "forecast_fold",
    "forecast_hours",
    "kept",
    "recipe_of",
    "rows_of",
    "run_walk",
    "side_by_side",
    "to_do",
    "variants_of",
    "walk_id",
]
