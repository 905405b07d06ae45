"""Docs tell what is there: every setting, no file that does not exist, the commands as they are."""

import os
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from hourcast.settings import CoreSettings
from hourcast_bento.settings import ServingSettings
from hourcast_controller.settings import ControllerSettings
from hourcast_etl.settings import EtlSettings
from hourcast_local.settings import LocalSettings
from hourcast_mlflow.settings import MlflowSettings
from hourcast_trainer.settings import TrainerSettings
from hourcast_viz.settings import VizSettings

_ROOT = Path(__file__).parents[3]
_DOCS = sorted([_ROOT / "README.md", *(_ROOT / "docs").glob("*.md")])
_SETTINGS: tuple[type[BaseSettings], ...] = (
    CoreSettings, EtlSettings, TrainerSettings, ServingSettings, ControllerSettings, VizSettings, LocalSettings,
    MlflowSettings,
)  # fmt: skip


def _shown(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, tuple):
        if value and isinstance(value[0], str):
            return "`" + "`, `".join(value) + "`"
        return "see below" if value else "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _variable(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    return alias if isinstance(alias, str) else f"HOURCAST_{name.upper()}"


def _rows(settings: type[BaseSettings]) -> list[str]:
    inherited = CoreSettings.model_fields if settings is not CoreSettings else {}
    return [
        f"| `{_variable(name, field)}` | {_shown(field.default)} | {field.description} |"
        for name, field in settings.model_fields.items()
        if name not in inherited
    ]


@pytest.mark.parametrize("settings", _SETTINGS)
def test_every_setting_is_documented_as_it_is(settings: type[BaseSettings]) -> None:
    """docs/configuration.md has a row for each setting, with its default and what it means."""
    text = (_ROOT / "docs" / "configuration.md").read_text()
    missing = [row for row in _rows(settings) if row not in text]
    assert not missing, "docs/configuration.md lacks these rows:\n" + "\n".join(missing)


def test_no_setting_is_documented_that_does_not_exist() -> None:
    """A row of a setting that is gone is a lie."""
    text = (_ROOT / "docs" / "configuration.md").read_text()
    known = {_variable(name, field) for s in _SETTINGS for name, field in s.model_fields.items()}
    told = set(re.findall(r"^\| `(HOURCAST_[A-Z0-9_]+)` \|", text, re.MULTILINE))
    assert told == known


@pytest.mark.parametrize("doc", _DOCS, ids=lambda p: p.name)
def test_links_lead_somewhere(doc: Path) -> None:
    """Each relative link names a file of the checkout."""
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", doc.read_text()):
        if "://" not in target:
            assert (doc.parent / target).exists(), f"{doc.name} links {target}, which does not exist"


@pytest.mark.parametrize("doc", _DOCS, ids=lambda p: p.name)
def test_make_targets_that_docs_name_exist(doc: Path) -> None:
    """`make x` in a doc is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (_ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`|&& )make ([a-z][a-z-]+)", doc.read_text(), re.MULTILINE))
    assert named <= targets, f"{doc.name} names make {', '.join(sorted(named - targets))}"


@pytest.mark.parametrize("doc", _DOCS, ids=lambda p: p.name)
def test_hourcast_commands_that_docs_name_exist(doc: Path) -> None:
    """`hourcast x` in a doc is a command."""
    from importlib.metadata import entry_points

    known = {entry.name for entry in entry_points(group="hourcast.commands")}
    named = set(re.findall(r"(?:^|`|bin/)hourcast ([a-z][a-z-]*)", doc.read_text(), re.MULTILINE))
    assert named <= known, f"{doc.name} names hourcast {', '.join(sorted(named - known))}"


def test_ci_runs_the_tests_as_the_readme_writes_it() -> None:
    """The command in the README is the one that CI calls."""
    readme = (_ROOT / "README.md").read_text()
    assert "make test-all" in readme
    assert "\nmake test-all\n" in (_ROOT / ".ci" / "run").read_text()


def _tracked() -> list[str]:
    """What git tracks; of an archive, which has no git, all but what .gitignore names."""
    if (_ROOT / ".git").exists():
        done = subprocess.run(
            ["git", "ls-files", "-z"], cwd=_ROOT, capture_output=True, check=True, text=True
        )
        return [name for name in done.stdout.split("\0") if name]
    ignored = [line.rstrip("/") for line in (_ROOT / ".gitignore").read_text().split()]
    found = []
    for at, folders, files in os.walk(_ROOT):
        folder = Path(at)
        folders[:] = [f for f in folders if not any(fnmatch(f, pattern) for pattern in ignored)]
        found += [(folder / file).relative_to(_ROOT).as_posix() for file in files]
    return found


def test_nothing_but_ci_names_what_only_ci_may_know() -> None:
    """The cluster of the tests and package indexes appear in no other tracked file."""
    listed = _tracked()
    # In pieces, so that this file does not name them itself.
    words = ("shared/" + "cluster", "pypi" + ".org", "python" + "hosted", "download.pytorch" + ".org")
    forbidden = re.compile("|".join(map(re.escape, words)))
    for name in listed:
        path = _ROOT / name
        if name != ".ci/run" and path.is_file() and path.suffix != ".png":
            found = forbidden.search(path.read_text(errors="replace"))
            assert found is None, f"{name} names {found.group() if found else ''}"
