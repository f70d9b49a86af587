"""CelebA (Liu et al. 2015) as it is distributed: the aligned and cropped images and the partition file.

torchvision's class is not used: it asks for every annotation file, checks only archives that it has downloaded itself,
and does not read the zip.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from benchmark.contract import FieldError, ImageError, Positive, entry
from registry.datasets.decode import pillow, to_pixels
from registry.datasets.resize import PREPROCESSING_VERSION
from registry.datasets.sources import (
    contents,
    existing_folder,
    fingerprint,
    first_of,
    lines_of,
)

PARTITIONS = {"train": 162_770, "val": 19_867, "test": 19_962}  # 0, 1, 2 in the partition file, and the images of each
PARTITION_FILE = "list_eval_partition.txt"
IMAGES = "img_align_celeba"
LAYOUT = f"the folder with {PARTITION_FILE} and {IMAGES}/ or {IMAGES}.zip"


@entry(kind="celeba")
class CelebA:
    """The aligned faces of the named partitions; ids are the file names, '000001.jpg'."""

    resolution: Positive
    partitions: tuple[Literal["train", "val", "test"], ...] = ("train",)

    channels: ClassVar[int] = 3
    embedded: ClassVar[bool] = False
    preprocessing: ClassVar[str] = PREPROCESSING_VERSION

    def validate(self) -> None:
        """Refuse no partition, or one named twice."""
        if not self.partitions or len(set(self.partitions)) != len(self.partitions):
            raise FieldError(f"partitions = {self.partitions!r} must name one or more of {', '.join(PARTITIONS)}, each once")

    @property
    def official_count(self) -> int:
        """The number of images that the official partition file gives these partitions."""
        return sum(PARTITIONS[name] for name in self.partitions)

    def open(self, root: Path | None) -> CelebASource:
        """Find the images of the partitions below `root`; raise ImageError naming what is missing."""
        root = existing_folder(root, LAYOUT)
        pillow()
        wanted = _partition(root, self.partitions)
        folder = first_of((root / IMAGES, root / "Img" / IMAGES), Path.is_dir)
        if folder:
            inner = folder / IMAGES  # where the zip was unpacked into a folder of its own name
            return CelebASource(self, _Folder(inner if inner.is_dir() else folder), wanted)
        archive = first_of((root / f"{IMAGES}.zip", root / "Img" / f"{IMAGES}.zip"), Path.is_file)
        if archive is None:
            raise ImageError(f"{root} holds neither {IMAGES}/ nor {IMAGES}.zip; it should be {LAYOUT}; {contents(root)}")
        return CelebASource(self, _Zip(archive), wanted)


class CelebASource:
    """The images that the partition file lists, by file name; files and zip give the same ids and fingerprint."""

    def __init__(self, config: CelebA, images: _Folder | _Zip, wanted: Sequence[str]) -> None:
        if missing := [name for name in wanted if name not in images.sizes]:
            raise ImageError(
                f"{images.path} lacks {len(missing):,} of the {len(wanted):,} images that {PARTITION_FILE} "
                f"lists, the first is {missing[0]}. Unpack or download the images again"
            )
        self.config, self._images = config, images
        self.ids: Sequence[str] = tuple(wanted)
        self.fingerprint = fingerprint((name, images.sizes[name]) for name in self.ids)

    def read(self, image_id: str) -> np.ndarray:
        """Return the image as uint8 (3, R, R); raise ImageError naming it where it is missing or damaged."""
        if image_id not in self._images.sizes:
            raise ImageError(f"there is no image '{image_id}'")
        return to_pixels(image_id, self._images.content(image_id), self.config.channels, self.config.resolution)

    def close(self) -> None:
        """Let go of the zip file."""
        self._images.close()


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.sizes = {file.name: file.stat().st_size for file in path.iterdir()}
        except OSError as problem:
            raise ImageError(f"{problem.filename} cannot be read: {problem.strerror}") from None

    def content(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as problem:
            raise ImageError(f"{name}: {problem.strerror}") from None

    def close(self) -> None:
        """Hold nothing open."""


class _Zip:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()
        members = (member for member in self._archive.infolist() if not member.is_dir())
        self._members = {Path(member.filename).name: member for member in members}
        self.sizes = {name: member.file_size for name, member in self._members.items()}

    def _open(self) -> None:
        try:
            self._archive, self._process = zipfile.ZipFile(self.path), os.getpid()  # it locks its file against other threads
        except (OSError, zipfile.BadZipFile) as problem:
            raise ImageError(f"{self.path} is no whole zip file: {problem}. Download it again") from None

    def content(self, name: str) -> bytes:
        if os.getpid() != self._process:  # a forked process would share the place in the file with the others
            self._open()
        try:
            return self._archive.read(self._members[name])
        except Exception as problem:  # zlib.error, BadZipFile, OSError, NotImplementedError: the archive is damaged
            raise ImageError(f"{name}: damaged in {self.path.name}: {problem}") from None

    def close(self) -> None:
        self._archive.close()


def _partition(root: Path, partitions: Sequence[str]) -> list[str]:
    """Return the names of the images of the partitions, in the order of the partition file."""
    path = first_of((root / folder / PARTITION_FILE for folder in ("", "Eval", "Anno")), Path.is_file)
    if path is None:
        raise ImageError(
            f"{root / PARTITION_FILE} is missing: the official partition, which says what images are for "
            f"training and lies in Eval/ of the distribution. {root} should be {LAYOUT}; {contents(root)}"
        )
    numbers, names = {str(list(PARTITIONS).index(name)) for name in partitions}, []
    for number, line in enumerate(lines_of(path), 1):
        name, _, part = line.partition(" ")
        if part.strip() not in ("0", "1", "2"):
            raise ImageError(f"{path}, line {number}: {line[:60]!r} is not 'NAME PARTITION' with a partition 0, 1 or 2")
        if part.strip() in numbers:
            names.append(name)
    if len(set(names)) != len(names) or not names:
        raise ImageError(f"{path} lists {'an image twice' if names else 'no image of ' + ', '.join(partitions)}")
    return names
