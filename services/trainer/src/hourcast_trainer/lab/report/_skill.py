"""Skill: over time, by horizon, month, volatility and hour of the week."""

from collections.abc import Callable, Sequence
from datetime import date

import numpy as np

from hourcast.contracts import FloatArray
from hourcast_trainer.lab.analysis import JUDGED_MONTH_H, LIMITS, Analysis, Interval, KindResult, Skill
from hourcast_trainer.lab.report._charts import (
    Axis,
    Plot,
    dots,
    hits,
    legend,
    line,
    month_words,
    nice_axis,
    rule,
    time_axis,
    whiskers,
    zone,
)
from hourcast_trainer.lab.report._html import NBSP, Html, el, join, number, percent, ratio, signed
from hourcast_trainer.lab.report._parts import (
    classes,
    day,
    details,
    drawn,
    figure,
    heat,
    left_out,
    limits_of,
    marked,
    name_of,
    note,
    shade,
    table,
    the,
    told_p,
    told_range,
    untouched_zone,
    weeks,
    whole_days,
)

__all__ = ["by_horizon", "by_hour", "by_month", "by_volatility", "over_time"]

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_FIFTHS = ("calmest", "calm", "middle", "lively", "liveliest")
_BELOW = "pinball loss below the reference’s"
_INSIDE = f"closes inside the 90{NBSP}% interval"
_PROMISED = ("rule limit", f"promised in all: {signed(1 - LIMITS.pinball_ratio, 0)}")


def _skill_axis(values: Sequence[float], *also: float) -> Axis:
    return nice_axis(*limits_of(values, 0.0, *also), f"{NBSP}%", factor=100)


def _cover_axis(values: Sequence[float], margin: float) -> Axis:
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
    y = _skill_axis(
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
        title=f"{_BELOW}, 1{NBSP}h, trailing 30 days",
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
    keys += [(f"{broad} thin", f"{name_of(analysis.headline)} since the beginning"), _PROMISED]
    shaded = (
        "The shaded part is the span that nobody looked at while choosing. "
        if len(analysis.spans) > 1
        else ""
    )
    caption = (
        f"Zero is the reference. {shaded}Point at the chart for the figures of a week.{left_out(analysis)}"
    )
    return join([legend(keys), figure(plot.html(), caption)])  # fmt: skip


def by_horizon(analysis: Analysis) -> Html:
    """Skill and coverage at each horizon."""
    colours, shown = classes(analysis), drawn(analysis)
    kinds = {k: v for k, v in analysis.whole.kinds.items() if k != analysis.reference}
    lead, reference = analysis.whole.kinds[analysis.headline], analysis.whole.kinds[analysis.reference]
    name, other = name_of(analysis.headline), name_of(analysis.reference)
    skill = {k: 1 - r.horizons.pinball_ratio for k, r in analysis.whole.kinds.items()}
    number_ = analysis.horizons
    hours = np.arange(1, number_ + 1, dtype=np.float64)
    ticks = tuple((float(h), f"{h}{NBSP}h", False) for h in sorted({1, *range(6, number_ + 1, 6), number_}))
    x = Axis(0.5, number_ + 0.5, ticks)
    y = _skill_axis([float(v) for k in shown for v in skill[k]])
    edges = [float(v) + 0.5 for v in range(number_ + 1)]
    broad = colours[analysis.headline]
    left = Plot(
        x,
        y,
        title=_BELOW,
        alt=f"Skill by horizon. {the(analysis.headline, capital=True)}: {signed(float(skill[analysis.headline][0]))} at 1 hour, "
        f"{signed(float(skill[analysis.headline][-1]))} at {number_} hours.",
        marks=[
            rule(y, 0.0, "zero"),
            *(line(x, y, hours, skill[k], colours[k]) for k in shown),
            dots(x, y, hours, skill[analysis.headline], broad),
            hits(x, edges, [f"{i + 1} h: " + ", ".join(f"{name_of(k)} {signed(float(skill[k][i]))}" for k in reversed(shown)) for i in range(number_)]),
        ],
    )  # fmt: skip
    ours, theirs = lead.horizons.coverage[-1], reference.horizons.coverage[-1]
    y2 = _cover_axis([float(v) for v in (*ours, *theirs)], LIMITS.coverage_margin)
    right = Plot(
        x,
        y2,
        title=_INSIDE,
        alt=f"Coverage by horizon. {the(analysis.headline, capital=True)}: {percent(float(ours[0]))} at 1 hour, {percent(float(ours[-1]))} at {number_} hours.",
        marks=[
            _band(y2, LIMITS.coverage_margin),
            rule(y2, LIMITS.coverage, "zero"),
            line(x, y2, hours, theirs, "ref"),
            line(x, y2, hours, ours, broad),
            dots(x, y2, hours, ours, broad),
            hits(x, edges, [f"{i + 1} h: {name} {percent(float(ours[i]))}, {other} {percent(float(theirs[i]))}" for i in range(number_)]),
        ],
    )  # fmt: skip
    h = lead.horizons
    rows = [
        (
            f"{i + 1}{NBSP}h",
            [
                signed(float(skill[analysis.headline][i])),
                told_p(float(h.p[i])),
                signed(1 - float(h.winkler_ratio[i])),
                *(percent(float(h.coverage[j, i])) for j in range(3)),
                ratio(float(h.rmse_ratio[i])),
                ratio(float(h.mae_ratio[i])),
            ],
        )
        for i in range(number_)
    ]
    head = [
        "horizon", "pinball better by", "p", "Winkler better by", f"in 50{NBSP}%", f"in 80{NBSP}%", f"in 90{NBSP}%", "RMSE × ref.", "MAE × ref.",
    ]  # fmt: skip
    every = [(f"{i + 1}{NBSP}h", [heat(float(skill[k][i])) for k in kinds]) for i in range(number_)]
    return join(
        [
            legend([*((colours[k], name_of(k)) for k in reversed(shown)), ("ref", other)]),
            el(
                "div",
                figure(left.html(), f"Each horizon against the reference of the same horizon.{left_out(analysis)}"),
                figure(right.html(), _band_words(LIMITS.coverage_margin)),
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


def _band(y: Axis, margin: float) -> Html:
    return zone(y, LIMITS.coverage - margin, LIMITS.coverage + margin, "good")


def _band_words(margin: float) -> str:
    return f"The shaded band is {100 * LIMITS.coverage:g} ± {100 * margin:g}{NBSP}%."


def by_month(analysis: Analysis) -> Html:
    """Skill and coverage in each month, and which months are beyond a limit."""
    lead, reference = analysis.whole.kinds[analysis.headline], analysis.whole.kinds[analysis.reference]
    name, other = name_of(analysis.headline), name_of(analysis.reference)
    broad = classes(analysis)[analysis.headline]
    months = list(lead.months)
    at = np.arange(len(months), dtype=np.float64)
    every = max(1, -(-len(months) // 14))
    words = month_words([date.fromisoformat(f"{m}-01") for m in months[::every]])
    ticks = tuple((float(i * every), text, i % 3 != 0) for i, text in enumerate(words))
    x = Axis(-0.6, len(months) - 0.4, ticks)
    edges = [float(i) - 0.5 for i in range(len(months) + 1)]
    skill = np.array([1 - lead.months[m].pinball_ratio for m in months])
    low = np.array([1 - lead.month_intervals[m].high for m in months])
    high = np.array([1 - lead.month_intervals[m].low for m in months])
    y = _skill_axis([float(v) for v in (*low, *high, *skill)], 1 - LIMITS.pinball_ratio)
    judged = [m for m in months if lead.months[m].n >= JUDGED_MONTH_H] or months
    best, worst = (pick(judged, key=lambda m: lead.months[m].pinball_ratio) for pick in (min, max))
    left = Plot(
        x,
        y,
        title=f"{_BELOW}, 1{NBSP}h",
        alt=f"Skill by month with intervals: best in {best} ({signed(1 - lead.months[best].pinball_ratio)}), "
        f"least in {worst} ({signed(1 - lead.months[worst].pinball_ratio)}).",
        marks=[
            rule(y, 0.0, "zero"),
            rule(y, 1 - LIMITS.pinball_ratio, "limit"),
            whiskers(x, y, at, low, high, broad),
            dots(x, y, at, skill, f"{broad} big"),
            hits(x, edges, [f"{m}: {signed(float(s))} ({signed(float(a))} … {signed(float(b))}), {lead.months[m].n:,} hours" for m, s, a, b in zip(months, skill, low, high, strict=True)]),
        ],
    )  # fmt: skip
    ours = np.array([lead.months[m].coverage_90 for m in months])
    theirs = np.array([reference.months[m].coverage_90 for m in months])
    y2 = _cover_axis([float(v) for v in (*ours, *theirs)], LIMITS.coverage_margin_month)
    right = Plot(
        x,
        y2,
        title=f"{_INSIDE}, 1{NBSP}h",
        alt=f"Coverage by month, from {percent(float(np.nanmin(ours)))} to {percent(float(np.nanmax(ours)))}; the reference’s from "
        f"{percent(float(np.nanmin(theirs)))} to {percent(float(np.nanmax(theirs)))}.",
        marks=[
            _band(y2, LIMITS.coverage_margin_month),
            rule(y2, LIMITS.coverage, "zero"),
            dots(x, y2, at, theirs, "ref"),
            dots(x, y2, at, ours, f"{broad} big"),
            hits(x, edges, [f"{m}: {name} {percent(float(a))}, {other} {percent(float(b))}" for m, a, b in zip(months, ours, theirs, strict=True)]),
        ],
    )  # fmt: skip
    made = table(
        f"{the(analysis.headline, capital=True)} by month, one hour ahead",
        [
            "month", "hours", "pinball", "better by", f"95{NBSP}% of it", "better by, all horizons", "Winkler better by", f"in 90{NBSP}%",
            "RMSE × ref.", "MAE × ref.",
        ],
        [(m, _month_cells(lead.months[m], lead.month_intervals[m])) for m in months],
        foot=[f"✗ marks what is beyond its limit: 90 ± 3{NBSP}% and 1.01. A forecast belongs to the month in which it was made, UTC."],
    )  # fmt: skip
    return join(
        [
            legend([(broad, name), ("ref", other), _PROMISED]),
            el(
                "div",
                figure(left.html(), f"Best in {best}, least in {worst}. Lines hold 95{NBSP}% of a bootstrap", note(4), "."),
                figure(right.html(), _band_words(LIMITS.coverage_margin_month)),
                class_="pair",
            ),
            made,
            _every_model(analysis, "month", months, lambda result, i: result.months.get(months[i])),
        ]
    )  # fmt: skip


def _month_cells(part: Skill, interval: Interval) -> list[str]:
    judged = part.n >= JUDGED_MONTH_H
    far = round(abs(part.coverage_90 - LIMITS.coverage), 9) > LIMITS.coverage_margin_month
    return [
        number(part.n),
        number(part.pinball, 2),
        signed(1 - part.pinball_ratio),
        told_range(interval),
        signed(1 - part.pinball_all_ratio),
        signed(1 - part.winkler_ratio),
        marked(percent(part.coverage_90), judged and far),
        marked(ratio(part.rmse_ratio), judged and not part.rmse_ratio <= LIMITS.point_ratio_month),
        marked(ratio(part.mae_ratio), judged and not part.mae_ratio <= LIMITS.point_ratio_month),
    ]


def _every_model(
    analysis: Analysis, what: str, labels: Sequence[str], pick: Callable[[KindResult, int], Skill | None]
) -> Html:
    """Skill and coverage of every model in each group, folded away."""
    kinds = analysis.whole.kinds
    others = [k for k in kinds if k != analysis.reference]

    def cells(names: Sequence[str], place: int, value: Callable[[Skill], str]) -> list[str]:
        parts = [pick(kinds[k], place) for k in names]
        return ["–" if part is None or not part.n else value(part) for part in parts]

    return details(
        f"Every model in each {what}",
        table(
            f"Pinball loss one hour ahead below the reference’s, by {what}",
            [what, *map(name_of, others)],
            [(label, cells(others, i, lambda s: heat(1 - s.pinball_ratio))) for i, label in enumerate(labels)],
        ),
        table(
            f"Closes inside the 90{NBSP}% interval one hour ahead, by {what}",
            [what, *map(name_of, kinds)],
            [(label, cells(list(kinds), i, lambda s: percent(s.coverage_90))) for i, label in enumerate(labels)],
        ),
    )  # fmt: skip


def by_volatility(analysis: Analysis) -> Html:
    """Skill and coverage when the market was calm, and when it was not."""
    whole, colours, shown = analysis.whole, classes(analysis), drawn(analysis)
    lead, reference = whole.kinds[analysis.headline], whole.kinds[analysis.reference]
    broad = colours[analysis.headline]
    bounds = [percent(float(v)) for v in whole.volatility_edges]
    labels = [f"{_FIFTHS[i]}, {bounds[i]} to {bounds[i + 1]}" for i in range(5)]
    at = np.arange(5, dtype=np.float64)
    x = Axis(-0.5, 4.5, tuple((float(i), _FIFTHS[i], False) for i in range(5)))
    edges = [float(i) - 0.5 for i in range(6)]
    skill = {k: np.array([1 - q.pinball_ratio for q in r.quintiles]) for k, r in whole.kinds.items()}
    held = {k: np.array([q.coverage_90 for q in r.quintiles]) for k, r in whole.kinds.items()}
    y = _skill_axis([float(v) for k in shown for v in skill[k]])
    left = Plot(
        x,
        y,
        title=f"{_BELOW}, 1{NBSP}h",
        alt=f"Skill by fifth of volatility: {the(analysis.headline)} "
        + ", ".join(f"{_FIFTHS[i]} {signed(float(skill[analysis.headline][i]))}" for i in range(5)),
        marks=[
            rule(y, 0.0, "zero"),
            *(line(x, y, at, skill[k], colours[k]) for k in shown),
            dots(x, y, at, skill[analysis.headline], broad),
            hits(x, edges, [f"{labels[i]}: " + ", ".join(f"{name_of(k)} {signed(float(skill[k][i]))}" for k in reversed(shown)) for i in range(5)]),
        ],
    )  # fmt: skip
    visible = [analysis.reference, *shown]
    y2 = _cover_axis([float(v) for k in visible for v in held[k]], LIMITS.coverage_margin_quintile)
    right = Plot(
        x,
        y2,
        title=f"{_INSIDE}, 1{NBSP}h",
        alt=f"Coverage by fifth of volatility: {the(analysis.headline)} "
        + ", ".join(f"{_FIFTHS[i]} {percent(float(held[analysis.headline][i]))}" for i in range(5)),
        marks=[
            _band(y2, LIMITS.coverage_margin_quintile),
            rule(y2, LIMITS.coverage, "zero"),
            *(line(x, y2, at, held[k], colours[k]) for k in visible),
            dots(x, y2, at, held[analysis.headline], broad),
            hits(x, edges, [f"{labels[i]}: " + ", ".join(f"{name_of(k)} {percent(float(held[k][i]))}" for k in reversed(visible)) for i in range(5)]),
        ],
    )  # fmt: skip
    margin = LIMITS.coverage_margin_quintile
    rows = [
        (
            labels[i],
            [
                number(q.n),
                number(q.pinball, 2),
                signed(1 - q.pinball_ratio),
                signed(1 - q.winkler_ratio),
                marked(
                    percent(q.coverage_90),
                    bool(q.n) and round(abs(q.coverage_90 - LIMITS.coverage), 9) > margin,
                ),
                percent(reference.quintiles[i].coverage_90),
                number(q.width),
                number(q.width_ratio, 3),
            ],
        )
        for i, q in enumerate(lead.quintiles)
    ]
    made = table(
        f"{the(analysis.headline, capital=True)} by fifth of the volatility of the 24 hours before",
        [
            "a day’s volatility", "hours", "pinball", "better by", "Winkler better by", f"in 90{NBSP}%", "reference’s", f"width of 90{NBSP}%", "× ref.",
        ],
        rows,
        foot=["Who does not know how wild the market is covers too much when it is calm, and too little when it is not."],
    )  # fmt: skip
    return join(
        [
            legend([*((colours[k], name_of(k)) for k in reversed(shown)), ("ref", name_of(analysis.reference))]),
            el(
                "div",
                figure(left.html(), "By the realised volatility", note(7), f" that was known when the forecast was made.{left_out(analysis)}"),
                figure(right.html(), _band_words(margin)),
                class_="pair",
            ),
            made,
            _every_model(analysis, "fifth", labels, lambda result, i: result.quintiles[i]),
        ]
    )  # fmt: skip


def by_hour(analysis: Analysis) -> Html:
    """Skill and coverage in each hour of the week."""
    hours = analysis.whole.kinds[analysis.headline].hours_of_week
    skill, off = 1 - hours.pinball_ratio, hours.coverage_90 - LIMITS.coverage
    most, margin = 0.20, 0.10
    x = Axis(0, 24, tuple((h + 0.5, f"{h:02d}", h % 6 != 0) for h in range(0, 24, 3)))
    y = Axis(0, 7, tuple((6.5 - d, name, False) for d, name in enumerate(_DAYS)))

    def cells(values: FloatArray, deepest: float, told: Callable[[float], str]) -> list[Html]:
        out = []
        for i in np.flatnonzero(np.isfinite(values)):
            weekday, hour = divmod(int(i), 24)
            value = float(values[i])
            out.append(
                el(
                    "rect",
                    el("title", f"{_DAYS[weekday]} {hour:02d}:00: {told(value)}, {int(hours.n[i]):,} hours"),
                    class_="cell better" if value >= 0 else "cell worse",
                    x=f"{float(x.place(hour)):.1f}",
                    width=f"{1000 / 24:.1f}",
                    y=f"{1000 * weekday / 7:.1f}",
                    height=f"{1000 / 7:.1f}",
                    fill_opacity=f"{0.85 * min(abs(value) / deepest, 1.0):.2f}",
                )
            )
        return out

    known = np.flatnonzero(np.isfinite(skill))
    ahead = int((skill[known] > 0).sum())
    best = int(known[np.argmax(skill[known])])
    left = Plot(
        x, y, grid=False, title=f"{_BELOW}, 1{NBSP}h",
        alt=f"Skill by hour of the week: better than the reference in {ahead} of {len(known)} hours.",
        marks=cells(skill, most, signed),
    )  # fmt: skip
    right = Plot(
        x, y, grid=False, title=f"{_INSIDE}, 1{NBSP}h",
        alt=f"Coverage by hour of the week, from {percent(float(np.nanmin(hours.coverage_90)))} to {percent(float(np.nanmax(hours.coverage_90)))}.",
        marks=cells(off, margin, lambda v: percent(v + LIMITS.coverage)),
    )  # fmt: skip
    rows = [
        (
            f"{h:02d}:00",
            [
                shade(signed(float(skill[i])), float(skill[i]), most, title=f"{int(hours.n[i]):,} hours")
                for i in range(h, 168, 24)
            ],
        )
        for h in range(24)
    ]
    return join(
        [
            el(
                "div",
                figure(
                    left.html(),
                    _scale(signed(-most, 0), signed(most, 0)),
                    f"{the(analysis.headline, capital=True)} is better than the reference in {ahead} of {len(known)} hours of the week, most on "
                    f"{_DAYS[best // 24]} at {best % 24:02d}:00 UTC.",
                ),
                figure(
                    right.html(),
                    _scale(percent(LIMITS.coverage - margin, 0), percent(LIMITS.coverage + margin, 0)),
                    f"A cell is about {number(float(np.nanmean(hours.n)))} hours: ± {number(float(100 * np.sqrt(0.09 / np.nanmean(hours.n))), 1)} points are chance.",
                ),
                class_="pair",
            ),
            details(
                "Skill by hour of the week as a table",
                table("Pinball loss one hour ahead below the reference’s, by the hour (UTC) that begins", ["hour", *_DAYS], rows),
            ),
        ]
    )  # fmt: skip


def _scale(low: str, high: str) -> Html:
    return el("span", el("span", low), el("span", class_="ramp"), el("span", high), class_="scale")
