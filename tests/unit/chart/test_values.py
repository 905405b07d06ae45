"""Values of the chart: each is documented, used, and known to the closed schema."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

_CHART = Path(__file__).parents[3] / "charts" / "hourcast"
_VALUES = yaml.safe_load((_CHART / "values.yaml").read_text())
_SCHEMA = json.loads((_CHART / "values.schema.json").read_text())
_TEMPLATES = "\n".join(p.read_text() for p in sorted((_CHART / "templates").rglob("*")) if p.is_file())


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of values that a template takes as a whole: scalars, lists, and mappings that are written in one line."""
    if isinstance(value, dict) and value and path[-1:] != ("resources",):
        for name, part in value.items():
            yield from _leaves(part, (*path, name))
    else:
        yield path


_PATHS = sorted({p for p in _leaves(_VALUES) if not {"namespaceLabels", "podLabels"} & set(p[:-1])} | {
    ("networkPolicy", "dns", "namespaceLabels"), ("networkPolicy", "dns", "podLabels"),
})  # fmt: skip


@pytest.mark.parametrize("path", _PATHS, ids=".".join)
def test_every_value_has_a_comment(path: tuple[str, ...]) -> None:
    """The line above a value says what it does."""
    lines = (_CHART / "values.yaml").read_text().splitlines()
    at = 0
    for depth, name in enumerate(path):
        at = next(i for i in range(at, len(lines)) if re.match(rf"^{'  ' * depth}{name}:", lines[i]))
    assert lines[at - 1].strip().startswith("# "), f"{'.'.join(path)} has no comment above it"


@pytest.mark.parametrize("path", _PATHS, ids=".".join)
def test_every_value_is_used(path: tuple[str, ...]) -> None:
    """A template reads the value, by its whole path or by one of the ways in which parts are handed on."""
    name = path[-1]
    whole = rf"\.Values\.{re.escape('.'.join(path))}\b"
    # Images, ingresses and services are handed on as one; network values and guards through a variable.
    handed = {"images": rf"\$image\.{name}\b", "networkPolicy": rf"\$n\.{re.escape('.'.join(path[1:]))}\b"}
    ways = [whole]
    if path[0] in handed:
        ways.append(handed[path[0]])
    if "ingress" in path:
        ways.append(rf"\$ingress\.{name}\b|\.Values\.{path[0]}\.ingress\.{name}\b")
    assert any(re.search(way, _TEMPLATES) for way in ways), f"no template reads {'.'.join(path)}"


def _compare(values: Any, schema: dict[str, Any], where: str) -> None:
    if schema.get("type") != "object" or "properties" not in schema:
        return
    assert schema.get("additionalProperties") is False, f"the schema of {where or 'the values'} is open"
    if where and not isinstance(values, dict):
        return
    known = set(schema["properties"]) - {"global"}
    if where.endswith("resources") or "series" in where:
        return
    assert known == set(values), f"schema and values differ at {where or 'the top'}"
    for name in known:
        _compare(values[name], schema["properties"][name], f"{where}.{name}".strip("."))


def test_the_schema_is_closed_and_knows_each_value() -> None:
    """No object takes names that nobody reads, and none of the values is missing."""
    _compare(_VALUES, _SCHEMA, "")


@pytest.mark.parametrize("profile", sorted(_CHART.glob("values-*.yaml")), ids=lambda p: p.stem)
def test_profiles_name_known_values_only(profile: Path) -> None:
    """A profile changes values that exist."""

    def check(part: Any, known: Any, where: str) -> None:
        for name, value in part.items():
            assert name in known, f"{profile.name} sets {where}{name}, which does not exist"
            if (
                isinstance(value, dict)
                and isinstance(known[name], dict)
                and known[name]
                and name != "resources"
            ):
                check(value, known[name], f"{where}{name}.")

    check(yaml.safe_load(profile.read_text()), _VALUES, "")
