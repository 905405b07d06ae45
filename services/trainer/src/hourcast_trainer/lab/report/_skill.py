"""Skill over time and by horizon, and what its charts share with those by other cuts."""

from collections.abc import Sequence

import numpy as np

from hourcast.contracts import FloatArray
from hourcast_trainer.lab.analysis import LIMITS, Analysis, KindResult
from hourcast_trainer.lab.report._charts import (
    Axis,
    Plot,
    dots,
    hits,
    legend,
    line,
    nice_axis,
    rule,
    time_axis,
    zone,
)
from hourcast_trainer.lab.report._html import NBSP, Html, el, join, percent, ratio, signed
from hourcast_trainer.lab.report._parts import (
    classes,
    day,
    details,
    drawn,
    figure,
    heat,
    left_out,
    limits_of,
    name_of,
    table,
    the,
    told_p,
    untouched_zone,
    weeks,
    whole_days,
)

__all__ = [
    "BELOW",
    "INSIDE",
    "PROMISED",
    "band",
    "band_words",
    "by_horizon",
    "cover_axis",
    "over_time",
    "skill_axis",
]

BELOW = "pinball loss below the reference’s"
INSIDE = f"closes inside the 90{NBSP}% interval"
PROMISED = ("rule limit", f"promised in all: {signed(1 - LIMITS.pinball_ratio, 0)}")


def skill_axis(values: Sequence[float], *also: float) -> Axis:
    """An axis of shares around nought that holds all values."""
    return nice_axis(*limits_of(values, 0.0, *also), f"{NBSP}%", factor=100)


def cover_axis(values: Sequence[float], margin: float) -> Axis:
    """An axis of coverage that holds all values, and the promised share with its margin."""
    limits = limits_of(values, LIMITS.coverage - margin, LIMITS.coverage + margin)
    return nice_axis(limits[0], min(limits[1], 1.0), f"{NBSP}%", factor=100)


def over_time(analysis: Analysis) -> Html:
    """Skill of the trailing 30 days, and since the beginning."""
    colours = classes(analysis)
    lead = analysis.over_time[analysis.headline]
    if not np.isfinite(lead.skill).any():
        return el("p", "The walk is shorter than 30 days.")
    times = {kind: analysis.over_time[kind] for kind in drawn(analysis)}
    x = time_axis(*whole_days(lead))
    y = skill_axis(
        [float(v) for t in times.values() for v in t.skill], 1 - LIMITS.pinball_ratio, *lead.cumulative[-1:]
    )
    places = weeks(lead)
    words = [
        f"30 days to {day(int(lead.at[i]))}: "
        + ", ".join(f"{name_of(k)} {signed(float(t.skill[i]))}" for k, t in reversed(times.items()))
        for i in places
    ]
    broad = colours[analysis.headline]
    plot = Plot(
        x,
        y,
        alt=f"Skill over the trailing 30 days. {the(analysis.headline, capital=True)} lies between {signed(float(np.nanmin(lead.skill)))} and "
        f"{signed(float(np.nanmax(lead.skill)))}, and at {signed(float(lead.cumulative[-1]))} over the whole span.",
        title=f"{BELOW}, 1{NBSP}h, trailing 30 days",
        height="20rem",
        marks=[
            *untouched_zone(analysis, x),
            rule(y, 0.0, "zero"),
            rule(y, 1 - LIMITS.pinball_ratio, "limit"),
            *(line(x, y, t.at, t.skill, colours[k]) for k, t in times.items()),
            line(x, y, lead.at, lead.cumulative, f"{broad} thin"),
            hits(x, [*(float(lead.at[i]) for i in places), float(lead.at[-1])], words),
        ],
    )
    keys = [(colours[k], name_of(k)) for k in reversed(times)]
    keys += [(f"{broad} thin", f"{name_of(analysis.headline)} since the beginning"), PROMISED]
    shaded = (
        "The shaded part is the span that nobody looked at while choosing. "
        if len(analysis.spans) > 1
        else ""
    )
    caption = (
        f"Zero is the reference. {shaded}Point at the chart for the figures of a week.{left_out(analysis)}"
    )
    return join([legend(keys), figure(plot.html(), caption)])  # fmt: skip


def _horizon_axis(number_: int) -> tuple[Axis, FloatArray, list[float]]:
    """The axis of `number_` horizons, their places, and the edges between them."""
    ticks = tuple((float(h), f"{h}{NBSP}h", False) for h in sorted({1, *range(6, number_ + 1, 6), number_}))
    edges = [float(v) + 0.5 for v in range(number_ + 1)]
    return Axis(0.5, number_ + 0.5, ticks), np.arange(1, number_ + 1, dtype=np.float64), edges


def _skill_by_horizon(analysis: Analysis) -> Plot:
    colours, shown, number_ = classes(analysis), drawn(analysis), analysis.horizons
    x, hours, edges = _horizon_axis(number_)
    skill = {k: 1 - r.horizons.pinball_ratio for k, r in analysis.whole.kinds.items()}
    y = skill_axis([float(v) for k in shown for v in skill[k]])
    broad = colours[analysis.headline]
    return Plot(
        x,
        y,
        title=BELOW,
        alt=f"Skill by horizon. {the(analysis.headline, capital=True)}: {signed(float(skill[analysis.headline][0]))} at 1 hour, "
        f"{signed(float(skill[analysis.headline][-1]))} at {number_} hours.",
        marks=[
            rule(y, 0.0, "zero"),
            *(line(x, y, hours, skill[k], colours[k]) for k in shown),
            dots(x, y, hours, skill[analysis.headline], broad),
            hits(x, edges, [f"{i + 1} h: " + ", ".join(f"{name_of(k)} {signed(float(skill[k][i]))}" for k in reversed(shown)) for i in range(number_)]),
        ],
    )  # fmt: skip


def _coverage_by_horizon(analysis: Analysis) -> Plot:
    broad, number_ = classes(analysis)[analysis.headline], analysis.horizons
    x, hours, edges = _horizon_axis(number_)
    name, other = name_of(analysis.headline), name_of(analysis.reference)
    lead, reference = analysis.whole.kinds[analysis.headline], analysis.whole.kinds[analysis.reference]
    ours, theirs = lead.horizons.coverage[-1], reference.horizons.coverage[-1]
    y2 = cover_axis([float(v) for v in (*ours, *theirs)], LIMITS.coverage_margin)
    return Plot(
        x,
        y2,
        title=INSIDE,
        alt=f"Coverage by horizon. {the(analysis.headline, capital=True)}: {percent(float(ours[0]))} at 1 hour, {percent(float(ours[-1]))} at {number_} hours.",
        marks=[
            band(y2, LIMITS.coverage_margin),
            rule(y2, LIMITS.coverage, "zero"),
            line(x, y2, hours, theirs, "ref"),
            line(x, y2, hours, ours, broad),
            dots(x, y2, hours, ours, broad),
            hits(x, edges, [f"{i + 1} h: {name} {percent(float(ours[i]))}, {other} {percent(float(theirs[i]))}" for i in range(number_)]),
        ],
    )  # fmt: skip


def _horizon_rows(lead: KindResult) -> list[tuple[str, list[str]]]:
    h = lead.horizons
    return [
        (
            f"{i + 1}{NBSP}h",
            [
                signed(1 - float(h.pinball_ratio[i])),
                told_p(float(h.p[i])),
                signed(1 - float(h.winkler_ratio[i])),
                *(percent(float(h.coverage[j, i])) for j in range(3)),
                ratio(float(h.rmse_ratio[i])),
                ratio(float(h.mae_ratio[i])),
            ],
        )
        for i in range(len(h.p))
    ]


def by_horizon(analysis: Analysis) -> Html:
    """Skill and coverage at each horizon."""
    colours, shown = classes(analysis), drawn(analysis)
    kinds = {k: v for k, v in analysis.whole.kinds.items() if k != analysis.reference}
    rows = _horizon_rows(analysis.whole.kinds[analysis.headline])
    head = [
        "horizon", "pinball better by", "p", "Winkler better by", f"in 50{NBSP}%", f"in 80{NBSP}%", f"in 90{NBSP}%", "RMSE × ref.", "MAE × ref.",
    ]  # fmt: skip
    every = [
        (label, [heat(1 - float(result.horizons.pinball_ratio[i])) for result in kinds.values()])
        for i, (label, _) in enumerate(rows)
    ]
    return join(
        [
            legend([*((colours[k], name_of(k)) for k in reversed(shown)), ("ref", name_of(analysis.reference))]),
            el(
                "div",
                figure(_skill_by_horizon(analysis).html(), f"Each horizon against the reference of the same horizon.{left_out(analysis)}"),
                figure(_coverage_by_horizon(analysis).html(), band_words(LIMITS.coverage_margin)),
                class_="pair",
            ),
            details(
                f"{the(analysis.headline, capital=True)} at each horizon",
                table(f"{the(analysis.headline, capital=True)} by horizon", head, rows),
            ),
            details(
                "Every model at each horizon",
                table("Pinball loss below the reference’s, by horizon", ["horizon", *map(name_of, kinds)], every),
            ),
        ]
    )  # fmt: skip


def band(y: Axis, margin: float) -> Html:
    """What coverage may be."""
    return zone(y, LIMITS.coverage - margin, LIMITS.coverage + margin, "good")


def band_words(margin: float) -> str:
    """The same in words."""
    return f"The shaded band is {100 * LIMITS.coverage:g} ± {100 * margin:g}{NBSP}%."
