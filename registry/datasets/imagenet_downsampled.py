"""ImageNet as its official downsampled archives hold it (Chrabaszcz et al. 2017): ten batches of rows of pixels.

They are read from their folder, from the zip that they come in, and from Parquet mirrors of the same images.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple

import numpy as np

from benchmark.contract import HELD_OUT, HeldOut, ImageError, Positive, added, entry
from registry.datasets.decode import pillow
from registry.datasets.parquet import ParquetSource, mirror
from registry.datasets.sources import Leftovers, Numbered, Recent, contents, existing_folder, fingerprint, no_whole

BATCH = re.compile(r"train_data_batch_(\d+)(\.npz)?")
BATCHES = "the folder with train_data_batch_1.npz to train_data_batch_10.npz of the downsampled ImageNet"


@entry(kind="imagenet_downsampled")
class DownsampledImageNet:
    """The training images as Chrabaszcz et al. (2017) distribute them, box-resized to 8, 16, 32 or 64 pixels, unchanged.

    Ids are 'train_data_batch_1:0' and so on: the batch, and the row in it.
    """

    resolution: Positive
    held_out: HeldOut = added(HELD_OUT)  # images for testing; fewer where there are few

    channels: ClassVar[int] = 3
    embedded: ClassVar[bool] = False
    preprocessing: ClassVar[str] = "as-distributed-1"
    official_count: ClassVar[int] = 1_281_167
    classes: ClassVar[int] = 1000

    def open(self, root: Path | None) -> DownsampledSource | ParquetSource:
        """Find the batches in `root` or in their zip; raise ImageError where one is missing, pickled, or of another resolution."""
        root = existing_folder(root, BATCHES, suffixes=(".zip", ".parquet"))
        stores = [_Batches.found(place) for place in _places(root, self.resolution)]
        if whole := next((store for store in stores if store.is_whole), None):
            return DownsampledSource(self, whole)
        store = next((store for store in stores if store.archives or store.pickled), None)
        if store is None:
            pillow()
            if rows := mirror(root, ("train",), self.channels, self.resolution, exact=True):
                rows.read(rows.ids[0])  # of another resolution, perhaps: it is said at once
                return rows
            raise ImageError(f"{root} holds no train_data_batch_1.npz; it should be {BATCHES}; {contents(root)}")
        if not store.archives:
            raise ImageError(
                f"{store.place / store.pickled[0]} is a pickled batch, and reading a pickle runs whatever code it holds. Give "
                "the folder of the .npz archives, which the same site offers"
            )
        absent = next(number for number in range(1, 11) if number not in store.archives)
        raise ImageError(f"{store.place / f'train_data_batch_{absent}.npz'} is missing; {root} should be {BATCHES}")


class Batch(NamedTuple):
    """One batch: a .npz file, or a member of a zip."""

    file: Path
    member: str | None
    size: int

    @property
    def title(self) -> str:
        """What errors call it."""
        return f"{self.member} in {self.file}" if self.member else str(self.file)

    @contextmanager
    def opened(self) -> Iterator[zipfile.ZipFile]:
        """Open the archive; that of a zip is copied out of it first, for a packed file cannot be read from its end."""
        if self.member is None:
            with zipfile.ZipFile(self.file) as archive:
                yield archive
            return
        with tempfile.TemporaryFile() as file:
            with zipfile.ZipFile(self.file) as outer, outer.open(self.member) as packed:
                shutil.copyfileobj(packed, file, 1 << 20)
            with zipfile.ZipFile(file) as archive:
                yield archive


class _Batches(NamedTuple):
    """The batches of one place by their numbers, the names of pickled ones, and of what else lies there."""

    place: Path
    archives: dict[int, Batch]
    pickled: list[str]
    others: list[str]

    @classmethod
    def found(cls, place: Path) -> _Batches:
        """Look into a folder or a zip."""
        made = cls(place, {}, [], [])
        for name, batch in _files(place):
            match = BATCH.fullmatch(PurePosixPath(name).name)
            if match is None:
                made.others.append(name)
            elif match[2]:
                made.archives[int(match[1])] = batch
            else:
                made.pickled.append(name)
        return made

    @property
    def is_whole(self) -> bool:
        """Tell whether all ten are there."""
        return set(range(1, 11)) <= self.archives.keys()


def _places(root: Path, resolution: int) -> list[Path]:
    """Return the folders and zips that may hold the batches, folders first."""
    if root.is_file():
        return [root]
    names = [f"Imagenet{resolution}_train_npz", f"Imagenet{resolution}_train"]
    folders = [root, *(root / name for name in names if (root / name).is_dir())]
    return folders + [root / f"{name}.zip" for name in names if (root / f"{name}.zip").is_file()]


def _files(place: Path) -> Iterator[tuple[str, Batch]]:
    if place.is_dir():
        for path in sorted(place.iterdir()):
            if path.is_file():
                yield path.name, Batch(path, None, path.stat().st_size)
        return
    try:
        with zipfile.ZipFile(place) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except (OSError, zipfile.BadZipFile) as problem:
        raise no_whole(place, "zip file", problem) from None
    yield from ((member.filename, Batch(place, member.filename, member.file_size)) for member in members)


class DownsampledSource:
    """The rows of the batches in order; a batch in use is unpacked into a temporary file, not into memory."""

    in_parts: ClassVar[bool] = True

    def __init__(self, config: DownsampledImageNet, store: _Batches) -> None:
        self.config = config
        self._batches = {f"train_data_batch_{number}": store.archives[number] for number in sorted(store.archives)}
        headers = {name: self._header(batch) for name, batch in self._batches.items()}
        self.ids = Numbered({name: rows for name, (rows, _, _) in headers.items()})
        self.fingerprint = fingerprint((f"{name} {rows} {crc}", self._batches[name].size) for name, (rows, crc, _) in headers.items())
        self._offsets = {name: offset for name, (_, _, offset) in headers.items()}
        self._shapes = {name: (rows,) for name, (rows, _, _) in headers.items()}
        self._labels: dict[str, np.ndarray] = {}
        self._rows: Recent[np.ndarray] = Recent(self._unpack, 0)
        left_out = Leftovers()
        for name in store.pickled:
            left_out.add("a pickled batch beside the archives", name, expected=True)
        for name in store.others:
            left_out.add("no batch of training images", name, expected=True)
        self.left_out = left_out.listed()

    def read(self, image_id: str) -> np.ndarray:
        """Return the image as uint8 (3, R, R): a row holds the red plane, then the green, then the blue."""
        name, row = self.ids.split(image_id)
        return np.array(self._rows(name)[row]).reshape(3, self.config.resolution, self.config.resolution)

    def label(self, image_id: str) -> int:
        """Return the class of an image, 0 to 999: the archives count from 1, in an order of their own."""
        name, row = self.ids.split(image_id)
        if name not in self._labels:
            self._labels[name] = self._labels_of(name)
        return int(self._labels[name][row]) - 1

    def _labels_of(self, name: str) -> np.ndarray:
        try:
            with self._batches[name].opened() as archive, archive.open("labels.npy") as member:
                found = np.lib.format.read_array(member, allow_pickle=False)
        except KeyError:
            raise ImageError(f"{name}.npz holds no array 'labels'") from None
        except Exception as problem:  # zipfile.BadZipFile, zlib.error, ValueError: a damaged member
            raise ImageError(f"{name}.npz is damaged: {problem}. Download it again") from None
        if found.shape != self._shapes[name]:
            raise ImageError(f"{name}.npz holds labels of shape {found.shape}, not one for each of its images")
        return found

    def _header(self, batch: Batch) -> tuple[int, int, int]:
        """Return the number of a batch's images, their checksum, and where their bytes begin in the member."""
        try:
            with batch.opened() as archive, archive.open("data.npy") as member:
                shape, fortran, dtype = _npy_header(member)
                crc, offset = archive.getinfo("data.npy").CRC, member.tell()
        except KeyError:
            raise ImageError(f"{batch.title} holds no array 'data'; it is no batch of the downsampled ImageNet") from None
        except Exception as problem:  # zipfile, zlib and numpy raise anything on a damaged archive
            if batch.member:
                raise ImageError(f"{batch.title} is no whole .npz archive: {problem}. Download it again") from None
            raise no_whole(batch.file, ".npz archive", problem) from None
        side = self.config.resolution
        if fortran or dtype != np.uint8 or len(shape) != 2 or not shape[0]:
            raise ImageError(f"{batch.title} holds {dtype} of shape {shape}, not one uint8 row for each image")
        if shape[1] != 3 * side * side:
            raise ImageError(
                f"{batch.title} holds rows of {shape[1]} bytes, but images of 3x{side}x{side} have {3 * side * side}. "
                f"Take the archives of {side}x{side}, or an entry of the resolution of these"
            )
        return shape[0], crc, offset

    def _unpack(self, name: str) -> np.ndarray:
        """Return the rows of a batch, mapped from a temporary file, so that memory holds what is in use."""
        batch = self._batches[name]
        try:
            with tempfile.TemporaryFile() as file:
                with batch.opened() as archive, archive.open("data.npy") as member:
                    shutil.copyfileobj(member, file, 1 << 20)  # reads to the end, where the checksum is compared
                file.flush()
                return np.memmap(file, np.uint8, "r", self._offsets[name]).reshape(-1, 3 * self.config.resolution**2)
        except OSError as problem:  # of the disk, not of an image: it must end the packing, not leave a batch out
            raise OSError(
                problem.errno,
                f"{problem.strerror} while {name}.npz was unpacked; TMPDIR names a folder with more room",
                tempfile.gettempdir(),
            ) from None
        except Exception as problem:  # zipfile.BadZipFile, zlib.error, ValueError: a damaged member
            raise ImageError(f"{name}.npz is damaged: {problem}. Download it again") from None


def _npy_header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of an array; an array of objects, which would be a pickle, shows there as such."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(member)
