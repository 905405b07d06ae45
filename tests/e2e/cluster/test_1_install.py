"""`helm install` and nothing else: bars, a trained model, its package, a roll, a forecast, a page. Then what people do first."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.cluster import Cluster, note
from tests.histories import in_server
from tests.servers import visit, wait_for

pytestmark = pytest.mark.cluster

_BARS = {"BTC/USDT": 13_752, "QQQ": 2_582, "^VIX": 5_465, "GC=F": 6_721}


def test_bars_are_in_the_store(cluster: Cluster) -> None:
    """Every recorded bar that had closed by the clock is there, of all four series."""
    with cluster.database("serving") as engine, engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT symbol, COUNT(*), MAX(close_time) FROM bars GROUP BY symbol"
        ).all()
    found = {symbol: (count, newest) for symbol, count, newest in rows}
    assert {symbol: count for symbol, (count, _) in found.items()} == _BARS
    assert found["BTC/USDT"][1].replace(tzinfo=UTC) == datetime(2025, 6, 26, tzinfo=UTC)


def test_the_answer_names_the_version_that_the_pods_were_told(cluster: Cluster) -> None:
    """Registry, alias, package, annotation and answer agree on one version."""
    wait_for(lambda: "20250611" in cluster.status()["aliases"], 240, "trained alias")
    alias_version = cluster.status()["aliases"]["20250611"]
    wait_for(lambda: cluster.served() == alias_version, 90, "roll to the trained version")
    cluster.wait_served(alias_version)
    answer = httpx.get(f"{cluster.node_port('api')}/predict?horizon=1", timeout=20, trust_env=False)
    body = answer.json()
    assert answer.status_code == 200
    assert answer.headers["X-Hourcast-Served-Version"] == str(alias_version)
    # The clock stands still: the hour's forecast is that of the version that served first.
    assert answer.headers["X-Hourcast-Model-Version"] == str(body["version"])
    assert (body["note"] is None) == (body["version"] == alias_version)
    health = httpx.get(f"{cluster.node_port('api')}/health", timeout=20, trust_env=False).json()
    assert (health["version"], health["alias"]) == (alias_version, "20250611")
    assert cluster.annotations() == (str(alias_version), "20250611")
    assert body["forecasts"][0]["target_time"] == "2025-06-26T01:00:00Z"
    assert 0.9 < body["forecasts"][0]["point"] / body["forecasts"][0]["last_close"] < 1.1
    with cluster.s3() as s3:
        keys = {o["Key"] for o in s3.list_objects_v2(Bucket="hourcast")["Contents"]}
    assert {f"bentos/hourcast/{alias_version}.bento", f"bentos/hourcast/{alias_version}.json", "bentos/hourcast/aliases.json"} <= keys  # fmt: skip


def test_forecasts_are_recorded_before_their_hour(cluster: Cluster) -> None:
    """Serving issues one fan an hour."""
    wait_for(lambda: cluster.count("fans") >= 1, 30, "issued forecasts")


def test_kubectl_describe_tells_what_is_served_and_why(cluster: Cluster) -> None:
    """The Deployment says so in annotations and events that a person can read."""
    text = cluster.kubectl("describe", "deployment/hourcast-serving")
    version = cluster.served()
    assert f"version {version} (alias 20250611)" in text
    assert "hourcast.io/reason" in text
    assert "RollStarted" in text or "Rolled" in text


def test_helm_test_passes(cluster: Cluster) -> None:
    """API, dashboard and MLflow answer the chart's own check."""
    assert "Succeeded" in cluster.helm("test", cluster.release)
    logs = cluster.kubectl("logs", "hourcast-test")
    assert f"version {cluster.served()}" in logs


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_the_page_shows_the_served_version_over_a_port_forward(
    cluster: Cluster, browser: Browser, width: int, scheme: str, tmp_path: Path
) -> None:
    """`kubectl port-forward svc/hourcast-viz 8501` and Chromium: headline, candles, no error, no sideways scrolling."""
    with cluster.forward("viz", 8501) as port:
        page = browser.new_page(viewport={"width": width, "height": 1200}, color_scheme=scheme)  # type: ignore[arg-type]
        try:
            visit(page, f"http://127.0.0.1:{port}", page.locator(".js-plotly-plot .cartesianlayer").first)
            expect(page.get_by_test_id("headline")).to_be_visible()
            expect(page.get_by_text("20250611").first).to_be_visible()
            wide = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            page.screenshot(path=tmp_path / "page.png", full_page=True)
            assert wide <= 0
        finally:
            page.close()


def test_retraining_by_hand(cluster: Cluster) -> None:
    """`kubectl create job --from=cronjob/hourcast-trainer` runs the schedule's job now; nothing is due, and it says so."""
    cluster.kubectl("create", "job", "retrain", "--from=cronjob/hourcast-trainer")
    cluster.kubectl("wait", "--for=condition=Complete", "job/retrain", "--timeout=180s")
    assert "nothing due" in cluster.kubectl("logs", "job/retrain")


def test_the_schedule_trains_and_the_alias_rolls_by_itself(cluster: Cluster) -> None:
    """The CronJob's own schedule: a minute after it is set, the trainer has run without anybody's doing."""
    before = {j["metadata"]["name"] for j in cluster.get("jobs")["items"]}
    patch = {"spec": {"schedule": "* * * * *"}}
    cluster.kubectl("patch", "cronjob/hourcast-trainer", "--type=merge", "-p", json.dumps(patch))
    try:

        def ran() -> bool:
            return any(
                j["metadata"]["name"] not in before and j["metadata"]["name"].startswith("hourcast-trainer-")
                and j["status"].get("succeeded")
                for j in cluster.get("jobs")["items"]
            )  # fmt: skip

        wait_for(ran, 150, "training by the schedule")
    finally:
        patch = {"spec": {"schedule": "30 0 * * 1"}}
        cluster.kubectl("patch", "cronjob/hourcast-trainer", "--type=merge", "-p", json.dumps(patch))


def test_a_back_fill_is_a_job_of_the_etl(cluster: Cluster) -> None:
    """A gap is filled by `kubectl create job --from=cronjob/hourcast-etl` with the command that docs/operations.md gives."""
    with cluster.database() as engine, engine.begin() as connection:
        gone = connection.exec_driver_sql(
            "DELETE FROM bars WHERE symbol = 'BTC/USDT' AND open_time >= '2025-06-01' AND open_time < '2025-06-02'"
        ).rowcount
    assert gone == 24
    made = json.loads(cluster.kubectl("create", "job", "backfill", "--from=cronjob/hourcast-etl", "--dry-run=client", "-o", "json"))  # fmt: skip
    made["spec"]["template"]["spec"]["containers"][0]["args"] = [
        "etl", "backfill", "--from", "2025-06-01", "--to", "2025-06-02", "--symbol", "BTC/USDT",
    ]  # fmt: skip
    cluster.apply(made)
    cluster.kubectl("wait", "--for=condition=Complete", "job/backfill", "--timeout=120s")
    assert "BTC/USDT: complete, 24 new" in cluster.kubectl("logs", "job/backfill")


def test_what_is_older_than_it_is_kept_goes_and_is_told(cluster: Cluster) -> None:
    """The daily job, run by hand under its own accounts: an old fetch goes, the event names it, and the release goes on."""
    with cluster.database() as engine, engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO ingest_runs (symbol, source, started_at, status, fetched, inserted, revised, quarantined) "
            "VALUES ('BTC/USDT', 'files', '2020-01-01', 'complete', 1, 1, 0, 0)"
        )
    cluster.kubectl("create", "job", "tidy-now", "--from=cronjob/hourcast-tidy")
    cluster.kubectl("wait", "--for=condition=Complete", "job/tidy-now", "--timeout=120s")
    said = "older than it is kept: 1 row of ingest_runs"
    assert said in cluster.kubectl("logs", "job/tidy-now")
    assert [(e["actor"], e["reason"]) for e in cluster.events("tidied")] == [("tidy", said)]
    cluster.kubectl("delete", "job", "tidy-now")


def test_no_statement_reads_more_rows_the_longer_the_history_is(cluster: Cluster, tmp_path: Path) -> None:
    """MySQL plans otherwise than MariaDB, on which the same is tested without a cluster."""
    with cluster.database() as engine:
        server = engine.url.set(database="").render_as_string(hide_password=False)
        with in_server(server.rstrip("/"), tmp_path) as histories:
            assert not histories.grown()


def test_an_indexed_back_test_is_resumable_and_reports(cluster: Cluster) -> None:
    """`kubectl create job --from=cronjob/hourcast-backtest`: parts side by side; a second run finds all done."""
    values = {
        "completions": 2, "parallelism": 2,
    }  # fmt: skip
    for name in ("backtest-1", "backtest-2"):
        began = time.monotonic()
        made = json.loads(cluster.kubectl("create", "job", name, "--from=cronjob/hourcast-backtest", "--dry-run=client", "-o", "json"))  # fmt: skip
        made["spec"] |= values
        made["spec"]["template"]["spec"]["containers"][0]["args"] = [
            "backtest", "--from", "2025-05-26", "--to", "2025-06-23", "--every", "1w", "--jobs", "1",
            "--shard", "$(JOB_COMPLETION_INDEX)/2",
        ]  # fmt: skip
        cluster.apply(made)
        cluster.kubectl("wait", "--for=condition=Complete", f"job/{name}", "--timeout=300s", limit_s=320)
        note(f"Indexed back-test of 4 weeks in 2 parts ({name}): {time.monotonic() - began:.0f} s")
    logs = "".join(
        cluster.kubectl("logs", p["metadata"]["name"])
        for p in cluster.get("pods", "-l", "job-name=backtest-2")["items"]
    )
    assert "Pinball loss against naive" in logs
    with cluster.database() as engine, engine.connect() as connection:
        weeks = connection.exec_driver_sql("SELECT COUNT(DISTINCT alias), COUNT(*) FROM backtest_rows").one()
    assert tuple(weeks) == (4, 4 * 168)


def test_operators_need_a_kubeconfig_only(cluster: Cluster) -> None:
    """`hourcast -n` style commands from a laptop run in the controller's pod, with its output and exit code."""
    import subprocess
    import sys

    def here(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "hourcast.cli", *words, "-n", cluster.namespace],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    said = here("status")
    assert said.returncode == 0, said.stderr
    assert f"version {cluster.served()}" in said.stdout
    wrong = here("pin", "999")
    assert wrong.returncode == 6
    assert "version 999 of hourcast does not exist" in wrong.stdout + wrong.stderr
