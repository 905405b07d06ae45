"""One release is shared by most tests, in the order of the files; what a test changes it puts back."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import CLOCK, Cluster, bring_files, namespace, note
from tests.servers import wait_for


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Print the state of the cluster when a test fails."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Cluster):
                report.sections.append((f"cluster, namespace {value.namespace}", value.dump()))


@pytest.fixture(scope="session")
def shared_release(market_dir: Path) -> Iterator[Cluster]:
    """The release that most tests look at: recorded bars, a clock that stands at the end of June 2025."""
    with namespace("hourcast-e2e") as cluster:
        if "hourcast" in cluster.helm("list", "-q"):
            yield cluster
            return
        bring_files(cluster, market_dir)
        began = time.monotonic()
        cluster.install(
            "--set", "etl.source=files:/data", "--set", "etl.filesClaim=bars", "--set", f"clock={CLOCK}",
            "--set", "settings.ETL_DAYS=730",
            "--set-json", 'networkPolicy.mysqlFrom=[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"hourcast-second"}}}]',
            "--set-json", 'networkPolicy.s3From=[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"hourcast-second"}}}]',
        )  # fmt: skip
        try:
            wait_for(lambda: cluster.served() is not None, 420, "served version after helm install")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{cluster.dump()}") from None
        note(f"helm install to the first answer: {time.monotonic() - began:.0f} s")
        yield cluster


@pytest.fixture
def cluster(shared_release: Cluster) -> Cluster:
    """The shared release."""
    return shared_release
