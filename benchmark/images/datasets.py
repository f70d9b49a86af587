"""Spec to images: add and load packed arrays, and take nested subsets of them beside a held-out split.

    <home>/packed/<name>/images.npy, manifest.json    the array (uint8, N x C x R x R) and what it is
    <home>/packed/<name>/ids.json                     the ids of more images than a manifest holds itself
    <home>/data/<name>.json                           the manifest again, tracked by git: what the array must be

An embedded dataset is generated into packed/ on first use. `bench data add` packs any other, and pins either kind.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmark.contract import Dataset, Derived, ImageError, Source
from benchmark.declaring.fields import hints, to_json
from benchmark.declaring.spec import Spec
from benchmark.errors import BenchError, UsageError
from benchmark.images import manifest, stock
from benchmark.images.derived import PackedSource, is_made_from, parent
from benchmark.images.manifest import Manifest
from benchmark.images.packing import (
    Note,
    Packed,
    Progress,
    digest,
    open_images,
    pack,
    way_out,
)
from benchmark.images.peers import peers_of
from benchmark.images.subsets import HELD_OUT, Peer, Subset, order, subset

__all__ = [
    "HELD_OUT",
    "Added",
    "Packed",
    "Peer",
    "Subset",
    "add",
    "facts",
    "load",
    "order",
    "packed_name",
    "packed_names",
    "peers_of",
    "status",
    "subset",
    "verify",
]


@dataclass(frozen=True)
class Added:
    """What `add` did: packed images for the first time, again with other or with equal bytes, or had nothing to do."""

    manifest: Manifest
    outcome: Literal["new", "changed", "restored", "unchanged"]
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Return the outcome and the facts of the manifest as plain JSON."""
        return {"outcome": self.outcome} | _facts(self.manifest)


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


def add(
    name: str,
    dataset: Dataset,
    *,
    home: Path,
    root: Path | None,
    skip_corrupt: bool = False,
    limit: int | None = None,
    resolution: int | None = None,
    keep: Manifest | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> Added:
    """Pack the images of a dataset and pin them in data/<name>.json; do nothing where both are there already.

    The source is compared by the path and size of every file. `limit` takes that many images, chosen by their hash.
    `resolution` is the entry's to fix: another one is refused. A packing that was stopped goes on where it was.
    Where `keep` is given, raise UsageError on images that are not its own, and change nothing.
    """
    _check_request(name, dataset, root, limit, resolution)
    if note and root:
        note(f"Looking through {root} for the images of '{name}'.")
    with _lock(home, name), _opened(name, dataset, root, home) as (source, made_of):
        here, pinned = manifest.read(manifest.beside(home, name)), manifest.read(manifest.pin(home, name))
        same = (
            here is not None
            and here == pinned
            and here.difference(dataset) is None
            and (here.fingerprint, here.limit) == (source.fingerprint, limit)
            and (skip_corrupt or not here.skipped)
        )
        if here is not None and same and not verify(name, home=home):
            return Added(
                here,
                "unchanged",
                f"{name}: nothing to do. Its {here.count:,} images are packed, no file's path or size has "
                f"changed, and every byte is as pinned. To pack anew, remove packed/{name}.",
            )
        chosen = source.ids if limit is None else [source.ids[i] for i in sorted(order(name, 0, source.ids)[:limit])]
        if keep:
            stock.check_ids(keep, chosen)  # at once: a packing may take hours
        made = pack(
            name,
            dataset,
            source,
            home=home,
            skip_corrupt=skip_corrupt,
            limit=limit,
            ids=chosen,
            made_of=made_of,
            pinned=True,
            accept=lambda made: stock.check_images(keep, made) if keep else None,
            progress=progress,
            note=note,
        )
    return _added(made, pinned or here, _unlike_official(dataset, len(source.ids)))


def load(name: str, dataset: Dataset, *, home: Path, progress: Progress | None = None) -> Packed:
    """Return the packed images of a dataset, every byte checked against the manifest and the pin.

    An embedded dataset is generated where it is not there yet, or where what is there was made otherwise. Hashing the
    array costs about a second per GB. Raise UsageError saying how to add images that are not there, BenchError
    where the bytes are not those of the manifest.
    """
    pinned = manifest.read(manifest.pin(home, name))
    if pinned and (difference := pinned.difference(dataset)):
        raise UsageError(
            f"The images pinned in data/{name}.json are not those of the dataset '{name}' ({difference}). "
            f"{_add_again(name, dataset)}, or restore the entry."
        )
    here = _here(name, home)
    if dataset.embedded and not _is_current(here, dataset, pinned, home):
        with _lock(home, name):
            here = _here(name, home)  # another process may have made them meanwhile
            if not _is_current(here, dataset, pinned, home):
                with _opened(name, dataset, None, home) as (source, made_of):
                    here = pack(name, dataset, source, home=home, made_of=made_of, progress=progress)
    if here is None:
        raise UsageError(
            f"The images of the dataset '{name}' are not here. {manifest.adding(name)} packs them from the folder that holds them."
        )
    if difference := here.difference(dataset):
        raise UsageError(f"The packed images are not those of the dataset '{name}' ({difference}). {_add_again(name, dataset)}.")
    if pinned and not pinned.same_images(here):
        raise BenchError(_not_as_pinned(here, pinned))
    return Packed(_checked_images(home, here), here, manifest.read_ids(home, here))


def verify(name: str, *, home: Path) -> list[str]:
    """Return what is wrong with the packed images and the pin of that name; empty where every byte is right."""
    try:
        here, pinned = _here(name, home), manifest.read(manifest.pin(home, name))
        if here is None and pinned is None:
            return [f"there are no images of that name; {manifest.adding(name)} adds them"]
        if here is None:
            missing = f"pinned, but not packed here; {manifest.adding(name)} packs them"
            return [] if pinned and pinned.embedded else [missing]
        if pinned and not pinned.same_images(here):
            return [_not_as_pinned(here, pinned)]
        _checked_images(home, here)
        manifest.read_ids(home, here)
    except BenchError as problem:
        return [str(problem)]
    return []


def packed_names(home: Path) -> list[str]:
    """Return the names of every packed or pinned dataset."""
    packed = {path.parent.name for path in (home / "packed").glob("*/manifest.json")}
    return sorted(packed | {path.stem for path in (home / "data").glob("*.json")})


def status(name: str, home: Path, dataset: Dataset | None = None) -> tuple[str, str]:
    """Return the number of images and the state of a dataset, in words; reads no image.

    Without `dataset` the words leave open whether images that are not there will be generated.
    """
    try:
        here, pinned = _here(name, home), manifest.read(manifest.pin(home, name))
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


def facts(name: str, home: Path) -> dict[str, Any]:
    """Return what the manifest of that name says, without its ids."""
    found = manifest.read(manifest.beside(home, name)) or manifest.read(manifest.pin(home, name))
    if found is None:
        raise UsageError(
            f"There are no images of a dataset '{name}' here. {manifest.adding(name)} adds "
            "them; a generated dataset makes its own on first use."
        )
    return _facts(found)


def _check_request(name: str, dataset: Dataset, root: Path | None, limit: int | None, resolution: int | None) -> None:
    if dataset.embedded and (root is not None or limit is not None):
        raise UsageError(f"'{name}' is generated, not read from files: leave `root=...` and `limit=...` out.")
    if not dataset.embedded and root is None:
        raise UsageError(f"'{name}' is packed from files: {manifest.adding(name)} names the folder that holds them.")
    if limit is not None and limit < 1:
        raise UsageError(f"`limit={limit}` must be at least 1.")
    if resolution not in (None, dataset.resolution):
        raise UsageError(_other_resolution(name, dataset, resolution))


def _other_resolution(name: str, dataset: Dataset, resolution: int) -> str:
    begin = (
        f"`resolution={resolution}`: the images of '{name}' are {dataset.resolution}x{dataset.resolution}, and its name "
        "stands for them in every record"
    )
    if dataset.embedded:
        return f"{begin}. A run with `overrides=['dataset.resolution={resolution}']` generates others, under a name of their own."
    return (
        f"{begin}. Copy its .gin file as datasets/{name}_{resolution}.gin into a folder of your own, change `resolution` "
        f"there, and add its images: {manifest.adding(f'{name}_{resolution}')}, with that folder as `registry=[DIR]`."
    )


@contextmanager
def _lock(home: Path, name: str) -> Iterator[None]:
    """Hold the packing of one dataset; wait for another process that does. A killed process lets go."""
    path = manifest.packed_folder(home, name).parent / ".locks" / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = path.open("w")
    except OSError as problem:
        raise BenchError(
            f"{path.parent} cannot be written: {problem.strerror}. Free space or make the folder writable, then run again."
        ) from None
    with held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@contextmanager
def _opened(name: str, dataset: Dataset, root: Path | None, home: Path) -> Iterator[tuple[Source, str | None]]:
    """Hold a source of images open; beside it, the sha256 of the packed images that it is made from, if it is."""
    made_of = None
    try:
        if isinstance(dataset, Derived):
            packed = load(dataset.of.name, dataset.of.config, home=home)
            source, made_of = dataset.derive(PackedSource(packed)), packed.manifest.sha256
        else:
            source = dataset.open(root)
    except ImageError as problem:
        raise BenchError(f"The images of the dataset '{name}' cannot be opened: {str(problem).rstrip('.')}.") from None
    try:
        yield source, made_of
    finally:
        getattr(source, "close", lambda: None)()


def _here(name: str, home: Path) -> Manifest | None:
    """Return the manifest of the packed array, None where array or manifest is missing."""
    there = (manifest.packed_folder(home, name) / "images.npy").exists()
    return manifest.read(manifest.beside(home, name)) if there else None


def _is_current(here: Manifest | None, dataset: Dataset, pinned: Manifest | None, home: Path) -> bool:
    of = parent(dataset)
    return (
        here is not None
        and here.difference(dataset) is None
        and (pinned is None or pinned.same_images(here))
        and (of is None or is_made_from(here, _here(of.name, home)))
    )


def _checked_images(home: Path, described: Manifest) -> np.ndarray:
    images = open_images(home, described)
    if (found := digest(images)) != described.sha256:
        raise BenchError(
            f"The packed images of '{described.name}' are damaged: their sha256 is {found}, their "
            f"manifest says {described.sha256}. {way_out(described)}"
        )
    return images


def _add_again(name: str, dataset: Dataset) -> str:
    return f"Pack them again with {manifest.adding(name, generated=dataset.embedded)}"


def _not_as_pinned(here: Manifest, pinned: Manifest) -> str:
    begin = f"The images of '{here.name}' have the sha256 {here.sha256}, data/{here.name}.json pins {pinned.sha256}"
    if here.sha256 == pinned.sha256:
        begin = f"The images of '{here.name}' have other ids than data/{here.name}.json pins"
    if here.embedded:
        return (
            f"{begin}: this version of the code generates other images, and results would not be comparable. Use "
            "the version that the manifest belongs to; where the change is meant, "
            f"{manifest.adding(here.name, generated=True)} pins the new images."
        )
    return f"{begin}. Restore the pinned images, or take these: {manifest.adding(here.name)}."


def _unlike_official(dataset: Dataset, found: int) -> str:
    """Say where a source has more or fewer images than the official distribution of the dataset."""
    official = getattr(dataset, "official_count", None)
    if official in (None, found):
        return ""
    return (
        f" The source has {found:,} images, the official distribution {official:,}: results are comparable with those on "
        f"the same images alone (`benchmark.images.datasets.facts(...)` has their sha256)."
    )


def _added(made: Manifest, before: Manifest | None, remark: str) -> Added:
    packed = f"{made.name}: packed {made.count:,} images of {made.resolution}x{made.resolution}"
    left_out = f" {len(made.skipped)} unreadable images were left out; the manifest names them." if made.skipped else ""
    remarks = left_out + remark
    if before is None:
        pinned = f"sha256 {made.sha256[:12]}, pinned in data/{made.name}.json"
        return Added(made, "new", f"{packed}, {pinned}.{remarks}")
    if before.same_images(made):
        return Added(made, "restored", f"{packed}, the same bytes as before.{remarks}")
    change = f"it had {before.count:,} images, sha256 {before.sha256[:12]}, and has sha256 {made.sha256[:12]} now"
    if before.sha256 == made.sha256:
        change = "its bytes are the same and its ids are others, so that its subsets are too (was `root=...` the folder of before?)"
    sentence = f"{packed}, a new version: {change}. Results on the two are not comparable.{remarks}"
    return Added(made, "changed", sentence)


def _facts(described: Manifest) -> dict[str, Any]:
    left_out = ("ids", "duplicates", "skipped", "format")
    facts = {key: value for key, value in described.document().items() if key not in left_out}
    copies = sum(len(group) - 1 for group in described.duplicates)
    skipped = [one.id for one in described.skipped]
    return facts | {"manifest_sha256": described.digest, "duplicates": copies, "skipped": skipped}
