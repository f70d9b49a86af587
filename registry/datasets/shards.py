"""Parquet files one by one: which belong together, which column holds the images, and their batches."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.contract import ImageError, install
from registry.datasets.sources import no_whole

if TYPE_CHECKING:
    import pyarrow as pa

NUMBER = re.compile(r"-(\d{5})-of-(\d{5})")
SPLIT = re.compile(r"(?:partial-)?(train|training|valid|validation|val|dev|test)(?:[-_.].*)?", re.IGNORECASE)
ROWS, BYTES = 256, 64 << 20  # of a batch that is in memory at once, about
COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes")  # where several columns hold bytes

LABELS = ("label", "labels")  # columns that hold classes as whole numbers


@dataclass(frozen=True, eq=False)
class Shard:
    """One file: its column of images, and the number of rows up to the end of every row group."""

    path: Path
    column: str
    nested: bool  # structs of bytes and path
    ends: np.ndarray
    footer: str  # sha256: it lists the place and the statistics of every page of every column

    @classmethod
    def opened(cls, path: Path, column: str | None) -> Shard:
        """Read the footer; `column` None takes the one that holds images. Raise ImageError naming what is wrong."""
        with _file(path) as file:
            schema = file.schema_arrow
            column = column or _images_column(path, schema)
            nested = _check_column(path, schema, column)
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        return cls(path, column, nested, np.cumsum(sizes) if sizes else np.zeros(1, dtype=np.int64), _footer(path))

    @staticmethod
    def counted(path: Path) -> int:
        """Return the number of rows of a file."""
        with _file(path) as file:
            return int(file.metadata.num_rows)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.ends[-1])

    def batches(self, group: int) -> Iterator[pa.Array]:
        """Yield the encoded images of a row group, some rows at a time: no batch is near the 2 GiB that Arrow can address."""
        wanted = f"{self.column}.bytes" if self.nested else self.column
        with _file(self.path) as file:
            held = file.metadata.row_group(group)
            size = max(1, min(ROWS, held.num_rows * BYTES // max(1, held.total_byte_size)))
            for batch in file.iter_batches(batch_size=size, row_groups=[group], columns=[wanted], use_threads=False):
                yield _bytes(batch.column(0), self.nested)

    def paths(self) -> Iterator[str | None]:
        """Yield the path that every row keeps beside its image, or None; no image is read."""
        with _file(self.path) as file:
            kind = file.schema_arrow.field(self.column).type
            if not self.nested or kind.get_field_index("path") < 0:
                yield from [None] * self.rows
                return
            for batch in file.iter_batches(columns=[f"{self.column}.path"], use_threads=False):
                yield from (value.as_py() for value in _field(batch.column(0), "path"))

    def labels(self) -> Iterator[int | None]:
        """Yield the class of every row; raise ImageError where no column of whole numbers is called 'label' or 'labels'."""
        import pyarrow as pa

        with _file(self.path) as file:
            schema = file.schema_arrow
            named = [name for name in LABELS if name in schema.names and pa.types.is_integer(schema.field(name).type)]
            if not named:
                raise ImageError(
                    f"{self.path.name} has no column of labels ({' or '.join(LABELS)}); its columns are {', '.join(schema.names)}"
                )
            for batch in file.iter_batches(columns=named[:1], use_threads=False):
                yield from batch.column(0).to_pylist()


def of_splits(root: Path, every: Sequence[Path], splits: Sequence[str], *, named: bool = False) -> list[Path]:
    """Return the shards of these splits, by their names or their folders; all where none names a split (not with `named`)."""
    split_of = {path: _split(path.relative_to(root)) for path in every}
    if not named and not any(split_of.values()):
        return list(every)
    return [path for path in every if split_of[path] in splits]


def check_one_set(root: Path, shards: Sequence[Path], *, merged: bool = False) -> None:
    """Raise ImageError where shards are missing, or of several data sets side by side, which are never merged unasked."""
    folders = sorted({path.parent.parent if _split(Path(path.parent.name)) else path.parent for path in shards})
    if len(folders) > 1 and not merged:
        names = ", ".join(f"{folder.relative_to(root)}/" for folder in folders[:5])
        raise ImageError(
            f"{root} holds shards of several configurations side by side ({names}): give one of them: `root={str(folders[0])!r}`. "
            "An entry of your own with `Parquet.shards` may take several"
        )
    numbers: dict[Path, dict[str, list[int]]] = {}
    for path in shards:
        if match := NUMBER.search(path.name):
            numbers.setdefault(path.parent / path.name[: match.start()], {}).setdefault(match[2], []).append(int(match[1]))
    for begin, totals in numbers.items():
        for total, there in totals.items():
            if len(totals) > 1 or len(set(there)) < len(there):
                raise ImageError(f"{begin}-*.parquet are shards of several versions side by side: keep those of one")
            if absent := sorted(set(range(int(total))) - set(there)):
                raise ImageError(f"{begin}-{absent[0]:05d}-of-{total}.parquet is missing: the other shards say that there are {int(total)}")


def _split(path: Path) -> str | None:
    """Return the split that a file's name begins with, or that one of its folders is called by."""
    for part in (path.name, *(parent.name for parent in path.parents)):
        if match := SPLIT.fullmatch(part):
            word = match[1].lower()
            return {"training": "train", "valid": "val", "validation": "val", "dev": "val"}.get(word, word)
    return None


def _images_column(path: Path, schema: pa.Schema) -> str:
    import pyarrow as pa

    structs = [f.name for f in schema if pa.types.is_struct(f.type) and f.type.get_field_index("bytes") >= 0]
    plain = [f.name for f in schema if _holds_bytes(f.type)]
    for found in (structs, plain):
        if len(found) > 1:
            found = [name for name in COLUMNS if name in found][:1] or found
        if len(found) == 1:
            return found[0]
    raise ImageError(f"{path} has no column that is plainly the images'; its columns are {', '.join(schema.names)}")


def _check_column(path: Path, schema: pa.Schema, name: str) -> bool:
    """Tell whether a column holds structs; raise ImageError where it is not there or holds no bytes."""
    import pyarrow as pa

    if name not in schema.names:
        raise ImageError(
            f"{path} has no column '{name}'; its columns are {', '.join(schema.names)}. An entry of your own "
            "names another one with `Parquet.column`"
        )
    kind = schema.field(name).type
    nested = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    if not _holds_bytes(kind.field("bytes").type if nested else kind):
        raise ImageError(f"the column '{name}' of {path} holds {kind}, not the bytes of images")
    return nested


def _holds_bytes(kind: pa.DataType) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


def _bytes(column: pa.Array, nested: bool) -> pa.Array:
    """Return the encoded images of a column of structs or of bytes."""
    import pyarrow as pa

    column = _field(column, "bytes") if nested else column
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _field(column: pa.Array, name: str) -> pa.Array:
    import pyarrow.compute as pc

    return pc.struct_field(column, name)


def _footer(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        file.seek(-8 - int.from_bytes(file.read(4), "little"), os.SEEK_END)
        return hashlib.sha256(file.read()).hexdigest()


@contextmanager
def _file(path: Path) -> Iterator[Any]:
    """Open a file, or raise ImageError naming it; its pages are read in pieces and their checksums compared."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise ImageError(f"reading Parquet needs pyarrow: {install('data')}") from None
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True, buffer_size=1 << 20)
    except Exception as problem:  # ArrowInvalid, OSError
        raise no_whole(path, "Parquet file", problem) from None
    with file:
        yield file
