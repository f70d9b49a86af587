"""What samples are compared with: up to 100,000 images of the same dataset, whatever N the network was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.images.manifest import packed_folder
from benchmark.images.packing import Packed, Stack, digest
from benchmark.images.subsets import ordered
from benchmark.quality.features import Extractor

LIMIT = 100_000


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
    """The images, the sha256 of their bytes, and the folder under which their features are kept, per extractor."""

    images: Stack
    digest: str
    folder: Path

    def features_folder(self, extractor: Extractor) -> Path:
        """Return the folder of one extractor's features: its name holds the digests of images and weights."""
        return self.folder / f"{self.digest[:16]}-{extractor.key}"


def reference(packed: Packed, dataset_name: str, home: Path, limit: int = LIMIT) -> Reference:
    """Return all images of a dataset, or the first `limit` by the hash of their ids (seed 0), in the array's order."""
    described = packed.manifest
    folder = packed_folder(home, described.name) / "quality" / described.preprocessing
    if described.count <= limit:
        return Reference(packed.images, described.sha256, folder)
    chosen = Chosen(packed.images, sorted(ordered(packed, dataset_name, 0)[:limit]))
    return Reference(chosen, digest(chosen), folder)
