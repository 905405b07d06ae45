"""/openapi.json tells what is answered, and schemathesis holds the server to it, with all its checks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.config import SchemathesisConfig

from hourcast_bento.app import build_app
from tests.asked import Asked, asked

# 422 is the right answer to what JSON Schema cannot say: an end before its start, hours of a year without bars, bars without
# history. Everything else that fits the schema must be answered.
_CONFIG = SchemathesisConfig.from_dict(
    {
        "checks": {
            "positive_data_acceptance": {"expected-statuses": ["2xx", "403", "404", "422", "503"]},
            # 413 is how a body is refused that has more bars than the schema allows.
            "negative_data_rejection": {"expected-statuses": ["4xx", "5xx"]},
        },
        "generation": {"deterministic": True, "database": "none"},
    }
)


_running: list[Asked] = []
_APP = build_app(lambda: _running[0].serving)
_API = schemathesis.openapi.from_asgi("/openapi.json", _APP, config=_CONFIG)


@pytest.fixture(autouse=True)
def pod(tmp_path: Path) -> Iterator[Asked]:
    """A server on a small store."""
    with asked(tmp_path) as made:
        _running[:] = [made]
        yield made


@_API.parametrize()
@settings(max_examples=40, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))  # fmt: skip
def test_every_answer_is_as_documented(case: Case) -> None:
    """Whatever fits the schema, and what just does not, is answered with a documented status and a body of its form."""
    case.call_and_validate()


def test_every_endpoint_documents_its_answers(pod: Asked) -> None:
    """Each has a typed answer, the 422 that comes, 500 and 503; bodies and callbacks what they may be refused for."""
    paths = pod.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        for told in methods.values():
            good = told["responses"]["200"]["content"]
            assert "text/html" in good or "$ref" in good["application/json"]["schema"], path
            for status in set(told["responses"]) - {"200"}:
                schema = told["responses"][status]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}, (path, status)
    of = {path: set(next(iter(methods.values()))["responses"]) for path, methods in paths.items()}
    assert all({"422", "500", "503"} <= statuses for statuses in of.values()), of
    assert {"403", "404"} <= of["/predict"] & of["/predict-production"]
    assert "413" in of["/predict_bars"]
    times = [p["schema"] for p in paths["/predict"]["get"]["parameters"] if p["name"] in ("start", "end")]
    assert all("date-time" in str(schema) for schema in times), times
