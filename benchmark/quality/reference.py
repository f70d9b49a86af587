"""What samples are compared with: up to 100,000 images of the same dataset, whatever N the network was trained on.

They are images that no row of a suite trains on, where there are enough of those; else the reference holds as few of the
others as it can, and says how many.
"""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.declaring import registry
from benchmark.declaring.entries import load_suite
from benchmark.errors import UsageError
from benchmark.images.manifest import Manifest, packed_folder
from benchmark.images.packing import Packed, Stack, digest
from benchmark.images.subsets import ordered, training_indices
from benchmark.quality.features import Extractor

VERSION = "2"  # 1: the first images of the order of seed 0, which the training subsets begin with as well
LIMIT = 100_000
LEAST = 10_000  # images never trained on that make a reference: FID's covariance is of 2,048 features


class Chosen:
    """Some images of a packed array, read where they are asked for: a slice of 100,000 images is not a copy of them."""

    def __init__(self, images: np.ndarray, indices: Sequence[int]) -> None:
        self._images, self._indices = images, np.asarray(indices)
        self.dtype, self.shape = images.dtype, (len(indices), *images.shape[1:])

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, where: slice) -> np.ndarray:
        return self._images[self._indices[where]]


@dataclass(frozen=True)
class Reference:
    """The images, the sha256 of their bytes, and the folder under which their features are kept, per extractor.

    `trained_on` of the images, or copies of them, are trained on by the rows that it was drawn for.
    """

    images: Stack
    digest: str
    folder: Path
    trained_on: int = 0

    def features_folder(self, extractor: Extractor) -> Path:
        """Return the folder of one extractor's features: its name holds the digests of images and weights."""
        return self.folder / f"{self.digest[:16]}-{extractor.key}"


def reference(
    packed: Packed, dataset_name: str, home: Path, trained: Set[int] = frozenset(), *, limit: int = LIMIT, least: int = LEAST
) -> Reference:
    """Return the first `limit` images by the hash of their ids (seed 0), in the array's order, of those that are not `trained`.

    Where fewer than `least` are left, or than `limit` if that is smaller, they are all in it, and the first of the others.
    """
    described = packed.manifest
    folder = packed_folder(home, described.name) / "quality" / described.preprocessing
    seen = _with_copies(trained, packed.ids, described)
    indices = ordered(packed, dataset_name, 0)
    fresh = [i for i in indices if i not in seen]
    few = len(fresh) < min(limit, least)
    chosen = sorted((fresh + [i for i in indices if i in seen] if few else fresh)[:limit])
    known = len(seen.intersection(chosen))
    if len(chosen) == described.count:
        return Reference(packed.images, described.sha256, folder, known)
    images = Chosen(packed.images, chosen)
    return Reference(images, digest(images), folder, known)


def trained_on(packed: Packed, dataset_name: str, search: tuple[Path, ...] = (registry.STOCK,)) -> set[int]:
    """Return the indices of the images that a row of a suite trains on: of every seed the largest subset, which holds the others."""
    sizes: dict[int, set[int]] = {}
    for suite in registry.entries("suite", search):
        for row in load_suite(suite, search).rows():
            if row.dataset == dataset_name:
                sizes.setdefault(row.seed, set()).add(row.subset)
    return {i for seed, found in sizes.items() for i in _largest(packed, dataset_name, seed, found)}


def _largest(packed: Packed, dataset_name: str, seed: int, sizes: Iterable[int]) -> list[int]:
    """Return the largest subset that these images have; a row of more than there are trains on nothing here."""
    for size in sorted(sizes, reverse=True):
        try:
            return training_indices(packed, dataset_name, size, seed)
        except UsageError:
            continue
    return []


def _with_copies(indices: Set[int], ids: Sequence[str], described: Manifest) -> set[int]:
    """Return indices and those of the images with the same bytes."""
    where = {name: i for i, name in enumerate(ids)} if described.duplicates else {}
    groups = ({where[name] for name in group} for group in described.duplicates)
    return set(indices).union(*(group for group in groups if not group.isdisjoint(indices)))
