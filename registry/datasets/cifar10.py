"""CIFAR-10 (Krizhevsky 2009): 32x32 photographs of ten classes, from the official binary version and what it is mirrored as.

Read are cifar-10-binary.tar.gz as it is downloaded, its folder, Parquet mirrors, and trees of image files. The Python
version is a pickle, and reading a pickle runs whatever code it holds: it is refused, the same site has the binary one.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

import numpy as np

from benchmark.contract import HELD_OUT, HeldOut, ImageError, LeftOut, Positive, added, entry
from registry.datasets.decode import pillow
from registry.datasets.image_folder import ImageFolderSource
from registry.datasets.parquet import ParquetSource, mirror
from registry.datasets.partitions import check_partitions
from registry.datasets.resize import PREPROCESSING_VERSION, shrink, to_array
from registry.datasets.sources import Leftovers, Numbered, contents, existing_folder, no_whole
from registry.datasets.tree import COMPANIONS, Found, Search

PARTITIONS = {"train": 50_000, "test": 10_000}  # and the images of each
BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
ALL = sum(map(len, BATCHES.values()))
CLASSES = 10  # airplane to truck: their official order is that of the alphabet, as class folders are sorted
SIDE, ROW = 32, 1 + 3 * 32 * 32  # a row is the class, then the red plane, the green and the blue
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # of cifar-10-binary.tar.gz, as its page publishes it
ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-10-binary.tgz", "cifar-10-binary.tar")  # the last: unpacked once by a browser
FOLDER = "cifar-10-batches-bin"
BINARY = re.compile(r"(data_batch_[1-5]|test_batch)\.bin")
OTHERS = ("cifar-10-python.tar.gz", "cifar-10-batches-py", "cifar-10-matlab.tar.gz", "cifar-10-batches-mat")
BESIDE = ("batches.meta.txt", "readme.html")
LAYOUT = f"the folder with {ARCHIVES[0]} or {FOLDER}/, with Parquet shards, or with train/ and its class folders"


@entry(kind="cifar10")
class Cifar10:
    """The photographs of the named partitions, reduced by the protocol; an id is 'data_batch_1:0', the batch and the row in it."""

    resolution: Positive
    partitions: tuple[Literal["train", "test"], ...] = ("train",)
    follows: str | None = None  # the entry whose order this one takes: the same photographs at another resolution
    held_out: HeldOut = added(HELD_OUT)  # images for testing; fewer where there are few

    channels: ClassVar[int] = 3
    embedded: ClassVar[bool] = False
    preprocessing: ClassVar[str] = PREPROCESSING_VERSION
    classes: ClassVar[int] = CLASSES

    def validate(self) -> None:
        """Refuse no partition, or one named twice."""
        check_partitions(self.partitions, PARTITIONS)

    @property
    def official_count(self) -> int:
        """The number of images of these partitions."""
        return sum(PARTITIONS[name] for name in self.partitions)

    def open(self, root: Path | None) -> BatchesSource | ImageFolderSource | ParquetSource:
        """Find the batches, the shards or the tree below `root`; raise ImageError saying what should be there."""
        root = existing_folder(root, LAYOUT, suffixes=(".gz", ".tgz", ".tar", ".parquet"))
        pillow()
        if store := _store(root):
            return BatchesSource(self, *store)
        if rows := mirror(root, self.partitions, self.channels, self.resolution):
            return rows
        if tree := _tree(root, self.partitions):
            images = _images(tree, self.partitions)
            return ImageFolderSource(tree, self.channels, self.resolution, images, "image files, one a photograph", above=1)
        raise ImageError(f"{root} holds no batch of CIFAR-10; it should be {LAYOUT}; {contents(root)}{_pickled(root)}")


class BatchesSource:
    """The rows of the batches in order, mapped from their files; those of an archive are unpacked aside."""

    def __init__(self, config: Cifar10, files: Mapping[str, Path], archive: Path | None, left_out: Leftovers) -> None:
        self.config = config
        self.distribution = _not_as_published(archive) if archive else None
        self._unpacked = _unpacked(archive) if archive else None
        if self._unpacked:
            files = _binaries(Path(self._unpacked.name))
        try:
            wanted = [name for partition in config.partitions for name in BATCHES[partition]]
            if absent := [name for name in wanted if name not in files]:
                raise ImageError(f"{absent[0]}.bin is missing beside {', '.join(sorted(files)) or 'nothing'}: download the archive again")
            self._rows = {name: _rows(files[name]) for name in wanted}
        except ImageError:
            self.close()
            raise
        self.ids = Numbered({name: len(rows) for name, rows in self._rows.items()})
        for name, path in files.items():
            if name not in wanted:
                left_out.add("of another partition", f"{name}:0", path.stat().st_size // ROW, expected=True)
        self.left_out: Sequence[LeftOut] = left_out.listed()
        self.fingerprint = hashlib.sha256(
            "".join(hashlib.sha256(rows.data).hexdigest() for rows in self._rows.values()).encode()
        ).hexdigest()

    def read(self, image_id: str) -> np.ndarray:
        """Return the image as uint8 (3, R, R)."""
        from PIL import Image

        name, row = self.ids.split(image_id)
        planes = np.array(self._rows[name][row, 1:]).reshape(3, SIDE, SIDE)
        if self.config.resolution == SIDE:
            return planes
        return to_array(shrink(Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0))), self.config.resolution))

    def label(self, image_id: str) -> int:
        """Return the class, which is the first byte of the row."""
        name, row = self.ids.split(image_id)
        return int(self._rows[name][row, 0])

    def close(self) -> None:
        """Remove what was unpacked."""
        if self._unpacked:
            self._unpacked.cleanup()


def _store(root: Path) -> tuple[Mapping[str, Path], Path | None, Leftovers] | None:
    """Return the files of the batches, or the archive that holds them, and what lies beside them; None where there are none."""
    left_out = Leftovers()
    if root.is_file():
        return None if root.suffix == ".parquet" else ({}, root, left_out)
    places = [root / name for name in (FOLDER, "", f"cifar10/{FOLDER}", "cifar10", f"cifar-10-binary/{FOLDER}")]
    for place in places:
        if place.is_dir() and (files := _binaries(place)) and (len(files) == ALL or not _archive(root)):
            for path in sorted(place.iterdir()):
                if not BINARY.fullmatch(path.name):
                    left_out.add("no batch of the binary version", path.name, expected=path.name in (*BESIDE, *ARCHIVES, *OTHERS))
            return files, None, left_out
    if archive := _archive(root):
        for path in sorted(archive.parent.iterdir()):
            if path != archive:
                left_out.add("not needed: the images are read from the archive", path.name, expected=True)
        return {}, archive, left_out
    return None


def _archive(root: Path) -> Path | None:
    return next((path for below in ("", "cifar10") for name in ARCHIVES if (path := root / below / name).is_file()), None)


def _binaries(folder: Path) -> dict[str, Path]:
    return {match[1]: path for path in sorted(folder.iterdir()) if (match := BINARY.fullmatch(path.name)) and path.is_file()}


def _rows(path: Path) -> np.ndarray:
    """Return the rows of a batch, (N, ROW), mapped from its file."""
    size = path.stat().st_size
    if not size or size % ROW:
        raise no_whole(path, "batch of CIFAR-10", f"{size:,} bytes are no whole number of rows of {ROW:,}")
    rows = np.memmap(path, np.uint8, "r").reshape(-1, ROW)
    if (most := int(rows[:, 0].max())) >= CLASSES:
        raise ImageError(f"{path} is no batch of CIFAR-10, or damaged: it has a class {most}, and there are ten from 0")
    return rows


def _not_as_published(archive: Path) -> str | None:
    """Say that an archive has not the published checksum, None where it has."""
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    return None if found == MD5 else f"an archive of the md5 {found} (the published one of {ARCHIVES[0]} is {MD5})"


def _unpacked(archive: Path) -> tempfile.TemporaryDirectory[str]:
    """Unpack the batches of an archive; raise ImageError where it holds none or is damaged."""
    folder = tempfile.TemporaryDirectory(prefix="cifar10-")
    try:
        with tarfile.open(archive, "r:*") as members:
            for member in members:
                name = PurePosixPath(member.name).name
                if BINARY.fullmatch(name) and (packed := members.extractfile(member)):
                    with packed, Path(folder.name, name).open("wb") as file:
                        shutil.copyfileobj(packed, file, 1 << 20)
    except Exception as problem:  # tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile: damaged; else the disk is full
        folder.cleanup()
        if isinstance(problem, OSError) and problem.errno:
            said = f"unpacking {archive} into {folder.name} failed: {problem.strerror}; TMPDIR names a folder with more room"
            raise ImageError(said) from None
        raise no_whole(archive, "archive of CIFAR-10's binary version", problem) from None
    if not any(Path(folder.name).iterdir()):
        folder.cleanup()
        raise ImageError(f"{archive} holds no data_batch_1.bin: it is not {ARCHIVES[0]}{_pickled(archive)}")
    return folder


def _tree(root: Path, partitions: Sequence[str]) -> Path | None:
    """Return the folder that holds a folder of class folders for every partition."""
    places = (root, *(root / name for name in ("cifar10", "cifar10/cifar10", "CIFAR-10-images", "CIFAR-10-images-master")))
    return next((place for place in places if all(any(_folders(place / one)) for one in partitions)), None)


def _folders(place: Path) -> Iterator[Path]:
    return (path for path in place.iterdir() if path.is_dir()) if place.is_dir() else iter(())


def _images(tree: Path, partitions: Sequence[str]) -> Found:
    """Return the images of the partitions; those of the others are counted."""
    search = Search(tree)
    for name in partitions:
        search.enter(tree / name, f"{name}/")
    found = search.found()
    if not found.sizes:
        raise ImageError(f"the class folders of {tree} hold no image; it should be {LAYOUT}")
    others = Leftovers(found.left_out)
    for path in sorted(tree.iterdir()):
        if path.name not in PARTITIONS:
            others.add("beside the partitions", path.name, expected=path.name.startswith(".") or path.suffix in COMPANIONS)
    for name in PARTITIONS.keys() - set(partitions):
        rest = Search(tree)
        if (tree / name).is_dir():
            rest.enter(tree / name, f"{name}/")
        for image_id in rest.found().sizes:
            others.add("of another partition", image_id, expected=True)
    return Found(found.sizes, found.spelled, found.newest, others.listed())


def _pickled(root: Path) -> str:
    """Say which versions lie there that are not read, and what to take in their place."""
    there = [name for name in OTHERS if root.name == name or root.is_dir() and ((root / name).exists() or root.name == name)]
    if not there:
        return ""
    why = "a pickle, and reading a pickle runs whatever code it holds" if "py" in there[0] else "MATLAB's format"
    return f". {there[0]} is {why}: take the binary version, {ARCHIVES[0]}, which the same page offers"
