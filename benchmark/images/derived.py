"""Datasets made from the packed images of another one: its images as a source, and whether what is packed is still of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmark.contract import Dataset, Derived, Entry, ImageError
from benchmark.images.manifest import Manifest
from benchmark.images.packing import Packed


@dataclass(frozen=True)
class PackedSource:
    """The images of a packed dataset, by id."""

    packed: Packed

    @property
    def ids(self) -> Sequence[str]:
        """The ids in the order of the array."""
        return self.packed.ids

    @cached_property
    def fingerprint(self) -> str:
        """One sha256 over the images' sha256 and their ids: the same wherever the same images are packed."""
        total = hashlib.sha256(f"{self.packed.manifest.sha256}\n".encode())
        for image_id in self.ids:
            total.update(f"{image_id}\n".encode())
        return total.hexdigest()

    @cached_property
    def _index(self) -> dict[str, int]:
        return {image_id: index for index, image_id in enumerate(self.ids)}

    def read(self, image_id: str) -> np.ndarray:
        """Return an image as uint8 (C, R, R)."""
        if image_id not in self._index:
            raise ImageError(f"there is no image '{image_id}'")
        return np.array(self.packed.images[self._index[image_id]])


def parent(dataset: Dataset) -> Entry | None:
    """Return the dataset that this one is made from, None where it is of its own."""
    return dataset.of if isinstance(dataset, Derived) else None


def is_made_from(here: Manifest, images: Manifest | None) -> bool:
    """Tell whether derived images are those of `images`; where these are not here any more, nothing says otherwise."""
    return images is None or (here.made_of, here.ids, here.ids_sha256) == (images.sha256, images.ids, images.ids_sha256)
