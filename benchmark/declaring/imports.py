"""The code of an entry: a module of the project, or a module file beside an entry outside of it. Never another one.

A module is known by its bare name for as long as the process lives, so that a second file of the same name, or an
installed package, would be taken in its place without a word. Here that is an error.
"""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from benchmark.errors import UsageError

PROJECT = ("registry", "benchmark")
# Entry files name the module of a recipe or a suite as it was called first; what they say does not follow the house.
FIRST_CALLED = {"benchmark.recipe": "benchmark.declaring.recipe", "benchmark.suite": "benchmark.declaring.suite"}


def load_module(name: str, folders: Sequence[Path]) -> ModuleType:
    """Import a module of the project, or one that lies in `folders`; raise UsageError where that is not what it is."""
    name = FIRST_CALLED.get(name, name)
    file = source(name, folders)
    if file:
        _refuse_namesake(file)
        importlib.invalidate_caches()  # the file may be younger than Python's listing of its folder
    with _import_path(folders):
        try:
            module = importlib.import_module(name)
        except SystemExit as problem:  # no Exception: it would end the command without a word
            raise UsageError(f"The module '{name}' ends the program where it is imported: sys.exit({problem.code!r}).") from None
    for beside in (path for folder in folders if file and folder == _folder(file) for path in modules_in(folder)):
        if _stem(beside) in sys.modules:  # what the module imported in turn
            _refuse_namesake(beside)
    return module


def source(name: str, folders: Sequence[Path]) -> Path | None:
    """Return the file beside an entry that the module `name` begins in; None where it is one of the project's."""
    root = name.partition(".")[0]
    if root in PROJECT:
        return None
    found = [path for folder in dict.fromkeys(folders) for path in modules_in(folder) if _stem(path) == root]
    if len(found) > 1:
        raise UsageError(f"Two modules are called '{root}': {found[0]} and {found[1]}. Rename one, and the entry's import.")
    if not found:
        where = " or ".join(map(str, dict.fromkeys(folders))) or "a registry folder of your own (`registry=[DIR]`)"
        raise UsageError(f"There is no module '{name}': an entry's code is a module of the registry, or {root}.py in {where}.")
    return found[0]


def modules_in(folder: Path) -> list[Path]:
    """Return the files of the modules and packages that lie in a folder."""
    return [*sorted(folder.glob("*.py")), *sorted(folder.glob("*/__init__.py"))]


def namesake(name: str, file: Path) -> str | None:
    """Return where another module of that name is, if Python would find one: installed, built in, or loaded already."""
    if name in sys.stdlib_module_names:
        return "Python's own library"
    if name in sys.modules:
        there = getattr(sys.modules[name], "__file__", None)
    else:
        spec = importlib.util.find_spec(name)
        if spec is None or (spec.origin is None and spec.submodule_search_locations is not None):
            return None  # a plain folder of that name gives way to a module
        there = spec.origin
    return None if there and Path(there).resolve() == file.resolve() else there or "Python's own library"


def fault(name: str, folder: Path, configured: str) -> str | None:
    """Say why the module of an entry will not import, as far as its text tells; nothing is run."""
    try:
        file = source(name, [folder])
        if file is None:
            return None if importlib.util.find_spec(FIRST_CALLED.get(name, name)) else f"there is no module '{name}'"
        _refuse_namesake(file)
    except UsageError as problem:
        return str(problem)
    except ModuleNotFoundError as problem:
        return f"there is no module '{problem.name}'"
    try:
        tree = ast.parse(file.read_text(encoding="utf-8-sig"))
    except SyntaxError as problem:
        return f"{file.name}, line {problem.lineno}: {problem.msg}"
    except (OSError, ValueError) as problem:
        return f"{file.name} cannot be read: {problem}"
    if "." not in name and configured not in _names(tree):
        return f"{file.name} has no '{configured}'"
    missing = [word for word in _imports(tree) if not _findable(word, folder)]
    return f"{file.name} imports '{missing[0]}', which is not installed" if missing else None


def _refuse_namesake(file: Path) -> None:
    name = _stem(file)
    if there := namesake(name, file):
        raise UsageError(
            f"The module {file} has the name of another one ({there}), and Python keeps one module of a name. "
            "Rename the file, and the import in its entry."
        )


def _stem(path: Path) -> str:
    return path.parent.name if path.name == "__init__.py" else path.stem


def _folder(path: Path) -> Path:
    return path.parent.parent if path.name == "__init__.py" else path.parent


def _names(tree: ast.Module) -> set[str]:
    """Return every name that a module's top level may bind."""
    bound = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    aliases = {a.asname or a.name for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
    return bound | aliases | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _imports(tree: ast.Module) -> list[str]:
    """Return the roots of what a module's top level imports; what stands under `if` or `try` may be optional."""
    plain = [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    return [
        name.partition(".")[0]
        for name in plain + [node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    ]


def _findable(root: str, folder: Path) -> bool:
    try:
        return any(_stem(path) == root for path in modules_in(folder)) or importlib.util.find_spec(root) is not None
    except (ImportError, ValueError):
        return False


@contextmanager
def _import_path(folders: Sequence[Path]) -> Iterator[None]:
    """Let modules in `folders` be found, after everything that is installed: none of them can replace that."""
    before = list(sys.path)
    sys.path += [str(folder) for folder in folders]
    try:
        yield
    finally:
        sys.path[:] = before
