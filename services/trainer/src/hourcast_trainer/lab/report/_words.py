"""Figures and names as the page says them. Templates know each function here as a filter."""

import re
from collections.abc import Mapping
from math import isnan

from hourcast.contracts import from_epoch
from hourcast_trainer.lab.analysis import Interval
from hourcast_trainer.models import spoken
from hourcast_trainer.models import title_of as name_of

__all__ = [
    "NBSP", "chosen", "day", "depth", "minus", "name_of", "number", "percent", "ratio", "reference_name", "signed", "the", "told_p", "told_range",
    "unbroken", "when",
]  # fmt: skip

NBSP = "\N{NO-BREAK SPACE}"


def minus(text: str) -> str:
    """With the sign that is as wide as a plus."""
    return text.replace("-", "\N{MINUS SIGN}")


def number(value: float, digits: int = 0) -> str:
    """`1,234.5`, or a dash where there is none."""
    return "–" if isnan(value) else minus(f"{value:,.{digits}f}")


def percent(value: float, digits: int = 1) -> str:
    """A share as `90.1 %`."""
    return "–" if isnan(value) else minus(f"{100 * value:.{digits}f}{NBSP}%")


def signed(value: float, digits: int = 1) -> str:
    """A share as `+3.2 %`; no zero has a sign."""
    if isnan(value):
        return "–"
    text = f"{100 * value:+.{digits}f}"
    return minus(f"{text.lstrip('+-') if not float(text) else text}{NBSP}%")


def ratio(value: float) -> str:
    """`0.9523`."""
    return number(value, 4)


def told_range(interval: Interval) -> str:
    """The interval of a ratio, told as skill."""
    return f"{signed(1 - interval.high)} … {signed(1 - interval.low)}"


def told_p(value: float) -> str:
    """A probability with as many digits as matter."""
    return f"<{NBSP}0.0001" if value < 1e-4 else number(value, 4 if value < 0.1 else 2)


def day(moment_s: int) -> str:
    """`2024-06-06`."""
    return f"{from_epoch(int(moment_s)):%Y-%m-%d}"


def when(moment_s: int) -> str:
    """`2024-06-06 13:00`."""
    return f"{from_epoch(int(moment_s)):%Y-%m-%d %H:%M}"


def the(kind: str, capital: bool = False) -> str:
    """A kind as it stands in a sentence; `name_of` is for tables."""
    words = spoken(kind)
    return words[:1].upper() + words[1:] if capital else words


def reference_name(kind: str) -> str:
    """The reference as it stands in a sentence."""
    return "“the price stays”" if kind == "naive" else the(kind)


def unbroken(text: str) -> str:
    """With numbers and their units on one line; what is markup remains markup."""
    return type(text)(re.sub(r"(\d) (h\b|%)", rf"\1{NBSP}\2", text))


def chosen(values: Mapping[str, object]) -> str:
    """Hyperparameters as `hidden 16, rate 0.001`."""
    told = {key: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in values.items()}
    return ", ".join(f"{key} {value}" for key, value in told.items()) or "–"


def depth(value: float, most: float) -> int:
    """How deep the ground of a cell is, in %: deepest where `value` is `most` away from zero."""
    return 0 if isnan(value) else round(50 * min(abs(value) / most, 1.0))
