"""The skill report where it is kept and looked at: MLflow and Chromium."""

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser

from hourcast.contracts import parse_hour
from hourcast_trainer.settings import TrainerSettings
from tests.integration.conftest import World, environment_of
from tests.walks import keep, scaled, synthetic_walk

pytestmark = pytest.mark.integration

# Contrast of a text's colour with the page's ground, by WCAG 2.1.
_CONTRAST = """
(names) => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((v) => v / 255)
      .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  return Object.fromEntries(names.map((name) => {
    const ink = light(getComputedStyle(document.querySelector(name)).color);
    return [name, (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05)];
  }));
}
"""


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory, mlflow_server: str) -> tuple[World, str]:
    """Seven weeks of a walk, reported; and what the command said."""
    folder = tmp_path_factory.mktemp("report")
    world = World(folder, environment_of(folder, mlflow_server, "reported"))
    made = synthetic_walk(7 * 168)
    with world.store() as store:
        store.upgrade()
        store.set_clock(parse_hour("2024-06-01"))
        walk = {"naive": made["naive"], "ensemble": scaled(made["exact"], "ensemble", 1.0)}
        keep(store, TrainerSettings(model_name="reported"), walk)
    return world, world.run("report", "--out", str(folder / "report.html"), "--untouched-from", "2024-04-15")


def test_mlflow_keeps_the_page_and_its_figures(reported: tuple[World, str]) -> None:
    """A run of its own holds the same page, the figures as JSON, and the headline's as metrics."""
    world, said = reported
    url, run_id = (
        world.environment["HOURCAST_MLFLOW_URL"],
        said.splitlines()[-1].removeprefix("kept in MLflow as run "),
    )

    def artefact(path: str) -> httpx.Response:
        return httpx.get(
            f"{url}/get-artifact", params={"path": path, "run_uuid": run_id}, timeout=30, trust_env=False
        )

    page = (world.folder / "report.html").read_text("utf-8")
    assert artefact("report.html").text == page
    assert artefact("figures.json").json()["headline"] == "ensemble"
    found = httpx.get(
        f"{url}/api/2.0/mlflow/runs/get", params={"run_id": run_id}, timeout=30, trust_env=False
    )
    run = found.json()["run"]
    metrics = {m["key"]: m["value"] for m in run["data"]["metrics"]}
    assert run["info"]["run_name"] == "BTC/USDT: forecasts measured 2024-03-04 to 2024-04-22"
    assert run["info"]["status"] == "FINISHED"
    assert metrics["whole_hours"] == 7 * 168
    assert 0.9 < metrics["chosen_on_pinball_ratio"] < 1
    with world.store() as store:
        kept = store.newest_report("reported")
    assert kept is not None
    assert kept[1] == page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_can_be_read(reported: tuple[World, str], browser: Browser, width: int, scheme: str) -> None:
    """At a telephone's width and a desk's, light and dark: nothing sticks out, nothing is asked for, texts stand out."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: said.append(request.url))
    address = Path(reported[0].folder / "report.html").as_uri()
    page.goto(address)
    for summary in page.locator("main summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    contrast = page.evaluate(
        _CONTRAST,
        ["h1", ".lede", ".limit .met", ".limit .unmet", ".foot", "caption", "figcaption", "thead th"],
    )
    assert {name: round(value, 2) for name, value in contrast.items() if value < 4.5} == {}
    boxes = page.locator(".plot").evaluate_all("plots => plots.map(p => p.getBoundingClientRect().width)")
    assert len(boxes) > 12
    assert min(boxes) > 90
    page.goto(f"{address}#folds")
    assert page.locator("#folds").is_visible()
    assert said == [address]
    page.close()
