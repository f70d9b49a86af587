"""The handwritten digits that scikit-learn carries: 1,797 of 8x8 pixels with 17 levels of grey, by 13 people.

They are the test set of the Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998, UCI Machine Learning
Repository, CC BY 4.0; scikit-learn: BSD-3-Clause): each pixel counts the set points in a block of 4x4 of a 32x32 bitmap.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from benchmark.contract import ImageError, entry
from registry.datasets.installed import Carried, content

DIGITS = Carried(
    "scikit-learn", "sklearn", "datasets/data/digits.csv.gz", "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
)
LEVELS = 16  # the brightest pixel in the file


@entry(kind="digits")
class Digits:
    """scikit-learn's digits, white on black; an id is the row in its file. Three channels are three times the same."""

    channels: Literal[1, 3] = 1

    resolution: ClassVar[int] = 8
    count: ClassVar[int] = 1797
    classes: ClassVar[int] = 10
    embedded: ClassVar[bool] = True
    preprocessing: ClassVar[str] = "digits-1"

    def open(self, root: Path | None = None) -> DigitsSource:
        """Read the digits of the installed scikit-learn; raise ImageError where it is not there or carries others."""
        if root is not None:
            raise ImageError("the digits come with scikit-learn, there is no folder to open: leave the root out")
        return DigitsSource(content(DIGITS), self.channels)


class DigitsSource:
    """The rows of the file: 64 counts from 0 to 16, and the digit."""

    fingerprint: ClassVar[str] = DIGITS.sha256

    def __init__(self, packed: bytes, channels: int) -> None:
        table = np.array([line.split(b",") for line in gzip.decompress(packed).split()]).astype(np.float64).astype(np.int64)
        rows, self._labels = table[:, :64], table[:, 64]
        grey = ((rows * 255 + LEVELS // 2) // LEVELS).astype(np.uint8).reshape(-1, 1, 8, 8)
        self._pixels = np.repeat(grey, channels, axis=1)
        self.ids: Sequence[str] = tuple(map(str, range(len(rows))))

    def read(self, image_id: str) -> np.ndarray:
        """Return the digit as uint8 (C, 8, 8)."""
        return self._pixels[self._row(image_id)]

    def label(self, image_id: str) -> int:
        """Return which digit it is."""
        return int(self._labels[self._row(image_id)])

    def _row(self, image_id: str) -> int:
        if not (image_id.isascii() and image_id.isdecimal()) or int(image_id) >= len(self.ids):
            raise ImageError(f"there is no image '{image_id}': the rows end at {len(self.ids) - 1}")
        return int(image_id)
