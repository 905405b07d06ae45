"""How far a start is, read from what each part leaves behind."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx

from hourcast.bucket import open_bucket
from hourcast.clock import clock_from
from hourcast.errors import HourcastError, UnavailableError
from hourcast.settings import CoreSettings
from hourcast.store import open_store

__all__ = ["STEPS", "Durations", "Step", "Watch"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a start, and the part that does it; `usual_s` is a first guess at its duration."""

    key: str
    told: str
    usual_s: float
    part: str


STEPS = (
    Step("bars", "loading bars", 6, "etl"),
    Step("mlflow", "starting MLflow", 8, "mlflow"),
    Step("model", "registering the first model", 8, "trainer"),
    Step("package", "packaging it", 6, "controller"),
    Step("api", "serving it", 4, "node"),
    Step("viz", "starting the dashboard", 8, "dashboard"),
)


class Durations:
    """How long each step took the last time on this machine, to say how long yet."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError):
            self._known = {str(k): float(v) for k, v in json.loads(file.read_text()).items()}

    def of(self, step: Step) -> float:
        """Seconds from the start until the step is done."""
        return self._known.get(step.key, sum(s.usual_s for s in STEPS[: STEPS.index(step) + 1]) / 2)

    def save(self, done: Mapping[str, float]) -> None:
        """Remember."""
        with contextlib.suppress(OSError):
            self._file.write_text(json.dumps(self._known | dict(done)))


class Watch:
    """Looks at the store, MLflow, the bucket and the ports."""

    def __init__(self, settings: CoreSettings, api_url: str, viz_url: str | None) -> None:
        self._settings, self._api_url, self._viz_url = settings, api_url, viz_url
        self._store = open_store(settings.resolved_database_url)
        self._clock = clock_from(settings.clock, self._store.clock)
        self._bucket = open_bucket(settings.resolved_bucket_url, settings.s3_endpoint_url)
        self._client = httpx.Client(timeout=2.0, trust_env=False)

    def close(self) -> None:
        """Give connections back."""
        self._store.close()
        self._client.close()

    def _get(self, url: str) -> httpx.Response | None:
        try:
            return self._client.get(url)
        except httpx.HTTPError:
            return None

    def look(self, key: str) -> tuple[bool, str]:
        """Whether a step is done, and a few words about it."""
        return {
            "bars": self._bars,
            "mlflow": self._mlflow,
            "model": self._model,
            "package": self._package,
            "api": self._api,
            "viz": self._viz,
        }[key]()

    def _bars(self) -> tuple[bool, str]:
        try:
            symbols = [series.symbol for series in self._settings.series]
            fresh = {f.symbol: f for f in self._store.freshness(symbols)}
            count = sum(self._store.bar_counts(symbols).values())
            now = self._clock.now()
        except UnavailableError:
            return False, ""
        target = fresh.get(self._settings.target.symbol)
        limit = timedelta(hours=self._settings.target.max_staleness_h)
        done = target is not None and target.last_close is not None and now - target.last_close <= limit
        return done, f"{count:,} bars"

    def _mlflow(self) -> tuple[bool, str]:
        answer = self._get(f"{self._settings.mlflow_url}/health")
        return answer is not None and answer.status_code == 200, ""

    def _model(self) -> tuple[bool, str]:
        url = f"{self._settings.mlflow_url}/api/2.0/mlflow/registered-models/get?name={self._settings.model_name}"
        answer = self._get(url)
        if answer is None or answer.status_code != 200:
            return False, ""
        aliases = answer.json()["registered_model"].get("aliases", [])
        dated = sorted(a["alias"] for a in aliases if a["alias"].isdigit())
        return bool(dated), f"alias {dated[-1]}" if dated else ""

    def _package(self) -> tuple[bool, str]:
        with contextlib.suppress(HourcastError):
            return bool(self._bucket.keys(f"bentos/{self._settings.model_name}/")), ""
        return False, ""

    def _api(self) -> tuple[bool, str]:
        answer = self._get(f"{self._api_url}/predict?horizon=1")
        if answer is None or answer.status_code != 200:
            return False, ""
        body = answer.json()
        return True, f"version {body['version']} ({body['kind']}), alias {body['alias']}"

    def _viz(self) -> tuple[bool, str]:
        if self._viz_url is None:
            return True, "left out"
        answer = self._get(f"{self._viz_url}/_stcore/health")
        return answer is not None and answer.status_code == 200, ""
