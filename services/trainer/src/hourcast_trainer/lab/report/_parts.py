"""What the sections are made of: tables, marks, and the names and colours of kinds."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hourcast.contracts import from_epoch
from hourcast_trainer.lab.analysis import Analysis, Interval, OverTime
from hourcast_trainer.lab.report._charts import Axis, span_y
from hourcast_trainer.lab.report._html import NBSP, Html, el, join, number, signed
from hourcast_trainer.models import COMPARED, spoken, title_of

__all__ = [
    "Section",
    "classes",
    "day",
    "details",
    "drawn",
    "figure",
    "heat",
    "left_out",
    "limits_of",
    "mark",
    "marked",
    "name_of",
    "note",
    "reference_name",
    "shade",
    "table",
    "the",
    "told_p",
    "told_range",
    "unbroken",
    "untouched_zone",
    "weeks",
    "whole_days",
]

_COLOURS = ("c0", "c1", "c2", "c3", "c4", "c5")
# Worse than this, a line would flatten all others.
_DRAWN = 1.10


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with its anchor and its heading."""

    anchor: str
    title: str
    body: Html


# -- words --------------------------------------------------------------------------------------------


def name_of(kind: str) -> str:
    """A kind as it stands in a table."""
    return title_of(kind)


def the(kind: str, capital: bool = False) -> str:
    """A kind as it stands in a sentence."""
    words = spoken(kind)
    return words[:1].upper() + words[1:] if capital else words


def reference_name(kind: str) -> str:
    """The reference as it stands in a sentence."""
    return "“the price stays”" if kind == "naive" else the(kind)


def day(moment_s: int) -> str:
    """`2024-06-06`."""
    return f"{from_epoch(moment_s):%Y-%m-%d}"


def told_range(interval: Interval) -> str:
    """The interval of a ratio, told as skill."""
    return f"{signed(1 - interval.high)} … {signed(1 - interval.low)}"


def told_p(value: float) -> str:
    """A probability with as many digits as matter."""
    if np.isnan(value):
        return "–"
    return f"<{NBSP}0.0001" if value < 1e-4 else number(value, 4 if value < 0.1 else 2)


def note(method: int) -> Html:
    """A pointer to the numbered method at the end."""
    return el("sup", el("a", str(method), href=f"#method-{method}", aria_label=f"method {method}"))


# -- kinds --------------------------------------------------------------------------------------------


def classes(analysis: Analysis) -> dict[str, str]:
    """The classes that draw each kind: its colour, dashes for the reference and a broad line for the headline."""
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


def drawn(analysis: Analysis) -> list[str]:
    """The kinds that charts show beside the reference, the best last and so on top."""
    kinds = analysis.whole.kinds
    shown = [k for k in kinds if k != analysis.reference and kinds[k].total.pinball_ratio <= _DRAWN]
    if analysis.headline not in shown:
        shown.insert(0, analysis.headline)
    return shown[::-1]


def left_out(analysis: Analysis) -> str:
    """Which kinds charts do not show, in words."""
    kinds, shown = analysis.whole.kinds, drawn(analysis)
    missing = [
        f"{name_of(k)} ({signed(1 - kinds[k].total.pinball_ratio)})"
        for k in kinds
        if k not in shown and k != analysis.reference
    ]
    return f" Too far below to be drawn: {', '.join(missing)}." if missing else ""


# -- markup -------------------------------------------------------------------------------------------


def figure(plot: Html, *caption: str) -> Html:
    """A chart with its caption."""
    return el("figure", plot, el("figcaption", *caption))


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[tuple[str, Sequence[str]]],
    *,
    lead: str = "",
    foot: Sequence[str] = (),
    class_: str | None = None,
) -> Html:
    """A table whose rows are (header, cells); a cell that is a `td` already stays as it is. The row of the header `lead` is bold."""

    def cell(value: str) -> Html:
        if isinstance(value, Html) and value.startswith("<td"):
            return value
        return el("td", value)

    made = el(
        "table",
        el("caption", el("span", caption)),
        el("thead", el("tr", *(el("th", text, scope="col") for text in head))),
        el(
            "tbody",
            *(
                el(
                    "tr",
                    el("th", title, scope="row"),
                    *(cell(value) for value in cells),
                    class_="lead" if lead and title == lead else None,
                )
                for title, cells in rows
            ),
        ),
        class_=class_,
    )
    # A box that scrolls must be reachable by keyboard.
    box = el("div", made, class_="scroll", tabindex="0", role="region", aria_label=caption)
    return join([box, el("p", *foot, class_="foot")]) if foot else box


def details(summary: str, *inside: str) -> Html:
    """What is folded away at first."""
    return el("details", el("summary", summary), *inside)


def shade(text: str, value: float, most: float, *, title: str | None = None, bold: bool = False) -> Html:
    """A cell whose ground says how far `value` is above zero (better) or below; at `most` it is deepest."""
    depth = 0.0 if np.isnan(value) else min(abs(value) / most, 1.0)
    return el(
        "td",
        el("strong", text) if bold else text,
        class_="heat better" if value >= 0 else "heat worse",
        style=f"--a:{round(50 * depth)}%",
        title=title,
    )


def heat(value: float) -> Html:
    """Skill on a shaded ground."""
    return shade(signed(value), value, 0.10)


def mark(met: bool) -> Html:
    """A tick or a cross, and its word for those who hear the page."""
    return el(
        "span",
        el("span", "✓ " if met else "✗ ", aria_hidden="true"),
        el("span", "met: " if met else "not met: ", class_="hidden"),
        class_="met" if met else "unmet",
    )


def marked(value: str, off: bool) -> str:
    """A figure, with a cross where it is beyond its limit."""
    return join([mark(False), el("span", value, class_="unmet")]) if off else value


# -- ranges -------------------------------------------------------------------------------------------


def limits_of(values: Iterable[float], *also: float) -> tuple[float, float]:
    """From the least to the most of the values, and a little more."""
    known = [float(v) for v in (*values, *also) if np.isfinite(v)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    spare = 0.06 * (high - low or abs(high) or 1.0)
    return low - spare, high + spare


def untouched_zone(analysis: Analysis, x: Axis) -> list[Html]:
    """The span that nobody looked at, as a shade over an axis of time."""
    return [
        span_y(x, part.span.start_s, part.span.end_s, "untouched")
        for part in analysis.spans
        if part.span.name == "untouched"
    ]


def whole_days(time: OverTime) -> tuple[int, int]:
    """The first and the last day that have 30 days before them, epoch seconds."""
    known = time.at[np.isfinite(time.skill)]
    return int(known[0]), int(known[-1])


def weeks(time: OverTime) -> list[int]:
    """Every seventh place of those days."""
    return [int(i) for i in np.flatnonzero(np.isfinite(time.skill))[::7]]


def unbroken(text: str) -> str:
    """With numbers and their units on one line."""
    return re.sub(r"(\d) (h\b|%)", rf"\1{NBSP}\2", text)
