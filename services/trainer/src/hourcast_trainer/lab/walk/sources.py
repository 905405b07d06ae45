"""What code decides a result: the definitions that a function or class reaches, hashed.

The syntax tree is hashed and not the text, so that comments, docstrings and layout decide nothing, and neither does
where or by which Python this is installed. Only packages of ours are followed; of settings the values decide, which
whoever asks hashes as well.
"""

import ast
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["sources_of"]

_OURS = ("hourcast", "hourcast_trainer")
_VALUES_DECIDE = frozenset({"hourcast.settings", "hourcast_trainer.settings"})
_Place = tuple[str, str]


def sources_of(roots: Sequence[object], but: Collection[_Place] = ()) -> str:
    """16 hex digits over all code of ours that functions and classes reach, themselves included.

    Args:
        roots: functions and classes of modules.
        but: (module, name) where following ends, such as a table of things of which one is a root.
    """
    todo: list[_Place] = [(root.__module__, root.__qualname__.split(".")[0]) for root in roots]  # type: ignore[attr-defined]
    homes = {module.split(".")[0] for module, _ in todo} | set(_OURS)
    found: dict[_Place, str] = {}
    while todo:
        module, name = todo.pop()
        if (module, name) in found or (module, name) in but or module in _VALUES_DECIDE:
            continue
        if module.split(".")[0] not in homes or not _is_module(module):
            continue
        inner = f"{module}.{name}"
        if name not in _defined(module) and _is_module(inner):
            todo += [(inner, other) for other in _defined(inner)]
            continue
        nodes = _defined(module).get(name, ())
        found[module, name] = "".join(map(_dump, nodes))
        for node in nodes:
            todo += _reached(module, node)
    text = "\n".join(f"{module}:{name} {dump}" for (module, name), dump in sorted(found.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=512)
def _is_module(name: str) -> bool:
    return _path(name) is not None


def _path(module: str) -> Path | None:
    loaded = sys.modules.get(module)
    if loaded is not None:
        file = getattr(loaded, "__file__", None)
        return Path(file) if file else None
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def _defined(module: str) -> dict[str, tuple[ast.stmt, ...]]:
    """The statements of a module that give each of its names a value."""
    path = _path(module)
    assert path is not None
    return _statements(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _statements(path: Path, _changed_ns: int) -> dict[str, tuple[ast.stmt, ...]]:
    out: dict[str, tuple[ast.stmt, ...]] = {}
    for node in _flat(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            # Who takes one name of a line does not depend on the others.
            for alias in node.names:
                alone = (
                    ast.ImportFrom(node.module, [alias], node.level)
                    if isinstance(node, ast.ImportFrom)
                    else ast.Import([alias])
                )
                name = alias.asname or alias.name
                out[name] = (*out.get(name, ()), alone)
            continue
        for name in _names(node):
            out[name] = (*out.get(name, ()), node)
    return out


def _flat(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, with those below `if` and `try`."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from _flat([part for part in ast.iter_child_nodes(node) if isinstance(part, ast.stmt)])
        else:
            yield node


def _names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))


def _reached(module: str, node: ast.AST) -> Iterator[_Place]:
    """Where the names in a definition come from."""
    known = _defined(module)
    for part in ast.walk(node):
        if isinstance(part, ast.ImportFrom):
            source = _absolute(module, part)
            yield from ((source, alias.name) for alias in part.names)
        elif isinstance(part, ast.Import):
            yield from (tuple(alias.name.rpartition(".")[::2]) for alias in part.names if "." in alias.name)  # type: ignore[misc]
        elif isinstance(part, ast.Name) and part.id in known:
            yield module, part.id
        elif isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value in known:
            # A type that is named before it is defined.
            yield module, part.value


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    path = _path(module)
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + (path is not None and path.name == "__init__.py")]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _dump(value: Any) -> str:
    """A syntax tree as text, the same from every Python: without places, docstrings and what is empty."""
    if (
        isinstance(value, ast.Expr)
        and isinstance(value.value, ast.Constant)
        and isinstance(value.value.value, str)
    ):
        return ""
    if isinstance(value, ast.AST):
        fields = ((name, part) for name, part in ast.iter_fields(value) if name not in ("ctx", "kind"))
        told = (f"{name}={_dump(part)}" for name, part in fields if part is not None and part != [])
        return f"{type(value).__name__}({','.join(told)})"
    return "[" + ",".join(map(_dump, value)) + "]" if isinstance(value, list) else repr(value)
