"""Charts as inline SVG that stretches, with labels as HTML that does not: they can be read at any width.

A chart is a box of 1000 by 1000 that the page stretches to its place; strokes keep their width, and dots are strokes without length. Colours are
classes, so that the page can change them with light and dark (Okabe and Ito 2008, as the dashboard's).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from math import isfinite

import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike

from hourcast.contracts import FloatArray, from_epoch
from hourcast_trainer.lab.report._words import NBSP, minus

__all__ = ["Axis", "Chart", "coordinate", "limits_of", "month_words", "nice_axis", "share_axis", "time_axis"]

_DAY_S = 86_400
_PATH = Markup('<path class="%s" d="%s"/>')
_RECT = Markup('<rect class="%s" x="%s" width="%s" y="%s" height="%s"/>')
_HIT = Markup('<rect class="hit" x="%s" width="%s" y="0" height="1000"><title>%s</title></rect>')


@dataclass(frozen=True, slots=True)
class Axis:
    """From `low` to `high`; `ticks` are places and words, a minor one is left out where there is little room."""

    low: float
    high: float
    ticks: tuple[tuple[float, str, bool], ...] = ()

    def place(self, value: ArrayLike) -> FloatArray:
        """0 … 1000."""
        out: FloatArray = 1000 * (np.asarray(value, np.float64) - self.low) / (self.high - self.low)
        return out


def limits_of(*values: ArrayLike) -> tuple[float, float]:
    """From the least to the most of the values, and a little more."""
    every = np.concatenate([np.ravel(value) for value in values])
    known = every[np.isfinite(every)]
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    spare = 0.06 * (high - low or abs(high) or 1.0)
    return low - spare, high + spare


def nice_axis(low: float, high: float, steps: int = 5) -> Axis:
    """An axis of shares over [low, high], `low` the lesser, whose ticks are round numbers of %."""
    raw = (high - low) * 100 / steps
    power = 10.0 ** np.floor(np.log10(raw))
    step = float(power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999))
    first, last = int(np.floor(low * 100 / step + 1e-9)), int(np.ceil(high * 100 / step - 1e-9))
    digits = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    if round(step, digits) != round(step, 9):
        digits += 1
    ticks = tuple(
        (i * step / 100, minus(f"{i * step:,.{digits}f}{NBSP}%"), False) for i in range(first, last + 1)
    )
    return Axis(first * step / 100, last * step / 100, ticks)


def share_axis(*values: ArrayLike, most: float = np.inf) -> Axis:
    """An axis of shares that holds all values, and nothing above `most`."""
    low, high = limits_of(*values)
    return nice_axis(low, min(high, most))


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


def coordinate(value: float | FloatArray) -> str:
    """A tenth is finer than a pixel."""
    text = f"{float(value):.1f}"
    return text.removesuffix(".0") if text != "-0.0" else "0"


_c = coordinate


@dataclass(frozen=True, slots=True)
class Chart:
    """A box with axes. `marks` are drawn in the order in which they were added; `alt` says in words what is to be seen."""

    x: Axis
    y: Axis
    alt: str
    title: str = ""
    grid: bool = True
    marks: list[Markup] = field(default_factory=list)

    def _points(self, at: ArrayLike, values: ArrayLike) -> list[tuple[float, float]]:
        return list(zip(self.x.place(at).tolist(), (1000 - self.y.place(values)).tolist(), strict=True))

    def _path(self, class_: str, path: Iterable[str]) -> None:
        self.marks.append(_PATH % (class_, "".join(path)))

    def line(self, at: ArrayLike, values: ArrayLike, class_: str) -> None:
        """A line through (at, values), broken where a value is NaN."""
        path, pen = [], "M"
        for a, b in self._points(at, values):
            if isfinite(b):
                path.append(f"{pen}{_c(a)} {_c(b)}")
            pen = "L" if isfinite(b) else "M"
        self._path(f"line {class_}", path)

    def dots(self, at: ArrayLike, values: ArrayLike, class_: str) -> None:
        """A dot at each (at, value)."""
        self._path(
            f"dot {class_}", (f"M{_c(a)} {_c(b)}h0" for a, b in self._points(at, values) if isfinite(b))
        )

    def whiskers(self, at: ArrayLike, low: ArrayLike, high: ArrayLike, class_: str) -> None:
        """A vertical line from low to high at each place."""
        ends = zip(self._points(at, low), self._points(at, high), strict=True)
        self._path(
            f"whisker {class_}",
            (f"M{_c(a)} {_c(b)}V{_c(top)}" for (a, b), (_, top) in ends if isfinite(b + top)),
        )

    def bars(self, left: ArrayLike, right: ArrayLike, values: ArrayLike, class_: str) -> None:
        """A bar from zero to each value, between left and right."""
        zero = _c(1000 - self.y.place(0.0))
        sides = zip(self._points(left, values), self._points(right, values), strict=True)
        self._path(
            f"bar {class_}",
            (f"M{_c(a)} {zero}V{_c(v)}H{_c(b)}V{zero}z" for (a, v), (b, _) in sides if isfinite(v)),
        )

    def rule(self, value: float, class_: str) -> None:
        """A level line through the whole chart."""
        self._path(f"rule {class_}", f"M0 {_c(1000 - self.y.place(value))}H1000")

    def area(self, at: ArrayLike, low: ArrayLike, high: ArrayLike, class_: str) -> None:
        """A band between two lines."""
        around = "L".join(
            f"{_c(a)} {_c(b)}" for a, b in [*self._points(at, high), *self._points(at, low)[::-1]]
        )
        self._path(f"zone {class_}", f"M{around}z")

    def zone(self, low: float, high: float, class_: str) -> None:
        """A band between two values of y."""
        top, bottom = 1000 - self.y.place(high), 1000 - self.y.place(low)
        self.marks.append(_RECT % (f"zone {class_}", 0, 1000, _c(top), _c(bottom - top)))

    def stretch(self, low: float, high: float, class_: str) -> None:
        """A band between two values of x, over the whole height and under all other marks."""
        left, right = self.x.place(max(low, self.x.low)), self.x.place(min(high, self.x.high))
        self.marks.insert(0, _RECT % (f"zone {class_}", _c(left), _c(right - left), 0, 1000))

    def hits(self, edges: ArrayLike, words: Iterable[str]) -> None:
        """Invisible strips between the edges; each says its words when pointed at."""
        places = self.x.place(edges).tolist()
        for a, b, text in zip(places[:-1], places[1:], words, strict=True):
            self.marks.append(_HIT % (_c(a), _c(b - a), text))
