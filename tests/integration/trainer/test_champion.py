"""The champion from its first challenge on, with MLflow's own server."""

import json
from collections.abc import Mapping

import httpx
import pytest

from hourcast.contracts import Bars, parse_hour
from hourcast.store import Event
from hourcast_controller.champion import MOVED, evidence_in_words, moves
from hourcast_controller.registry import Registry
from tests.integration.conftest import World, environment_of, load_bars

pytestmark = pytest.mark.integration
_MODEL = "challenged"


@pytest.fixture(scope="module")
def challenged(
    tmp_path_factory: pytest.TempPathFactory, mlflow_server: str, market_bars: dict[str, Bars]
) -> tuple[World, list[str]]:
    """Two trainings of the volatility model, and what they said.

    By the second, version 2 has been out of training for eleven weeks; and no fortnight is long enough for the third
    version to show what it is asked for.
    """
    folder = tmp_path_factory.mktemp("challenged")
    environment = environment_of(folder, mlflow_server, _MODEL) | {"HOURCAST_MODEL_KIND": "volatility"}
    now = parse_hour("2024-06-12")
    later = parse_hour("2024-06-19")
    world, strict = World(folder, environment), World(folder, environment | {"HOURCAST_GATE_P": "1e-9"})
    with world.store() as store:
        load_bars(store, market_bars, later)
        store.set_clock(now)
    return world, [world.run("train", "--as-of", "2024-04-10"), strict.run("train", "--as-of", "2024-06-12")]


def _get(world: World, endpoint: str, **query: str) -> dict[str, object]:
    url = f"{world.environment['HOURCAST_MLFLOW_URL']}/api/2.0/mlflow/{endpoint}"
    body: dict[str, object] = httpx.get(
        url, params={"name": _MODEL, **query}, timeout=30, trust_env=False
    ).json()
    return body


def _tags(world: World, version: int) -> Mapping[str, str]:
    found = _get(world, "model-versions/get", version=str(version))["model_version"]
    return {tag["key"]: tag["value"] for tag in found["tags"]}  # type: ignore[index]


def _aliases(world: World) -> dict[str, int]:
    found = _get(world, "registered-models/get")["registered_model"]
    return {a["alias"]: int(a["version"]) for a in found["aliases"]}  # type: ignore[index]


def test_a_version_that_proves_itself_becomes_champion(challenged: tuple[World, list[str]]) -> None:
    """After six weeks without training it challenges naive and wins: the alias moves, and the proof is kept three times over."""
    world, said = challenged
    assert "champion -> version 1: the first champion: there was none to compare it with" in said[0]
    assert "champion -> version 2: better than version 1: " in said[1]
    assert _aliases(world)["champion"] == 2
    tags = _tags(world, 2)
    evidence = json.loads(tags["champion_evidence"])
    assert tags["challenge"] == "won against version 1"
    assert (evidence["challenger"], evidence["champion"], evidence["won"]) == (2, 1, True)
    assert (evidence["start"], evidence["end"]) == ("2024-03-28T00:00:00+00:00", "2024-06-12T00:00:00+00:00")
    with world.store() as store:
        (row,) = store.evaluations(_MODEL, "champion")
    assert (row.version, row.baseline, row.kind, row.passed) == (2, "v1", "volatility", True)
    assert row.figures["evidence"] == evidence
    assert row.reason == evidence["reason"]
    assert f"champion -> version 2: {row.reason}" in said[1]


def test_the_controller_finds_the_proof(challenged: tuple[World, list[str]]) -> None:
    """What the trainer left at the version is what the controller writes down, also when it was away for both moves."""
    world, _said = challenged
    with Registry(world.environment["HOURCAST_MLFLOW_URL"], _MODEL) as registry:
        told = moves(2, None, registry.champion_evidence, [])
        assert registry.champion_evidence(3) is None
        assert registry.champion_evidence(99) is None
    assert [move.version for move in told] == [1, 2]
    assert told[1].reason.startswith("better than version 1: ")
    assert evidence_in_words(told[1].evidence).startswith("pinball ")
    assert told[1].evidence == json.loads(_tags(world, 2)["champion_evidence"])


def test_the_incumbent_stays_when_a_candidate_fails_its_gate(challenged: tuple[World, list[str]]) -> None:
    """The candidate gets no alias, no floor is registered, and what is served goes on being so."""
    world, said = challenged
    failed = _tags(world, 3)
    assert (failed["gate"], failed["kind"]) == ("failed", "volatility")
    assert failed["gate_reason"].startswith("not shown to be at most 50 % worse: ")
    assert _aliases(world) == {"20240326": 2, "champion": 2}
    assert said[1].strip().endswith("version 2 is still no worse than naive and stays")
    assert [v.version for v in _registry_versions(world)] == [1, 2, 3]


def _registry_versions(world: World) -> list[object]:
    with Registry(world.environment["HOURCAST_MLFLOW_URL"], _MODEL) as registry:
        state = registry.read()
    return [state.versions[number] for number in sorted(state.versions)]


def test_an_empty_place_is_taken_by_what_is_served(challenged: tuple[World, list[str]]) -> None:
    """Whoever removes the alias finds it set again by the next training, with the reason and without a proof."""
    world, _said = challenged
    url = f"{world.environment['HOURCAST_MLFLOW_URL']}/api/2.0/mlflow/registered-models/alias"
    httpx.request(
        "DELETE", url, json={"name": _MODEL, "alias": "champion"}, timeout=30, trust_env=False
    ).raise_for_status()
    told = world.run("train", "--as-of", "2024-06-19")
    reason = "no version was champion any more; what is served takes the place without a comparison"
    assert f"champion -> version 2: {reason}" in told
    assert _aliases(world)["champion"] == 2
    with Registry(world.environment["HOURCAST_MLFLOW_URL"], _MODEL) as registry:
        (move,) = moves(2, None, registry.champion_evidence, [_removed()])
    assert (move.reason, move.evidence["champion"]) == (reason, None)


def test_a_champion_of_another_release_gives_its_place_to_what_is_served(
    challenged: tuple[World, list[str]], market_bars: dict[str, Bars]
) -> None:
    """A champion that this release cannot run challenges nobody and stops nothing: the training goes on, and says why."""
    world, _said = challenged
    root = f"{world.environment['HOURCAST_MLFLOW_URL']}/api/2.0"
    place = str(_get(world, "model-versions/get-download-uri", version="1")["artifact_uri"])
    location = _location(world, place)
    url = f"{root}/mlflow-artifacts/artifacts/{location}/artifacts/forecaster/spec.json"
    written = httpx.get(url, timeout=30, trust_env=False).raise_for_status().json()
    httpx.put(url, json={**written, "schema_version": 1}, timeout=30, trust_env=False).raise_for_status()
    httpx.post(
        f"{root}/mlflow/registered-models/alias",
        json={"name": _MODEL, "alias": "champion", "version": "1"}, timeout=30, trust_env=False,
    ).raise_for_status()  # fmt: skip
    with world.store() as store:
        load_bars(store, market_bars, parse_hour("2024-06-26"))
    served = max((alias, version) for alias, version in _aliases(world).items() if alias != "champion")[1]
    told = world.run("train", "--as-of", "2024-06-26")
    reason = "version 1 cannot be run any more: spec.json has schema 1, and this Hourcast reads schema 2"
    assert f"champion -> version {served}: {reason}" in told
    after = _aliases(world)
    assert after["champion"] == served
    assert after["20240611"] > served


def _location(world: World, place: str) -> str:
    """A version's folder within the artifact store."""
    if place.startswith("models:/"):
        found = httpx.get(
            f"{world.environment['HOURCAST_MLFLOW_URL']}/api/2.0/mlflow/logged-models/{place.removeprefix('models:/')}",
            timeout=30, trust_env=False,
        ).json()  # fmt: skip
        place = str(found["model"]["info"]["artifact_uri"])
    return place.removeprefix("mlflow-artifacts:/").strip("/")


def _removed() -> Event:
    at = parse_hour("2024-06-13")
    return Event(at, "controller", MOVED, _MODEL, None, "champion", "the alias was removed by hand", at)
