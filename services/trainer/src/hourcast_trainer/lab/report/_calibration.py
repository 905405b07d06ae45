"""Whether the quantiles mean what they say: PIT, reliability, calibration before and after, coverage."""

import numpy as np

from hourcast_trainer.lab.analysis import LIMITS, Analysis, Horizons, Pit
from hourcast_trainer.lab.report._charts import (
    Axis,
    Plot,
    area,
    bars,
    dots,
    hits,
    legend,
    line,
    nice_axis,
    rule,
    time_axis,
    zone,
)
from hourcast_trainer.lab.report._html import NBSP, Html, el, join, number, percent, ratio, signed
from hourcast_trainer.lab.report._parts import (
    classes,
    day,
    details,
    drawn,
    figure,
    left_out,
    limits_of,
    name_of,
    note,
    table,
    the,
    untouched_zone,
    weeks,
    whole_days,
)

__all__ = ["calibration", "coverage", "pit", "reliability"]

# Half of the width within which a share lies in 95 of 100 cases.
_SPREAD = 1.96


def pit(analysis: Analysis) -> Html:
    """A histogram for every model one hour ahead, and at the longest horizon for two."""
    whole, colours = analysis.whole.kinds, classes(analysis)
    shown: list[tuple[str, Pit]] = [(kind, whole[kind].pits[0]) for kind in whole]
    if analysis.horizons > 1:
        shown += [(kind, whole[kind].pits[-1]) for kind in (analysis.headline, analysis.reference)]
    edges = np.concatenate([[0.0], analysis.levels, [1.0]])
    should = np.diff(edges)
    like = {*drawn(analysis), analysis.reference}
    common = max((float(p.bins.max()) for kind, p in shown if p.n and kind in like), default=0.1)
    x = Axis(0, 1, ((0.0, "0", False), (0.5, "0.5", False), (1.0, "1", False)))
    cells = []
    for kind, one in shown:
        if not one.n:
            continue
        most = common if kind in like else float(one.bins.max())
        y = nice_axis(0.0, max(most, 1.6 * float(should[0])), f"{NBSP}%", steps=3, factor=100)
        spread = float(_SPREAD * np.sqrt(should[0] * (1 - should[0]) / one.n))
        words = [
            f"{a:.2f} to {b:.2f}: {percent(float(v), 2)}"
            for a, b, v in zip(edges[:-1], edges[1:], one.bins, strict=True)
        ]
        plot = Plot(
            x, y, height="8.5rem",
            alt=f"PIT histogram of {the(kind)} {one.horizon} h ahead: bars from {percent(float(one.bins.min()))} to "
            f"{percent(float(one.bins.max()))}, where {percent(float(should[0]))} is right.",
            marks=[
                bars(x, y, edges[:-1] + 0.004, edges[1:] - 0.004, one.bins, colours[kind].split()[0]),
                zone(y, float(should[0]) - spread, float(should[0]) + spread, "chance"),
                rule(y, float(should[0]), "zero"),
                hits(x, [float(e) for e in edges], words),
            ],
        )  # fmt: skip
        cells.append(
            el(
                "figure",
                el("p", f"{name_of(kind)}, {one.horizon}{NBSP}h", class_="axis"),
                plot.html(),
                el(
                    "figcaption",
                    f"{percent(one.distance)} of closes would have to move to make it flat; chance alone: {percent(one.expected)}.",
                ),
            )
        )
    return join(
        [
            el(
                "p", "Where the closes fell among the forecast quantiles", note(5), ". Flat: the quantiles mean what they say. A hump: they are too far apart; a bowl: too "
                f"close. Within the grey band a bar is as chance would have it, were the hours independent; forecasts {analysis.horizons}{NBSP}h ahead overlap and stray farther.",
            ),
            el("div", *cells, class_="small"),
        ]
    )  # fmt: skip


def reliability(analysis: Analysis) -> Html:
    """The share of closes at or below each quantile, less its level."""
    whole, colours = analysis.whole.kinds, classes(analysis)
    levels = np.asarray(analysis.levels)
    lead = whole[analysis.headline].pits[0]
    if not lead.n:
        return el("p", "No close has come.")
    visible = [analysis.reference, *drawn(analysis)]
    off = {kind: whole[kind].pits[0].below - levels for kind in visible}
    x = Axis(0, 1, tuple((v, f"{v:g}", False) for v in (0.0, 0.25, 0.5, 0.75, 1.0)))
    y = nice_axis(
        *limits_of([float(v) for o in off.values() for v in o], 0.02, -0.02), f"{NBSP}%", factor=100
    )
    at = np.concatenate([[0.0], levels, [1.0]])
    spread = _SPREAD * np.sqrt(at * (1 - at) / lead.n)
    edges = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
    order = list(reversed(visible))
    words = [
        f"level {v:.2f}: "
        + ", ".join(f"{name_of(k)} {percent(float(whole[k].pits[0].below[i]))}" for k in order)
        for i, v in enumerate(levels)
    ]
    plot = Plot(
        x, y, title=f"share of closes at or below a quantile, less its level, 1{NBSP}h",
        alt=f"Reliability: {the(analysis.headline)} is off by {percent(lead.worst)} at most.",
        marks=[
            area(x, y, at, -spread, spread, "chance"),
            rule(y, 0.0, "zero"),
            *(line(x, y, levels, off[k], colours[k]) for k in visible),
            dots(x, y, levels, off[analysis.headline], colours[analysis.headline]),
            hits(x, [float(e) for e in edges], words),
        ],
    )  # fmt: skip
    made = table(
        "Share of closes at or below each quantile, one hour ahead",
        ["level", *map(name_of, whole)],
        [
            (f"{v:.2f}", [percent(float(r.pits[0].below[i])) for r in whole.values()])
            for i, v in enumerate(levels)
        ],
    )
    caption = f"Zero is perfect; within the grey band a share is as chance would have it. {the(analysis.headline, capital=True)} is off by {percent(lead.worst)} at most."
    return join(
        [
            legend([(colours[k], name_of(k)) for k in order]),
            figure(plot.html(), f"{caption}{left_out(analysis)}"),
            details("Reliability as a table", made),
        ]
    )


def _coverage_over_time(analysis: Analysis) -> list[Html]:
    """A chart of the shortest and one of the longest horizon; none where the walk is too short."""
    time = analysis.over_time[analysis.headline]
    broad = classes(analysis)[analysis.headline]
    charts: list[Html] = []
    if np.isfinite(time.coverage).any():
        x = time_axis(*whole_days(time))
        margin = LIMITS.coverage_margin_month
        both = [float(v) for v in (*time.coverage.ravel(), *time.raw_coverage.ravel())]
        limits = limits_of(both, LIMITS.coverage - margin, LIMITS.coverage + margin)
        y = nice_axis(limits[0], min(limits[1], 1.0), f"{NBSP}%", factor=100)
        places = weeks(time)
        edges = [*(float(time.at[i]) for i in places), float(time.at[-1])]
        for place, horizon in enumerate(sorted({1, analysis.horizons})):
            after, before = time.coverage[place], time.raw_coverage[place]
            words = [
                f"30 days to {day(int(time.at[i]))}: {percent(float(after[i]))} with, {percent(float(before[i]))} without"
                for i in places
            ]
            plot = Plot(
                x, y, title=f"inside the 90{NBSP}% interval, {horizon}{NBSP}h, trailing 30 days",
                alt=f"Coverage {horizon} h ahead over time: {percent(float(np.nanmin(after)))} to {percent(float(np.nanmax(after)))} with online "
                f"calibration, {percent(float(np.nanmin(before)))} to {percent(float(np.nanmax(before)))} without.",
                marks=[
                    *untouched_zone(analysis, x),
                    zone(y, LIMITS.coverage - margin, LIMITS.coverage + margin, "good"),
                    rule(y, LIMITS.coverage, "zero"),
                    line(x, y, time.at, before, "raw"),
                    line(x, y, time.at, after, broad),
                    hits(x, edges, words),
                ],
            )  # fmt: skip
            charts.append(figure(plot.html(), f"The green band is 90 ± {100 * margin:g}{NBSP}%."))
    return charts


def _before_and_after(lead: Horizons) -> list[tuple[str, list[str]]]:
    chosen = sorted({h for h in (1, 3, 6, 12, len(lead.p)) if h <= len(lead.p)})
    return [
        (
            f"{h}{NBSP}h",
            [
                *(
                    percent(float(side[j, h - 1]))
                    for j in range(3)
                    for side in (lead.raw_coverage, lead.coverage)
                ),
                signed(1 - float(lead.raw_pinball_ratio[h - 1])),
                signed(1 - float(lead.pinball_ratio[h - 1])),
                signed(1 - float(lead.raw_winkler_ratio[h - 1])),
                signed(1 - float(lead.winkler_ratio[h - 1])),
            ],
        )
        for h in chosen
    ]


def calibration(analysis: Analysis) -> Html:
    """Coverage over time with online calibration and without, and figures of both."""
    broad = classes(analysis)[analysis.headline]
    made = table(
        f"{the(analysis.headline, capital=True)} before and after online calibration",
        [
            "horizon", f"in 50{NBSP}%, before", "after", f"in 80{NBSP}%, before", "after", f"in 90{NBSP}%, before", "after",
            "pinball better by, before", "after", "Winkler better by, before", "after",
        ],
        _before_and_after(analysis.whole.kinds[analysis.headline].horizons),
    )  # fmt: skip
    return join(
        [
            el(
                "p", "Each close that came moves the quantiles a little towards where they should have been", note(6), "; this state goes on from fold to fold, as it does "
                "in serving.",
            ),
            legend([(broad, "with online calibration"), ("raw", "without")]),
            el("div", *_coverage_over_time(analysis), class_="pair"),
            made,
        ]
    )  # fmt: skip


def coverage(analysis: Analysis) -> Html:
    """The shares of closes within the central intervals, of every model."""
    rows = []
    for kind, result in analysis.whole.kinds.items():
        total, wide = result.total, result.horizons.coverage
        rows.append(
            (
                name_of(kind),
                [
                    percent(total.coverage_50),
                    percent(total.coverage_80),
                    percent(total.coverage_90),
                    number(total.width),
                    ratio(total.width_ratio),
                    *(percent(float(np.nanmean(wide[j]))) for j in range(3)),
                    percent(float(wide[-1, -1])),
                ],
            )
        )
    return table(
        "Closes inside the central intervals",
        [
            "model", f"50{NBSP}%, 1{NBSP}h", f"80{NBSP}%, 1{NBSP}h", f"90{NBSP}%, 1{NBSP}h", "width of that", "× ref.", f"50{NBSP}%, all horizons",
            f"80{NBSP}%, all horizons", f"90{NBSP}%, all horizons", f"90{NBSP}%, {analysis.horizons}{NBSP}h",
        ],
        rows,
        lead=name_of(analysis.headline),
        foot=["An interval should hold its share, and be no wider than that takes: the Winkler score", note(2), " counts both."],
    )  # fmt: skip
