"""What code decides a result is told by the definitions that it reaches, and by nothing else."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hourcast_trainer.lab.walk.engine import _TABLES, forecast_fold
from hourcast_trainer.lab.walk.sources import sources_of
from hourcast_trainer.models import COMPARED

_MODEL = '''"""A kind."""
from planted.features import LAGS, {more}look

class Model:
    """Of one line."""

    def fit(self, bars: "list[float]") -> float:
        # Why not?
        return look(bars) * {factor}
'''
_FEATURES = """from planted import deep

LAGS = (1, 2)

def look(bars):
    return deep.of(bars){plus}

def unused():
    return {unused}
"""
_DEEP = "def of(bars):\n    return {value} if bars else None\n"


@pytest.fixture
def hash_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Write a package of three modules with some parts changed, and hash what its model reaches."""
    folder = tmp_path / "planted"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    count = 0

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "planted"]:
            del sys.modules[name]
        importlib.invalidate_caches()

    def made(edit: Callable[[str], str] = lambda text: text, but: Any = (), **parts: object) -> str:
        nonlocal count
        # No two of one length: a clock that stands still must not hide a change.
        count += 1
        told = {"more": "", "factor": 2, "plus": "", "unused": 1, "value": 3} | parts
        forget()
        (folder / "__init__.py").write_text("")
        for name, text in (("model", _MODEL), ("features", _FEATURES), ("deep", _DEEP)):
            (folder / f"{name}.py").write_text(edit(text.format(**told)) + "#" * count)
        return sources_of([importlib.import_module("planted.model").Model], but)

    yield made
    forget()


@pytest.mark.parametrize("change", [{"factor": 4}, {"plus": " + 1"}, {"value": 5}], ids=str)
def test_a_change_of_what_is_reached_is_another_hash(
    hash_of: Callable[..., str], change: dict[str, object]
) -> None:
    """In the kind itself, in its features, and in what those look at in turn."""
    assert hash_of() != hash_of(**change)


@pytest.mark.parametrize("change", [{"unused": 9}, {"more": "unused, "}], ids=str)
def test_a_change_of_what_is_not_reached_is_none(
    hash_of: Callable[..., str], change: dict[str, object]
) -> None:
    """Beside it in the same module, or on the same line of an import."""
    assert hash_of() == hash_of(**change)


def test_comments_docstrings_and_layout_decide_nothing(hash_of: Callable[..., str]) -> None:
    """Nor do the line ends of another machine."""
    told = hash_of()
    assert told == hash_of(lambda text: text.replace("# Why not?", "# Because."))
    assert told == hash_of(lambda text: text.replace("Of one line.", "Of a line."))
    assert told == hash_of(lambda text: text.replace("(1, 2)", "(1,   2)").replace("\n", "\r\n"))


def test_following_ends_where_it_is_told_to(hash_of: Callable[..., str]) -> None:
    """As at the table of all kinds, of which each takes some."""
    but = [("planted.features", "look")]
    assert hash_of(but=but) == hash_of(but=but, value=5)


@pytest.mark.parametrize("kind", COMPARED)
def test_no_kind_depends_on_another_but_through_what_it_takes(kind: str) -> None:
    """Each has a hash of its own, the same at every call."""
    told = {k: sources_of([type(model), forecast_fold], _TABLES) for k, model in COMPARED.items()}
    assert list(told.values()).count(told[kind]) == 1
    assert told[kind] == sources_of([type(COMPARED[kind]), forecast_fold], _TABLES)
