"""Another dataset under one fixed permutation of its pixel positions: the control that keeps every statistic but locality.

A permutation of the coordinates is an orthogonal map. Every image keeps its values, every pair of images its distance,
the covariance its eigenvalues; what a fully connected network, the empirical optimum or Wiener's filter makes of the
images is the same up to the permutation. Neighbouring pixels alone are no longer neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from benchmark.contract import HELD_OUT, Entry, ImageError, Source, entry


@entry(kind="permuted")
class Permuted:
    """The images of the dataset `of` with their pixels in an order that `key` declares, the same for every image and channel.

    Ids, order, subsets and held-out images are those of that dataset, so that runs on the two are paired.
    """

    of: Entry
    key: int | str

    embedded: ClassVar[bool] = True

    @property
    def resolution(self) -> int:
        """The resolution of the other dataset."""
        return self.of.config.resolution

    @property
    def channels(self) -> int:
        """The channels of the other dataset."""
        return self.of.config.channels

    @property
    def classes(self) -> int:
        """How many classes the labels of the other dataset tell apart."""
        return getattr(self.of.config, "classes", 0)

    @property
    def preprocessing(self) -> str:
        """The version of the permutation, and of what it permutes."""
        return f"permuted-1 {self.of.config.preprocessing}"

    @property
    def follows(self) -> str:
        """The dataset whose order this one takes."""
        return getattr(self.of.config, "follows", None) or self.of.name

    @property
    def held_out(self) -> int:
        """How many images are for testing."""
        return getattr(self.of.config, "held_out", HELD_OUT)

    @property
    def held_out_from(self) -> str | None:
        """Which images of the other dataset are for testing alone."""
        return getattr(self.of.config, "held_out_from", None)

    def open(self, root: Path | None = None) -> PermutedSource:
        """Return the permuted images of a dataset that is embedded; raise ImageError where a root folder is given."""
        if root is not None:
            raise ImageError(f"its images are made from those of '{self.of.name}': leave the root out")
        return self.derive(self.of.config.open(None))

    def derive(self, images: Source) -> PermutedSource:
        """Return the images of `images`, permuted."""
        return PermutedSource(images, permutation(self.key, self.resolution**2), f"{self.preprocessing} key={self.key}")


@dataclass(frozen=True, eq=False)
class PermutedSource:
    """The images of another source: position p shows what position order[p] of the original does."""

    images: Source
    order: np.ndarray = field(repr=False)  # (R^2,)
    words: str

    @property
    def ids(self) -> Sequence[str]:
        """The ids of the other source."""
        return self.images.ids

    @property
    def fingerprint(self) -> str:
        """What the images are a function of, as one sha256."""
        return hashlib.sha256(f"{self.words} of={self.images.fingerprint}".encode()).hexdigest()

    def read(self, image_id: str) -> np.ndarray:
        """Return the image as uint8 (C, R, R)."""
        image = self.images.read(image_id)
        return image.reshape(len(image), -1)[:, self.order].reshape(image.shape)


def permutation(key: int | str, size: int) -> np.ndarray:
    """Return the numbers below `size` sorted by sha256('key:number'), which no library version can change."""
    return np.array(sorted(range(size), key=lambda number: hashlib.sha256(f"{key}:{number}".encode()).digest()))
