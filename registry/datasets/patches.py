"""Disjoint square patches of the photographs that scikit-learn and matplotlib carry; nothing is downloaded.

Every photograph is cut into bands of BAND columns. Every fourth band is for testing alone, so that no test patch lies
between patches that are trained on; the bands are the same for every size of patch. Nearly flat patches (sky, a blurred
background) say nothing about a denoiser and are left out, and counted.

china.jpg: danielbuechele, CC BY 2.0. flower.jpg: vultilion, CC BY 2.0. grace_hopper.jpg: James S. Davis, US Navy, public
domain; its JPEG is so coarse that its blocks of 8x8 would show as patches, so it is halved by a box average first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from benchmark.contract import FieldError, ImageError, Positive, entry
from registry.datasets.decode import decode, pillow
from registry.datasets.installed import Carried, content
from registry.datasets.resize import to_array
from registry.datasets.sources import Leftovers

BAND = 64  # columns of a band; every fourth from the second on is for testing
FLAT = 5  # the sd of luma, in byte values, below which a patch is nearly flat
TEST, TRAIN = "test/", "train/"


class Photograph(NamedTuple):
    """A photograph, and by how much it is reduced before it is cut."""

    name: str
    file: Carried
    reduced: int


PHOTOGRAPHS = (
    Photograph(
        "china",
        Carried("scikit-learn", "sklearn", "datasets/images/china.jpg", "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29"),
        reduced=1,
    ),
    Photograph(
        "flower",
        Carried(
            "scikit-learn", "sklearn", "datasets/images/flower.jpg", "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638"
        ),
        reduced=1,
    ),
    Photograph(
        "hopper",
        Carried(
            "matplotlib",
            "matplotlib",
            "mpl-data/sample_data/grace_hopper.jpg",
            "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
        ),
        reduced=2,
    ),
)


@entry(kind="patches")
class Patches:
    """Patches of `resolution` pixels a side that do not overlap; an id is 'train/china:5:17', the row and column of the patch."""

    resolution: Positive

    channels: ClassVar[int] = 3
    embedded: ClassVar[bool] = True
    preprocessing: ClassVar[str] = "patches-1"
    held_out_from: ClassVar[str] = TEST

    def validate(self) -> None:
        """Refuse a size that the bands cannot be cut into."""
        if BAND % self.resolution:
            raise FieldError(f"resolution = {self.resolution} must divide {BAND}, so that no patch lies in two bands")

    def open(self, root: Path | None = None) -> PatchesSource:
        """Cut the photographs; raise ImageError where a package is not there or carries another file."""
        if root is not None:
            raise ImageError("the photographs come with scikit-learn and matplotlib, there is no folder to open: leave the root out")
        pillow()
        return PatchesSource(self.resolution)


class PatchesSource:
    """The patches that are not nearly flat, photograph by photograph, row by row."""

    def __init__(self, side: int) -> None:
        self._patches: dict[str, np.ndarray] = {}
        left_out = Leftovers()
        for photograph in PHOTOGRAPHS:
            for name, colour, luma in _cut(photograph, side):
                if _is_flat(luma):
                    left_out.add("nearly flat", name)
                else:
                    self._patches[name] = colour
        self.ids: Sequence[str] = tuple(self._patches)
        self.left_out = left_out.listed()
        words = f"{Patches.preprocessing} resolution={side} {' '.join(one.file.sha256 for one in PHOTOGRAPHS)}"
        self.fingerprint = hashlib.sha256(words.encode()).hexdigest()

    def read(self, image_id: str) -> np.ndarray:
        """Return the patch as uint8 (3, R, R)."""
        if image_id not in self._patches:
            raise ImageError(f"there is no image '{image_id}'")
        return self._patches[image_id]


def _cut(photograph: Photograph, side: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return the id, the colours (3, R, R) and the luma (R, R) of every patch; what is left of a side at the end is dropped."""
    image = decode(content(photograph.file), 3).reduce(photograph.reduced)
    colours, luma = to_array(image), np.asarray(image.convert("L"))
    made = []
    for row in range(luma.shape[0] // side):
        for column in range(luma.shape[1] // side):
            rows, columns = slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side)
            part = TEST if column * side // BAND % 4 == 1 else TRAIN
            made.append((f"{part}{photograph.name}:{row}:{column}", colours[:, rows, columns].copy(), luma[rows, columns]))
    return made


def _is_flat(luma: np.ndarray) -> bool:
    """Tell whether the sd of a patch is below FLAT, in whole numbers."""
    values, size = luma.astype(np.int64), luma.size
    return bool(size * (values * values).sum() - values.sum() ** 2 < (FLAT * size) ** 2)
