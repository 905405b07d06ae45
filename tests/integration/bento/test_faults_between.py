"""Between a server and its database, its bucket and the registry: slow, cut and hanging, by Toxiproxy."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from hourcast.bucket import open_bucket
from hourcast.contracts import Bars
from hourcast.errors import UnavailableError
from hourcast.store import open_store
from hourcast_controller.registry import Registry
from tests.integration.bento.test_serving import own_bars
from tests.integration.conftest import NOW, Served, World, load_bars
from tests.servers import S3, answers, wait_for
from tests.toxic import Link, Toxiproxy

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Between:
    """A server, and what leads to its database and bucket."""

    server: Served
    database: Link
    bucket: Link

    def get(self, path: str) -> tuple[int, Any]:
        """Status and body; within thirty seconds, or the test fails."""
        answer = self.server.get(path)
        if answer.status_code == 503:
            assert int(answer.headers["Retry-After"]) > 0
        return answer.status_code, answer.json()


@pytest.fixture
def between(
    trained: World, mysql_url: str, s3: S3, toxiproxy: Toxiproxy, market_bars: dict[str, Bars]
) -> Iterator[Between]:
    """Version 3 on MariaDB and S3, both through the proxy; version 2 lies in the bucket."""
    with open_store(mysql_url) as store:
        load_bars(store, market_bars, NOW)
        store.set_clock(NOW)
    here, there = open_bucket(trained.environment["HOURCAST_BUCKET_URL"]), open_bucket(s3.url, s3.endpoint)
    for key in here.keys(""):
        body = here.get(key)
        assert body is not None
        there.put(key, body)
    database, bucket = toxiproxy.link(mysql_url), toxiproxy.link(s3.endpoint)
    url = sa.make_url(mysql_url).set(port=database.port).render_as_string(hide_password=False)
    with trained.serve(
        3, HOURCAST_CLOCK=f"{NOW:%Y-%m-%dT%H:%MZ}", HOURCAST_MODEL_ALIAS="20240529", HOURCAST_DATABASE_URL=url, HOURCAST_BUCKET_URL=s3.url,
        HOURCAST_S3_ENDPOINT_URL=f"http://127.0.0.1:{bucket.port}", **s3.environment,
    ) as server:  # fmt: skip
        try:
            yield Between(server, database, bucket)
        finally:
            database.mend()


@pytest.mark.parametrize("fault", [Link.hang, Link.cut])
def test_a_database_that_hangs_or_is_cut_is_told_and_own_bars_go_on(
    between: Between, fault: Callable[[Link], None], market_bars: dict[str, Bars]
) -> None:
    """Sixty who ask are all told in time; probes and forecasts of own bars need no database; then it is well again."""
    assert between.get("/btc-info?limit=3")[0] == 200
    fault(between.database)
    with ThreadPoolExecutor(60) as pool:
        asked = [pool.submit(between.get, "/btc-info?limit=3") for _ in range(60)]
        assert between.server.post("/predict_bars", own_bars(market_bars)).status_code == 200
        assert answers(f"{between.server.url}/livez")
        told = [each.result() for each in asked]
    assert {status for status, _ in told} == {503}
    sentences = {body["detail"] for _, body in told}
    assert any("does not answer" in sentence for sentence in sentences), sentences
    between.database.mend()
    wait_for(lambda: between.get("/btc-info?limit=3")[0] == 200, 60, "bars again", every_s=0.5)
    assert "Traceback" not in between.server.process.text()


def test_a_slow_database_is_waited_for(between: Between) -> None:
    """Three hundred milliseconds more an answer make forecasts later, and nothing else."""
    before = between.get("/predict")
    between.database.slow(300)
    assert between.get("/predict") == before
    assert between.get("/btc-info?limit=3")[0] == 200


@pytest.mark.parametrize("fault", [Link.hang, Link.cut])
def test_a_bucket_that_hangs_or_is_cut_takes_no_thread_from_what_is_served(
    between: Between, fault: Callable[[Link], None]
) -> None:
    """Forty wait for another version's package, which cannot come; what is served is answered meanwhile."""
    before = between.get("/predict")
    assert between.get("/aliases")[0] == 200
    fault(between.bucket)
    with ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(between.get, "/predict?alias=20240522") for _ in range(40)]
        assert between.get("/predict") == before
        assert between.get("/aliases")[0] == 200
        told = [each.result() for each in asked]
    assert {status for status, _ in told} == {503}
    assert between.get("/predict") == before
    between.bucket.mend()
    wait_for(lambda: between.get("/predict?alias=20240522")[0] == 200, 90, "other version", every_s=0.5)
    assert "Traceback" not in between.server.process.text()


@pytest.mark.parametrize("fault", [Link.hang, Link.cut])
def test_a_registry_that_hangs_or_is_cut_is_told(
    mlflow_server: str, toxiproxy: Toxiproxy, trained: World, fault: Callable[[Link], None]
) -> None:
    """The controller's turn goes on without it, with a sentence; slow is not away."""
    link = toxiproxy.link(mlflow_server)
    url = f"http://127.0.0.1:{link.port}"
    with Registry(url, "trained", timeout_s=3) as registry:
        link.slow(300)
        assert set(registry.read().aliases.values()) >= {2, 3}
        fault(link)
        with pytest.raises(
            UnavailableError, match=rf"^MLflow at {url} does not answer \(\w+\); check HOURCAST_MLFLOW_URL"
        ):
            registry.read()
        link.mend()
        assert set(registry.read().aliases.values()) >= {2, 3}
