"""The classes of packed images: a companion of the array, which the manifest of the images knows nothing of.

<home>/packed/<name>/labels.npy     uint16, one label an image, in the order of the array
<home>/packed/<name>/labels.json    of which images they are, of how many classes, and the sha256 that they must have
<home>/data/labels/<name>.json      the same again, tracked by git, where the images were added
"""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from benchmark.contract import Dataset, ImageError, Positive, Source, checked
from benchmark.declaring.fields import FieldError, from_json, to_json
from benchmark.errors import BenchError
from benchmark.files import write_bytes, write_text
from benchmark.images import manifest
from benchmark.images.manifest import Manifest

MOST = 2**16  # classes that a label of two bytes tells apart


@checked
class Description:
    """What labels.npy holds; both digests are sha256 of bytes without a header."""

    format: Literal[1]
    classes: Positive
    count: Positive
    present: Positive  # classes that have an image
    smallest: Positive  # images of one of them
    largest: Positive
    images_sha256: str
    sha256: str


def classes_of(dataset: Dataset) -> int:
    """Return how many classes the labels of a dataset tell apart, 0 where it has none."""
    return getattr(dataset, "classes", 0)


def array_file(home: Path, name: str) -> Path:
    """Return the path of the labels of a packed dataset."""
    return manifest.packed_folder(home, name) / "labels.npy"


def beside(home: Path, name: str) -> Path:
    """Return the path of what describes them."""
    return manifest.packed_folder(home, name) / "labels.json"


def pin(home: Path, name: str) -> Path:
    """Return the path of the description that git tracks."""
    manifest.packed_folder(home, name)
    return home / "data" / "labels" / f"{name}.json"


def write(home: Path, here: Manifest, ids: Sequence[str], source: Source, classes: int, *, pinned: bool) -> Description:
    """Write the labels of packed images from their source; the caller holds the dataset's lock.

    Raise BenchError where an image has no label, or one that is no class.
    """
    found = checked_labels(here.name, ids, [_label(here.name, source, image_id) for image_id in ids], classes)
    sizes = np.unique(found, return_counts=True)[1].tolist()
    made = Description(
        format=1,
        classes=classes,
        count=len(ids),
        present=len(sizes),
        smallest=min(sizes),
        largest=max(sizes),
        images_sha256=here.sha256,
        sha256=digest(found),
    )
    text = json.dumps(to_json(made), indent=1) + "\n"
    content = io.BytesIO()
    np.save(content, found, allow_pickle=False)
    beside(home, here.name).unlink(missing_ok=True)  # never labels under another description
    write_bytes(array_file(home, here.name), content.getvalue())
    if pinned:
        write_text(pin(home, here.name), text)
    write_text(beside(home, here.name), text)
    return made


def read(home: Path, here: Manifest) -> np.ndarray | None:
    """Return the labels (N,) of packed images, None where none of these images are there; raise BenchError where they are damaged."""
    described, pinned = _described(beside(home, here.name)), _described(pin(home, here.name))
    if described is None or described.images_sha256 != here.sha256:
        return None
    path = array_file(home, here.name)
    again = f"Remove {path} and {path.with_suffix('.json')}; " + (
        "they are made again on the next use." if here.embedded else f"{manifest.adding(here.name)} writes them again."
    )
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as problem:
        raise BenchError(f"The labels {path} cannot be read: {problem}. {again}") from None
    if found.dtype != np.uint16 or found.shape != (here.count,) or digest(found) != described.sha256:
        raise BenchError(
            f"The labels {path} are damaged: {found.dtype} of shape {found.shape}, sha256 {digest(found)}; "
            f"{path.with_suffix('.json').name} says uint16 {(here.count,)}, sha256 {described.sha256}. {again}"
        )
    if pinned and pinned.images_sha256 == here.sha256 and pinned != described:
        raise BenchError(f"The labels {path} are not those that data/labels/{here.name}.json pins ({pinned.sha256}). {again}")
    return found


def facts(home: Path, here: Manifest) -> dict[str, int | str]:
    """Return how many classes the labels of packed images are of, and their sha256; empty where there are none."""
    found = _described(beside(home, here.name)) or _described(pin(home, here.name))
    if found is None or found.images_sha256 != here.sha256:
        return {}
    return {"classes": found.classes, "labels_sha256": found.sha256}


def digest(labels: np.ndarray) -> str:
    """Return the sha256 of the bytes of labels."""
    return hashlib.sha256(labels.tobytes()).hexdigest()


def checked_labels(name: str, ids: Sequence[str], found: Sequence[int], classes: int) -> np.ndarray:
    """Return labels as uint16 (N,); raise BenchError where one is no class."""
    if not 0 < classes <= MOST:
        raise BenchError(f"The dataset '{name}' declares {classes} classes; there can be 1 to {MOST:,}.")
    for image_id, label in zip(ids, found, strict=True):
        if not 0 <= label < classes:
            raise BenchError(
                f"The image '{image_id}' of the dataset '{name}' has the label {label}, and its classes are 0 to {classes - 1}."
            )
    return np.array(found, dtype=np.uint16)


def sentence(made: Description) -> str:
    """Say of how many classes the labels are, and how many images the smallest and the largest have."""
    return f"Labels of {made.present:,} of {made.classes:,} classes, {made.smallest:,} to {made.largest:,} images each."


def _label(name: str, source: Source, image_id: str) -> int:
    try:
        return int(source.label(image_id))  # type: ignore[attr-defined]  # optional in a Source
    except ImageError as problem:
        raise BenchError(f"The image '{image_id}' of the dataset '{name}' has no label: {problem}.") from None
    except AttributeError:
        raise BenchError(f"The dataset '{name}' declares classes, but its source has no `label(image_id)`.") from None


def _described(path: Path) -> Description | None:
    try:
        return from_json(Description, json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, FieldError) as problem:
        raise BenchError(f"The description of labels {path} is damaged: {problem}. Remove it and add the images again.") from None
