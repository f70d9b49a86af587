"""An entry's file to its class, configured: one strict loader. The only module that reads gin; nothing downstream does."""

import dataclasses
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import gin
from gin import config, config_parser

from benchmark.contract import Backbone, Dataset, Entry, FieldError, Layout
from benchmark.declaring import imports, kinds, registry
from benchmark.declaring.fields import from_json, hints
from benchmark.declaring.recipe import External, Recipe
from benchmark.declaring.suite import Suite
from benchmark.errors import LONGEST, Said, UsageError
from benchmark.files import PROJECT

CONTRACTS: dict[str, type] = {"model": Backbone, "layout": Layout, "dataset": Dataset, "recipe": Recipe, "suite": Suite}


def load(file: registry.EntryFile, within: tuple[str, ...] = ()) -> Entry:
    """Load one entry strictly: literals only, one configurable, nothing unused, nothing bound twice, right types.

    `within` names the entries that it is a field of.
    """
    if why := file.unreadable or file.misnamed:
        raise UsageError(f"The {file.axis} entry {file.path} cannot be taken: {why}")
    statements = _statements(file)
    selector = _only_configurable(file, statements)
    folder = file.path.parent
    with _gin():
        try:
            modules = [imports.load_module(s.module, [folder]) for s in statements if isinstance(s, config_parser.ImportStatement)]
            configured = _configured(selector, modules, folder)
            bound = {s.arg_name: s.value for s in statements if isinstance(s, config_parser.BindingStatement)}
            for field, value in _with_entries(gin.get_configurable(configured), bound, file, within).items():
                gin.bind_parameter(f"{configured}.{field}", value)
            made = gin.get_configurable(configured)()
        except KeyboardInterrupt:
            raise
        except BaseException as problem:  # an entry is foreign code: whatever it raises names the entry and stops here
            raise UsageError(f"The {file.axis} entry {file.path} cannot be loaded: {brief(problem)}") from None
    contract = CONTRACTS[file.axis]
    if not isinstance(made, contract):
        raise UsageError(f"The {file.axis} entry {file.path} configures a {type(made).__name__}, which is no {contract.__name__}.")
    if stray := [field for field in file.assumed if field not in (*hints(type(made)), *getattr(made, "FIXED", ()))]:
        raise UsageError(f"The {file.axis} entry {file.path} marks '{stray[0]}' as assumed, which is no field of it.")
    return Entry(file.name, _kind(file, type(made)), made)


def fault(file: registry.EntryFile) -> str | None:
    """Say why an entry will not load, as far as its text and that of its module tell; imports and runs nothing."""
    if file.unreadable or file.misnamed:
        return file.unreadable or file.misnamed
    try:
        statements = _statements(file)
        configured = _only_configurable(file, statements).rpartition(".")[2]
    except UsageError as problem:
        return str(problem)
    names = [statement.module for statement in statements if isinstance(statement, config_parser.ImportStatement)]
    if not names:
        return f"it imports no module, so that nothing defines '{configured}'"
    return next((why for name in names if (why := imports.fault(name, file.path.parent, configured))), None)


def load_suite(name: str, search: tuple[Path, ...] = (registry.STOCK,)) -> Suite:
    """Load a suite by name."""
    return load(registry.find("suite", name, search)).config


def rebuild(stored: Mapping[str, Any], folders: Sequence[Path]) -> Entry:
    """Return a stored entry with its class, and so the entries among its fields."""
    kind = kinds.named(stored["kind"])
    cls, fields = _class(kind, folders), dict(stored["config"])
    others = {field: rebuild(fields[field], folders) for field, hint in hints(cls).items() if hint is Entry and field in fields}
    return Entry(stored["name"], kind, from_json(cls, fields | others))


def brief(problem: BaseException) -> str:
    """Return an exception's own words on one line, without gin's frame of paragraphs."""
    text = str(problem).strip().split("\n  In call to configurable")[0]
    return text if isinstance(problem, Said) else f"{type(problem).__name__}: {' '.join(text.split())[:LONGEST]}"


def _with_entries(cls: type, bound: dict[str, Any], file: registry.EntryFile, within: tuple[str, ...]) -> dict[str, Any]:
    """Return the bound values with the names of other entries loaded: from the project, or from beside the file."""
    names = (*within, file.name)

    def loaded(field: str, value: str) -> Entry:
        if value in names:
            raise FieldError(f"{field} = {value!r} makes it a part of itself")
        beside = (file.path.resolve().parents[1],)  # a name that stands beside the file is that one
        return load(
            registry.find(file.axis, value, beside if value in registry.entries(file.axis, beside) else registry.roots(beside)), names
        )

    others = {field for field, hint in hints(cls).items() if hint is Entry and isinstance(bound.get(field), str)}
    return bound | {field: loaded(field, bound[field]) for field in others}


def _class(kind: str, folders: Sequence[Path]) -> type:
    """Return the class of a kind, importing its module."""
    for mine in (Recipe, External):
        if kinds.kind_of(mine) == kind:
            return mine
    if (found := kinds.where(kind, PROJECT, folders)) is None:
        raise AttributeError("no class declares this kind")
    cls = getattr(imports.load_module(found[0], folders), found[1])
    if not isinstance(cls, type) or not dataclasses.is_dataclass(cls):
        raise AttributeError(f"{found[1]} is no entry")
    return cls


def _kind(file: registry.EntryFile, cls: type) -> str:
    """Return the kind of an entry's class; refuse one that a class of the project has already."""
    kind, root = kinds.kind_of(cls), cls.__module__.partition(".")[0]
    if root not in imports.PROJECT and (taken := kinds.where(kind, PROJECT, [])) and ":" not in kind:
        raise UsageError(
            f"The {file.axis} entry {file.path} configures a class of the kind '{kind}', which is {taken[0]}:{taken[1]}'s. "
            "Give it a kind of its own."
        )
    return kind


def _statements(file: registry.EntryFile) -> list[Any]:
    try:
        return list(config_parser.ConfigParser(file.path.read_text(encoding="utf-8-sig"), config.ParserDelegate()))
    except (RecursionError, MemoryError):
        raise UsageError(f"The {file.axis} entry {file.path} is not valid gin: it is nested too deeply.") from None
    except (SyntaxError, tokenize.TokenError, ValueError, OSError) as problem:
        raise UsageError(f"The {file.axis} entry {file.path} is not valid gin: {problem}") from None


def _configured(selector: str, modules: Sequence[ModuleType], folder: Path) -> str:
    """Return the full name of what `selector` configures: a class that one of the entry's own imports defines."""
    found = {kind for module in modules if isinstance(kind := getattr(module, selector.rpartition(".")[2], None), type)}
    names = {f"{kind.__module__}.{kind.__name__}" for kind in found}
    matching = [name for name in names if f".{name}".endswith(f".{selector}")]
    if len(matching) != 1:
        where = ", ".join(module.__name__ for module in modules) or "nothing"
        what = "no class is" if not matching else "several classes are"
        raise UsageError(f"{what} called '{selector}' in what it imports ({where}).")
    imports.source(matching[0].rpartition(".")[0], [folder])
    return matching[0]


def _only_configurable(file: registry.EntryFile, statements: list[Any]) -> str:
    """Return the one selector that the file binds, refusing everything that gin would let pass in silence."""
    where = f"The {file.axis} entry {file.path}"
    bound: dict[str, set[str]] = {}
    for statement in statements:
        if isinstance(statement, config_parser.ImportStatement):
            continue
        if not isinstance(statement, config_parser.BindingStatement):
            raise UsageError(f"{where} holds more than imports and bindings: {type(statement).__name__}.")
        line = f"line {statement.location.line_num}"
        if statement.scope or not statement.arg_name:
            raise UsageError(f"{where}, {line}: scopes and macros are not used here; write Class.field = value.")
        if not _literal(statement.value):
            raise UsageError(f"{where}, {line}: only literal values (numbers, text, tuples) are allowed, no @ or %.")
        fields = bound.setdefault(statement.selector, set())
        if statement.arg_name in fields:
            raise UsageError(f"{where}, {line}: {statement.selector}.{statement.arg_name} is bound twice.")
        fields.add(statement.arg_name)
    if len(bound) != 1:
        what = "binds nothing" if not bound else f"binds {len(bound)} configurables ({', '.join(bound)}): all but one are unused"
        raise UsageError(f"{where} {what}. An entry configures exactly one.")
    return next(iter(bound))


def _literal(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_literal, value))
    if isinstance(value, dict):
        return all(map(_literal, [*value, *value.values()]))
    return value is None or type(value) in (bool, int, float, str)


@contextmanager
def _gin() -> Iterator[None]:
    """Give gin a clean state, and leave nothing behind in it."""
    gin.clear_config()
    try:
        with gin.unlock_config():
            yield
    finally:
        gin.clear_config()
