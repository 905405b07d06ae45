"""The alias index is written, whatever tags say."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourcast_bento.packager import Packager
from hourcast_bento.settings import ServingSettings
from tests.answering import Answer, answering

_GOOD = {"kind": "lstm", "trained_through": "2025-06-03", "decided_at": "2025-06-18T00:05:00+00:00"}
_TEXT = st.text(max_size=40) | st.sampled_from(["2025-06-03", "0001-01-01T00:00:00+14:00", "2025-06-18", ""])


@dataclass
class _Registry:
    """MLflow with versions 1 and 2 by their tags, each behind an alias."""

    url: str = ""
    tags: dict[int, Mapping[str, str]] = field(default_factory=lambda: {1: _GOOD, 2: _GOOD})

    def answer(self, path: str) -> Any:
        if path.endswith("registered-models/get"):
            aliases = [{"alias": f"2025060{v}", "version": str(v)} for v in self.tags]
            return {"registered_model": {"aliases": aliases}}
        return {
            "model_versions": [
                {"version": str(number), "run_id": f"r{number}", "tags": [{"key": k, "value": v} if v else {"key": k} for k, v in tags.items()]}
                for number, tags in self.tags.items()
            ]
        }  # fmt: skip


@pytest.fixture(scope="module")
def registry() -> Iterator[_Registry]:
    """At one address, for every test of this file."""
    seen = _Registry()

    with answering(lambda asked: Answer(seen.answer(asked.path))) as seen.url:
        yield seen


@pytest.fixture(scope="module")
def packager(registry: _Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Packager]:
    """A packager of that registry with a bucket of its own."""
    folder: Path = tmp_path_factory.mktemp("bucket")
    settings = ServingSettings(bucket_url=f"file://{folder}", mlflow_url=registry.url)
    with Packager(settings) as made:
        yield made


def test_an_alias_whose_version_cannot_be_understood_is_left_out_and_named(
    registry: _Registry, packager: Packager, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are in the index."""
    registry.tags[2] = _GOOD | {"decided_at": "soon"}
    index = packager.write_index()
    assert [record.alias for record in index.aliases] == ["20250601"]
    assert caplog.messages == [
        "alias 20250602 (version 2) is left out: a tag cannot be understood: 'soon' is no time with a zone"
    ]


@given(st.dictionaries(st.sampled_from([*_GOOD, "alias"]), _TEXT))
def test_no_tag_stops_the_index(registry: _Registry, packager: Packager, tags: dict[str, str]) -> None:
    """Any text in any tag: the other alias is in the index."""
    registry.tags[2] = tags
    assert "20250601" in {record.alias for record in packager.write_index().aliases}
