"""A look at a subset: which images a run would train on and be tested on, as one labelled picture."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.declaring.spec import Half
from benchmark.errors import UsageError
from benchmark.images.packing import Packed
from benchmark.images.subsets import Subset, largest, subset
from benchmark.recording import grids

SHOWN = 64  # images of a section, unless said otherwise


@dataclass(frozen=True, eq=False)
class Preview:
    """A picture of the first images of a subset, and what it shows."""

    taken: Subset
    name: str
    train_ids: tuple[str, ...]  # of the images that are shown
    test_ids: tuple[str, ...]
    png: bytes

    @property
    def stem(self) -> str:
        """The subset as a file name."""
        half = f"-half_{self.taken.half}" if self.taken.half else ""
        return f"{self.name}-n{self.taken.size}-s{self.taken.seed}{half}"

    def to_json(self) -> dict[str, Any]:
        """Return what the picture shows as plain JSON."""
        taken = self.taken
        return {
            "dataset": self.name,
            "subset": taken.size,
            "seed": taken.seed,
            "half": taken.half,
            "train_sha256": taken.digest,
            "test_sha256": taken.test_digest,
            "dropped_duplicates": taken.dropped_duplicates,
            "train_ids": list(self.train_ids),
            "test_ids": list(self.test_ids),
        }


def preview(packed: Packed, name: str, *, size: int | None, seed: int, half: Half | None, test: bool, shown: int = SHOWN) -> Preview:
    """Draw the first `shown` training images of a subset, and with `test` as many test images.

    `size` None is a subset as large as what is shown, or as the dataset has.
    """
    if shown < 1:
        raise UsageError(f"`shown={shown}` must be at least 1.")
    size = max(1, min(shown, largest(packed, name, seed, half))) if size is None else size
    taken = subset(packed, name, size, seed, half)
    halved = f", half {half}" if half else ""
    sections = [_section(f"{name}, N={size:,}, seed {seed}{halved}: training images", taken.train, shown)]
    if test:
        sections.append(_section(f"{name}, seed {seed}: test images", taken.test, shown))
    test_ids = tuple(packed.ids[i] for i in taken.test_indices[:shown]) if test else ()
    return Preview(taken, name, taken.train_ids[:shown], test_ids, grids.labelled(sections))


def _section(label: str, images: np.ndarray, shown: int) -> tuple[str, np.ndarray]:
    cut = f", the first {shown:,} of {len(images):,}" if len(images) > shown else f", all {len(images):,}"
    return label + cut, images[:shown]
