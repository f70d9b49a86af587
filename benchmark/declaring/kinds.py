"""The kind of an entry: a name of its class that does not depend on where the code lives.

A kind is hashed into the id of a run and into the manifest of a dataset. `@entry(kind="dit")` gives a class its name;
a class without one is called 'module:Class', as every class was before names were given. What is hashed of the classes
of that time is still that spelling, so that moving a file changes no id.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.errors import UsageError

# What stands in the records, run folders and manifests made before kinds had names, and in every hash since.
HASHED = {
    "recipe": "benchmark.recipe:Recipe",
    "suite": "benchmark.suite:Suite",
    "external": "benchmark.weights:External",
    "dit": "registry.backbones.dit:DiT",
    "dit_diverse": "registry.backbones.dit_diverse:DiverseDiT",
    "dit_gpsa": "registry.backbones.dit_gpsa:GatedPositionalDiT",
    "dit_pca": "registry.backbones.dit_pca:PcaDiT",
    "dit_shared": "registry.backbones.dit_shared:SharedDiT",
    "unet": "registry.backbones.unet:UNet",
    "unet_simple": "registry.backbones.unet_simple:SimpleUNet",
    "empirical_optimal": "registry.backbones.reference:EmpiricalOptimal",
    "wiener": "registry.backbones.reference:Wiener",
    "local_score": "registry.backbones.local_score:LocalScore",
    "windows": "registry.layouts.windows:Windows",
    "c_alpha": "registry.datasets.c_alpha:CAlpha",
    "celeba": "registry.datasets.celeba:CelebA",
    "dead_leaves": "registry.datasets.dead_leaves:DeadLeaves",
    "image_folder": "registry.datasets.image_folder:ImageFolder",
    "imagenet": "registry.datasets.imagenet:ImageNet",
    "imagenet_downsampled": "registry.datasets.imagenet:DownsampledImageNet",
    "lsun": "registry.datasets.lsun:Lsun",
    "parquet": "registry.datasets.parquet:Parquet",
}
_NAMES = {spelling: name for name, spelling in HASHED.items()}
_DECLARED = re.compile(r"^@entry\(kind=\"([^\"\n]+)\"\)\nclass (\w+)", re.MULTILINE)


def kind_of(cls: type) -> str:
    """Return the kind of an entry's class."""
    return vars(cls).get("__kind__") or f"{cls.__module__}:{cls.__qualname__}"


def hashed(kind: str) -> str:
    """Return the spelling of a kind that ids and digests are made from."""
    return HASHED.get(kind, kind)


def named(kind: str) -> str:
    """Return the kind that a stored spelling stands for."""
    return _NAMES.get(kind, kind)


def where(kind: str, project: Path, folders: Iterable[Path]) -> tuple[str, str] | None:
    """Return the module and the class of a kind: in the project's tree, or a file in one of `folders`; None where nothing declares it.

    Raise UsageError where two classes claim it.
    """
    module, colon, cls = kind.partition(":")
    if colon:
        return module, cls
    found = {(module, cls) for name, module, cls in _in_project(project) if name == kind}
    for folder in folders if not found else ():  # a kind of the project is no other's: loading an entry that claims it is refused
        for path in sorted(folder.glob("*.py")):
            found |= {(path.stem, cls) for name, cls in declared(path) if name == kind}
    if len(found) > 1:
        raise UsageError(f"Several classes claim the kind '{kind}': {', '.join(f'{m}:{c}' for m, c in sorted(found))}. Rename all but one.")
    return next(iter(found), None)


def declared(path: Path) -> list[tuple[str, str]]:
    """Return the (kind, class) pairs that a file's text declares; nothing is run."""
    try:
        return _DECLARED.findall(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError):
        return []


def hashed_document(spec: Mapping[str, Any], axes: Iterable[str]) -> dict[str, Any]:
    """Return a spec's JSON with every kind in the spelling that its id is made from."""
    return dict(spec) | {axis: {**spec[axis], "kind": hashed(spec[axis]["kind"])} for axis in axes}


@cache
def _in_project(project: Path) -> list[tuple[str, str, str]]:
    found = []
    for path in sorted([*project.glob("registry/**/*.py"), *project.glob("benchmark/**/*.py")]):
        module = ".".join(path.relative_to(project).with_suffix("").parts).removesuffix(".__init__")
        found += [(name, module, cls) for name, cls in declared(path)]
    return found
