"""Where the images of a dataset are published, and what to type once they are here: facts of registry/datasets/distributions.toml."""

import tomllib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.contract import Dataset
from benchmark.declaring import kinds
from benchmark.declaring.fields import Positive, added, checked, from_json, to_json
from benchmark.declaring.registry import FOLDERS, STOCK, entries
from benchmark.errors import BenchError
from benchmark.images import manifest
from benchmark.images.derived import parent

FILE = "distributions.toml"
SAID = ("official", "images", "size", "terms", "pages", "paper", "mirrors", "take")


@checked
class Distribution:
    """What is published of a dataset, and by whom; `take` says which of its files go under the root, nothing where none do."""

    kind: str
    official: str
    take: str
    fields: dict[str, str | int] = added({})
    entries: tuple[str, ...] = ()
    images: Positive | None = None
    size: str = ""
    terms: str = ""
    pages: tuple[str, ...] = ()
    paper: str = ""
    mirrors: tuple[str, ...] = ()

    def describes(self, name: str, dataset: Dataset) -> bool:
        """Tell whether the facts are of that dataset."""
        if kinds.kind_of(type(dataset)) != self.kind or (self.entries and name not in self.entries):
            return False
        return all(getattr(dataset, field, None) == value for field, value in self.fields.items())


def where(name: str, dataset: Dataset, search: Iterable[Path] = (STOCK,)) -> Distribution | None:
    """Return the facts of a dataset, those that name it first; None where nothing is published, as of generated images."""
    if of := parent(dataset):
        return where(of.name, of.config, search)
    found = [one for root in search for one in _read(root / FOLDERS["dataset"] / FILE) if one.describes(name, dataset)]
    return next((one for one in found if one.entries), found[0] if found else None)


def facts(name: str, dataset: Dataset, search: Sequence[Path] = (STOCK,)) -> dict[str, Any]:
    """Return the facts as plain JSON, with what to call next and then; what is not known is left out."""
    of, found = parent(dataset), where(name, dataset, search)
    own = [root for root in search if root != STOCK]
    words = f", registry={[str(root) for root in own]!r}" if own else ""
    said: dict[str, Any] = {"name": name}
    if of:
        said["made from"] = of.name
    if found:
        told = to_json(found)
        said |= {key: told[key] for key in SAID if told.get(key)}
    elif dataset.embedded:
        said["official"] = "none: its images are generated"
    needed = of.name if of and not of.config.embedded else name
    if dataset.embedded and needed == name:
        said["next"] = f"`benchmark.images.datasets.load({name!r}, ...)`"
    else:
        said["next"] = f"`benchmark.images.datasets.add({needed!r}, ..., root=PATH{words})`"
    row = f"model='dit_mini', layout='global', dataset={name!r}, recipe='smoke'{words}"  # seconds on any machine
    return said | {"then": f"`benchmark.run(benchmark.resolve({row}))`"}


def sentence(name: str, dataset: Dataset) -> str:
    """Return the facts as what follows a message that images are not here; nothing where there are none."""
    found = where(name, dataset)
    if found is None or not found.take:
        return ""
    sized = ", ".join(filter(None, [f"{found.images:,} images" if found.images else "", found.size]))
    parts = [
        f"They are {found.official}{f': {sized}' if sized else ''}",
        f"Terms: {found.terms}" if found.terms else "",
        f"Published at {', '.join(found.pages)}" if found.pages else "",
        f"Mirrors: {', '.join(found.mirrors)}" if found.mirrors else "",
        f"Put under PATH {found.take}",
    ]
    return f" {'. '.join(filter(None, parts))}."


def missing(name: str, dataset: Dataset) -> str:
    """Say that the images of a dataset are not here, where they are published, and what to type once they are."""
    return (
        f"The images of the dataset '{name}' are not here. {manifest.adding(name)} packs them from the folder that holds them."
        f"{sentence(name, dataset)}"
    )


def pointer(name: str) -> str:
    """Say what to type for all that is known of where the images are published."""
    return f"`benchmark.images.distributions.where({name!r})` says where they are published, and which files to take"


def known(name: str) -> str:
    """Return that pointer behind a semicolon for one of the project's own datasets, nothing for another."""
    return f"; {pointer(name)}" if name in entries("dataset") else ""


@cache
def _read(path: Path) -> tuple[Distribution, ...]:
    if not path.is_file():
        return ()
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        return tuple(from_json(Distribution, table, f"{path.name}: {title}") for title, table in tables.items())
    except (OSError, ValueError, RecursionError) as problem:
        raise BenchError(
            f"{path} cannot be used: {problem}. Mend it: registry/datasets/{FILE} of the project shows how it is written."
        ) from None
