"""Skill by what is cut out of the span: months, fifths of volatility, hours of the week."""

from collections.abc import Callable, Sequence
from datetime import date

import numpy as np

from hourcast.contracts import FloatArray
from hourcast_trainer.lab.analysis import (
    JUDGED_MONTH_H,
    LIMITS,
    Analysis,
    HoursOfWeek,
    Interval,
    KindResult,
    Skill,
)
from hourcast_trainer.lab.report._charts import (
    Axis,
    Plot,
    dots,
    hits,
    legend,
    line,
    month_words,
    rule,
    whiskers,
)
from hourcast_trainer.lab.report._html import NBSP, Html, el, join, number, percent, ratio, signed
from hourcast_trainer.lab.report._parts import (
    classes,
    details,
    drawn,
    figure,
    heat,
    left_out,
    marked,
    name_of,
    note,
    shade,
    table,
    the,
    told_range,
)
from hourcast_trainer.lab.report._skill import (
    BELOW,
    INSIDE,
    PROMISED,
    band,
    band_words,
    cover_axis,
    skill_axis,
)

__all__ = ["by_hour", "by_month", "by_volatility"]

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_FIFTHS = ("calmest", "calm", "middle", "lively", "liveliest")


def _month_axis(months: Sequence[str]) -> tuple[Axis, FloatArray, list[float]]:
    at = np.arange(len(months), dtype=np.float64)
    every = max(1, -(-len(months) // 14))
    words = month_words([date.fromisoformat(f"{m}-01") for m in months[::every]])
    ticks = tuple((float(i * every), text, i % 3 != 0) for i, text in enumerate(words))
    axis = Axis(-0.6, len(months) - 0.4, ticks)
    edges = [float(i) - 0.5 for i in range(len(months) + 1)]
    return axis, at, edges


def _best_and_worst(lead: KindResult) -> tuple[str, str]:
    """The months of most and of least skill, of those that are long enough to be judged."""
    judged = [m for m, part in lead.months.items() if part.n >= JUDGED_MONTH_H] or list(lead.months)
    best, worst = (pick(judged, key=lambda m: lead.months[m].pinball_ratio) for pick in (min, max))
    return best, worst


def _skill_by_month(analysis: Analysis) -> Plot:
    lead, broad = analysis.whole.kinds[analysis.headline], classes(analysis)[analysis.headline]
    months = list(lead.months)
    x, at, edges = _month_axis(months)
    best, worst = _best_and_worst(lead)
    skill = np.array([1 - lead.months[m].pinball_ratio for m in months])
    low = np.array([1 - lead.month_intervals[m].high for m in months])
    high = np.array([1 - lead.month_intervals[m].low for m in months])
    y = skill_axis([float(v) for v in (*low, *high, *skill)], 1 - LIMITS.pinball_ratio)
    return Plot(
        x,
        y,
        title=f"{BELOW}, 1{NBSP}h",
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


def _coverage_by_month(analysis: Analysis) -> Plot:
    lead, reference = analysis.whole.kinds[analysis.headline], analysis.whole.kinds[analysis.reference]
    name, other = name_of(analysis.headline), name_of(analysis.reference)
    broad, months = classes(analysis)[analysis.headline], list(lead.months)
    x, at, edges = _month_axis(months)
    ours = np.array([lead.months[m].coverage_90 for m in months])
    theirs = np.array([reference.months[m].coverage_90 for m in months])
    y2 = cover_axis([float(v) for v in (*ours, *theirs)], LIMITS.coverage_margin_month)
    return Plot(
        x,
        y2,
        title=f"{INSIDE}, 1{NBSP}h",
        alt=f"Coverage by month, from {percent(float(np.nanmin(ours)))} to {percent(float(np.nanmax(ours)))}; the reference’s from "
        f"{percent(float(np.nanmin(theirs)))} to {percent(float(np.nanmax(theirs)))}.",
        marks=[
            band(y2, LIMITS.coverage_margin_month),
            rule(y2, LIMITS.coverage, "zero"),
            dots(x, y2, at, theirs, "ref"),
            dots(x, y2, at, ours, f"{broad} big"),
            hits(x, edges, [f"{m}: {name} {percent(float(a))}, {other} {percent(float(b))}" for m, a, b in zip(months, ours, theirs, strict=True)]),
        ],
    )  # fmt: skip


def by_month(analysis: Analysis) -> Html:
    """Skill and coverage in each month, and which months are beyond a limit."""
    lead = analysis.whole.kinds[analysis.headline]
    months, (best, worst) = list(lead.months), _best_and_worst(lead)
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
            legend([(classes(analysis)[analysis.headline], name_of(analysis.headline)), ("ref", name_of(analysis.reference)), PROMISED]),
            el(
                "div",
                figure(_skill_by_month(analysis).html(), f"Best in {best}, least in {worst}. Lines hold 95{NBSP}% of a bootstrap", note(4), "."),
                figure(_coverage_by_month(analysis).html(), band_words(LIMITS.coverage_margin_month)),
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


def _fifth_labels(analysis: Analysis) -> list[str]:
    bounds = [percent(float(v)) for v in analysis.whole.volatility_edges]
    return [f"{_FIFTHS[i]}, {bounds[i]} to {bounds[i + 1]}" for i in range(5)]


def _fifth_axis() -> tuple[Axis, FloatArray, list[float]]:
    axis = Axis(-0.5, 4.5, tuple((float(i), _FIFTHS[i], False) for i in range(5)))
    return axis, np.arange(5, dtype=np.float64), [float(i) - 0.5 for i in range(6)]


def _skill_by_volatility(analysis: Analysis) -> Plot:
    colours, shown, labels = classes(analysis), drawn(analysis), _fifth_labels(analysis)
    broad, (x, at, edges) = colours[analysis.headline], _fifth_axis()
    skill = {k: np.array([1 - q.pinball_ratio for q in r.quintiles]) for k, r in analysis.whole.kinds.items()}
    y = skill_axis([float(v) for k in shown for v in skill[k]])
    return Plot(
        x,
        y,
        title=f"{BELOW}, 1{NBSP}h",
        alt=f"Skill by fifth of volatility: {the(analysis.headline)} "
        + ", ".join(f"{_FIFTHS[i]} {signed(float(skill[analysis.headline][i]))}" for i in range(5)),
        marks=[
            rule(y, 0.0, "zero"),
            *(line(x, y, at, skill[k], colours[k]) for k in shown),
            dots(x, y, at, skill[analysis.headline], broad),
            hits(x, edges, [f"{labels[i]}: " + ", ".join(f"{name_of(k)} {signed(float(skill[k][i]))}" for k in reversed(shown)) for i in range(5)]),
        ],
    )  # fmt: skip


def _coverage_by_volatility(analysis: Analysis) -> Plot:
    colours, shown, labels = classes(analysis), drawn(analysis), _fifth_labels(analysis)
    broad, (x, at, edges) = colours[analysis.headline], _fifth_axis()
    held = {k: np.array([q.coverage_90 for q in r.quintiles]) for k, r in analysis.whole.kinds.items()}
    visible = [analysis.reference, *shown]
    y2 = cover_axis([float(v) for k in visible for v in held[k]], LIMITS.coverage_margin_quintile)
    return Plot(
        x,
        y2,
        title=f"{INSIDE}, 1{NBSP}h",
        alt=f"Coverage by fifth of volatility: {the(analysis.headline)} "
        + ", ".join(f"{_FIFTHS[i]} {percent(float(held[analysis.headline][i]))}" for i in range(5)),
        marks=[
            band(y2, LIMITS.coverage_margin_quintile),
            rule(y2, LIMITS.coverage, "zero"),
            *(line(x, y2, at, held[k], colours[k]) for k in visible),
            dots(x, y2, at, held[analysis.headline], broad),
            hits(x, edges, [f"{labels[i]}: " + ", ".join(f"{name_of(k)} {percent(float(held[k][i]))}" for k in reversed(visible)) for i in range(5)]),
        ],
    )  # fmt: skip


def _fifth_rows(analysis: Analysis) -> list[tuple[str, list[str]]]:
    lead, reference = analysis.whole.kinds[analysis.headline], analysis.whole.kinds[analysis.reference]
    labels = _fifth_labels(analysis)
    margin = LIMITS.coverage_margin_quintile
    return [
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


def by_volatility(analysis: Analysis) -> Html:
    """Skill and coverage when the market was calm, and when it was not."""
    colours, shown = classes(analysis), drawn(analysis)
    made = table(
        f"{the(analysis.headline, capital=True)} by fifth of the volatility of the 24 hours before",
        [
            "a day’s volatility", "hours", "pinball", "better by", "Winkler better by", f"in 90{NBSP}%", "reference’s", f"width of 90{NBSP}%", "× ref.",
        ],
        _fifth_rows(analysis),
        foot=["Who does not know how wild the market is covers too much when it is calm, and too little when it is not."],
    )  # fmt: skip
    return join(
        [
            legend([*((colours[k], name_of(k)) for k in reversed(shown)), ("ref", name_of(analysis.reference))]),
            el(
                "div",
                figure(_skill_by_volatility(analysis).html(), "By the realised volatility", note(7), f" that was known when the forecast was made.{left_out(analysis)}"),
                figure(_coverage_by_volatility(analysis).html(), band_words(LIMITS.coverage_margin_quintile)),
                class_="pair",
            ),
            made,
            _every_model(analysis, "fifth", _fifth_labels(analysis), lambda result, i: result.quintiles[i]),
        ]
    )  # fmt: skip


def _day_axis() -> Axis:
    return Axis(0, 24, tuple((h + 0.5, f"{h:02d}", h % 6 != 0) for h in range(0, 24, 3)))


def _cells(
    hours: HoursOfWeek, values: FloatArray, deepest: float, told: Callable[[float], str]
) -> list[Html]:
    """A cell for each hour of the week, deeper the further its value is from nought."""
    x = _day_axis()
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


def by_hour(analysis: Analysis) -> Html:
    """Skill and coverage in each hour of the week."""
    hours = analysis.whole.kinds[analysis.headline].hours_of_week
    skill, off = 1 - hours.pinball_ratio, hours.coverage_90 - LIMITS.coverage
    most, margin = 0.20, 0.10
    x, y = _day_axis(), Axis(0, 7, tuple((6.5 - d, name, False) for d, name in enumerate(_DAYS)))
    known = np.flatnonzero(np.isfinite(skill))
    ahead = int((skill[known] > 0).sum())
    best = int(known[np.argmax(skill[known])])
    left = Plot(
        x, y, grid=False, title=f"{BELOW}, 1{NBSP}h",
        alt=f"Skill by hour of the week: better than the reference in {ahead} of {len(known)} hours.",
        marks=_cells(hours, skill, most, signed),
    )  # fmt: skip
    right = Plot(
        x, y, grid=False, title=f"{INSIDE}, 1{NBSP}h",
        alt=f"Coverage by hour of the week, from {percent(float(np.nanmin(hours.coverage_90)))} to {percent(float(np.nanmax(hours.coverage_90)))}.",
        marks=_cells(hours, off, margin, lambda v: percent(v + LIMITS.coverage)),
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
