"""An hour's forecast is issued once: every server gives it, byte for byte, and production's past is read from it."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import sqlalchemy as sa

from hourcast.conformal import ConformalState
from hourcast.contracts import HOUR_S, AliasIndex, AliasRecord, Bars, to_epoch
from hourcast.decisions import Decision
from hourcast.features import build, fingerprint
from hourcast.forecaster import HORIZONS, LEVELS, Forecaster
from hourcast.store import Fan, Hour, SeriesState, Store, open_store
from hourcast_bento.app import build_app
from hourcast_bento.package import PackageInfo
from hourcast_bento.serving import Serving
from hourcast_bento.settings import ServingSettings
from tests.specs import features_of, forecaster_spec, random_walk

_NOW = datetime(2024, 6, 13, tzinfo=UTC)
_HOUR = timedelta(hours=1)
_TARGET = "BTC/USDT"
_SHAPE = np.linspace(-1, 1, 19)
_WHOLE = random_walk(_TARGET, to_epoch(_NOW) + np.arange(-1000, 48) * HOUR_S, 1)


class _Pods:
    """Servers of one store, each asked over its HTTP application."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self.running: list[Serving] = []
        self.at = _NOW
        self.go(0)

    def go(self, hours: float) -> None:
        """Let time pass; every hour that has passed brings its bar and is closed."""
        self.at += timedelta(hours=hours)
        known = _WHOLE.known_at(to_epoch(self.at))
        self.store.upsert_bars(known, "files", self.at)
        self.store.set_clock(self.at)
        for close in known.close_time[-3:].tolist():
            hour = datetime.fromtimestamp(close, UTC)
            state = {_TARGET: SeriesState("there", hour)}
            self.store.close_hour(Hour("m", hour, self.at, self.at, state))

    def serve(self, version: int, alias: str | None = None, clock: str = "store") -> "_Pod":
        """A new server; each version's intervals have a width of their own."""
        shape = tuple((_SHAPE * (1 + version / 10)).tolist())
        state = ConformalState.start(_NOW - timedelta(days=3), HORIZONS, LEVELS)
        spec = forecaster_spec(
            kind="volatility", target=_TARGET, base=(shape,) * 24, features=features_of(_TARGET), conformal=state
        )  # fmt: skip
        info = PackageInfo(
            model="m", version=version, run_id=f"run {version}", alias=alias, kind="volatility", data_fingerprint="0" * 16,
            trained_through=date(2024, 6, 9), decided_at=_NOW, synthetic=True,
        )  # fmt: skip
        settings = ServingSettings.load(
            state_dir=self.folder, model_name="m", clock=clock, database_url=self.store.engine.url.render_as_string(hide_password=False),
            model_alias=alias,
        )  # fmt: skip
        self.running.append(Serving(settings, info, Forecaster(spec, None, ())))
        return _Pod(self.running[-1])


class _Pod:
    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self._app = build_app(lambda: serving)

    def get(self, path: str = "/predict", **query: str) -> httpx.Response:
        """An answer."""
        return self.ask("GET", path, params=query)

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Any request that is answered well."""

        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://pod") as client:
                return await client.request(method, path, **more)

        answer = asyncio.run(asked())
        assert answer.status_code == 200, answer.text
        return answer

    def record(self, done: datetime | None = None) -> None:
        """What the recorder does when it sees a new hour."""
        now = self.serving.clock.now()
        hour, newest = self.serving.market.origin(now)
        assert newest is not None
        self.serving.recorder.record(now, newest, done, hour)

    def index(self, *records: tuple[str, int, datetime]) -> None:
        """Write the alias index of alias, version and decision."""
        aliases = [
            AliasRecord(
                alias=a,
                version=v,
                run_id=f"run {v}",
                kind="volatility",
                trained_through=at.date(),
                decided_at=at,
            )
            for a, v, at in records
        ]
        body = AliasIndex(model="m", generated_at=_NOW, aliases=aliases).model_dump_json().encode()
        self.serving.bucket.put("bentos/m/aliases.json", body)


@pytest.fixture
def pods(tmp_path: Path, store_url: str) -> Iterator[_Pods]:
    """Nobody serves yet; the newest hour is closed and nothing is issued."""
    with open_store(store_url) as store:
        store.upgrade()
        made = _Pods(tmp_path, store)
        yield made
        for serving in made.running:
            serving.stop()


def _fans(pods: _Pods) -> list[Fan]:
    return pods.store.fans("m", _TARGET)


def test_every_pod_gives_the_same_bytes(pods: _Pods) -> None:
    """Whoever issues, whoever is asked and whenever in the hour: one version's pods answer alike to the last byte."""
    one, other = pods.serve(1, "20240612"), pods.serve(1, "20240612")
    first = one.get()
    pods.go(0.4)
    assert other.get().content == one.get().content == first.content
    assert other.get(horizon="1,6").content == one.get(horizon="1,6").content
    rows = first.json()["forecasts"]
    assert one.get(horizon="6").json()["forecasts"] == [rows[5]]
    assert len(_fans(pods)) == 1
    assert first.headers["X-Hourcast-Bar-Age-S"] == "0.0"
    assert one.get().headers["X-Hourcast-Bar-Age-S"] == "1440.0"
    body = first.json()
    assert (body["source"], body["issued_at"], body["now"]) == ("issued", _json(_NOW), _json(_NOW))
    assert {r["source"] for r in rows} == {"issued"}


def test_pods_that_are_asked_at_once_for_a_new_hour_agree(pods: _Pods) -> None:
    """Two versions and sixteen callers in the first moment of an hour: one fan, and every forecast is that one."""
    both = [pods.serve(1, "20240612"), pods.serve(2, "20240613")]
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda i: both[i % 2].get().json()["forecasts"], range(16)))
    assert all(each == told[0] for each in told)
    assert len(_fans(pods)) == 1


def test_a_version_that_was_just_rolled_out_says_whose_forecast_it_gives(pods: _Pods) -> None:
    """Amid an hour the forecast stays the earlier version's, with a note; from the next hour on it is the new one's."""
    before = pods.serve(1, "20240612").get()
    pods.go(0.5)
    after = pods.serve(2, "20240613")
    told = after.get()
    one, two = before.json(), told.json()
    assert two.pop("note") == (
        "this hour's forecast was issued at 2024-06-13 00:00:00 UTC by version 1; "
        "version 2, which answers, forecasts from the next hour on"
    )
    assert one.pop("note") is None
    assert one == two
    assert (two["version"], two["alias"], two["run_id"]) == (1, "20240612", "run 1")
    names = ("X-Hourcast-Model-Version", "X-Hourcast-Model-Alias", "X-Hourcast-Served-Version")
    assert [told.headers[n] for n in names] == ["1", "20240612", "2"]
    assert [before.headers[n] for n in names] == ["1", "20240612", "1"]
    pods.go(0.5)
    body = after.get().json()
    assert (body["version"], body["alias"], body["note"]) == (2, "20240613", None)


def test_while_the_clock_stands_still_the_note_says_what_to_do(pods: _Pods) -> None:
    """No next hour comes: what was issued stays, and what the version that serves says is under its alias, as the note tells."""
    pods.serve(1, "20240612", clock="2024-06-13T00:00Z").get()
    after = pods.serve(2, "20240613", clock="2024-06-13T00:00Z")
    body = after.get().json()
    assert body["version"] == 1
    assert body["note"] == (
        "this hour's forecast was issued at 2024-06-13 00:00:00 UTC by version 1 and stays, because the clock stands still and "
        "no next hour comes; version 2, which answers, gives its own under its alias 20240613, as `/predict?alias=20240613` and "
        "on the page; `make up REPLAY=8w` lets hours pass"
    )
    (told,) = re.findall(r"alias=(\w+)`", body["note"])
    assert after.get(alias=told).json()["version"] == 2


def test_another_alias_is_computed_and_recorded_nowhere(pods: _Pods) -> None:
    """What was not served is made for the one who asks; the served alias by name gives what was issued."""
    one, two = pods.serve(1, "20240612"), pods.serve(2, "20240613")
    issued = one.get().json()
    assert one.get(alias="20240612").json() == issued
    mine = two.get(alias="20240613").json()
    assert (mine["version"], mine["source"], mine["issued_at"], mine["note"]) == (2, "computed", None, None)
    assert {r["source"] for r in mine["forecasts"]} == {"computed"}
    assert mine["forecasts"] != issued["forecasts"]
    assert len(_fans(pods)) == 1


def test_a_database_that_takes_no_writes_gives_a_forecast_that_says_so(pods: _Pods) -> None:
    """Read-only: computed, labelled, and issued as soon as the database takes it."""
    pod = pods.serve(1, "20240612")
    engine = pod.serving.store.engine
    if engine.dialect.name == "sqlite":
        forbid, allow = "PRAGMA query_only = 1", "PRAGMA query_only = 0"
    else:
        forbid, allow = "SET SESSION TRANSACTION READ ONLY", "SET SESSION TRANSACTION READ WRITE"
    says = [forbid]

    def set_mode(connection: Any, *_: object) -> None:
        cursor = connection.cursor()
        cursor.execute(says[0])
        cursor.close()

    sa.event.listen(engine, "checkout", set_mode)
    told = pod.get().json()
    assert told["note"] == (
        "this forecast is not on record, because the database does not take it now; another server may answer otherwise"
    )
    assert (told["source"], told["issued_at"], told["version"]) == ("computed", None, 1)
    assert _fans(pods) == []
    says[0] = allow
    pod.serving.recorder._refused_until = -1e9
    issued = pod.get().json()
    assert (issued["source"], issued["note"]) == ("issued", None)
    assert [r["quantiles"] for r in issued["forecasts"]] == [r["quantiles"] for r in told["forecasts"]]


def test_a_fan_says_what_it_was_made_from(pods: _Pods) -> None:
    """Fingerprint of its inputs as the feature table has it, calibration, version and run, in the row and in the answer."""
    pod = pods.serve(1, "20240612")
    body = pod.get().json()
    (fan,) = _fans(pods)
    spec = pod.serving.models.forecaster.spec.features
    assert spec is not None
    (mark,) = fingerprint(
        build({_TARGET: _WHOLE.known_at(to_epoch(_NOW))}, spec, np.array([to_epoch(_NOW)], np.int64))
    )
    assert fan.fingerprint == body["fingerprint"] == mark
    assert fan.calibration == body["calibration"]
    assert fan.calibration is not None
    assert fan.calibration["as_of"] == "2024-06-10T00:00:00Z"
    assert (fan.version, fan.run_id, fan.kind, fan.source) == (1, "run 1", "volatility", "issued")
    pods.go(1)
    pod.get()
    pods.go(1)
    later = pod.get().json()["calibration"]
    assert later["as_of"] == "2024-06-13T02:00:00Z"
    assert later["digest"] != fan.calibration["digest"]


def test_hours_that_are_caught_up_on_are_reconstructed(pods: _Pods) -> None:
    """Only the newest hour is issued; those before it were told to nobody, and say so."""
    pod = pods.serve(1, "20240612")
    pod.record()
    pods.go(3)
    pod.record(done=_NOW)
    assert [(f.origin, f.source) for f in _fans(pods)] == [
        (_NOW, "issued"),
        (_NOW + _HOUR, "reconstructed"),
        (_NOW + 2 * _HOUR, "reconstructed"),
        (_NOW + 3 * _HOUR, "issued"),
    ]
    rows = pod.get("/predict-production", start=_json(_NOW), end=_json(_NOW + 5 * _HOUR)).json()["forecasts"]
    assert [r["source"] for r in rows[-4:]] == ["issued", "reconstructed", "reconstructed", "issued"]
    assert [r["issued_at"] for r in rows[-4:]] == [_json(_NOW), None, None, _json(_NOW + 3 * _HOUR)]


def test_what_was_in_production_is_what_users_got(pods: _Pods) -> None:
    """Through a roll amid an hour, a pin back and an undo, whatever aliases say: each hour's row is what was answered in it."""
    pods.serve(1).index(("20240601", 3, _NOW - timedelta(days=12)), ("20240613", 2, _NOW + _HOUR))
    said: list[dict[str, Any]] = []

    def ask(version: int, alias: str, hours: float) -> None:
        said.append(pods.serve(version, alias).get(horizon="1").json())
        pods.go(hours)

    ask(1, "20240612", 0.5)
    ask(2, "20240613", 0.5)
    ask(2, "20240613", 1)
    ask(1, "20240612", 1)
    ask(3, "champion", 0.5)
    assert [(body["version"], body["alias"]) for body in said] == [
        (1, "20240612"), (1, "20240612"), (2, "20240613"), (1, "20240612"), (3, "champion"),
    ]  # fmt: skip
    answered = {row["origin"]: (row, body) for body in said for row in body["forecasts"]}
    span = {"start": _json(_NOW + _HOUR), "end": _json(_NOW + 9 * _HOUR)}
    produced = pods.serve(7).get("/predict-production", **span).json()
    assert pods.serve(7).get("/predict-champion", **span).json() == produced
    rows = produced["forecasts"]
    assert {r["source"] for r in rows} == {produced["source"]} == {"issued"}
    assert {r["origin"] for r in rows} == set(answered)
    for row in rows:
        told, body = answered[row["origin"]]
        assert (row["quantiles"], row["point"]) == (told["quantiles"], told["point"])
        assert (row["version"], row["alias"]) == (body["version"], body["alias"])
        assert row["issued_at"] == body["issued_at"]


def test_what_lies_before_the_record_is_reconstructed_row_by_row(pods: _Pods) -> None:
    """Hours without a fan are forecast by what was rolled out then, or by the alias that reigned before the first roll."""
    pod = pods.serve(1, "20240612")
    pod.index(("20240611", 1, _NOW - 9 * _HOUR), ("20240612", 2, _NOW - 2 * _HOUR))
    rolled = _NOW - 5.5 * _HOUR
    pods.store.decide(
        Decision(rolled, "controller", "rolled", "m", 1, "pinned", "a person pinned version 1", rolled)
    )
    pod.get()
    rows = pod.get("/predict-production", start=_json(_NOW - 7 * _HOUR), end=_json(_NOW + 2 * _HOUR)).json()
    told = [(r["alias"], r["version"], r["source"]) for r in rows["forecasts"]]
    assert told == [
        *[("20240611", 1, "reconstructed")] * 3, *[("pinned", 1, "reconstructed")] * 5, ("20240612", 1, "issued"),
    ]  # fmt: skip
    assert rows["source"] == "reconstructed"
    span = pod.get(start=_json(_NOW - 3 * _HOUR), end=_json(_NOW))
    assert {r["source"] for r in span.json()["forecasts"]} == {"reconstructed"}


def test_skill_and_calibration_read_what_was_issued(pods: _Pods) -> None:
    """Each hour counts once, for the version that issued it, however many versions ran."""
    one, two = pods.serve(1, "20240612"), pods.serve(2, "20240613")
    for hour in range(4):
        (one if hour < 3 else two).record()
        (two if hour < 3 else one).record()
        pods.go(1)
    rows = [r for r in two.get("/skill").json()["rows"] if r["source"] == "live"]
    assert [(r["version"], r["alias"], r["n"]) for r in rows] == [(1, "20240612", 3), (2, "20240613", 1)]
    assert two.get("/calibration").json()["outcomes"] == one.get("/calibration").json()["outcomes"] == 10


def test_counted_is_what_this_server_issued(pods: _Pods) -> None:
    """A pod that finds the hour issued counts nothing."""
    counts: list[int] = []
    one, two = pods.serve(1, "20240612"), pods.serve(1, "20240612")
    for pod in (one, two):
        pod.serving.recorder.on_recorded = lambda rows, _age_s: counts.append(rows)
    one.get()
    two.get()
    one.record()
    two.record()
    assert counts == [24, 0, 0]


def test_callers_bars_are_computed(pods: _Pods, asks: Callable[[_Pod], dict[str, Any]]) -> None:
    """A forecast of a caller's own bars is made for the caller and says so."""
    body = asks(pods.serve(1))
    assert (body["source"], body["issued_at"], body["note"]) == ("computed", None, None)
    assert _fans(pods) == []


@pytest.fixture
def asks() -> Callable[[_Pod], dict[str, Any]]:
    """Post own bars."""

    def ask(pod: _Pod) -> dict[str, Any]:
        part: Bars = _WHOLE.known_at(to_epoch(_NOW))
        rows = [
            {"open_time": int(o), "open": a, "high": b, "low": c, "close": d, "volume": e}
            for o, a, b, c, d, e in zip(
                part.open_time.tolist(), part.open, part.high, part.low, part.close, part.volume, strict=True
            )
        ]
        rows = [r | {"open_time": datetime.fromtimestamp(r["open_time"], UTC).isoformat()} for r in rows]
        return dict(pod.ask("POST", "/predict_bars", content=json.dumps({"bars": {_TARGET: rows}})).json())

    return ask


def _json(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
