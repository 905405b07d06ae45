"""The skill report: complete, self-contained, and safe to open."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import numpy as np
import pytest

from hourcast.contracts import HOUR_S, from_epoch
from hourcast_trainer.lab.analysis import Analysis, analyse
from hourcast_trainer.lab.report import SEED, About, Fold, build, title_of
from tests.walks import START_S, ablated, scaled, synthetic_walk

_MADE = datetime(2025, 8, 1, 12, tzinfo=UTC)
_N = 1600


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    """Of a walk with an ensemble, two others, an ablation, Prophet, and an untouched span."""
    walk = synthetic_walk(_N)
    exact = walk["exact"]
    rows = {
        "naive": walk["naive"],
        "ensemble": scaled(exact, "ensemble", 1.0),
        "lstm": ablated(exact, "lstm", 0.3, 1),
        "<b>own</b>": ablated(exact, "<b>own</b>", 0.2, 2),
        "prophet": scaled(exact, "prophet", 4.0),
        "lstm+QQQ": ablated(exact, "lstm+QQQ", 0.1, 3),
    }
    return analyse(rows, untouched_from_s=START_S + 1300 * HOUR_S, draws=100)


@pytest.fixture(scope="module")
def about() -> About:
    """With markup where only text should be."""
    return About(
        symbol="BTC/USDT",
        currency="USDT",
        refit="every 7 days",
        window="expanding",
        embargo="24 hours",
        chosen="once a quarter",
        data_fingerprint="9f8e7d6c5b4a3921",
        code_version="0.1.0",
        command='hourcast report --kinds "<script>alert(1)</script>"',
        notes=["Tried in vain: <img src=x onerror=alert(1)> & more."],
    )


def _folds() -> list[Fold]:
    start = from_epoch(START_S)
    return [
        Fold(kind, start + timedelta(days=7 * i), start + timedelta(days=7 * i + 7), start.date(), 168, f"{i:064x}",
             {"hidden": 16, "note": "<i>"})
        for kind in ("lstm+QQQ", "naive", "ensemble")
        for i in range(3)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def page(analysis: Analysis, about: About) -> str:
    """The page."""
    return build(analysis, about, _folds(), _MADE)


class _Reader(HTMLParser):
    """Elements in order, the text of each, and what was left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[tuple[str, list[str]]] = []
        self.wrong: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        words: list[str] = []
        self.found.append((tag, dict(attrs), words))
        if len(dict(attrs)) != len(attrs):
            self.wrong.append(f"{tag} says an attribute twice")
        self.open.append((tag, words))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop()[0] != tag:
            self.wrong.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        for _tag, words in self.open:
            words.append(data)

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attrs, " ".join("".join(words).split())) for t, attrs, words in self.found if t == tag]


@pytest.fixture(scope="module")
def read(page: str) -> _Reader:
    """The page as a reader finds it."""
    return _Reader(page)


def test_the_same_input_gives_the_same_bytes(analysis: Analysis, about: About, page: str) -> None:
    """Nothing of the moment, the machine or the order of a set is in the page but what it was given."""
    assert build(analysis, about, _folds(), _MADE) == page
    assert build(analysis, about, _folds(), _MADE + timedelta(days=1)) != page
    assert len(page.encode()) < 3_000_000


def test_the_page_needs_nothing_but_itself(page: str, read: _Reader) -> None:
    """No script, no address of another host, no file: links stay on the page, and the browser is told to hold it to that."""
    assert not re.search(
        r"https?:|//|url\(|@import|<script|<link|<img|<iframe|\ssrc=|\son\w+=", _markup(page)
    )
    assert all((attrs["href"] or "").startswith("#") for attrs, _ in read.all("a"))
    policies = [
        attrs["content"]
        for attrs, _ in read.all("meta")
        if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def _markup(page: str) -> str:
    """Tags and style without the texts between."""
    style = re.search(r"<style>.*?</style>", page, re.DOTALL)
    assert style
    return style[0] + "".join(re.findall(r"<[^>]*>", page))


def test_texts_are_escaped(page: str, read: _Reader) -> None:
    """Markup in a kind's name, a note, a command or a hyperparameter is shown and not obeyed."""
    tags = {tag for tag, _, _ in read.found}
    assert not tags & {"script", "img", "b", "i"}
    assert "Tried in vain: &lt;img src=x onerror=alert(1)&gt; &amp; more." in page
    assert "&lt;b&gt;own&lt;/b&gt;" in page
    assert 'aria-label="PIT histogram of the &lt;b&gt;own&lt;/b&gt; model 1 h ahead' in page


def test_the_markup_is_whole(read: _Reader) -> None:
    """Every element is closed where it should be, ids are single, and every link leads somewhere."""
    assert (read.wrong, read.open) == ([], [])
    ids = [attrs["id"] for _, attrs, _ in read.found if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {(attrs["href"] or "")[1:] for attrs, _ in read.all("a")}
    assert targets <= set(ids)
    named = [attrs["aria-labelledby"] for attrs, _ in read.all("section")]
    assert len(named) == 16
    assert set(named) <= set(ids)


def test_who_cannot_see_it_is_told(read: _Reader) -> None:
    """Tables have captions and headers, charts a sentence with figures and a caption, regions that scroll a name."""
    assert len(read.all("caption")) == len(read.all("table"))
    assert all(attrs.get("scope") in ("col", "row") for attrs, _ in read.all("th"))
    charts = [attrs for _, attrs, _ in read.found if attrs.get("role") == "img"]
    assert len(charts) > 12
    assert all(re.search(r"\d", attrs["aria-label"] or "") for attrs in charts)
    assert len(read.all("figcaption")) == len(read.all("figure"))
    assert all(text for _, text in read.all("figcaption"))
    assert all(attrs.get("aria-hidden") == "true" for attrs, _ in read.all("svg"))
    assert all(attrs.get("aria-label") for _, attrs, _ in read.found if attrs.get("role") == "region")
    assert read.all("html")[0][0]["lang"] == "en"


def _row(read: _Reader, caption: str, head: str) -> list[str]:
    """The cells of a row of the table with this caption."""
    at = 0
    for i, (tag, _, words) in enumerate(read.found):
        if tag == "caption" and "".join(words).replace("\N{NO-BREAK SPACE}", " ").startswith(caption):
            at = i
            break
    cells: list[str] = []
    for tag, attrs, words in read.found[at:]:
        text = " ".join("".join(words).split())
        if tag == "th" and attrs.get("scope") == "row":
            if cells:
                return cells
            taking = text == head
        elif tag == "td" and taking:
            cells.append(text)
        elif tag == "table" and cells:
            break
    return cells


@pytest.mark.parametrize(("symbol", "synthetic"), [("ETH/USDT", False), ("BTC/USDT", True)])
def test_a_page_of_another_series_knows_no_seed(
    analysis: Analysis, about: About, symbol: str, synthetic: bool
) -> None:
    """Bitcoin's figures of a certain year say nothing beside those of another series, or of synthetic bars."""
    other = build(analysis, replace(about, symbol=symbol, synthetic=synthetic), _folds(), _MADE)
    assert "seed" not in re.sub(r"<style>.*?</style>", "", other, flags=re.DOTALL).replace(
        "the same seed", ""
    )
    assert "1,901" not in other


def test_the_figures_are_the_analysis(analysis: Analysis, read: _Reader) -> None:
    """What the page says of the headline is what was measured, and the seed stands beside it."""
    total = analysis.whole.kinds["ensemble"].total
    cells = _row(read, "One hour ahead in USDT", "ensemble")
    assert cells[0] == f"{total.pinball:.2f}"
    assert cells[1] == f"+{100 * (1 - total.pinball_ratio):.1f} %"
    assert cells[7] == f"{100 * total.coverage_90:.1f} %"
    assert cells[8:] == [f"{total.rmse:.1f}", f"{total.rmse_ratio:.4f}", f"{total.mae_ratio:.4f}"]
    assert _row(read, "One hour ahead in USDT", "the seed")[8:10] == ["1,901", "4.2528"]
    assert (SEED.rmse, SEED.reference_rmse, SEED.start, SEED.end) == (
        1901.0,
        447.0,
        "2024-06-06",
        "2025-06-26",
    )
    gain = f"{100 * (1 - total.pinball_ratio):.1f}"
    assert read.all("h1")[0][1] == (
        f"The next hour is forecast {gain} % better than by “the price stays”, with intervals that hold what they say"
    )


def test_every_span_answers_every_promise(analysis: Analysis, read: _Reader) -> None:
    """The whole, the span of choices and the untouched one each say what was measured, met or not."""
    assert _row(read, "Promised and measured", "hours out of sample") == [
        "12,000 or more",
        "✗ not met: 1,600",
        "–",
        "–",
    ]
    spans = [span.kinds["ensemble"].verdicts for span in analysis.spans]
    mark = {True: "✓ met:", False: "✗ not met:"}
    for verdict in spans[1]:
        same = [next(v for v in found if v.promise == verdict.promise) for found in spans]
        told = [f"{mark[v.met]} {v.told} {v.where}".strip() for v in same]
        assert _row(read, "Promised and measured", verdict.promise) == [verdict.limit, *told]


def test_a_promise_that_is_not_kept_is_said_at_the_top(analysis: Analysis, about: About) -> None:
    """A forecaster worse than the reference is called so in the headline, and what it broke is listed."""
    rows = synthetic_walk(800)
    poor = scaled(rows["naive"], "ensemble", 0.5)
    read = _Reader(build(analyse({"naive": rows["naive"], "ensemble": poor}, draws=50), about, [], _MADE))
    assert read.all("h1")[0][1] == (
        "The next hour is forecast no better than by “the price stays”, with intervals that are too narrow"
    )
    lede = next(text for attrs, text in read.all("p") if attrs.get("class") == "lede")
    assert "Not met: hours out of sample; pinball loss at 1 h, against the reference;" in lede
    assert "untouched" not in {text for _, text in read.all("th")}


def test_folds_are_told_with_their_lineage(read: _Reader) -> None:
    """Each fold says from when to when, what it was fitted on, what it chose and what came of it."""
    assert _row(read, "Folds of ensemble", "2024-03-11 00:00") == [
        "2024-03-18 00:00", "2024-03-04", "hidden 16, note <i>", "168", "0" * 16
    ]  # fmt: skip
    told = [text for _, text in read.all("summary") if "forecasts" in text]
    assert told == [
        "ensemble: 3 folds, 504 forecasts",
        "naive: 3 folds, 504 forecasts",
        "lstm+QQQ: 3 folds, 504 forecasts",
    ]


def test_ablations_are_judged_where_choices_were_made(analysis: Analysis, read: _Reader) -> None:
    """The part's worth is that of the hours before the untouched ones, which are beside it."""
    spans = analysis.ablations[0].spans
    cells = _row(read, "What a part of the inputs is worth", "QQQ")
    assert cells[:2] == ["LSTM", "added"]
    assert cells[2] == f"+{100 * spans['chosen on'].gain_next_hour:.2f} %"
    assert cells[7] == "helps"
    assert cells[8] == f"+{100 * spans['untouched'].gain_next_hour:.2f} %"


def test_what_would_flatten_a_chart_is_named_instead(page: str) -> None:
    """Prophet, far below, is in every table and in no chart, and the captions say so."""
    captions = re.findall(r"Too far below to be drawn: Prophet \(−[\d.]+\N{NO-BREAK SPACE}%\)\.", page)
    assert len(captions) == 4
    assert 'class="line c5"' not in page


def test_synthetic_bars_are_called_so(analysis: Analysis, about: About, page: str) -> None:
    """A page of synthetic bars cannot be mistaken for one of a market."""
    words = "Synthetic bars: these figures say nothing about a market."
    assert words not in page
    made_up = build(analysis, replace(about, synthetic=True), [], _MADE)
    assert words in made_up
    assert "in USDT (synthetic bars)" in made_up


def test_a_page_can_be_made_of_little(about: About) -> None:
    """The reference alone, over two days, without folds, ablations or a month of history, still makes a page."""
    naive = synthetic_walk(60)["naive"].take(np.arange(48))
    found = analyse({"naive": naive}, draws=20)
    read = _Reader(build(found, about, [], _MADE))
    assert (read.wrong, read.open) == ([], [])
    texts = [text for _, text in read.all("p")]
    assert "The walk is shorter than 30 days." in texts
    assert "No ablation was walked." in texts
    assert title_of(found, about) == "BTC/USDT: forecasts measured 2024-03-04 to 2024-03-06"
