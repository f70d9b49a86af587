"""Spec to images: add and load packed arrays, and take nested subsets of them beside a held-out split.

    <home>/packed/<name>/images.npy, manifest.json    the array (uint8, N x C x R x R) and what it is
    <home>/packed/<name>/ids.json                     the ids of more images than a manifest holds itself
    <home>/packed/<name>/labels.npy, labels.json      the class of every image, where the dataset has classes
    <home>/data/<name>.json                           the manifest again, tracked by git: what the array must be

An embedded dataset is generated into packed/ on first use. `bench data add` packs any other, and pins either kind.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from benchmark.contract import Dataset
from benchmark.declaring.fields import hints, to_json
from benchmark.declaring.spec import Spec
from benchmark.errors import BenchError, UsageError
from benchmark.images import labels, manifest
from benchmark.images.added import Added
from benchmark.images.adding import add, compare
from benchmark.images.distributions import known
from benchmark.images.enough import too_few_for
from benchmark.images.loading import load, packed_here, verify
from benchmark.images.packing import Packed
from benchmark.images.peers import peers_of
from benchmark.images.subsets import Peer, Subset, order, subset

__all__ = [
    "Added",
    "Packed",
    "Peer",
    "Subset",
    "add",
    "compare",
    "facts",
    "load",
    "order",
    "packed_here",
    "packed_name",
    "packed_names",
    "peers_of",
    "short_of_images",
    "status",
    "subset",
    "verify",
]


def packed_name(spec: Spec) -> str:
    """Return the name under which a spec's images are packed: the entry's, with a digest of its fields where overrides changed them."""
    dataset = spec.dataset
    keys = [word.partition("=")[0].strip().rpartition(".") for word in spec.overrides]
    if not any(axis == "dataset" or (not axis and field in hints(type(dataset.config))) for axis, _, field in keys):
        return dataset.name
    if not dataset.config.embedded:
        raise UsageError(
            f"`overrides=...` cannot change '{dataset.name}': its images are packed from files once. Copy its .gin "
            "file under another name into a folder of your own, change it there, and add its images: "
            "`benchmark.images.datasets.add(NAME, ..., root=PATH)`; `registry=[DIR]` names the folder."
        )
    canonical = json.dumps(to_json(dataset.config), sort_keys=True, separators=(",", ":"))
    return f"{dataset.name}-{hashlib.sha256(canonical.encode()).hexdigest()[:8]}"


def packed_names(home: Path) -> list[str]:
    """Return the names of every packed or pinned dataset."""
    packed = {path.parent.name for path in (home / "packed").glob("*/manifest.json")}
    return sorted(packed | {path.stem for path in (home / "data").glob("[!.]*.json")})


def status(name: str, home: Path, dataset: Dataset | None = None) -> tuple[str, str]:
    """Return the number of images and the state of a dataset, in words; reads no image.

    Without `dataset` the words leave open whether images that are not there will be generated.
    """
    try:
        here, pinned = packed_here(name, home), manifest.read(manifest.pin(home, name))
    except BenchError as problem:
        return "", str(problem)
    if here is None:
        state = "pinned, not packed here" if pinned else "not packed here"
        known = dataset or pinned
        adding = f"{manifest.adding(name)}{'' if known else ' unless generated'}"
        adding = "generated on first use" if known and known.embedded else adding
        return f"{pinned.count:,}" if pinned else "", f"{state}: {adding}"
    if pinned and not pinned.same_images(here):
        return f"{here.count:,}", f"not as pinned: `benchmark.images.datasets.verify({name!r}, ...)`"
    return f"{here.count:,}", "packed and pinned" if pinned else "packed"


def short_of_images(spec: Spec, home: Path) -> str:
    """Say where a spec's dataset has too few images for its subset, as far as is known without making or reading any."""
    name, dataset = packed_name(spec), spec.dataset.config
    here = packed_here(name, home)
    count = here.count if here else getattr(dataset, "count", None)
    return too_few_for(count, dataset, spec.subset * (2 if spec.half else 1)) if count else ""


def facts(name: str, home: Path) -> dict[str, Any]:
    """Return what the manifest of that name says, without its ids, and what labels there are."""
    found = manifest.read(manifest.beside(home, name)) or manifest.read(manifest.pin(home, name))
    if found is None:
        raise UsageError(
            f"There are no images of a dataset '{name}' here. {manifest.adding(name)} adds "
            f"them; a generated dataset makes its own on first use{known(name)}."
        )
    return manifest.facts(found) | labels.facts(home, found)
