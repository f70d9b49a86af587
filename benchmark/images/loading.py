"""Packed images from disk: loaded, generated where a dataset makes its own, every byte checked against manifest and pin."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmark.contract import Dataset, Derived, ImageError, Source
from benchmark.errors import BenchError, UsageError
from benchmark.images import distributions, labels, manifest
from benchmark.images.derived import PackedSource, is_made_from, parent
from benchmark.images.manifest import Manifest
from benchmark.images.packing import Packed, Progress, digest, open_images, pack, way_out
from benchmark.images.partial import discard


def load(name: str, dataset: Dataset, *, home: Path, labelled: bool = False, progress: Progress | None = None) -> Packed:
    """Return the packed images of a dataset, with their labels where asked for, every byte checked against manifest and pin.

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
    here = packed_here(name, home)
    if dataset.embedded and not _is_current(here, dataset, pinned, home):
        with lock(home, name):
            here = packed_here(name, home)  # another process may have made them meanwhile
            if not _is_current(here, dataset, pinned, home):
                with opened(name, dataset, None, home) as (source, made_of):
                    here = pack(name, dataset, source, home=home, made_of=made_of, progress=progress)
    elif dataset.embedded and any(manifest.packed_folder(home, name).glob("*.tmp")):
        with lock(home, name):
            discard(manifest.packed_folder(home, name))  # of a packing that was killed when all was in place
    if here is None:
        raise UsageError(distributions.missing(name, dataset))
    if difference := here.difference(dataset):
        raise UsageError(f"The packed images are not those of the dataset '{name}' ({difference}). {_add_again(name, dataset)}.")
    if pinned and not pinned.same_images(here):
        raise BenchError(not_as_pinned(here, pinned))
    packed = Packed(_checked_images(home, here), here, manifest.read_ids(home, here))
    return replace(packed, labels=_labels(packed, dataset, home)) if labelled else packed


def _labels(packed: Packed, dataset: Dataset, home: Path) -> np.ndarray:
    """Return the labels (N,) of packed images: as they lie beside them, made where their dataset is, or those of its parent."""
    here, name, classes = packed.manifest, packed.manifest.name, labels.classes_of(dataset)
    if not classes:
        raise UsageError(f"The images of the dataset '{name}' have no class labels.")
    if of := parent(dataset):
        whole = load(of.name, of.config, home=home, labelled=True)
        assert whole.labels is not None
        label_of = dict(zip(whole.ids, whole.labels.tolist(), strict=True))
        if strange := next((image_id for image_id in packed.ids if image_id not in label_of), None):
            raise BenchError(f"The image '{strange}' of the dataset '{name}' has no label: it is none of '{of.name}'.")
        return labels.checked_labels(name, packed.ids, [label_of[image_id] for image_id in packed.ids], classes)
    found = labels.read(home, here)
    if found is None and dataset.embedded:
        with lock(home, name), opened(name, dataset, None, home) as (source, _):
            labels.write(home, here, packed.ids, source, classes, pinned=False)
        found = labels.read(home, here)
    if found is None:
        raise UsageError(f"The images of '{name}' are packed without their labels. {manifest.adding(name)} writes them beside the images.")
    return found


def verify(name: str, *, home: Path) -> list[str]:
    """Return what is wrong with the packed images and the pin of that name; empty where every byte is right."""
    try:
        here, pinned = packed_here(name, home), manifest.read(manifest.pin(home, name))
        if here is None and pinned is None:
            return [f"there are no images of that name; {manifest.adding(name)} adds them{distributions.known(name)}"]
        if here is None:
            missing = f"pinned, but not packed here; {manifest.adding(name)} packs them{distributions.known(name)}"
            return [] if pinned and pinned.embedded else [missing]
        if pinned and not pinned.same_images(here):
            return [not_as_pinned(here, pinned)]
        _checked_images(home, here)
        manifest.read_ids(home, here)
        labels.read(home, here)
    except BenchError as problem:
        return [str(problem)]
    return []


def packed_here(name: str, home: Path) -> Manifest | None:
    """Return the manifest of the packed array, None where array or manifest is missing."""
    there = (manifest.packed_folder(home, name) / "images.npy").exists()
    return manifest.read(manifest.beside(home, name)) if there else None


@contextmanager
def lock(home: Path, name: str) -> Iterator[None]:
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
def opened(name: str, dataset: Dataset, root: Path | None, home: Path) -> Iterator[tuple[Source, str | None]]:
    """Hold a source of images open; beside it, the sha256 of the packed images that it is made from, if it is."""
    made_of = None
    try:
        if isinstance(dataset, Derived):
            packed = load(dataset.of.name, dataset.of.config, home=home)
            source, made_of = dataset.derive(PackedSource(packed)), packed.manifest.sha256
        else:
            source = dataset.open(root)
    except ImageError as problem:
        pointed = "" if dataset.embedded else f" {distributions.pointer(name)}."
        kind = UsageError if root is not None and not root.exists() else BenchError  # a wrong path is a wrong word
        raise kind(f"The images of the dataset '{name}' cannot be opened: {str(problem).rstrip('.')}.{pointed}") from None
    try:
        yield source, made_of
    finally:
        getattr(source, "close", lambda: None)()


def not_as_pinned(here: Manifest, pinned: Manifest) -> str:
    """Say in what packed images are not those of the pin, and the way out."""
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


def _is_current(here: Manifest | None, dataset: Dataset, pinned: Manifest | None, home: Path) -> bool:
    of = parent(dataset)
    return (
        here is not None
        and here.difference(dataset) is None
        and (pinned is None or pinned.same_images(here))
        and (of is None or is_made_from(here, packed_here(of.name, home)))
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
