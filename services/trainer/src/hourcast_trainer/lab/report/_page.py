"""The page: one HTML file that loads nothing and runs nothing."""

from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files

from hourcast.contracts import from_epoch
from hourcast_trainer.lab.analysis import Analysis
from hourcast_trainer.lab.report._content import About, Fold
from hourcast_trainer.lab.report._html import Html, el, join
from hourcast_trainer.lab.report._parts import Section
from hourcast_trainer.lab.report._sections import sections
from hourcast_trainer.lab.report._top import headline

__all__ = ["build", "title_of"]

# What is not on the page itself is refused by the browser as well.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def title_of(analysis: Analysis, about: About) -> str:
    """What the page is called where it is listed."""
    span = analysis.whole.span
    first, last = from_epoch(span.start_s), from_epoch(span.end_s)
    return f"{about.symbol}: forecasts measured {first:%Y-%m-%d} to {last:%Y-%m-%d}"


def build(analysis: Analysis, about: About, folds: Sequence[Fold], made_at: datetime) -> str:
    """The page as text; the same input gives the same bytes. `made_at` is aware."""
    sentence, top = headline(analysis, about)
    parts = sections(analysis, about, folds, made_at)
    banner = (
        [el("p", "Synthetic bars: these figures say nothing about a market.", class_="banner", role="note")]
        if about.synthetic
        else []
    )
    style = (files(__package__) / "style.css").read_text("utf-8")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"Hourcast · {title_of(analysis, about)}"),
        el("style", Html(style)),
    )
    nav = el(
        "nav",
        el("details", el("summary", "Contents"), _contents(parts), class_="narrow"),
        el("div", _contents(parts), class_="wide"),
        aria_label="Contents",
    )
    main = el(
        "main",
        *banner,
        el(
            "header",
            el("p", f"Hourcast · skill report · {about.symbol}", class_="eyebrow"),
            el("h1", sentence),
            top,
        ),
        *(
            el("section", el("h2", part.title, id=f"{part.anchor}-title"), part.body, id=part.anchor,
               aria_labelledby=f"{part.anchor}-title")
            for part in parts
        ),
    )  # fmt: skip
    skip = el("a", "To the figures", href="#models", class_="skip")
    body = el("body", skip, el("div", nav, main, class_="page"))
    return join([Html("<!doctype html>\n"), el("html", head, body, lang="en"), Html("\n")])


def _contents(parts: Sequence[Section]) -> Html:
    return el("ol", *(el("li", el("a", part.title, href=f"#{part.anchor}")) for part in parts))
