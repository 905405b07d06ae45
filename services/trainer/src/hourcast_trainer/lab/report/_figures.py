"""The charts of skill and of coverage: over time, by horizon, month, volatility and hour of the week."""

from collections.abc import Callable, Sequence
from datetime import date

import numpy as np
from markupsafe import Markup

from hourcast.contracts import FloatArray
from hourcast_trainer.lab.analysis import LIMITS, OverTime
from hourcast_trainer.lab.report._charts import Axis, Chart, month_words, share_axis, time_axis
from hourcast_trainer.lab.report._view import FIFTHS, View
from hourcast_trainer.lab.report._words import NBSP, day, name_of, percent, signed, the

__all__ = [
    "DAYS",
    "by_horizon",
    "by_hour",
    "by_month",
    "by_volatility",
    "cover_axis",
    "frame_of_days",
    "hours_ahead",
    "over_time",
]

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_BELOW = "pinball loss below the reference’s"
_INSIDE = f"closes inside the 90{NBSP}% interval"
_PROMISED = 1 - LIMITS.pinball_ratio
_CELL = Markup(
    '<rect class="cell {}" x="{:.1f}" width="{:.1f}" y="{:.1f}" height="{:.1f}" fill-opacity="{:.2f}"><title>{}</title></rect>'
)


def cover_axis(margin: float, *values: FloatArray) -> Axis:
    """An axis of coverage that holds all values, and the promised share with its margin."""
    return share_axis(LIMITS.coverage - margin, LIMITS.coverage + margin, *values, most=1.0)


def _promised_cover(chart: Chart, margin: float) -> None:
    chart.zone(LIMITS.coverage - margin, LIMITS.coverage + margin, "good")
    chart.rule(LIMITS.coverage, "zero")


def _edges(at: FloatArray) -> list[float]:
    return [float(at[0]) - 0.5, *(float(v) + 0.5 for v in at)]


def _compare(
    view: View,
    chart: Chart,
    at: FloatArray,
    labels: Sequence[str],
    values: dict[str, FloatArray],
    told: Callable[[float], str],
) -> Chart:
    """A line for each kind, the last on top, dots for the headline, and all figures where one points."""
    for kind, figures in values.items():
        chart.line(at, figures, view.colours[kind])
    chart.dots(at, values[view.analysis.headline], view.broad)
    chart.hits(
        _edges(at),
        [
            f"{label}: " + ", ".join(f"{name_of(k)} {told(v[i])}" for k, v in reversed(values.items()))
            for i, label in enumerate(labels)
        ],
    )
    return chart


# -- over time ----------------------------------------------------------------------------------------


def frame_of_days(time: OverTime) -> tuple[Axis, list[float], list[int]]:
    """The days that have 30 days before them: their axis, the edges of their weeks, and the place of each week's first day."""
    known = np.flatnonzero(np.isfinite(time.skill))
    weeks = [int(i) for i in known[::7]]
    axis = time_axis(int(time.at[known[0]]), int(time.at[known[-1]]))
    return axis, [*(float(time.at[i]) for i in weeks), float(time.at[-1])], weeks


def over_time(view: View) -> Chart | None:
    """Skill of the trailing 30 days, and since the beginning; None where the walk is shorter."""
    headline = view.analysis.headline
    lead = view.analysis.over_time[headline]
    if not np.isfinite(lead.skill).any():
        return None
    times = {kind: view.analysis.over_time[kind] for kind in view.drawn}
    x, edges, weeks = frame_of_days(lead)
    y = share_axis(0.0, _PROMISED, lead.cumulative[-1:], *(t.skill for t in times.values()))
    chart = Chart(
        x, y, title=f"{_BELOW}, 1{NBSP}h, trailing 30 days", height="20rem",
        alt=f"Skill over the trailing 30 days. {the(headline, capital=True)} lies between {signed(np.nanmin(lead.skill))} and "
        f"{signed(np.nanmax(lead.skill))}, and at {signed(lead.cumulative[-1])} over the whole span.",
    )  # fmt: skip
    view.shade_untouched(chart)
    chart.rule(0.0, "zero")
    chart.rule(_PROMISED, "limit")
    for kind, time in times.items():
        chart.line(time.at, time.skill, view.colours[kind])
    chart.line(lead.at, lead.cumulative, f"{view.broad} thin")
    chart.hits(
        edges,
        [
            f"30 days to {day(lead.at[i])}: "
            + ", ".join(f"{name_of(k)} {signed(t.skill[i])}" for k, t in reversed(times.items()))
            for i in weeks
        ],
    )
    return chart


# -- by horizon and volatility ------------------------------------------------------------------------


def by_horizon(view: View) -> tuple[Chart, Chart]:
    """Skill of every kind, and coverage of the headline and the reference."""
    headline, reference, n = view.analysis.headline, view.analysis.reference, view.analysis.horizons
    ticks = tuple((float(h), f"{h}{NBSP}h", False) for h in sorted({1, *range(6, n + 1, 6), n}))
    x, at, labels = Axis(0.5, n + 0.5, ticks), np.arange(1.0, n + 1), [f"{h} h" for h in range(1, n + 1)]
    skill = {k: 1 - view.kinds[k].horizons.pinball_ratio for k in view.drawn}
    ours = skill[headline]
    left = Chart(
        x, share_axis(0.0, *skill.values()), title=_BELOW,
        alt=f"Skill by horizon. {the(headline, capital=True)}: {signed(ours[0])} at 1 hour, {signed(ours[-1])} at {n} hours.",
    )  # fmt: skip
    left.rule(0.0, "zero")
    held = {k: view.kinds[k].horizons.coverage[-1] for k in (reference, headline)}
    ours, margin = held[headline], LIMITS.coverage_margin
    right = Chart(
        x, cover_axis(margin, *held.values()), title=_INSIDE,
        alt=f"Coverage by horizon. {the(headline, capital=True)}: {percent(ours[0])} at 1 hour, {percent(ours[-1])} at {n} hours.",
    )  # fmt: skip
    _promised_cover(right, margin)
    return _compare(view, left, at, labels, skill, signed), _compare(view, right, at, labels, held, percent)


def by_volatility(view: View) -> tuple[Chart, Chart]:
    """Skill and coverage of every kind."""
    headline, at, labels = view.analysis.headline, np.arange(5.0), view.fifths
    x = Axis(-0.5, 4.5, tuple((float(i), name, False) for i, name in enumerate(FIFTHS)))

    def alt(what: str, figures: FloatArray, told: Callable[[float], str]) -> str:
        each = ", ".join(f"{name} {told(v)}" for name, v in zip(FIFTHS, figures, strict=True))
        return f"{what} by fifth of volatility: {the(headline)} {each}"

    skill = {k: np.array([1 - q.pinball_ratio for q in view.kinds[k].quintiles]) for k in view.drawn}
    left = Chart(
        x, share_axis(0.0, *skill.values()), alt("Skill", skill[headline], signed), f"{_BELOW}, 1{NBSP}h"
    )
    left.rule(0.0, "zero")
    visible, margin = [view.analysis.reference, *view.drawn], LIMITS.coverage_margin_quintile
    held = {k: np.array([q.coverage_90 for q in view.kinds[k].quintiles]) for k in visible}
    right = Chart(
        x,
        cover_axis(margin, *held.values()),
        alt("Coverage", held[headline], percent),
        f"{_INSIDE}, 1{NBSP}h",
    )
    _promised_cover(right, margin)
    return _compare(view, left, at, labels, skill, signed), _compare(view, right, at, labels, held, percent)


# -- by month and by hour of the week -----------------------------------------------------------------


def by_month(view: View) -> tuple[Chart, Chart]:
    """The headline's skill with its intervals, and its coverage beside the reference's."""
    lead, months, (best, worst) = view.lead, list(view.lead.months), view.best_and_worst
    every = max(1, -(-len(months) // 14))
    words = month_words([date.fromisoformat(f"{m}-01") for m in months[::every]])
    ticks = tuple((float(i * every), text, i % 3 != 0) for i, text in enumerate(words))
    x, at, big = Axis(-0.6, len(months) - 0.4, ticks), np.arange(float(len(months))), f"{view.broad} big"
    skill = np.array([1 - lead.months[m].pinball_ratio for m in months])
    low = np.array([1 - lead.month_intervals[m].high for m in months])
    high = np.array([1 - lead.month_intervals[m].low for m in months])
    left = Chart(
        x, share_axis(0.0, _PROMISED, low, high, skill), title=f"{_BELOW}, 1{NBSP}h",
        alt=f"Skill by month with intervals: best in {best} ({signed(1 - lead.months[best].pinball_ratio)}), "
        f"least in {worst} ({signed(1 - lead.months[worst].pinball_ratio)}).",
    )  # fmt: skip
    left.rule(0.0, "zero")
    left.rule(_PROMISED, "limit")
    left.whiskers(at, low, high, view.broad)
    left.dots(at, skill, big)
    told = zip(months, skill, low, high, strict=True)
    left.hits(
        _edges(at),
        [f"{m}: {signed(s)} ({signed(a)} … {signed(b)}), {lead.months[m].n:,} hours" for m, s, a, b in told],
    )
    ours = np.array([lead.months[m].coverage_90 for m in months])
    theirs = np.array([view.reference.months[m].coverage_90 for m in months])
    right = Chart(
        x, cover_axis(LIMITS.coverage_margin_month, ours, theirs), title=f"{_INSIDE}, 1{NBSP}h",
        alt=f"Coverage by month, from {percent(np.nanmin(ours))} to {percent(np.nanmax(ours))}; the reference’s from "
        f"{percent(np.nanmin(theirs))} to {percent(np.nanmax(theirs))}.",
    )  # fmt: skip
    _promised_cover(right, LIMITS.coverage_margin_month)
    right.dots(at, theirs, "ref")
    right.dots(at, ours, big)
    name, other = name_of(view.analysis.headline), name_of(view.analysis.reference)
    both = zip(months, ours, theirs, strict=True)
    right.hits(_edges(at), [f"{m}: {name} {percent(a)}, {other} {percent(b)}" for m, a, b in both])
    return left, right


def _cells(view: View, chart: Chart, values: FloatArray, most: float, told: Callable[[float], str]) -> Chart:
    """A cell for each hour of the week, deeper the further its value is from nought."""
    for i in np.flatnonzero(np.isfinite(values)).tolist():
        (weekday, hour), value = divmod(i, 24), values[i]
        words = f"{DAYS[weekday]} {hour:02d}:00: {told(value)}, {view.lead.hours_of_week.n[i]:,} hours"
        chart.marks.append(
            _CELL.format(
                "better" if value >= 0 else "worse", 1000 * hour / 24, 1000 / 24, 1000 * weekday / 7, 1000 / 7,
                0.85 * min(abs(value) / most, 1.0), words,
            )
        )  # fmt: skip
    return chart


def hours_ahead(view: View) -> tuple[int, int, int]:
    """In how many hours of the week the headline is better than the reference, of how many, and the best of them."""
    ratio = view.lead.hours_of_week.pinball_ratio
    return int(np.sum(ratio < 1)), int(np.isfinite(ratio).sum()), int(np.nanargmin(ratio))


def by_hour(view: View, most: float, margin: float) -> tuple[Chart, Chart]:
    """The headline's skill and coverage; deepest where they are `most` from zero and `margin` from what is promised."""
    hours = view.lead.hours_of_week
    x = Axis(0, 24, tuple((h + 0.5, f"{h:02d}", h % 6 != 0) for h in range(0, 24, 3)))
    y = Axis(0, 7, tuple((6.5 - d, name, False) for d, name in enumerate(DAYS)))
    ahead, known, _ = hours_ahead(view)
    left = Chart(
        x, y, grid=False, title=f"{_BELOW}, 1{NBSP}h",
        alt=f"Skill by hour of the week: better than the reference in {ahead} of {known} hours.",
    )  # fmt: skip
    right = Chart(
        x, y, grid=False, title=f"{_INSIDE}, 1{NBSP}h",
        alt=f"Coverage by hour of the week, from {percent(np.nanmin(hours.coverage_90))} to {percent(np.nanmax(hours.coverage_90))}.",
    )  # fmt: skip
    return (
        _cells(view, left, 1 - hours.pinball_ratio, most, signed),
        _cells(
            view, right, hours.coverage_90 - LIMITS.coverage, margin, lambda v: percent(v + LIMITS.coverage)
        ),
    )
