"""A folder tree of images, in any format that Pillow reads and at any size."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from benchmark.contract import ImageError, Positive, entry
from registry.datasets.decode import pillow, to_pixels
from registry.datasets.resize import PREPROCESSING_VERSION

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


@entry(kind="image_folder")
class ImageFolder:
    """The images below one folder, resized by the protocol; three channels are RGB, one is luma (ITU-R 601)."""

    resolution: Positive
    channels: Literal[1, 3] = 3

    embedded: ClassVar[bool] = False
    preprocessing: ClassVar[str] = PREPROCESSING_VERSION

    def open(self, root: Path | None) -> ImageFolderSource:
        """Find the images below `root`; raise ImageError where there is no such folder or no image in it."""
        if root is None:
            raise ImageError("a folder of images is needed")
        pillow()
        return ImageFolderSource(root, self.channels, self.resolution, find_images(root))


@dataclass(frozen=True)
class ImageFolderSource:
    """The images found below `root`: path relative to it, in POSIX form, and size in bytes."""

    root: Path
    channels: int
    resolution: int
    sizes: dict[str, int]

    @property
    def ids(self) -> Sequence[str]:
        """The relative paths, sorted by code point."""
        return tuple(self.sizes)

    @property
    def fingerprint(self) -> str:
        """One sha256 over every path and file size; it does not see an edit that keeps a file's size."""
        words = (f"{image_id}\0{size}\n" for image_id, size in self.sizes.items())
        return hashlib.sha256("".join(words).encode()).hexdigest()

    def read(self, image_id: str) -> np.ndarray:
        """Return the image as uint8 (C, R, R); raise ImageError where its file is missing, damaged or no image."""
        try:
            content = (self.root / image_id).read_bytes()
        except OSError as problem:
            raise ImageError(f"{image_id}: {problem.strerror}") from None
        return to_pixels(image_id, content, self.channels, self.resolution)


def find_images(root: Path) -> dict[str, int]:
    """Return relative POSIX path and size of every image below `root`, sorted by path.

    Hidden files and folders are left out, and so are symbolic links: one that stays inside would be the same image
    twice, one that leads out is not part of this folder. `root` itself may be a link.
    """
    if not os.path.isdir(root):
        raise ImageError(f"{root} is not a folder" if os.path.lexists(root) else f"{root} does not exist")
    found, links = {}, 0
    for folder, folders, files in os.walk(root, onerror=_refuse):
        links += sum(os.path.islink(os.path.join(folder, name)) for name in folders)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(folder, name)
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES:
                continue
            state = _lstat(path)
            if stat.S_ISLNK(state.st_mode):
                links += 1
            elif stat.S_ISREG(state.st_mode):
                found[_relative(path, root)] = state.st_size
    if not found:
        left_out = f" {links} symbolic links were left out: give the folder that they lead to." if links else ""
        raise ImageError(f"{root} holds no image: looked below it for files ending in {', '.join(SUFFIXES)}.{left_out}")
    return dict(sorted(found.items()))


def _relative(path: Path, root: Path) -> str:
    name = path.relative_to(root).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ImageError(f"the name of {name!r} is not valid UTF-8: rename it") from None
    return name


def _lstat(path: Path) -> os.stat_result:
    try:
        return path.lstat()
    except OSError as problem:
        raise _unreadable(problem) from None


def _refuse(problem: OSError) -> None:
    raise _unreadable(problem)


def _unreadable(problem: OSError) -> ImageError:
    return ImageError(f"{problem.filename} cannot be read: {problem.strerror}")
