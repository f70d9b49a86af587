"""A folder tree of images, in any format that Pillow reads and at any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from benchmark.contract import HELD_OUT, Count, HeldOut, ImageError, LeftOut, Positive, added, entry
from registry.datasets.decode import pillow, to_pixels
from registry.datasets.resize import PREPROCESSING_VERSION
from registry.datasets.sources import fingerprint, hub, whole
from registry.datasets.tree import Found, find_images


@entry(kind="image_folder")
class ImageFolder:
    """The images below one folder, resized by the protocol; three channels are RGB, one is luma (ITU-R 601).

    With `classes` above 0 every image lies in the folder of its class, and a label is the place of that folder in their order.
    """

    resolution: Positive
    channels: Literal[1, 3] = 3
    held_out: HeldOut = added(HELD_OUT)  # images for testing; fewer where there are few
    classes: Count = added(0)

    embedded: ClassVar[bool] = False
    preprocessing: ClassVar[str] = PREPROCESSING_VERSION

    def open(self, root: Path | None) -> ImageFolderSource:
        """Find the images below `root`; raise ImageError where there is no such folder or no image in it."""
        if root is None:
            raise ImageError("a folder of images is needed")
        pillow()
        root = hub(root)
        return ImageFolderSource(root, self.channels, self.resolution, find_images(root))


@dataclass(frozen=True)
class ImageFolderSource:
    """The images found below `root`; an id is the path relative to it, in POSIX form."""

    root: Path
    channels: int
    resolution: int
    found: Found
    distribution: str | None = None  # what they were read from, where that is not the official distribution
    above: int = 0  # folders of a path above that of the class

    @property
    def ids(self) -> Sequence[str]:
        """The relative paths, sorted by code point."""
        return tuple(self.found.sizes)

    @property
    def fingerprint(self) -> str:
        """One sha256 over every path and file size; it does not see an edit that keeps a file's size."""
        return fingerprint(self.found.sizes.items())

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """What lies below the root and is not taken."""
        return self.found.left_out

    @property
    def newest(self) -> Sequence[str]:
        """The images whose files were changed last."""
        return self.found.newest

    def only(self, ids: Sequence[str]) -> ImageFolderSource:
        """Return the source of these images alone."""
        return replace(self, found=self.found.only(list(ids)))

    def label(self, image_id: str) -> int:
        """Return the place of the image's class folder among those of all images, sorted; raise ImageError where it lies in none."""
        return self._place[self._folder(image_id)]

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(sorted({self._folder(image_id) for image_id in self.found.sizes}))}

    def _folder(self, image_id: str) -> str:
        parts = image_id.split("/")
        if len(parts) < self.above + 2:
            raise ImageError(f"{image_id} lies in no folder of a class")
        return parts[self.above]

    def read(self, image_id: str) -> np.ndarray:
        """Return the image as uint8 (C, R, R); raise ImageError where its file is missing, damaged or no image."""
        try:
            content = whole(f"{self.root}/{self.found.spelled.get(image_id, image_id)}", self.found.sizes.get(image_id, 0))
        except OSError as problem:
            raise ImageError(f"{image_id}: {problem.strerror}") from None
        return to_pixels(image_id, content, self.channels, self.resolution)
