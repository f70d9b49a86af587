"""A folder tree of images, in any format that Pillow reads and at any size."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from benchmark.contract import ImageError, Positive, entry
from registry.datasets.resize import PREPROCESSING_VERSION, shrink, to_array

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")


@entry
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
        _pillow()
        return ImageFolderSource(root, self, find_images(root))


@dataclass(frozen=True)
class ImageFolderSource:
    """The images found below `root`: path relative to it, in POSIX form, and size in bytes."""

    root: Path
    config: ImageFolder
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
        try:
            return to_array(shrink(decode(content, self.config.channels), self.config.resolution))
        except ImageError as problem:
            raise ImageError(f"{image_id}: {problem}") from None


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


def decode(content: bytes, channels: int) -> Image.Image:
    """Return a stored image upright and in mode RGB (3 channels) or L (1), or raise ImageError.

    The EXIF orientation is applied. Transparent parts show white. 16-bit grey is scaled to 8 bits, CMYK goes to RGB
    by Pillow's plain formula, colour profiles are not applied; of an animation the first frame counts.
    """
    pil = _pillow()
    try:
        with pil.Image.open(io.BytesIO(content)) as image:
            image.load()
            upright = pil.ImageOps.exif_transpose(image)
        return _eight_bits(upright).convert("L" if channels == 1 else "RGB")
    except pil.UnidentifiedImageError:
        raise ImageError("empty file" if not content else "no image that Pillow can read") from None
    except ImageError:
        raise
    except Exception as problem:  # on a damaged file a decoder raises anything: OSError, SyntaxError, struct.error ...
        raise ImageError(f"damaged: {problem or type(problem).__name__}") from None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return `image` with 8 bits per channel and without transparency."""
    from PIL import Image

    if image.mode in SIXTEEN_BITS:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError("its grey values do not fit 16 bits")
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in TRANSPARENT or "transparency" in image.info:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    if image.mode == "F":
        raise ImageError("floating-point grey values have no agreed range: convert it to 8 or 16 bits")
    return image


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


def _pillow():  # noqa: ANN202 (the package itself)
    """Return Pillow, which only reading stored images needs, with every format registered."""
    try:
        import PIL
        from PIL import Image, ImageOps  # noqa: F401
    except ImportError:
        raise ImageError("reading images needs Pillow: pip install 'dit-generalization-bench[data]'") from None
    Image.init()  # here, because the first use in several threads at once would race
    return PIL
