"""`skaffold diagnose` and `skaffold deploy --images …`, with the profile of a laptop."""

from pathlib import Path

import pytest

from tests.cluster import TAG, Cluster, run
from tests.servers import program, wait_for

pytestmark = pytest.mark.cluster

_ROOT = Path(__file__).parents[3]
_IMAGES = ("etl", "trainer", "bento", "controller", "viz", "mlflow")


def test_skaffold_installs_the_chart_as_a_laptop_has_it() -> None:
    """Everything but the model comes up: without a network there are no live bars, and the API says so."""
    skaffold = program("skaffold", package="skaffold")
    said = run(skaffold, "diagnose", "--yaml-only", "-f", str(_ROOT / "skaffold.yaml"))
    assert said.count("image: docker.io/hourcast/") == len(_IMAGES)
    cluster = Cluster("hourcast")
    cluster.kubectl("delete", "namespace", "hourcast", "--ignore-not-found", "--wait=true", limit_s=300)
    images = [
        w
        for name in _IMAGES
        for w in ("--images", f"docker.io/hourcast/{name}=docker.io/hourcast/{name}:{TAG}")
    ]
    try:
        run(
            skaffold,
            "deploy",
            "-f",
            str(_ROOT / "skaffold.yaml"),
            "--status-check=false",
            *images,
            limit_s=300,
        )
        for component in ("viz", "controller", "mlflow"):
            wait_for(lambda c=component: cluster.ready(c), 240, f"ready {component}", every_s=1)  # type: ignore[misc]
        ask = (
            "import urllib.request as u, urllib.error as e\n"
            "try: u.urlopen('http://127.0.0.1:8000/predict')\n"
            "except e.HTTPError as error: print(error.code, error.read().decode())\n"
        )
        told = cluster.kubectl("exec", "deploy/hourcast-serving", "-c", "serving", "--", "python", "-c", ask)
        assert told.startswith("503 ")
        assert "no model has passed its gate yet" in told
        assert "nothing yet" in cluster.hourcast("status")
    finally:
        # The node of two cores is needed for the releases of the other tests.
        cluster.kubectl("delete", "namespace", "hourcast", "--wait=true", limit_s=300, check=False)
