"""The page: one HTML file that loads nothing and runs nothing."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from hourcast_trainer.lab.analysis import JUDGED_MONTH_H, LIMITS, Analysis
from hourcast_trainer.lab.report import _calibration, _figures, _words
from hourcast_trainer.lab.report._charts import Axis, coordinate, limits_of
from hourcast_trainer.lab.report._content import SEED, About, Fold
from hourcast_trainer.lab.report._view import View

__all__ = ["build", "title_of"]

_TEMPLATES = Environment(
    loader=PackageLoader("hourcast_trainer.lab.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    auto_reload=False,
)  # fmt: skip
_TEMPLATES.filters |= {name: getattr(_words, name) for name in _words.__all__ if name != "NBSP"}
_TEMPLATES.filters |= {"coordinate": coordinate, "mean": np.nanmean}
_TEMPLATES.globals |= {
    "LIMITS": LIMITS,
    "JUDGED_MONTH_H": JUDGED_MONTH_H,
    "SEED": SEED,
    "DAYS": _figures.DAYS,
}


def title_of(analysis: Analysis, about: About) -> str:
    """What the page is called where it is listed."""
    span = analysis.whole.span
    return f"{about.symbol}: forecasts measured {_words.day(span.start_s)} to {_words.day(span.end_s)}"


def build(analysis: Analysis, about: About, folds: Sequence[Fold], made_at: datetime) -> str:
    """The page as text; the same input gives the same bytes. `made_at` is aware."""
    view = View(analysis)
    judged_on = "chosen on" if len(analysis.spans) > 1 else "whole"
    worth = [item.spans[judged_on].interval_next_hour for item in analysis.ablations]
    return _TEMPLATES.get_template("page.html").render(
        title=title_of(analysis, about),
        analysis=analysis,
        about=about,
        made_at=made_at,
        view=view,
        kinds=view.kinds,
        lead=view.lead,
        reference=view.reference,
        figures=_figures,
        calibration=_calibration,
        judged_on=judged_on,
        worth_axis=Axis(*limits_of(0.0, *((i.low, i.high) for i in worth))),
        steps=len({(f.start, f.end) for f in folds}),
        folds_of={
            kind: [f for f in folds if f.kind == kind] for kind in [*analysis.kinds, *(f.kind for f in folds)]
        },
    )
