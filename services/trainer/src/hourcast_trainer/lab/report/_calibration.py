"""The charts of whether the quantiles mean what they say: PIT and reliability."""

import numpy as np

from hourcast_trainer.lab.analysis import Pit
from hourcast_trainer.lab.report._charts import Axis, Chart, nice_axis, share_axis
from hourcast_trainer.lab.report._view import View
from hourcast_trainer.lab.report._words import NBSP, percent, the

__all__ = ["pits", "reliability"]

# Half of the width within which a share lies in 95 of 100 cases.
_SPREAD = 1.96


def pits(view: View) -> list[tuple[str, Pit, Chart]]:
    """A histogram for every model one hour ahead, and at the longest horizon for two."""
    reference = view.analysis.reference
    shown = [(kind, result.pits[0]) for kind, result in view.kinds.items()]
    if view.analysis.horizons > 1:
        shown += [(kind, view.kinds[kind].pits[-1]) for kind in (view.headline, reference)]
    like = {*view.drawn, reference}
    common = max((float(p.bins.max()) for kind, p in shown if p.n and kind in like), default=0.1)
    return [
        (kind, one, _histogram(view, kind, one, common if kind in like else float(one.bins.max())))
        for kind, one in shown
        if one.n
    ]


def _histogram(view: View, kind: str, one: Pit, most: float) -> Chart:
    edges = np.concatenate([[0.0], view.analysis.levels, [1.0]])
    should = float(edges[1] - edges[0])
    spread = float(_SPREAD * np.sqrt(should * (1 - should) / one.n))
    chart = Chart(
        Axis(0, 1, ((0.0, "0", False), (0.5, "0.5", False), (1.0, "1", False))),
        nice_axis(0.0, max(most, 1.6 * should), steps=3),
        alt=f"PIT histogram of {the(kind)} {one.horizon} h ahead: bars from {percent(one.bins.min())} to {percent(one.bins.max())}, "
        f"where {percent(should)} is right.",
    )
    chart.bars(edges[:-1] + 0.004, edges[1:] - 0.004, one.bins, view.colours[kind].split()[0])
    chart.zone(should - spread, should + spread, "chance")
    chart.rule(should, "zero")
    bins = zip(edges[:-1], edges[1:], one.bins, strict=True)
    chart.hits(edges, [f"{a:.2f} to {b:.2f}: {percent(share, 2)}" for a, b, share in bins])
    return chart


def reliability(view: View) -> Chart | None:
    """The share of closes at or below each quantile, less its level; None where no close has come."""
    levels, lead = np.asarray(view.analysis.levels), view.lead.pits[0]
    if not lead.n:
        return None
    below = {kind: view.kinds[kind].pits[0].below for kind in (view.analysis.reference, *view.drawn)}
    chart = Chart(
        Axis(0, 1, tuple((v, f"{v:g}", False) for v in (0.0, 0.25, 0.5, 0.75, 1.0))),
        share_axis(0.02, -0.02, *(share - levels for share in below.values())),
        title=f"share of closes at or below a quantile, less its level, 1{NBSP}h",
        alt=f"Reliability: {the(view.headline)} is off by {percent(lead.worst)} at most.",
    )
    at = np.concatenate([[0.0], levels, [1.0]])
    spread = _SPREAD * np.sqrt(at * (1 - at) / lead.n)
    chart.area(at, -spread, spread, "chance")
    chart.rule(0.0, "zero")
    for kind, share in below.items():
        chart.line(levels, share - levels, view.colours[kind])
    chart.dots(levels, below[view.headline] - levels, view.broad)
    words = view.figures([f"level {v:.2f}" for v in levels], below, percent)
    chart.hits(np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]]), words)
    return chart
