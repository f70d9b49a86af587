"""Parquet shards of images, as the Hugging Face hub lays them out: a column of encoded images, many rows a shard."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from benchmark.contract import FieldError, ImageError, Positive, entry, install
from registry.datasets.decode import pillow, to_pixels
from registry.datasets.resize import PREPROCESSING_VERSION
from registry.datasets.sources import (
    Numbered,
    Recent,
    contents,
    existing_folder,
    fingerprint,
)

if TYPE_CHECKING:
    import pyarrow as pa

NUMBER = re.compile(r"-(\d{5})-of-(\d{5})")
HELD_ROWS = 2048  # at least what all threads of the packing are at together


@entry(kind="parquet")
class Parquet:
    """The images of the shards that `shards` (a glob pattern below the root) finds; ids are 'path of the shard:row'.

    The column holds structs with the field 'bytes', or the bytes themselves.
    """

    resolution: Positive
    shards: str = "**/train-*.parquet"
    column: str = "image"
    channels: Literal[1, 3] = 3

    embedded: ClassVar[bool] = False
    preprocessing: ClassVar[str] = PREPROCESSING_VERSION

    def validate(self) -> None:
        """Refuse a pattern that leads out of the root."""
        if not self.shards or self.shards.startswith("/") or ".." in self.shards.split("/"):
            raise FieldError(f"shards = {self.shards!r} must be a pattern below the root, such as 'data/train-*.parquet'")

    def open(self, root: Path | None) -> ParquetSource:
        """Find the shards below `root` (or the one that it is); raise ImageError where there is none, or no such column."""
        if root is None or not root.is_file():
            root = existing_folder(root, f"a folder of Parquet shards that match {self.shards}, or one shard")
        pillow()
        found = [root] if root.is_file() else sorted(path for path in root.glob(self.shards) if path.is_file())
        if not found:
            other = next(iter(sorted(root.rglob("*.parquet"))), None)
            hint = f". An entry of your own with other `Parquet.shards` would find {other.relative_to(root)}" if other else ""
            raise ImageError(f"{root} holds no shard that matches {self.shards}; {contents(root)}{hint}")
        if not root.is_file():
            _check_complete(found)
        base = root.parent if root.is_file() else root
        return ParquetSource(self, {path.relative_to(base).as_posix(): path for path in found})


class ParquetSource:
    """The rows of the shards in the order of their names; the row groups that are being read are held."""

    in_parts: ClassVar[bool] = True

    def __init__(self, config: Parquet, shards: dict[str, Path]) -> None:
        self.config = config
        self._shards = shards
        self._groups: dict[str, np.ndarray] = {name: self._group_ends(path) for name, path in shards.items()}
        rows = {name: int(ends[-1]) for name, ends in self._groups.items()}
        if not any(rows.values()):
            raise ImageError(f"the shards {', '.join(shards)} hold no row")
        self.ids = Numbered(rows)
        self.fingerprint = fingerprint((f"{name}\0{_footer(path)}", path.stat().st_size) for name, path in shards.items())
        self._images: Recent[pa.ChunkedArray] = Recent(self._row_group, HELD_ROWS)

    def read(self, image_id: str) -> np.ndarray:
        """Return the image as uint8 (C, R, R); raise ImageError naming shard and row where it is missing or damaged."""
        shard, row = self.ids.split(image_id)
        ends = self._groups[shard]
        group = int(np.searchsorted(ends, row, side="right"))
        value = self._images(f"{shard}:{group}")[row - (int(ends[group - 1]) if group else 0)].as_py()
        if value is None:
            raise ImageError(f"{image_id}: the row holds no image bytes, at most a path: embed the images in the shards")
        return to_pixels(image_id, value, self.config.channels, self.config.resolution)

    def _group_ends(self, path: Path) -> np.ndarray:
        """Return the number of rows up to the end of every row group, having checked the column."""
        with _open(path) as file:
            _check_column(path, file.schema_arrow, self.config.column)
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        return np.cumsum(sizes) if sizes else np.zeros(1, dtype=np.int64)

    def _row_group(self, key: str) -> pa.ChunkedArray:
        shard, _, group = key.rpartition(":")
        with _open(self._shards[shard]) as file:
            try:
                column = file.read_row_group(int(group), columns=[self.config.column], use_threads=False).column(0)
            except Exception as problem:  # pyarrow raises ArrowInvalid, OSError, ... on damaged pages
                raise ImageError(f"{shard}, row group {group}: damaged: {problem}") from None
        return _bytes(column)


def _check_complete(shards: list[Path]) -> None:
    """Raise ImageError naming a shard that is missing, where their names ('-00000-of-00002') say how many there are."""
    numbers: dict[tuple[Path, str], set[int]] = {}
    for path in shards:
        if match := NUMBER.search(path.name):
            numbers.setdefault((path.parent / path.name[: match.start()], match[2]), set()).add(int(match[1]))
    for (begin, total), there in numbers.items():
        if absent := sorted(set(range(int(total))) - there):
            raise ImageError(f"{begin}-{absent[0]:05d}-of-{total}.parquet is missing: the other shards say that there are {int(total)}")


def _bytes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the encoded images of a column of structs or of bytes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


def _check_column(path: Path, schema: pa.Schema, name: str) -> None:
    import pyarrow as pa

    if name not in schema.names:
        raise ImageError(
            f"{path} has no column '{name}'; its columns are {', '.join(schema.names)}. An entry of your own "
            "names another one with `Parquet.column`"
        )
    kind = schema.field(name).type
    if pa.types.is_struct(kind):
        kind = kind.field("bytes").type if kind.get_field_index("bytes") >= 0 else kind
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise ImageError(f"the column '{name}' of {path} holds {kind}, not the bytes of images")


def _footer(path: Path) -> str:
    """Return the sha256 of a shard's footer, which lists the place and the statistics of every page of every column."""
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        file.seek(-8 - int.from_bytes(file.read(4), "little"), os.SEEK_END)
        return hashlib.sha256(file.read()).hexdigest()


def _open(path: Path) -> Any:
    """Open a shard, or raise ImageError naming it."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise ImageError(f"reading Parquet needs pyarrow: {install('data')}") from None
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except Exception as problem:  # ArrowInvalid, OSError
        raise ImageError(f"{path} is no whole Parquet file: {problem}. Download it again") from None
