"""The code that a number rests on, and its digest: an edit of any of it is another way to the number.

From the composition (benchmark/run.py) and the classes of a run's four entries, imports are followed through the project
and the entry's own folder, and stopped at what only speaks, draws, waits or packs (packed images are held by digests of
their own). What is hashed of a file is its syntax tree without comments, docstrings, places of modules, and the words of
errors and notes: moving a file, formatting it or saying something better changes no digest.
"""

import ast
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.declaring import imports, kinds
from benchmark.errors import UsageError
from benchmark.files import PROJECT

ROOTS = ("benchmark.run", "benchmark.images.subsets", "benchmark.declaring.recipe")
# Reached from there, and no part of a number: a name stands for a module or for a whole room.
NO_NUMBER = frozenset(
    f"benchmark.{name}"
    for name in (
        "__init__", "errors", "files", "cli", "commands", "pages", "suites", "analysis", "sampling", "quality", "contributing",
        "declaring.closure", "declaring.equivalence", "declaring.imports", "declaring.kinds", "declaring.registry", "declaring.row",
        "declaring.suite", "recording.analyses", "recording.curves", "recording.grids", "recording.mirror", "recording.published",
        "recording.style", "recording.tracking", "running.description", "running.environment", "running.hold", "running.leftovers",
        "running.lease", "running.progress", "running.signals", "scoring.ahead", "images.datasets", "images.labels", "images.manifest",
        "images.packing", "images.partial", "images.preview", "images.reading", "images.versioning",
    )
)  # fmt: skip
SPOKEN = frozenset({"note", "warn", "print"})  # calls whose arguments are words for a person


def digest(family: Mapping[str, str], folders: Sequence[Path] = (), project: Path = PROJECT) -> str:
    """Return the sha256 over the code of a family of runs: `family` maps every axis to the kind of its entry.

    `folders` hold the code of entries outside of the project. Raise UsageError where code is not there or not Python.
    """
    sums = sorted({_file_digest(path, path.stat().st_mtime_ns) for path in files(family, folders, project)})
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()


def files(family: Mapping[str, str], folders: Sequence[Path] = (), project: Path = PROJECT, roots: Sequence[str] = ROOTS) -> list[Path]:
    """Return the files of that code, in the order of their paths; without `roots`, what the entries alone reach."""
    names, found = [*roots, *(_module(axis, kind, folders, project) for axis, kind in family.items())], set()
    seen = set(names)
    while names:
        name = names.pop()
        path = None if _no_number(name) else _source(name, folders, project)
        if path is None or path in found:
            continue
        found.add(path)
        for imported in _imported(path, path.stat().st_mtime_ns):
            if imported not in seen:
                seen.add(imported)
                names.append(imported)
    return sorted(found)


def family_of(spec: Mapping[str, Any], axes: Sequence[str]) -> dict[str, str]:
    """Return the kinds of a stored spec as they are called today, by axis and, for entries among an entry's fields, by field."""
    return {where: kind for axis in axes for where, kind in _kinds(axis, spec[axis])}


def _kinds(where: str, stored: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield where, kinds.named(stored["kind"])
    for field, value in stored["config"].items():
        if isinstance(value, Mapping) and {"name", "kind", "config"} <= set(value):
            yield from _kinds(f"{where}.{field}", value)


def _no_number(name: str) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:length]) in NO_NUMBER for length in range(1, len(parts) + 1))


def _module(axis: str, kind: str, folders: Sequence[Path], project: Path) -> str:
    if (found := kinds.where(kind, project, folders)) is None:
        raise UsageError(f"No code is here for the {axis} of kind '{kind}'.")
    return found[0]


def _source(name: str, folders: Sequence[Path], project: Path) -> Path | None:
    """Return the file of a module of the project or of one beside an entry; None for an installed package."""
    parts = name.split(".")
    roots = [project] if parts[0] in imports.PROJECT else list(folders)
    for root in roots:
        path = os.path.join(root, *parts)
        for file in (f"{path}.py", os.path.join(path, "__init__.py")):
            if os.path.isfile(file):  # asked for thousands of names: pathlib takes three times as long
                return Path(file)
    return None


@cache
def _imported(path: Path, changed: int) -> tuple[str, ...]:
    """Return the names of what a file imports, `from package import name` in both readings."""
    found: list[str] = []
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(dict.fromkeys(found))


@cache
def _file_digest(path: Path, changed: int) -> str:
    return hashlib.sha256("\n".join(_canonical(_tree(path))).encode()).hexdigest()


def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8-sig"))
    except (SyntaxError, ValueError, RecursionError) as problem:
        raise UsageError(f"{path} is not Python: {problem}.") from None


def _canonical(node: Any) -> Iterator[str]:
    """Yield a syntax tree as lines that no version of Python, no formatting and no rewording changes."""
    if isinstance(node, list):
        yield "["
        for item in node:
            yield from _canonical(item)
        yield "]"
    elif not isinstance(node, ast.AST):
        yield f"{type(node).__name__} {node!r}"
    else:
        yield type(node).__name__
        for name, value in ast.iter_fields(_silent(node)):
            if value not in (None, []) and name not in ("ctx", "kind", "type_comment", "type_ignores"):
                yield f".{name}"
                yield from _canonical(value)


def _silent(node: ast.AST) -> ast.AST:
    """Return a node without what only speaks: docstrings, words of errors and notes, where an own module lies."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _has_docstring(node):
        return _with(node, body=node.body[1:])
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        return _with(node, exc=_with(node.exc, args=[], keywords=[]), cause=None)
    if isinstance(node, ast.Call) and _name(node.func) in SPOKEN:
        return _with(node, args=[], keywords=[])
    if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in imports.PROJECT:
        return _with(node, module=None)
    return node


def _has_docstring(node: Any) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _with(node: Any, **changed: Any) -> Any:
    return type(node)(**dict(ast.iter_fields(node)) | changed)


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
