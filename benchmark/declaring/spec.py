"""Files to one frozen, validated Spec and its id. The only module that reads gin; nothing downstream does."""

import ast
import dataclasses
import hashlib
import json
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import gin
from gin import config, config_parser

from benchmark.contract import (
    Attention,
    Backbone,
    Dataset,
    Entry,
    FieldError,
    ImageShape,
    Layout,
)
from benchmark.declaring import closure, equivalence, imports, kinds, registry
from benchmark.declaring.fields import from_json, hints, to_json
from benchmark.declaring.recipe import External, Recipe
from benchmark.declaring.row import Row
from benchmark.declaring.suite import Suite
from benchmark.errors import BenchError, UsageError, unknown
from benchmark.files import PROJECT

AXES = ("model", "layout", "dataset", "recipe")
Half = Literal["a", "b"]
CONTRACTS: dict[str, type] = {"model": Backbone, "layout": Layout, "dataset": Dataset, "recipe": Recipe, "suite": Suite}


@dataclass(frozen=True)
class Spec:
    """One run, fully resolved: what is trained, on what, how, and which repetition."""

    model: Entry
    layout: Entry
    dataset: Entry
    recipe: Entry
    subset: int
    seed: int
    half: Half | None = None  # of the strong-generalization test: 'a' and 'b' share no training image
    overrides: tuple[str, ...] = ()  # 'axis.field=value'; already in the configurations, so no part of the identity
    assumed: tuple[str, ...] = ()  # 'axis.field: reason' for every value that is not the paper's own word
    folders: tuple[Path, ...] = field(default=(), compare=False)  # of the entries' code, where it lies outside the registry of the project

    def to_json(self) -> dict[str, Any]:
        """Return the identity of the run as plain JSON."""
        axes = {axis: getattr(self, axis).to_json() for axis in AXES}
        halved = {"half": self.half} if self.half else {}  # left out of the others, whose ids are older than halves
        return axes | {"subset": self.subset, "seed": self.seed} | halved

    def describes(self, stored: Mapping[str, Any]) -> bool:
        """Tell whether a stored spec is this one; a field that its code gained since then counts as its default."""
        try:
            same = (
                to_json(from_json(type(mine.config), stored[axis]["config"])) == to_json(mine.config)
                and stored[axis]["name"] == mine.name
                and kinds.named(stored[axis]["kind"]) == mine.kind
                for axis, mine in ((axis, getattr(self, axis)) for axis in AXES)
            )
            return all(same) and (stored["subset"], stored["seed"], stored.get("half")) == (self.subset, self.seed, self.half)
        except (FieldError, KeyError, TypeError):
            return False

    @property
    def id(self) -> str:
        """The first 12 hex digits of the sha256 of the canonical JSON."""
        return spec_id(self.to_json())

    @property
    def code(self) -> str:
        """The digest of the code that its numbers rest on (closure.py); no part of the identity."""
        return closure.digest(closure.family_of(self.to_json(), AXES), self.folders)

    def same_numbers(self, code: str) -> bool:
        """Tell whether code of that digest is this code, or is known to give the same numbers."""
        return equivalence.same_numbers(code, self.code, equivalence.family_name(self.to_json()))

    @property
    def row(self) -> Row:
        """The run by name, as a suite declares it."""
        return Row(**{axis: getattr(self, axis).name for axis in AXES}, subset=self.subset, seed=self.seed)

    @property
    def title(self) -> str:
        """The run in words: model, layout, dataset, N, seed, half."""
        return self.row.title + (f", half {self.half}" if self.half else "")

    @property
    def images(self) -> ImageShape:
        """The shape of one image."""
        return ImageShape(self.dataset.config.channels, self.dataset.config.resolution)

    @property
    def peers(self) -> tuple[int, ...]:
        """The seeds that score each other's training images; none where this run is not one of them."""
        recipe = self.recipe.config
        return recipe.peers if isinstance(recipe, Recipe) and self.seed in recipe.peers and not self.half else ()

    @property
    def attention(self) -> tuple[Attention, ...]:
        """What every addressable attention layer may see; empty for a backbone without any."""
        depth = self.model.config.attention_layers
        placed = self.layout.config.place(depth) if depth else ()
        if not depth and any(layer.local for layer in self.layout.config.place(1_000)):
            raise FieldError(
                f"'{self.model.name}' has no attention layers that a layout could address. Use `layout='global'`, or a "
                "model that has some: `benchmark.declaring.registry.entries('model')` describes them"
            )
        return placed


def spec_id(document: Mapping[str, Any]) -> str:
    """Return the id of a spec's JSON, independent of key order and of the spelling of its kinds."""
    canonical = json.dumps(
        kinds.hashed_document(document, AXES), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def resolve(
    names: Mapping[str, str],
    *,
    subset: int,
    seed: int,
    half: Half | None = None,
    overrides: Sequence[str] = (),
    search: tuple[Path, ...] = (registry.STOCK,),
) -> Spec:
    """Resolve one name per axis and the overrides ('recipe.steps=100') to a Spec, or say what is wrong."""
    files = {axis: registry.find(axis, names[axis], search) for axis in AXES}
    loaded = {axis: load(file) for axis, file in files.items()}
    for word in overrides:
        axis, field, value = _override(word, loaded)
        loaded[axis] = _replace(loaded[axis], axis, field, value, f"`overrides={[word]}`")
    for name, value, least in (("subset", subset, 1), ("seed", seed, 0)):
        if value < least:
            raise UsageError(f"`{name}={value}` must be at least {least}.")
    assumed = tuple(f"{axis}.{field}: {why}" for axis, file in files.items() for field, why in file.assumed.items())
    folders = tuple(dict.fromkeys(file.path.parent for file in files.values()))
    spec = Spec(
        **loaded, subset=subset, seed=seed, half=half, overrides=tuple(sorted(overrides)), assumed=assumed, folders=_outside(folders)
    )
    return _sensible(spec)


def load(file: registry.EntryFile, within: tuple[str, ...] = ()) -> Entry:
    """Load one entry strictly: literals only, one configurable, nothing unused, nothing bound twice, right types.

    `within` names the entries that it is a field of.
    """
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
        except Exception as problem:  # an entry is foreign code: whatever it raises names the entry and stops here
            raise UsageError(f"The {file.axis} entry {file.path} cannot be loaded: {_brief(problem)}") from None
    contract = CONTRACTS[file.axis]
    if not isinstance(made, contract):
        raise UsageError(f"The {file.axis} entry {file.path} configures a {type(made).__name__}, which is no {contract.__name__}.")
    if stray := [field for field in file.assumed if field not in (*hints(type(made)), *getattr(made, "FIXED", ()))]:
        raise UsageError(f"The {file.axis} entry {file.path} marks '{stray[0]}' as assumed, which is no field of it.")
    return Entry(file.name, _kind(file, type(made)), made)


def fault(file: registry.EntryFile) -> str | None:
    """Say why an entry will not load, as far as its text and that of its module tell; imports and runs nothing."""
    if file.unreadable:
        return file.unreadable
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


def from_record(
    document: Mapping[str, Any], *, overrides: Sequence[str] = (), assumed: Sequence[str] = (), search: tuple[Path, ...] = (registry.STOCK,)
) -> Spec:
    """Rebuild the Spec of a stored run from its JSON alone; raise UsageError where an entry's code is not there."""
    folders = [root / registry.FOLDERS[axis] for root in search[1:] for axis in AXES]
    entries = {}
    for axis in AXES:
        stored = document[axis]
        try:
            entries[axis] = _rebuilt(stored, folders)
        except FieldError as problem:
            raise UsageError(f"The {axis} '{stored['name']}' was stored by another version of its code: {_brief(problem)}") from None
        except Exception as problem:  # importing an entry is running foreign code
            raise UsageError(
                f"The code of the {axis} '{stored['name']}' ({stored['kind']}) is not here: {_brief(problem)} "
                "If it is an entry of your own, name its folder: `registry=[DIR]`."
            ) from None
    spec = Spec(
        **entries,
        subset=document["subset"],
        seed=document["seed"],
        half=document.get("half"),
        overrides=tuple(overrides),
        assumed=tuple(assumed),
        folders=_outside(folders),
    )
    return _sensible(spec)


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


def _rebuilt(stored: Mapping[str, Any], folders: Sequence[Path]) -> Entry:
    """Return a stored entry with its class, and so the entries among its fields."""
    kind = kinds.named(stored["kind"])
    cls, fields = _class(kind, folders), dict(stored["config"])
    others = {field: _rebuilt(fields[field], folders) for field, hint in hints(cls).items() if hint is Entry and field in fields}
    return Entry(stored["name"], kind, from_json(cls, fields | others))


def _outside(folders: Sequence[Path]) -> tuple[Path, ...]:
    return tuple(folder for folder in folders if not folder.is_relative_to(registry.STOCK))


def _kind(file: registry.EntryFile, cls: type) -> str:
    """Return the kind of an entry's class; refuse one that a class of the project has already."""
    kind, root = kinds.kind_of(cls), cls.__module__.partition(".")[0]
    if root not in imports.PROJECT and (taken := kinds.where(kind, PROJECT, [])) and ":" not in kind:
        raise UsageError(
            f"The {file.axis} entry {file.path} configures a class of the kind '{kind}', which is {taken[0]}:{taken[1]}'s. "
            "Give it a kind of its own."
        )
    return kind


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


def _statements(file: registry.EntryFile) -> list[Any]:
    try:
        return list(config_parser.ConfigParser(file.path.read_text(encoding="utf-8-sig"), config.ParserDelegate()))
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


def _override(word: str, loaded: Mapping[str, Entry]) -> tuple[str, str, Any]:
    """Split 'axis.field=value' (or 'field=value' where only one axis has that field)."""
    key, equals, text = word.partition("=")
    if not equals:
        raise UsageError(f"`overrides={[word]}` must have the form axis.field=value, as in `overrides=['recipe.steps=100']`.")
    axis, dot, field = key.strip().rpartition(".")
    if not dot:
        owners = [a for a, entry in loaded.items() if field in hints(type(entry.config))]
        if len(owners) != 1:
            every = [f"{a}.{f}" for a, entry in loaded.items() for f in hints(type(entry.config))]
            if owners:
                raise UsageError(f"`overrides={[word]}`: '{field}' is a field of {' and of '.join(owners)}; write {owners[0]}.{field}=….")
            raise unknown("field", field, every, "Write it as axis.field=value.")
        axis = owners[0]
    if axis not in loaded:
        raise unknown("axis", axis, loaded)
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        value = text.strip()
    return axis, field, value


def _replace(entry: Entry, axis: str, field: str, value: Any, where: str) -> Entry:
    fields = {name: getattr(entry.config, name) for name in hints(type(entry.config))}
    if field not in fields:
        raise unknown(f"field of '{entry.name}'", field, fields)
    if isinstance(fields[field], Entry):
        raise UsageError(f"{where}: '{field}' is another entry. Copy the .gin file into a folder of your own and change it there.")
    try:
        return Entry(entry.name, entry.kind, from_json(type(entry.config), fields | {field: value}, axis))
    except FieldError as problem:
        raise UsageError(f"{where}: {_brief(problem)}") from None


def _sensible(spec: Spec) -> Spec:
    """Refuse a combination that makes no sense before anything runs."""
    try:
        spec.attention  # noqa: B018  placing the layout is the check
    except FieldError as problem:
        raise UsageError(f"The layout '{spec.layout.name}' does not fit the model '{spec.model.name}': {problem}.") from None
    return spec


def _brief(problem: Exception) -> str:
    """Return an exception's own words on one line, without gin's frame of paragraphs."""
    text = str(problem).strip().split("\n  In call to configurable")[0]
    plain = isinstance(problem, FieldError | BenchError)
    return text if plain else f"{type(problem).__name__}: {' '.join(text.split())}"
