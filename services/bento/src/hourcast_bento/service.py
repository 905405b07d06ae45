"""The BentoML service: one process, one model. Our server gives it; under `bentoml serve` it lies in the package, as this file does."""

import gc
from collections.abc import Callable
from pathlib import Path

import bentoml
from prometheus_client import Counter, Gauge

from hourcast.errors import UnavailableError
from hourcast.forecaster import Forecaster
from hourcast_bento.app import build_app
from hourcast_bento.calibrating import Calibration
from hourcast_bento.package import PackageInfo, load_model
from hourcast_bento.serving import Serving
from hourcast_bento.settings import ServingSettings
from hourcast_bento.skill import LiveWindow

__all__ = ["Hourcast", "give"]

_running: list[Serving] = []
_given: list[tuple[PackageInfo, Forecaster]] = []


def give(loaded: tuple[PackageInfo, Forecaster]) -> None:
    """Let the service take a model that is loaded and checked already."""
    _given[:] = [loaded]


def _serving() -> Serving:
    if not _running:
        raise UnavailableError("the model is not loaded yet", retry_after_s=1)
    return _running[0]


def _live_gauges() -> Callable[[list[LiveWindow], Calibration | None], None]:
    """Gauges of live coverage, skill and calibration, and what sets them after each new bar."""
    which = ["days", "horizon"]
    inside = {
        level: Gauge(
            f"hourcast_live_coverage_{level}",
            f"Share of closes inside the {level} % interval that was forecast for them",
            which,
            multiprocess_mode="livemostrecent",
        )
        for level in (50, 90)
    }
    skill = Gauge(
        "hourcast_live_skill",
        "1 - pinball loss / that of the naive floor, of live forecasts",
        which,
        multiprocess_mode="livemostrecent",
    )
    count = Gauge(
        "hourcast_live_forecasts",
        "Live forecasts whose closes came",
        which,
        multiprocess_mode="livemostrecent",
    )
    outcomes = Gauge(
        "hourcast_calibration_outcomes",
        "Closes that calibrated the served version since its training",
        multiprocess_mode="livemostrecent",
    )
    stretch = Gauge(
        "hourcast_calibration_stretch_90",
        "Mean factor on the distances of the 90 % interval's ends from the median",
        multiprocess_mode="livemostrecent",
    )

    def measured(live: list[LiveWindow], calibration: Calibration | None) -> None:
        for window in live:
            labels = {"days": str(window.days), "horizon": str(window.horizon or "all")}
            count.labels(**labels).set(window.n)
            for gauge, value in (
                (inside[50], window.coverage_50), (inside[90], window.coverage_90), (skill, window.skill),
            ):  # fmt: skip
                if value is not None:
                    gauge.labels(**labels).set(value)
        if calibration is not None:
            outcomes.set(calibration.outcomes)
            stretch.set(calibration.stretch_90)

    return measured


@bentoml.service(
    name="hourcast",
    workers=1,
    traffic={"timeout": 120},
    logging={"access": {"enabled": False}},
    # Nobody collects traces, and BentoML makes seven spans a request all the same.
    tracing={"excluded_urls": ".*"},
)
@bentoml.asgi_app(build_app(_serving), path="/")
class Hourcast:
    """Loads the model, checks its golden prediction, answers."""

    def __init__(self) -> None:
        settings = ServingSettings.load()
        folder = settings.package_dir or Path(__file__).parents[1] / "model"
        serving = Serving(settings, *(_given.pop() if _given else load_model(folder)))
        info = serving.models.info
        labels = {
            "version": str(info.version),
            "alias": serving.models.alias,
            "kind": info.kind,
            "run_id": info.run_id,
        }
        Gauge(
            "hourcast_model_info", "The served version; always 1", list(labels), multiprocess_mode="liveall"
        ).labels(**labels).set(1)
        age = Gauge(
            "hourcast_bar_age_seconds",
            "Age of the newest bar when it was forecast from",
            multiprocess_mode="max",
        )
        recorded = Counter("hourcast_forecasts_recorded", "Forecasts that this server recorded")

        def count(rows: int, age_s: float) -> None:
            recorded.inc(rows)
            age.set(age_s)

        serving.recorder.on_recorded = count
        serving.recorder.on_measured = _live_gauges()
        self._serving = serving
        _running[:] = [serving]
        serving.start()
        # What was loaded stays: without this each large request makes the collector walk all modules again. Nothing is
        # collected first, which would take a sixth of the start and find next to nothing.
        gc.freeze()
        gc.enable()
        gc.set_threshold(50_000, 20, 100)

    # BentoML's /readyz asks this; the golden prediction was checked when the model was loaded.
    async def __is_ready__(self) -> bool:
        return bool(_running)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]  # BentoML ships no types for it
    def end(self) -> None:
        """Stop recording."""
        _running.clear()
        self._serving.stop()
