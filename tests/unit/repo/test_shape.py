"""The shape of the code: public names are explicit, tests say what they promise."""

import ast
import tomllib
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_SOURCES = sorted(
    p
    for folder in ("libs", "services", "local")
    for p in (_ROOT / folder).rglob("src/**/*.py")
    if "migrations" not in p.parts and p.name != "__main__.py"
)
# Streamlit and MLflow run these as scripts; nobody imports them.
_RUN_ONLY = {"hourcast_viz/app.py", "hourcast_trainer/pyfunc_model.py"}
_TESTS = sorted((_ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("path", _SOURCES, ids=lambda p: str(p.relative_to(_ROOT)))
def test_public_names_are_in_all_and_have_docstrings(path: Path) -> None:
    """`__all__` is there, names what exists, and each class and function in it has a docstring."""
    tree = ast.parse(path.read_text())
    named: list[str] | None = None
    defined: dict[str, ast.AST] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    defined[target.id] = node
                    if target.id == "__all__" and node.value is not None:
                        named = ast.literal_eval(node.value)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            defined[node.name] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            defined |= {(alias.asname or alias.name): node for alias in node.names}
    if f"{path.parent.name}/{path.name}" in _RUN_ONLY:
        return
    if named is None:
        assert path.name == "__init__.py", f"{path.name} has no __all__"
        assert all(name.startswith("__") for name in defined)
        return
    for name in named:
        assert name in defined, f"__all__ names {name}, which is not there"
        node = defined[name]
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            assert ast.get_docstring(node), f"{name} has no docstring"


@pytest.mark.parametrize("path", _TESTS, ids=lambda p: str(p.relative_to(_ROOT)))
def test_every_test_states_its_promise_and_none_is_skipped(path: Path) -> None:
    """Each test has a docstring of a sentence; no marker skips one."""
    text = path.read_text()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            assert (ast.get_docstring(node) or "").endswith("."), f"{node.name} does not state its promise"
    assert "mark." + "skip" not in text
    assert "mark." + "xfail" not in text


@pytest.mark.parametrize(
    "path",
    [*sorted(_ROOT.glob("*/*/pyproject.toml")), _ROOT / "local/pyproject.toml"],
    ids=lambda p: p.parent.name,
)
def test_commands_that_packages_name_can_be_imported(path: Path) -> None:
    """Each entry point leads to a command."""
    import importlib

    import click

    project = tomllib.loads(path.read_text())["project"]
    for name, target in project.get("entry-points", {}).get("hourcast.commands", {}).items():
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), name


def _without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first, last = node.body[0], node.end_lineno or node.lineno
    told = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    return last - node.lineno + 1 - ((first.end_lineno or 0) - first.lineno + 1 if told else 0)


@pytest.mark.parametrize("path", _SOURCES, ids=lambda p: str(p.relative_to(_ROOT)))
def test_nothing_grows_too_long_to_be_read(path: Path) -> None:
    """A module has 400 lines at most, and a function 60 beside its docstring."""
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert _without_docstring(node) <= 60, f"{node.name} in line {node.lineno}"
