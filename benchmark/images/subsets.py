"""Nested subsets of a dataset's images beside a held-out split, in an order that no library version can change.

The pool is what follows the held-out images in the order. Its first N are the subset of size N. The halves of the
strong-generalization test (Kadkhodaie et al. 2024) deal the pool out one by one, so that each is nested and no image
is in both.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from benchmark.contract import HELD_OUT
from benchmark.declaring.spec import Half
from benchmark.errors import UsageError
from benchmark.images.manifest import Manifest
from benchmark.images.packing import Packed, digest

MOST_MORE = 100  # times as many images as a generated dataset has: what more would take is no advice


@dataclass(frozen=True, eq=False)
class Peer:
    """The images of a seed's subset that are in no other peer's, as uint8 (K, C, R, R); none where too few are left."""

    seed: int
    left: int  # how many images are its own, of which `images` are the first
    images: np.ndarray
    digest: str  # sha256 of the bytes of `images`
    labels: np.ndarray | None = None  # uint16 (K,), where they were asked for


@dataclass(frozen=True, eq=False)
class Subset:
    """The first `size` images of the pool, or of a half of it, and the held-out test images, as uint8 (N, C, R, R)."""

    size: int
    seed: int
    half: Half | None
    train_indices: tuple[int, ...]
    test_indices: tuple[int, ...]
    train_ids: tuple[str, ...]
    train: np.ndarray
    test: np.ndarray
    digest: str  # sha256 of the bytes of `train`
    test_digest: str
    manifest_digest: str
    dropped_duplicates: int  # left the pool: copies of a test image; of halves also copies of another image of the pool
    peers: tuple[Peer, ...] = ()  # of the seeds that score each other's images, its own among them
    train_labels: np.ndarray | None = None  # uint16 (N,), where they were asked for
    test_labels: np.ndarray | None = None

    @property
    def labels_digest(self) -> str | None:
        """The sha256 of the labels of the training images and then of the test images, None where there are none."""
        if self.train_labels is None or self.test_labels is None:
            return None
        return hashlib.sha256(self.train_labels.tobytes() + self.test_labels.tobytes()).hexdigest()


def order(dataset_name: str, seed: int, ids: Sequence[str]) -> list[int]:
    """Return the indices of `ids` sorted by sha256('dataset:seed:id'), the same on every machine and version."""
    keys = [hashlib.sha256(f"{dataset_name}:{seed}:{image_id}".encode()).hexdigest() for image_id in ids]
    return sorted(range(len(ids)), key=keys.__getitem__)


def held_out(described: Manifest) -> int:
    """Return how many images of a dataset are held out for testing."""
    return described.held_out or HELD_OUT


def ordered(packed: Packed, dataset_name: str, seed: int) -> list[int]:
    """Return the indices of a dataset's images in its order, or in that of the dataset that it follows."""
    return order(packed.manifest.follows or dataset_name, seed, packed.ids)


def subset(packed: Packed, dataset_name: str, size: int, seed: int, half: Half | None = None) -> Subset:
    """Take the first held-out images of the order as test images and the next `size`, or those of a half, for training.

    Where a dataset says which images are for testing alone, the two are the first of those and the first of the others.
    Subsets of one seed nest, and none holds an image with the bytes of a test image. Half 'a' takes the pool's images
    0, 2, 4, … and half 'b' 1, 3, 5, …, of a pool that holds no bytes twice: the halves share no image, and together the
    two of size N are the first 2N of that pool. `dataset_name` is the entry's; a dataset that follows another has its subsets.
    """
    described, ids = packed.manifest, packed.ids
    test, pool, dropped = _split(packed, dataset_name, seed, half)
    _check_size(dataset_name, size, described, len(test), _room(pool, half), half)
    train = _dealt(pool, half)[:size]
    train_images, test_images = packed.images[train], packed.images[test]
    return Subset(
        size=size,
        seed=seed,
        half=half,
        train_indices=tuple(train),
        test_indices=tuple(test),
        train_ids=tuple(ids[i] for i in train),
        train=np.asarray(train_images),
        test=np.asarray(test_images),
        digest=digest(train_images),
        test_digest=digest(test_images),
        manifest_digest=described.digest,
        dropped_duplicates=dropped,
        train_labels=None if packed.labels is None else packed.labels[train],
        test_labels=None if packed.labels is None else packed.labels[test],
    )


def training_indices(packed: Packed, dataset_name: str, size: int, seed: int, half: Half | None = None) -> list[int]:
    """Return the indices of the subset of that size; no image is read."""
    test, pool, _ = _split(packed, dataset_name, seed, half)
    _check_size(dataset_name, size, packed.manifest, len(test), _room(pool, half), half)
    return _dealt(pool, half)[:size]


def largest(packed: Packed, dataset_name: str, seed: int, half: Half | None = None) -> int:
    """Return the size of the largest subset, 0 where the dataset has no image left for training."""
    return _room(_split(packed, dataset_name, seed, half)[1], half)


def _split(packed: Packed, dataset_name: str, seed: int, half: Half | None) -> tuple[list[int], list[int], int]:
    """Return the indices of the test images, those of the pool, and how many copies left the pool."""
    described, ids = packed.manifest, packed.ids
    indices, number, begin = ordered(packed, dataset_name, seed), held_out(described), described.held_out_from
    if begin is None:
        test, rest = indices[:number], indices[number:]
    else:
        test = [i for i in indices if ids[i].startswith(begin)][:number]
        rest = [i for i in indices if not ids[i].startswith(begin)]
    tested = {ids[i] for i in test}
    known = {image_id for group in described.duplicates if not tested.isdisjoint(group) for image_id in group}
    pool = [i for i in rest if ids[i] not in known]
    if half:
        pool = _distinct(pool, ids, described)
    return test, pool, len(rest) - len(pool)


def _dealt(pool: list[int], half: Half | None) -> list[int]:
    """Return the pool, or what of it was dealt to a half."""
    return pool[get_args(Half).index(half) :: 2] if half else pool


def _room(pool: Sequence[int], half: Half | None) -> int:
    return len(pool) // 2 if half else len(pool)


def _distinct(pool: list[int], ids: Sequence[str], described: Manifest) -> list[int]:
    """Return the pool without the later ones of images that have the same bytes."""
    group_of = {image_id: number for number, group in enumerate(described.duplicates) for image_id in group}
    first: dict[int, int] = {}
    return [i for i in pool if ids[i] not in group_of or first.setdefault(group_of[ids[i]], i) == i]


def _check_size(dataset_name: str, size: int, described: Manifest, tests: int, room: int, half: Half | None) -> None:
    """Raise UsageError where a subset of that size does not fit into the `room` images of the pool or of its half."""
    number = held_out(described)
    wanted = number + (2 * size if half else size)
    reachable = "count" in described.config and wanted <= MOST_MORE * described.count
    more = f"`overrides=['dataset.count={wanted}']`" if reachable else "a dataset with more images"
    if described.held_out_from is None and described.count < (least := number + (2 if half else 1)):
        raise UsageError(
            f"The dataset '{dataset_name}' has {described.count} images; {number} are held out for "
            f"testing, so at least {least} are needed. Use {more}."
        )
    if tests < number:
        raise UsageError(
            f"The dataset '{dataset_name}' has {tests} images for testing alone (their ids begin with "
            f"'{described.held_out_from}'), and {number} are needed."
        )
    if size < 1:
        raise UsageError(f"`subset={size}` must be at least 1.")
    if size > room and half:
        raise UsageError(
            f"`subset={size}, half={half!r}` is more than the {room} images that each half of the dataset "
            f"'{dataset_name}' has ({described.count} less {number} held out, less exact duplicates, in "
            f"two). Use at most {room}, or {more}."
        )
    if size > room:
        raise UsageError(
            f"`subset={size}` is more than the {room} images that the dataset '{dataset_name}' has for "
            f"training ({described.count} less {number} held out, less their exact duplicates). "
            f"Use at most {room}, or {more}."
        )
