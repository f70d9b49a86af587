"""Parquet shards of images, as the Hugging Face hub lays them out: a column of encoded images, many rows a shard."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from benchmark.contract import HELD_OUT, Count, FieldError, HeldOut, ImageError, LeftOut, Positive, added, entry
from registry.datasets.decode import decode, pillow, to_pixels
from registry.datasets.resize import PREPROCESSING_VERSION, to_array
from registry.datasets.shards import Shard, check_one_set, of_splits
from registry.datasets.sources import (
    Leftovers,
    Numbered,
    Recent,
    contents,
    existing_folder,
    fingerprint,
)

if TYPE_CHECKING:
    import pyarrow as pa

HELD_ROWS = 2048  # at least what all threads of the packing are at together
TRAIN = "**/train-*.parquet"


@entry(kind="parquet")
class Parquet:
    """The images of the shards that `shards` (a glob pattern below the root) finds; ids are 'path of the shard:row'.

    The column holds structs with the field 'bytes', or the bytes themselves. With `classes` above 0, the column 'label' holds
    whole numbers below it.
    """

    resolution: Positive
    shards: str = TRAIN
    column: str = "image"
    channels: Literal[1, 3] = 3
    held_out: HeldOut = added(HELD_OUT)  # images for testing; fewer where there are few
    classes: Count = added(0)

    embedded: ClassVar[bool] = False
    preprocessing: ClassVar[str] = PREPROCESSING_VERSION

    def validate(self) -> None:
        """Refuse a pattern that leads out of the root."""
        if not self.shards or self.shards.startswith("/") or ".." in self.shards.split("/"):
            raise FieldError(f"shards = {self.shards!r} must be a pattern below the root, such as 'data/train-*.parquet'")

    def open(self, root: Path | None) -> ParquetSource:
        """Find the shards below `root` (or the one that it is); raise ImageError where there is none, or no such column."""
        pillow()
        if root is not None and root.is_file():
            return self._source(root.parent, [root], ())
        root = existing_folder(root, f"a folder of Parquet shards that match {self.shards}, or one shard")
        every = sorted(root.rglob("*.parquet"))
        found = sorted(path for path in root.glob(self.shards) if path.is_file())
        if not found and self.shards == TRAIN:
            found = of_splits(root, every, ("train",), named=True)
        if not found:
            hint = f". An entry of your own with other `Parquet.shards` would find {every[0].relative_to(root)}" if every else ""
            raise ImageError(f"{root} holds no shard that matches {self.shards}; {contents(root)}{hint}")
        check_one_set(root, found, merged=self.shards != TRAIN)
        return self._source(root, found, [path for path in every if path not in found])

    def _source(self, base: Path, found: list[Path], others: Sequence[Path]) -> ParquetSource:
        shards = {path.relative_to(base).as_posix(): Shard.opened(path, self.column) for path in found}
        return ParquetSource(shards, self.channels, self.resolution, left_out=_rest(base, others))


def mirror(
    root: Path,
    splits: Sequence[str],
    channels: int,
    resolution: int,
    *,
    exact: bool = False,
    named: Callable[[str], str | None] = lambda path: None,
) -> ParquetSource | None:
    """Return the rows of a dataset's Parquet mirror below `root`, None where there is no Parquet file.

    `named` turns the path that a row keeps into the official id of its image; where every row has one of its own, those
    are the ids. `exact` refuses images of another resolution instead of resizing them.
    """
    every = [root] if root.is_file() else sorted(root.rglob("*.parquet"))
    if not every or every[0].suffix != ".parquet":
        return None
    base = root.parent if root.is_file() else root
    found = every if root.is_file() else of_splits(root, every, splits)
    if not found:
        raise ImageError(f"{root} holds Parquet shards, but none of {' or '.join(splits)}: {', '.join(p.name for p in every[:5])}")
    check_one_set(base, found)
    shards = {path.relative_to(base).as_posix(): Shard.opened(path, None) for path in found}
    left_out = _rest(base, [path for path in every if path not in found])
    source = ParquetSource(shards, channels, resolution, exact=exact, left_out=left_out, distribution="Parquet shards")
    source.rename(named)
    return source


class ParquetSource:
    """The rows of the shards in the order of their names; the row groups that are being read are unpacked aside."""

    in_parts: ClassVar[bool] = True

    def __init__(
        self,
        shards: dict[str, Shard],
        channels: int,
        resolution: int,
        *,
        exact: bool = False,
        left_out: tuple[LeftOut, ...] = (),
        distribution: str | None = None,
    ) -> None:
        self._shards, self._channels, self._resolution, self._exact = shards, channels, resolution, exact
        self.left_out, self.distribution = left_out, distribution
        rows = {name: shard.rows for name, shard in shards.items()}
        if not any(rows.values()):
            raise ImageError(f"the shards {', '.join(shards)} hold no row")
        self._numbered = Numbered(rows)
        self.ids: Sequence[str] = self._numbered
        self._places: dict[str, int] = {}
        self._labels: dict[str, list[int | None]] = {}
        self.fingerprint = fingerprint((f"{name}\0{shard.footer}", shard.path.stat().st_size) for name, shard in shards.items())
        self._images: Recent[_Rows] = Recent(self._row_group, HELD_ROWS)

    def rename(self, named: Callable[[str], str | None]) -> None:
        """Take the official ids, where the shards keep a path for every row and no two are the same."""
        names: list[str] = []
        for shard in self._shards.values():
            for path in shard.paths():
                if path is None or (name := named(path)) is None:
                    return
                names.append(name)
        if len(set(names)) == len(names) == len(self._numbered):
            self.ids, self._places = tuple(names), {name: place for place, name in enumerate(names)}

    def read(self, image_id: str) -> np.ndarray:
        """Return the image as uint8 (C, R, R); raise ImageError naming shard and row where it is missing or damaged."""
        shard, row = self._place(image_id)
        ends = self._shards[shard].ends
        group = int(np.searchsorted(ends, row, side="right"))
        value = self._images(f"{shard}:{group}").content(row - (int(ends[group - 1]) if group else 0))
        if value is None:
            raise ImageError(f"{image_id}: the row holds no image bytes, at most a path: embed the images in the shards")
        return self._exactly(image_id, value) if self._exact else to_pixels(image_id, value, self._channels, self._resolution)

    def label(self, image_id: str) -> int:
        """Return the class that the row's column of labels says; raise ImageError where there is none."""
        shard, row = self._place(image_id)
        if shard not in self._labels:
            self._labels[shard] = list(self._shards[shard].labels())
        if (found := self._labels[shard][row]) is None:
            raise ImageError(f"{image_id}: the row has no label")
        return found

    def _place(self, image_id: str) -> tuple[str, int]:
        if self._places and image_id not in self._places:
            raise ImageError(f"there is no image '{image_id}'")
        return self._numbered.split(self._numbered[self._places[image_id]] if self._places else image_id)

    def _exactly(self, image_id: str, value: bytes) -> np.ndarray:
        try:
            image = decode(value, self._channels)
        except ImageError as problem:
            raise ImageError(f"{image_id}: {problem}") from None
        if image.size != (self._resolution, self._resolution):
            width, height = image.size
            raise ImageError(
                f"{image_id}: it is {width}x{height}, and the images of this dataset are {self._resolution}x{self._resolution}"
            )
        return to_array(image)

    def _row_group(self, key: str) -> _Rows:
        name, _, group = key.rpartition(":")
        try:
            return _Rows(self._shards[name].batches(int(group)))
        except OSError as problem:
            if problem.errno is None:  # of pyarrow: a damaged page
                raise ImageError(f"{name}, row group {group}: damaged: {problem}") from None
            where = tempfile.gettempdir()
            said = f"{problem.strerror} while {name} was unpacked; TMPDIR names a folder with more room"
            raise OSError(problem.errno, said, where) from None
        except Exception as problem:  # pyarrow raises ArrowInvalid, ... on damaged pages
            raise ImageError(f"{name}, row group {group}: damaged: {problem}") from None


class _Rows:
    """The encoded images of a row group in a temporary file: however large it is, memory holds what is in use."""

    def __init__(self, batches: Iterable[pa.Array]) -> None:
        ends, self._missing = [0], set()
        with tempfile.TemporaryFile() as file:
            for batch in batches:
                for value in batch:
                    content = value.as_py()
                    if content is None:
                        self._missing.add(len(ends) - 1)
                    ends.append(ends[-1] + file.write(content or b""))
            file.flush()
            self._bytes = np.memmap(file, np.uint8, "r") if ends[-1] else np.zeros(0, np.uint8)
        self._ends = np.array(ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def content(self, row: int) -> bytes | None:
        """Return the bytes of a row, None where it has none."""
        return None if row in self._missing else self._bytes[self._ends[row] : self._ends[row + 1]].tobytes()


def _rest(base: Path, others: Sequence[Path]) -> tuple[LeftOut, ...]:
    """Count the rows of the shards that are not read."""
    left_out = Leftovers()
    for path in others:
        left_out.add("rows of other splits", path.relative_to(base).as_posix(), Shard.counted(path), expected=True)
    return left_out.listed()
