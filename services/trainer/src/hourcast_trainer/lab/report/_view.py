"""An analysis as the charts see it: which kinds are drawn, and in which colours."""

from collections.abc import Callable, Mapping, Sequence

from hourcast.contracts import FloatArray
from hourcast_trainer.lab.analysis import JUDGED_MONTH_H, Analysis, Skill
from hourcast_trainer.lab.report._charts import Chart
from hourcast_trainer.lab.report._words import name_of, percent, signed
from hourcast_trainer.models import COMPARED

__all__ = ["FIFTHS", "View"]

FIFTHS = ("calmest", "calm", "middle", "lively", "liveliest")
_COLOURS = ("c0", "c1", "c2", "c3", "c4", "c5")
# Worse than this, a line would flatten all others.
_DRAWN = 1.10


class View:
    """What every chart asks of an analysis.

    `colours` has the classes that draw each kind, `broad` those of the headline; `drawn` are the kinds that charts show beside the
    reference, the best last and so on top; `left_out` says which they do not show.
    """

    def __init__(self, analysis: Analysis) -> None:
        """Of the whole span."""
        self.analysis, self.headline, self.kinds = analysis, analysis.headline, analysis.whole.kinds
        self.lead, self.reference = self.kinds[self.headline], self.kinds[analysis.reference]
        self.others = [kind for kind in self.kinds if kind != analysis.reference]
        self.colours = _colours(analysis)
        self.broad = self.colours[self.headline]
        shown = [k for k in self.others if self.kinds[k].total.pinball_ratio <= _DRAWN]
        if self.headline not in shown:
            shown.insert(0, self.headline)
        self.drawn = shown[::-1]
        missing = [
            f"{name_of(k)} ({signed(1 - self.kinds[k].total.pinball_ratio)})"
            for k in self.others
            if k not in shown
        ]
        self.left_out = f" Too far below to be drawn: {', '.join(missing)}." if missing else ""
        bounds = [percent(v) for v in analysis.whole.volatility_edges]
        self.fifths = [f"{name}, {bounds[i]} to {bounds[i + 1]}" for i, name in enumerate(FIFTHS)]

    @property
    def by_month(self) -> list[tuple[str, dict[str, Skill | None]]]:
        """Each month with every kind's figures; None where a kind has none."""
        return [(m, {k: r.months.get(m) for k, r in self.kinds.items()}) for m in self.lead.months]

    @property
    def by_fifth(self) -> list[tuple[str, dict[str, Skill]]]:
        """Each fifth of volatility with every kind's figures."""
        return [
            (name, {k: r.quintiles[i] for k, r in self.kinds.items()}) for i, name in enumerate(self.fifths)
        ]

    def keys(self, *kinds: str) -> list[tuple[str, str]]:
        """The legend's entries of these kinds, the last drawn first."""
        return [(self.colours[kind], name_of(kind)) for kind in reversed(kinds)]

    def figures(
        self, labels: Sequence[str], values: Mapping[str, FloatArray], told: Callable[[float], str]
    ) -> list[str]:
        """What is said where one points: for each label the figure of every kind, the last drawn first."""
        kinds = list(values)[::-1]
        return [
            f"{label}: " + ", ".join(f"{name_of(k)} {told(values[k][i])}" for k in kinds)
            for i, label in enumerate(labels)
        ]

    @property
    def best_and_worst(self) -> tuple[str, str]:
        """The months of most and of least skill, of those that are long enough to be judged."""
        months = self.lead.months
        judged = [m for m, part in months.items() if part.n >= JUDGED_MONTH_H] or list(months)
        best, worst = (pick(judged, key=lambda m: months[m].pinball_ratio) for pick in (min, max))
        return best, worst

    def shade_untouched(self, chart: Chart) -> None:
        """The span that nobody looked at, as a shade over an axis of time."""
        for part in self.analysis.spans:
            if part.span.name == "untouched":
                chart.stretch(part.span.start_s, part.span.end_s, "untouched")


def _colours(analysis: Analysis) -> dict[str, str]:
    """A colour for each kind, dashes for the reference and a broad line for the headline."""
    # A kind has the same colour on every page, as long as there are colours.
    usual = dict(zip((kind for kind in COMPARED if kind != analysis.reference), _COLOURS, strict=False))
    free = [c for c in _COLOURS if c not in {usual.get(kind) for kind in analysis.kinds}]
    out = {}
    for kind in analysis.kinds:
        if kind == analysis.reference:
            out[kind] = "ref"
            continue
        colour = usual.get(kind) or (free.pop(0) if free else _COLOURS[-1])
        out[kind] = f"{colour} lead" if kind == analysis.headline else colour
    return out
