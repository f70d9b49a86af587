"""Nested subsets of a dataset's images beside a held-out split, in an order that no library version can change."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.data.manifest import Manifest
from benchmark.data.packing import Packed, digest
from benchmark.errors import UsageError

HELD_OUT = 300  # PSNR test images: the first of the order, never trained on


@dataclass(frozen=True, eq=False)
class Subset:
    """The first `size` images of the pool and the held-out test images, as uint8 (N, C, R, R)."""

    size: int
    seed: int
    train_indices: tuple[int, ...]
    test_indices: tuple[int, ...]
    train_ids: tuple[str, ...]
    train: np.ndarray
    test: np.ndarray
    digest: str  # sha256 of the bytes of `train`
    test_digest: str
    manifest_digest: str
    dropped_duplicates: int  # images that left the pool because a test image has the same bytes


def order(dataset_name: str, seed: int, ids: Sequence[str]) -> list[int]:
    """Return the indices of `ids` sorted by sha256('dataset:seed:id'), the same on every machine and version."""
    keys = [hashlib.sha256(f"{dataset_name}:{seed}:{image_id}".encode()).hexdigest() for image_id in ids]
    return sorted(range(len(ids)), key=keys.__getitem__)


def subset(packed: Packed, dataset_name: str, size: int, seed: int) -> Subset:
    """Take the first HELD_OUT images of the order as test images and the next `size` as training images.

    Subsets of one seed nest, and none holds an image with the bytes of a test image. `dataset_name` is the entry's.
    """
    described, ids = packed.manifest, packed.manifest.image_ids
    ordered = order(dataset_name, seed, ids)
    test, pool = ordered[:HELD_OUT], ordered[HELD_OUT:]
    held_out = {ids[i] for i in test}
    known = {image_id for group in described.duplicates if not held_out.isdisjoint(group) for image_id in group}
    train = [i for i in pool if ids[i] not in known]
    _check_size(dataset_name, size, described, len(train))
    dropped, train = len(pool) - len(train), train[:size]
    train_images, test_images = packed.images[train], packed.images[test]
    return Subset(
        size=size, seed=seed, train_indices=tuple(train), test_indices=tuple(test),
        train_ids=tuple(ids[i] for i in train), train=np.asarray(train_images), test=np.asarray(test_images),
        digest=digest(train_images), test_digest=digest(test_images), manifest_digest=described.digest,
        dropped_duplicates=dropped,
    )


def _check_size(dataset_name: str, size: int, described: Manifest, pool: int) -> None:
    more = f"--set dataset.count={HELD_OUT + size}" if "count" in described.config else "a dataset with more images"
    if described.count <= HELD_OUT:
        raise UsageError(f"The dataset '{dataset_name}' has {described.count} images; {HELD_OUT} are held out for "
                         f"testing, so at least {HELD_OUT + 1} are needed. Use {more}.")
    if size < 1:
        raise UsageError(f"--subset {size} must be at least 1.")
    if size > pool:
        raise UsageError(f"--subset {size} is more than the {pool} images that the dataset '{dataset_name}' has for "
                         f"training ({described.count} less {HELD_OUT} held out, less their exact duplicates). "
                         f"Use at most {pool}, or {more}.")
