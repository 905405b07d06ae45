"""Markup that cannot be forgotten to escape: text is escaped wherever it becomes part of an element, markup is of its own type."""

from collections.abc import Iterable
from html import escape
from math import isnan

__all__ = ["NBSP", "Html", "el", "join", "minus", "number", "percent", "ratio", "signed"]

NBSP = "\N{NO-BREAK SPACE}"
_VOID = frozenset({"br", "meta", "hr", "rect", "path", "line"})


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def el(tag: str, /, *children: str, **attributes: object) -> Html:
    """An element. Children that are not `Html` are text; `class_` is class, `aria_label` aria-label; None is left out, True has no value."""
    made = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        made.append(f" {key}" if value is True else f' {key}="{escape(str(value))}"')
    start = f"<{tag}{''.join(made)}"
    if tag in _VOID and not children:
        return Html(f"{start}/>")
    return Html(f"{start}>{join(children)}</{tag}>")


def join(parts: Iterable[str]) -> Html:
    """One after the other, text escaped."""
    return Html("".join(part if isinstance(part, Html) else escape(part, quote=False) for part in parts))


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
