"""Names, or a stored record, to one frozen, validated Spec and its id."""

import ast
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmark.contract import (
    Attention,
    Entry,
    FieldError,
    ImageShape,
)
from benchmark.declaring import closure, equivalence, kinds, registry
from benchmark.declaring.entries import brief, load, rebuild
from benchmark.declaring.fields import from_json, hints, to_json
from benchmark.declaring.recipe import External, Recipe
from benchmark.declaring.row import Row
from benchmark.errors import UsageError, unknown

AXES = ("model", "layout", "dataset", "recipe")
OWN = ("subset", "seed", "half")  # of the run itself, beside its entries
LARGEST = 10**15  # of a subset or a seed
Half = Literal["a", "b"]


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
    def classes(self) -> int:
        """How many classes the labels tell apart that the network takes; 0 where it takes none."""
        return getattr(self.model.config, "num_classes", 0)

    @property
    def no_class(self) -> int | None:
        """The label of no class, None where the network has none."""
        return self.classes if self.classes and getattr(self.model.config, "class_dropout", 0) else None

    @property
    def peers(self) -> tuple[int, ...]:
        """The seeds that score each other's training images; none where this run is not one of them."""
        recipe = self.recipe.config
        return recipe.peers if isinstance(recipe, Recipe | External) and self.seed in recipe.peers and not self.half else ()

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
    subset: int | None = None,
    seed: int,
    half: Half | None = None,
    overrides: Sequence[str] = (),
    search: tuple[Path, ...] = (registry.STOCK,),
) -> Spec:
    """Resolve one name per axis and the overrides ('recipe.steps=100') to a Spec, or say what is wrong.

    `subset` is the number of training images, where None the one that the recipe's file names.
    """
    files = {axis: registry.find(axis, names[axis], search) for axis in AXES}
    loaded = {axis: load(file) for axis, file in files.items()}
    for word in overrides:
        axis, field, value = _override(word, loaded)
        loaded[axis] = _replace(loaded[axis], axis, field, value, f"`overrides={[word]}`")
    subset = _size_of(files["recipe"]) if subset is None else subset
    for name, value, least in (("subset", subset, 1), ("seed", seed, 0)):
        if not least <= value <= LARGEST:
            raise UsageError(
                f"`{name}={value}` must be at least {least}." if value < least else f"`{name}={value}` must be at most {LARGEST:,}."
            )
    assumed = tuple(f"{axis}.{field}: {why}" for axis, file in files.items() for field, why in file.assumed.items())
    folders = tuple(dict.fromkeys(file.path.parent for file in files.values()))
    spec = Spec(
        **loaded, subset=subset, seed=seed, half=half, overrides=tuple(sorted(overrides)), assumed=assumed, folders=_outside(folders)
    )
    return _sensible(spec)


def from_record(
    document: Mapping[str, Any], *, overrides: Sequence[str] = (), assumed: Sequence[str] = (), search: tuple[Path, ...] = (registry.STOCK,)
) -> Spec:
    """Rebuild the Spec of a stored run from its JSON alone; raise UsageError where an entry's code is not there."""
    folders = [root / registry.FOLDERS[axis] for root in search[1:] for axis in AXES]
    entries = {}
    for axis in AXES:
        stored = document[axis]
        try:
            entries[axis] = rebuild(stored, folders)
        except FieldError as problem:
            raise UsageError(f"The {axis} '{stored['name']}' was stored by another version of its code: {brief(problem)}") from None
        except KeyboardInterrupt:
            raise
        except BaseException as problem:  # importing an entry is running foreign code
            raise UsageError(
                f"The code of the {axis} '{stored['name']}' ({stored['kind']}) is not here: {brief(problem)} "
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


def _size_of(recipe: registry.EntryFile) -> int:
    if recipe.subset is None:
        raise UsageError(
            f"How many training images? The recipe '{recipe.name}' names no number (a line `# subset: 16` of {recipe.path} would): "
            "`subset=16` says it for this run."
        )
    return recipe.subset


def _outside(folders: Sequence[Path]) -> tuple[Path, ...]:
    return tuple(folder for folder in folders if not folder.is_relative_to(registry.STOCK))


def _override(word: str, loaded: Mapping[str, Entry]) -> tuple[str, str, Any]:
    """Split 'axis.field=value' (or 'field=value' where only one axis has that field)."""
    key, equals, text = word.partition("=")
    if not equals:
        raise UsageError(f"`overrides={[word]}` must have the form axis.field=value, as in `overrides=['recipe.steps=100']`.")
    axis, dot, field = key.strip().rpartition(".")
    if not dot and field in OWN:
        raise UsageError(
            f"`overrides={[word]}`: {field} is the run's own: `{field}={text.strip()!r}`. "
            f"A field of that name of an entry is written with its axis, as dataset.{field}={text.strip()}."
        )
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
    except (ValueError, SyntaxError, RecursionError, MemoryError):
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
        raise UsageError(f"{where}: {brief(problem)}") from None


def _sensible(spec: Spec) -> Spec:
    """Refuse a combination that makes no sense before anything runs."""
    try:
        placed, depth = spec.attention, spec.model.config.attention_layers
        if not all(isinstance(layer, Attention) for layer in placed) or len(placed) != depth:
            raise FieldError(f"place({depth}) must return one Attention for each layer")
    except KeyboardInterrupt:
        raise
    except BaseException as problem:  # placing a layout is running foreign code
        raise UsageError(f"The layout '{spec.layout.name}' does not fit the model '{spec.model.name}': {brief(problem)}.") from None
    return spec
