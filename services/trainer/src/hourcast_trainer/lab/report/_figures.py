"""The charts of skill and of coverage: over time, by horizon, month, volatility and hour of the week."""

from collections.abc import Callable, Iterable
from datetime import date

import numpy as np
from markupsafe import Markup

from hourcast.contracts import FloatArray
from hourcast_trainer.lab.analysis import LIMITS, OverTime
from hourcast_trainer.lab.report._charts import Axis, Chart, month_words, share_axis, time_axis
from hourcast_trainer.lab.report._view import FIFTHS, View
from hourcast_trainer.lab.report._words import NBSP, day, percent, signed, the

__all__ = [
    "DAYS",
    "by_horizon",
    "by_hour",
    "by_month",
    "by_volatility",
    "coverage_over_time",
    "hours_ahead",
    "over_time",
]

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_BELOW = "pinball loss below the reference’s"
_INSIDE = f"closes inside the 90{NBSP}% interval"
_CELL = Markup(
    '<rect class="cell %s" x="%.1f" width="%.1f" y="%.1f" height="%.1f" fill-opacity="%.2f"><title>%s</title></rect>'
)


def _skill(
    x: Axis,
    values: Iterable[FloatArray],
    alt: str,
    title: str = f"{_BELOW}, 1{NBSP}h",
    promised: bool = False,
) -> Chart:
    """A chart of skill: zero is the reference, and a rule says what is `promised` in all."""
    rules = {"zero": 0.0, "limit": 1 - LIMITS.pinball_ratio} if promised else {"zero": 0.0}
    chart = Chart(x, share_axis(*rules.values(), *values), alt, title)
    for class_, value in rules.items():
        chart.rule(value, class_)
    return chart


def _coverage(
    x: Axis, values: Iterable[FloatArray], margin: float, alt: str, title: str = f"{_INSIDE}, 1{NBSP}h"
) -> Chart:
    """A chart of coverage with what it should be, and how far off it may be."""
    low, high = LIMITS.coverage - margin, LIMITS.coverage + margin
    chart = Chart(x, share_axis(low, high, *values, most=1.0), alt, title)
    chart.zone(low, high, "good")
    chart.rule(LIMITS.coverage, "zero")
    return chart


def _edges(at: FloatArray) -> FloatArray:
    return np.append(at - 0.5, at[-1] + 0.5)


def _compare(
    view: View,
    chart: Chart,
    at: FloatArray,
    labels: list[str],
    values: dict[str, FloatArray],
    told: Callable[[float], str],
) -> Chart:
    """A line for each kind, the last on top, dots for the headline, and all figures where one points."""
    for kind, figures in values.items():
        chart.line(at, figures, view.colours[kind])
    chart.dots(at, values[view.headline], view.broad)
    chart.hits(_edges(at), view.figures(labels, values, told))
    return chart


# -- over time ----------------------------------------------------------------------------------------


def _days(time: OverTime) -> tuple[Axis, list[int], list[str]]:
    """The days that have 30 days before them: their axis, the place of each week's first, and its words."""
    known = np.flatnonzero(np.isfinite(time.skill))
    weeks = known[::7].tolist()
    return (
        time_axis(*time.at[known[[0, -1]]].tolist()),
        weeks,
        [f"30 days to {day(time.at[i])}" for i in weeks],
    )


def over_time(view: View) -> Chart | None:
    """Skill of the trailing 30 days, and since the beginning; None where the walk is shorter."""
    times = {kind: view.analysis.over_time[kind] for kind in view.drawn}
    lead = times[view.headline]
    if not np.isfinite(lead.skill).any():
        return None
    x, weeks, labels = _days(lead)
    alt = (
        f"Skill over the trailing 30 days. {the(view.headline, capital=True)} lies between {signed(np.nanmin(lead.skill))} and "
        f"{signed(np.nanmax(lead.skill))}, and at {signed(lead.cumulative[-1])} over the whole span."
    )
    values = [lead.cumulative[-1:], *(t.skill for t in times.values())]
    chart = _skill(x, values, alt, f"{_BELOW}, 1{NBSP}h, trailing 30 days", promised=True)
    view.shade_untouched(chart)
    for kind, time in times.items():
        chart.line(time.at, time.skill, view.colours[kind])
    chart.line(lead.at, lead.cumulative, f"{view.broad} thin")
    told = view.figures(labels, {kind: time.skill[weeks] for kind, time in times.items()}, signed)
    chart.hits(lead.at[[*weeks, -1]], told)
    return chart


def coverage_over_time(view: View) -> list[Chart]:
    """With online calibration and without, at the shortest and the longest horizon; none where the walk is too short."""
    time = view.analysis.over_time[view.headline]
    if not np.isfinite(time.coverage).any():
        return []
    x, weeks, labels = _days(time)
    charts = []
    for place, horizon in enumerate(sorted({1, view.analysis.horizons})):
        after, before = time.coverage[place], time.raw_coverage[place]
        alt = (
            f"Coverage {horizon} h ahead over time: {percent(np.nanmin(after))} to {percent(np.nanmax(after))} with online "
            f"calibration, {percent(np.nanmin(before))} to {percent(np.nanmax(before))} without."
        )
        title = f"inside the 90{NBSP}% interval, {horizon}{NBSP}h, trailing 30 days"
        both = (time.coverage, time.raw_coverage)
        chart = _coverage(x, both, LIMITS.coverage_margin_month, alt, title)
        view.shade_untouched(chart)
        chart.line(time.at, before, "raw")
        chart.line(time.at, after, view.broad)
        told = zip(labels, after[weeks], before[weeks], strict=True)
        chart.hits(
            time.at[[*weeks, -1]],
            [f"{label}: {percent(a)} with, {percent(b)} without" for label, a, b in told],
        )
        charts.append(chart)
    return charts


# -- by horizon and volatility ------------------------------------------------------------------------


def by_horizon(view: View) -> tuple[Chart, Chart]:
    """Skill of every kind, and coverage of the headline and the reference."""
    n = view.analysis.horizons
    ticks = tuple((float(h), f"{h}{NBSP}h", False) for h in sorted({1, *range(6, n + 1, 6), n}))
    x, at, labels = Axis(0.5, n + 0.5, ticks), np.arange(1.0, n + 1), [f"{h} h" for h in range(1, n + 1)]

    def alt(what: str, first: str, last: str) -> str:
        return (
            f"{what} by horizon. {the(view.headline, capital=True)}: {first} at 1 hour, {last} at {n} hours."
        )

    skill = {k: 1 - view.kinds[k].horizons.pinball_ratio for k in view.drawn}
    ours = skill[view.headline]
    left = _skill(x, skill.values(), alt("Skill", signed(ours[0]), signed(ours[-1])), _BELOW)
    held = {k: view.kinds[k].horizons.coverage[-1] for k in (view.analysis.reference, view.headline)}
    ours = held[view.headline]
    told = alt("Coverage", percent(ours[0]), percent(ours[-1]))
    right = _coverage(x, held.values(), LIMITS.coverage_margin, told, _INSIDE)
    return _compare(view, left, at, labels, skill, signed), _compare(view, right, at, labels, held, percent)


def by_volatility(view: View) -> tuple[Chart, Chart]:
    """Skill and coverage of every kind."""
    x, at = Axis(-0.5, 4.5, tuple((float(i), name, False) for i, name in enumerate(FIFTHS))), np.arange(5.0)

    def alt(what: str, values: dict[str, FloatArray], told: Callable[[float], str]) -> str:
        each = ", ".join(f"{name} {told(v)}" for name, v in zip(FIFTHS, values[view.headline], strict=True))
        return f"{what} by fifth of volatility: {the(view.headline)} {each}"

    skill = {k: np.array([1 - q.pinball_ratio for q in view.kinds[k].quintiles]) for k in view.drawn}
    left = _skill(x, skill.values(), alt("Skill", skill, signed))
    visible = (view.analysis.reference, *view.drawn)
    held = {k: np.array([q.coverage_90 for q in view.kinds[k].quintiles]) for k in visible}
    right = _coverage(x, held.values(), LIMITS.coverage_margin_quintile, alt("Coverage", held, percent))
    labels = view.fifths
    return _compare(view, left, at, labels, skill, signed), _compare(view, right, at, labels, held, percent)


# -- by month and by hour of the week -----------------------------------------------------------------


def by_month(view: View) -> tuple[Chart, Chart]:
    """The headline's skill with its intervals, and its coverage beside the reference's."""
    lead, months, (best, worst) = view.lead, list(view.lead.months), view.best_and_worst
    every = max(1, -(-len(months) // 14))
    words = month_words([date.fromisoformat(f"{m}-01") for m in months[::every]])
    ticks = tuple((float(i * every), text, i % 3 != 0) for i, text in enumerate(words))
    x, at, big = Axis(-0.6, len(months) - 0.4, ticks), np.arange(float(len(months))), f"{view.broad} big"
    skill = {m: 1 - lead.months[m].pinball_ratio for m in months}
    values = np.array(list(skill.values()))
    low = np.array([1 - lead.month_intervals[m].high for m in months])
    high = np.array([1 - lead.month_intervals[m].low for m in months])
    alt = f"Skill by month with intervals: best in {best} ({signed(skill[best])}), least in {worst} ({signed(skill[worst])})."
    left = _skill(x, (low, high, values), alt, promised=True)
    left.whiskers(at, low, high, view.broad)
    left.dots(at, values, big)
    told = zip(months, values, low, high, strict=True)
    left.hits(
        _edges(at),
        [f"{m}: {signed(s)} ({signed(a)} … {signed(b)}), {lead.months[m].n:,} hours" for m, s, a, b in told],
    )
    ours = np.array([lead.months[m].coverage_90 for m in months])
    theirs = np.array([view.reference.months[m].coverage_90 for m in months])
    alt = (
        f"Coverage by month, from {percent(np.nanmin(ours))} to {percent(np.nanmax(ours))}; the reference’s from "
        f"{percent(np.nanmin(theirs))} to {percent(np.nanmax(theirs))}."
    )
    right = _coverage(x, (ours, theirs), LIMITS.coverage_margin_month, alt)
    right.dots(at, theirs, "ref")
    right.dots(at, ours, big)
    held = {view.analysis.reference: theirs, view.headline: ours}
    right.hits(_edges(at), view.figures(months, held, percent))
    return left, right


def _cells(
    view: View, alt: str, title: str, values: FloatArray, most: float, told: Callable[[float], str]
) -> Chart:
    """A cell for each hour of the week, deeper the further its value is from nought."""
    x = Axis(0, 24, tuple((h + 0.5, f"{h:02d}", h % 6 != 0) for h in range(0, 24, 3)))
    y = Axis(0, 7, tuple((6.5 - d, name, False) for d, name in enumerate(DAYS)))
    chart = Chart(x, y, alt, f"{title}, 1{NBSP}h", grid=False)
    for i in np.flatnonzero(np.isfinite(values)).tolist():
        (weekday, hour), value = divmod(i, 24), values[i]
        words = f"{DAYS[weekday]} {hour:02d}:00: {told(value)}, {view.lead.hours_of_week.n[i]:,} hours"
        ground, opacity = "better" if value >= 0 else "worse", 0.85 * min(abs(value) / most, 1.0)
        box = (1000 * hour / 24, 1000 / 24, 1000 * weekday / 7, 1000 / 7)
        chart.marks.append(_CELL % (ground, *box, opacity, words))
    return chart


def hours_ahead(view: View) -> tuple[int, int, int]:
    """In how many hours of the week the headline is better than the reference, of how many, and the best of them."""
    ratio = view.lead.hours_of_week.pinball_ratio
    return int(np.sum(ratio < 1)), int(np.isfinite(ratio).sum()), int(np.nanargmin(ratio))


def by_hour(view: View, most: float, margin: float) -> tuple[Chart, Chart]:
    """The headline's skill and coverage; deepest where they are `most` from zero and `margin` from what is promised."""
    skill, held = 1 - view.lead.hours_of_week.pinball_ratio, view.lead.hours_of_week.coverage_90
    ahead, known, _ = hours_ahead(view)
    left = f"Skill by hour of the week: better than the reference in {ahead} of {known} hours."
    right = f"Coverage by hour of the week, from {percent(np.nanmin(held))} to {percent(np.nanmax(held))}."
    return (
        _cells(view, left, _BELOW, skill, most, signed),
        _cells(view, right, _INSIDE, held - LIMITS.coverage, margin, lambda v: percent(v + LIMITS.coverage)),
    )
