"""my_dataset: generated colour gradients, as a start."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from benchmark.contract import ImageError, Positive, entry


@entry(kind="my_dataset")
class MyDataset:
    """Colour gradients of random direction: `count` images of `resolution` pixels a side."""

    # The fields are what a .gin file binds and `--set dataset.count=4096` changes; types and ranges are checked.
    resolution: Positive
    count: Positive

    channels: ClassVar[int] = 3
    embedded: ClassVar[bool] = True  # generated: no folder of files is needed
    preprocessing: ClassVar[str] = "my_dataset-1"  # another name when the bytes change

    def open(self, root: Path | None) -> "Gradients":
        """Open the images; they come from no folder."""
        if root is not None:
            raise ImageError("these images are generated, no folder is read")
        return Gradients(self)


@dataclass(frozen=True)
class Gradients:
    """The opened source: an image is a function of its id alone, on every machine."""

    config: MyDataset

    @property
    def ids(self) -> Sequence[str]:
        """One name per image, in a stable order."""
        return [f"{index:06d}" for index in range(self.config.count)]

    @property
    def fingerprint(self) -> str:
        """A sha256 that changes when the images do."""
        return hashlib.sha256(f"{MyDataset.preprocessing} {self.config}".encode()).hexdigest()

    def read(self, image_id: str) -> np.ndarray:
        """Return the image as uint8 (3, R, R)."""
        drawn = np.frombuffer(hashlib.sha256(image_id.encode()).digest(), dtype=np.uint8).astype(np.int64)  # 32 bytes
        side = np.arange(self.config.resolution)
        slope = (drawn[:3, None, None] % 9 - 4) * side[None, :, None] + (drawn[3:6, None, None] % 9 - 4) * side[None, None, :]
        centred = slope * 16 // self.config.resolution
        return np.clip(drawn[6:9, None, None] + centred, 0, 255).astype(np.uint8)
