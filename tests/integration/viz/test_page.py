"""The dashboard in Chromium, on a real server: it moves by itself, keeps choices, and survives the API."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from hourcast.contracts import Bars
from hourcast.decisions import Decision
from hourcast.failing import Failing, write_failing
from hourcast.store import Hour, SeriesState, Store
from tests.integration.conftest import NOW, World
from tests.ports import find_port
from tests.servers import Process, answers, visit

pytestmark = pytest.mark.integration
_SLOW_MS = 30_000


@pytest.fixture
def dashboard(world: World) -> Iterator[tuple[str, str]]:
    """The dashboard on a free port, and the address of the API that it asks."""
    port, api = find_port(), f"http://127.0.0.1:{find_port()}"
    process = Process.start(
        "viz",
        [sys.executable, "-m", "hourcast_viz", "--port", str(port)],
        world.folder / "logs",
        {"HOURCAST_API_URL": api, "HOURCAST_VIZ_REFRESH_S": "1", "HOURCAST_VIZ_TIMEOUT_S": "10"},
    )
    try:
        process.wait_until(
            lambda: answers(f"http://127.0.0.1:{port}/_stcore/health"), 40, "answer of Streamlit"
        )
        yield f"http://127.0.0.1:{port}", api
    finally:
        process.end()


def _serve(world: World, api: str) -> Process:
    """A server of version 3 at a fixed port."""
    process = Process.start(
        "server",
        [sys.executable, "-m", "hourcast.cli", "serve", "--version", "3", "--port", api.rsplit(":", 1)[1]],
        world.folder / "logs",
        {**world.environment, "HOURCAST_MODEL_ALIAS": "20240529"},
    )
    process.wait_until(lambda: answers(f"{api}/readyz"), 40, "ready server")
    return process


def _bar(store: Store, market_bars: dict[str, Bars], hours: int) -> None:
    now = NOW + timedelta(hours=hours)
    store.upsert_bars(market_bars["BTC/USDT"].known_at(int(now.timestamp())), "files", now)
    store.set_clock(now)


_CHART = ".js-plotly-plot .cartesianlayer"


def _open(
    browser: Browser, url: str, width: int = 1440, scheme: str = "light", wanted: str = _CHART
) -> tuple[Page, list[str]]:
    """The page once `wanted` is on it, and what went wrong on it since it was opened."""
    height = 1000 if width > 600 else 844
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda asked: problems.clear() if asked.is_navigation_request() else None)
    visit(page, url, page.locator(wanted).first)
    return page, problems


def test_the_page_moves_by_itself_and_keeps_what_was_chosen(
    world: World, dashboard: tuple[str, str], browser: Browser, market_bars: dict[str, Bars]
) -> None:
    """A new bar changes the headline without a reload; chosen alias, range and the line of what was in production stay; clear clears."""
    url, api = dashboard
    server = _serve(world, api)
    try:
        page, problems = _open(browser, url)
        headline = page.get_by_test_id("headline")
        expect(headline).to_contain_text("BTC/USDT", timeout=_SLOW_MS)
        before = headline.inner_text()
        live = page.get_by_test_id("live")
        expect(live).to_contain_text("No close has come yet for one that was made an hour before.")
        page.get_by_text("1M", exact=True).click()
        page.get_by_text("In production", exact=True).click()
        page.get_by_role("combobox").first.click()
        page.get_by_role("option", name="20240522").click()
        page.keyboard.press("Escape")
        # While a chart is drawn anew the one before may still be there.
        legend = page.locator(".legendtext")
        expect(legend.filter(has_text="20240522").first).to_be_visible(timeout=_SLOW_MS)
        expect(legend.filter(has_text="in production").first).to_be_visible(timeout=_SLOW_MS)
        with world.store() as store:
            _bar(store, market_bars, 2)
        expect(headline).not_to_have_text(before, timeout=_SLOW_MS)
        expect(legend.filter(has_text="20240522").first).to_be_visible(timeout=_SLOW_MS)
        expect(legend.filter(has_text="in production").first).to_be_visible()
        expect(page.get_by_text("03:00 UTC").first).to_be_visible()
        # Skill is measured anew every ten seconds.
        expect(live).to_contain_text("of 1 forecast: too little to judge. Expected: 90 %.", timeout=_SLOW_MS)
        page.get_by_text("6 h", exact=True).click()
        expect(page.get_by_text("08:00 UTC").first).to_be_visible(timeout=_SLOW_MS)
        expect(live).to_contain_text("No close has come yet for one that was made 6 h before.")
        expect(legend.filter(has_text="90 % expected inside").first).to_be_visible()
        with page.expect_download() as got:
            page.get_by_role("button", name="Download CSV").click()
        lines = Path(got.value.path()).read_text().splitlines()
        assert lines[0].startswith("target_time,origin,horizon,last_close,point,p05")
        assert any("20240522" in line for line in lines)
        page.get_by_role("button", name="Clear", exact=True).click()
        expect(legend.filter(has_text="20240522")).to_have_count(0, timeout=_SLOW_MS)
        for tab, text in (("Skill", "Against"), ("Freshness", "BTC/USDT")):
            page.get_by_role("tab", name=tab).click()
            expect(page.get_by_text(text).first).to_be_visible(timeout=_SLOW_MS)
        assert problems == []
        page.close()
    finally:
        server.end()


def test_the_report_opens_within_the_dashboard(
    world: World, dashboard: tuple[str, str], browser: Browser
) -> None:
    """The link leads to a sentence while there is no report, to the report once there is one, and back."""
    url, api = dashboard
    server = _serve(world, api)
    try:
        page, problems = _open(browser, url)
        link = page.get_by_role("link", name="Back-test report")
        expect(link).to_be_visible(timeout=_SLOW_MS)
        link.click()
        told = page.get_by_role("status").filter(
            has_text="There is no back-test report of trained yet; hourcast report writes one."
        )
        expect(told).to_be_visible(timeout=_SLOW_MS)
        with world.store() as store:
            store.save_report("trained", NOW, "Back-test", "<!doctype html><p>Five per cent better</p>")
        page.reload()
        expect(page.frame_locator("iframe").get_by_text("Five per cent better")).to_be_visible(
            timeout=_SLOW_MS
        )
        page.get_by_role("link", name="Dashboard").click()
        expect(page.get_by_test_id("headline")).to_contain_text("BTC/USDT", timeout=_SLOW_MS)
        assert problems == []
        page.close()
    finally:
        server.end()


def test_a_dead_api_is_a_sentence_and_a_living_one_is_back_by_itself(
    world: World, dashboard: tuple[str, str], browser: Browser
) -> None:
    """No API: a sentence, no trace. API: the page fills. API gone again: what was seen stays, with the sentence."""
    url, api = dashboard
    page, _ = _open(browser, url, wanted="[role=status]")
    sentence = page.get_by_role("status").filter(has_text=f"The API at {api} does not answer. Is it running?")
    expect(sentence).to_be_visible(timeout=_SLOW_MS)
    expect(page.get_by_text("The page tries again every 1 s.")).to_be_visible()
    expect(page.get_by_text("Traceback")).to_have_count(0)
    server = _serve(world, api)
    expect(page.get_by_test_id("headline")).to_contain_text("BTC/USDT", timeout=_SLOW_MS)
    expect(sentence).to_have_count(0, timeout=_SLOW_MS)
    server.end()
    expect(page.get_by_text("What was seen last is shown meanwhile.")).to_be_visible(timeout=_SLOW_MS)
    expect(page.get_by_test_id("headline")).to_contain_text("BTC/USDT")
    server = _serve(world, api)
    try:
        expect(page.get_by_text("What was seen last is shown meanwhile.")).to_have_count(0, timeout=_SLOW_MS)
    finally:
        server.end()
    page.close()


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_every_screen(
    world: World, dashboard: tuple[str, str], browser: Browser, width: int, scheme: str
) -> None:
    """Wide and narrow, light and dark: no error, nothing beside the screen, and the scheme is followed."""
    url, api = dashboard
    server = _serve(world, api)
    try:
        page, problems = _open(browser, url, width, scheme)
        expect(page.get_by_test_id("headline")).to_contain_text("BTC/USDT", timeout=_SLOW_MS)
        expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=_SLOW_MS)
        beside = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert beside <= 0
        colour = page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
        bright = int(colour.removeprefix("rgb(").split(",")[0]) > 128
        assert bright == (scheme == "light")
        assert problems == []
        page.close()
    finally:
        server.end()


def test_a_stale_store_is_told_on_the_page(
    world: World, dashboard: tuple[str, str], browser: Browser
) -> None:
    """When bars stop coming the page says since when, instead of a forecast."""
    url, api = dashboard
    server = _serve(world, api)
    try:
        with world.store() as store:
            store.set_clock(NOW + timedelta(hours=5))
        page, _ = _open(browser, url)
        warning = page.get_by_role("status").filter(
            has_text="No present forecast: the newest bar of BTC/USDT closed at 2024-06-13 00:00 UTC, 5.0 h ago"
        )
        expect(warning).to_be_visible(timeout=_SLOW_MS)
        expect(page.get_by_test_id("headline")).to_have_count(0)
        page.close()
    finally:
        server.end()


_BLOCKED = (
    "version 4 is not served, and the place is at fault: container serving ended with 5: bucket 'hourcast-with-a-long-name' does not "
    "answer for 'bentos/trained/4.json': Could not connect to the endpoint URL: "
    '"http://minio.hourcast.svc.cluster.local:9000/hourcast-with-a-long-name/bentos/trained/4.json"; '
    "check HOURCAST_BUCKET_URL, HOURCAST_S3_ENDPOINT_URL and the AWS_* credentials"
)


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_stands_in_the_way_is_told_on_the_page(
    world: World, dashboard: tuple[str, str], browser: Browser, width: int, scheme: str
) -> None:
    """A blocked version, and an hour that was closed without a series: each a sentence that fits, beside the forecast that goes on."""
    url, api = dashboard
    there, late = SeriesState("there", NOW), SeriesState("given_up", NOW - timedelta(hours=1))
    series = {"BTC/USDT": there, "QQQ": late, "^VIX": there, "GC=F": late}
    blocked = Decision(NOW, "controller", "blocked", "trained", 4, None, _BLOCKED, NOW, {"fault": "place", "of": "rollout"})  # fmt: skip
    with world.store() as store:
        store.close_hour(Hour("trained", NOW, NOW, NOW, series))
        store.decide(blocked)
    server = _serve(world, api)
    try:
        page, problems = _open(browser, url, width, scheme)
        expect(page.get_by_test_id("headline")).to_contain_text("BTC/USDT", timeout=_SLOW_MS)
        expect(page.get_by_role("status")).to_have_text(
            [
                "The hour 2024-06-13 00:00 UTC was closed without a bar of QQQ and GC=F, which had not come by the deadline. "
                "The forecast uses what was known of it.",
                f"V{_BLOCKED[1:]}. What is served goes on.",
            ]
        )
        assert (
            page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        )
        for told in page.get_by_role("status").all():
            assert told.evaluate("e => e.scrollWidth - e.clientWidth") <= 0
        with world.store() as store:
            store.decide(replace(blocked, kind="unblocked", reason="it is served", evidence={}))
        expect(page.get_by_role("status")).to_have_count(1, timeout=_SLOW_MS)
        assert problems == []
        page.close()
    finally:
        server.end()


def test_a_part_that_cannot_work_is_told_on_the_page(
    world: World, dashboard: tuple[str, str], browser: Browser
) -> None:
    """What `hourcast up` has said of the trainer stands above the chart, beside the forecast that goes on."""
    url, api = dashboard
    server = _serve(world, api)
    folder = Path(world.environment["HOURCAST_STATE_DIR"])
    try:
        since = datetime(2024, 6, 12, 20, 5, tzinfo=UTC)
        write_failing(
            folder, [Failing("trainer", since, "OSError: libgomp.so.1: cannot open shared object file")]
        )
        page, _ = _open(browser, url)
        warning = page.get_by_role("status").filter(
            has_text="The trainer cannot work since 2024-06-12 20:05 UTC; what is served goes on. "
            "OSError: libgomp.so.1: cannot open shared object file"
        )
        expect(warning).to_be_visible(timeout=_SLOW_MS)
        expect(page.get_by_test_id("headline")).to_be_visible()
        write_failing(folder, [])
        expect(warning).to_have_count(0, timeout=_SLOW_MS)
        page.close()
    finally:
        write_failing(folder, [])
        server.end()
