"""Charts as inline SVG that stretches, with labels as HTML that does not: they can be read at any width.

A plot is a box of 1000 by 1000 that the page stretches to its place; strokes keep their width, and dots are strokes without length. Colours are
classes, so that the page can change them with light and dark (Okabe and Ito 2008, as the dashboard's).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np

from hourcast.contracts import FloatArray, IntArray, from_epoch
from hourcast_trainer.lab.report._html import Html, el, join, minus

__all__ = [
    "Axis",
    "Plot",
    "across",
    "area",
    "bars",
    "dots",
    "hits",
    "legend",
    "line",
    "month_words",
    "nice_axis",
    "rule",
    "span_y",
    "time_axis",
    "whiskers",
    "zone",
]

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Axis:
    """From `low` to `high`; `ticks` are places and words, a minor one is left out where there is little room."""

    low: float
    high: float
    ticks: tuple[tuple[float, str, bool], ...]

    def place(self, value: float | FloatArray | IntArray) -> FloatArray:
        """0 … 1000."""
        out: FloatArray = 1000 * (np.asarray(value, np.float64) - self.low) / (self.high - self.low)
        return out


def nice_axis(low: float, high: float, suffix: str = "", steps: int = 5, factor: float = 1.0) -> Axis:
    """An axis over [low, high] whose ticks are round numbers of `factor` times the value."""
    if not np.isfinite(low) or not np.isfinite(high):
        low, high = 0.0, 1.0
    if high <= low:
        high = low + (abs(low) or 1.0) * 0.1
    raw = (high - low) * factor / steps
    power = 10.0 ** np.floor(np.log10(raw))
    step = float(power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999))
    first, last = int(np.floor(low * factor / step + 1e-9)), int(np.ceil(high * factor / step - 1e-9))
    digits = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    if round(step, digits) != round(step, 9):
        digits += 1
    ticks = tuple(
        (i * step / factor, minus(f"{i * step:,.{digits}f}{suffix}"), False) for i in range(first, last + 1)
    )
    return Axis(first * step / factor, last * step / factor, ticks)


def time_axis(low_s: int, high_s: int) -> Axis:
    """Time, with a tick where a month begins, or a Monday where the span has few months; two of three are minor."""
    begin = np.datetime64(low_s, "s").astype("datetime64[M]")
    end = np.datetime64(high_s, "s").astype("datetime64[M]")
    starts = np.arange(begin, end + 1).astype("datetime64[s]").astype(np.int64)
    inside = [int(s) for s in starts if low_s <= s <= high_s]
    monthly = len(inside) > 2
    if not monthly:
        # The epoch began on a Thursday.
        first = low_s + (4 * _DAY_S - low_s) % (7 * _DAY_S)
        inside = list(range(first, high_s + 1, 7 * _DAY_S))
    inside = inside[:: max(1, -(-len(inside) // 14))]
    moments = [from_epoch(start) for start in inside]
    words = month_words(moments) if monthly else [f"{m.day} {m:%b}" for m in moments]
    ticks = tuple(
        (float(at), text, i % 3 != 0) for i, (at, text) in enumerate(zip(inside, words, strict=True))
    )
    return Axis(float(low_s), float(max(high_s, low_s + 1)), ticks)


def month_words(months: Sequence[date]) -> list[str]:
    """`Mar`, and `Mar 2024` where the year is another than before."""
    years = [None, *(m.year for m in months)]
    return [f"{m:%b}" if m.year == before else f"{m:%b %Y}" for before, m in zip(years, months, strict=False)]


@dataclass(frozen=True, slots=True)
class Plot:
    """A box with axes. `marks` are drawn in their order; `alt` says in words what is to be seen."""

    x: Axis
    y: Axis
    alt: str
    height: str = "17rem"
    title: str = ""
    grid: bool = True
    marks: Sequence[Html] = field(default=())

    def html(self) -> Html:
        """The plot."""
        lines = [
            el("line", class_="grid", x1=0, x2=1000, y1=_c(1000 - y), y2=_c(1000 - y))
            for y in (self.y.place(value) for value, *_ in self.y.ticks)
            if self.grid and -1 <= y <= 1001
        ]
        drawing = el(
            "svg",
            *lines,
            *self.marks,
            viewBox="0 0 1000 1000",
            preserveAspectRatio="none",
            aria_hidden="true",
        )
        words = [
            *(
                el("span", text, class_="y", style=f"bottom:{_c(self.y.place(value) / 10)}%")
                for value, text, _ in self.y.ticks
            ),
            *(
                el(
                    "span",
                    text,
                    class_="x minor" if minor else "x",
                    style=f"left:{_c(self.x.place(value) / 10)}%",
                )
                for value, text, minor in self.x.ticks
            ),
        ]
        head = el("p", self.title, class_="axis") if self.title else Html("")
        box = el(
            "div",
            drawing,
            *words,
            class_="plot",
            style=f"height:{self.height}",
            role="img",
            aria_label=self.alt,
        )
        return join([head, box])


def _c(value: float | FloatArray) -> str:
    """A coordinate: a tenth is finer than a pixel."""
    text = f"{float(value):.1f}"
    return text.removesuffix(".0") if text != "-0.0" else "0"


def _points(x: Axis, y: Axis, at: FloatArray | IntArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    return x.place(at), 1000 - y.place(values)


def line(x: Axis, y: Axis, at: FloatArray | IntArray, values: FloatArray, class_: str) -> Html:
    """A line through (at, values), broken where a value is NaN."""
    px, py = _points(x, y, at, values)
    path, pen = [], False
    for a, b in zip(px, py, strict=True):
        if not np.isfinite(b):
            pen = False
            continue
        path.append(f"{'L' if pen else 'M'}{_c(a)} {_c(b)}")
        pen = True
    return el("path", class_=f"line {class_}", d="".join(path))


def dots(x: Axis, y: Axis, at: FloatArray | IntArray, values: FloatArray, class_: str) -> Html:
    """A dot at each (at, value)."""
    px, py = _points(x, y, at, values)
    path = "".join(f"M{_c(a)} {_c(b)}h0" for a, b in zip(px, py, strict=True) if np.isfinite(b))
    return el("path", class_=f"dot {class_}", d=path)


def whiskers(
    x: Axis, y: Axis, at: FloatArray | IntArray, low: FloatArray, high: FloatArray, class_: str
) -> Html:
    """A vertical line from low to high at each place."""
    px, bottom = _points(x, y, at, low)
    _, top = _points(x, y, at, high)
    path = "".join(
        f"M{_c(a)} {_c(b)}V{_c(c)}" for a, b, c in zip(px, bottom, top, strict=True) if np.isfinite(b + c)
    )
    return el("path", class_=f"whisker {class_}", d=path)


def bars(x: Axis, y: Axis, left: FloatArray, right: FloatArray, values: FloatArray, class_: str) -> Html:
    """A bar from zero to each value, between left and right."""
    zero = 1000 - y.place(0.0)
    path = "".join(
        f"M{_c(a)} {_c(zero)}V{_c(v)}H{_c(b)}V{_c(zero)}z"
        for a, b, v in zip(x.place(left), x.place(right), 1000 - y.place(values), strict=True)
        if np.isfinite(v)
    )
    return el("path", class_=f"bar {class_}", d=path)


def rule(y: Axis, value: float, class_: str) -> Html:
    """A level line through the whole plot."""
    at = _c(1000 - y.place(value))
    return el("path", class_=f"rule {class_}", d=f"M0 {at}H1000")


def zone(y: Axis, low: float, high: float, class_: str) -> Html:
    """A band between two values of y."""
    top, bottom = 1000 - y.place(high), 1000 - y.place(low)
    return el("rect", class_=f"zone {class_}", x=0, width=1000, y=_c(top), height=_c(bottom - top))


def area(x: Axis, y: Axis, at: FloatArray | IntArray, low: FloatArray, high: FloatArray, class_: str) -> Html:
    """A band between two lines."""
    px, bottom = _points(x, y, at, low)
    _, top = _points(x, y, at, high)
    around = [*zip(px, top, strict=True), *zip(px[::-1], bottom[::-1], strict=True)]
    return el("path", class_=f"zone {class_}", d="M" + "L".join(f"{_c(a)} {_c(b)}" for a, b in around) + "z")


def across(axis: Axis, low: float, middle: float, high: float) -> Html:
    """A small drawing for a table: an interval with its middle, and where zero is."""
    a, b, c = (_c(axis.place(v)) for v in (low, middle, high))
    return el(
        "svg",
        el("path", class_="rule zero", d=f"M{_c(axis.place(0.0))} 0V1000"),
        el("path", class_="whisker c0", d=f"M{a} 500H{c}"),
        el("path", class_="dot c0", d=f"M{b} 500h0"),
        viewBox="0 0 1000 1000",
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def span_y(x: Axis, low: float, high: float, class_: str) -> Html:
    """A band between two values of x, over the whole height."""
    left, right = x.place(max(low, x.low)), x.place(min(high, x.high))
    return el("rect", class_=f"zone {class_}", y=0, height=1000, x=_c(left), width=_c(right - left))


def hits(x: Axis, edges: Sequence[float], words: Iterable[str]) -> Html:
    """Invisible strips between the edges; each says its words when pointed at."""
    places = x.place(np.asarray(edges, np.float64))
    return join(
        el("rect", el("title", text), class_="hit", x=_c(a), width=_c(b - a), y=0, height=1000)
        for a, b, text in zip(places[:-1], places[1:], words, strict=True)
    )


def legend(entries: Sequence[tuple[str, str]]) -> Html:
    """Names beside a sample of their line: (classes, name)."""
    return el(
        "ul",
        *(
            el(
                "li",
                el(
                    "svg",
                    el(
                        "path",
                        class_=classes if classes.startswith("rule") else f"line {classes}",
                        d="M0 6H26",
                    ),
                    width=26,
                    height=12,
                    viewBox="0 0 26 12",
                    aria_hidden="true",
                ),
                name,
            )
            for classes, name in entries
        ),
        class_="legend",
    )
