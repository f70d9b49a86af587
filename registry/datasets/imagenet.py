"""ImageNet (Deng et al. 2009), ILSVRC2012: the folder of class folders, and the official downsampled archives.

torchvision's class is not used: it asks for the development kit and scipy, and unpacks what it finds.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmark.contract import ImageError, Positive, entry
from registry.datasets.decode import pillow
from registry.datasets.image_folder import ImageFolderSource, find_images
from registry.datasets.resize import PREPROCESSING_VERSION
from registry.datasets.sources import (
    Numbered,
    Recent,
    contents,
    existing_folder,
    fingerprint,
    first_of,
)

CLASS = re.compile(r"n\d{8}")
BATCH = re.compile(r"train_data_batch_(\d+)(\.npz)?")
TREE = "the ILSVRC2012 training images, one folder a class: n01440764/n01440764_10026.JPEG"
BATCHES = "the folder with train_data_batch_1.npz to train_data_batch_10.npz of the downsampled ImageNet"
PLACES = ("", "train", "ILSVRC2012_img_train", "ILSVRC/Data/CLS-LOC/train", "Data/CLS-LOC/train")


@entry(kind="imagenet")
class ImageNet:
    """The training images from their class folders; ids are 'n01440764/n01440764_10026.JPEG'."""

    resolution: Positive

    channels: ClassVar[int] = 3
    embedded: ClassVar[bool] = False
    preprocessing: ClassVar[str] = PREPROCESSING_VERSION
    official_count: ClassVar[int] = 1_281_167

    def open(self, root: Path | None) -> ImageFolderSource:
        """Find the class folders in `root`, or where the distribution puts them below it."""
        root = existing_folder(root, TREE)
        pillow()
        folder = first_of((root / name for name in PLACES), _has_classes)
        if folder is None:
            tars = next(root.glob("*.tar"), None)
            unpack = f". Unpack {tars.name} first, and the archive of every class in it" if tars else ""
            raise ImageError(f"{root} has no class folders (n and eight digits) in it; it should be {TREE}; {contents(root)}{unpack}")
        found = {image_id: size for image_id, size in find_images(folder).items() if CLASS.fullmatch(image_id.split("/")[0])}
        if not found:
            raise ImageError(f"the class folders of {folder} hold no image; it should be {TREE}")
        return ImageFolderSource(folder, self.channels, self.resolution, found)


@entry(kind="imagenet_downsampled")
class DownsampledImageNet:
    """The training images as Chrabaszcz et al. (2017) distribute them, box-resized to 8, 16, 32 or 64 pixels, unchanged.

    Ids are 'train_data_batch_1:0' and so on: the batch, and the row in it.
    """

    resolution: Positive

    channels: ClassVar[int] = 3
    embedded: ClassVar[bool] = False
    preprocessing: ClassVar[str] = "as-distributed-1"
    official_count: ClassVar[int] = 1_281_167

    def open(self, root: Path | None) -> DownsampledSource:
        """Find the batches in `root`; raise ImageError where one is missing, pickled, or of another resolution."""
        root = existing_folder(root, BATCHES)
        found = sorted((int(m.group(1)), path) for path in root.iterdir() if (m := BATCH.fullmatch(path.name)))
        archives = {number: path for number, path in found if path.suffix}
        if found and not archives:
            raise ImageError(
                f"{found[0][1]} is a pickled batch, and reading a pickle runs whatever code it holds. Give "
                "the folder of the .npz archives, which the same site offers"
            )
        if not archives:
            raise ImageError(f"{root} holds no train_data_batch_1.npz; it should be {BATCHES}; {contents(root)}")
        if absent := [number for number in range(1, 11) if number not in archives]:
            raise ImageError(f"{root / f'train_data_batch_{absent[0]}.npz'} is missing; {root} should be {BATCHES}")
        return DownsampledSource(self, archives.values())


class DownsampledSource:
    """The rows of the batches in order; a batch in use is unpacked into a temporary file, not into memory."""

    in_parts: ClassVar[bool] = True

    def __init__(self, config: DownsampledImageNet, archives: Iterable[Path]) -> None:
        self.config = config
        self._paths = {path.stem: path for path in archives}
        headers = {name: self._header(path) for name, path in self._paths.items()}
        self.ids = Numbered({name: rows for name, (rows, _, _) in headers.items()})
        self.fingerprint = fingerprint(
            (f"{name} {rows} {crc}", self._paths[name].stat().st_size) for name, (rows, crc, _) in headers.items()
        )
        self._offsets = {name: offset for name, (_, _, offset) in headers.items()}
        self._rows: Recent[np.ndarray] = Recent(self._unpack, 0)

    def read(self, image_id: str) -> np.ndarray:
        """Return the image as uint8 (3, R, R): a row holds the red plane, then the green, then the blue."""
        name, row = self.ids.split(image_id)
        return np.array(self._rows(name)[row]).reshape(3, self.config.resolution, self.config.resolution)

    def _header(self, path: Path) -> tuple[int, int, int]:
        """Return the number of a batch's images, their checksum, and where their bytes begin in the member."""
        try:
            with zipfile.ZipFile(path) as archive, archive.open("data.npy") as member:
                shape, fortran, dtype = _npy_header(member)
                crc, offset = archive.getinfo("data.npy").CRC, member.tell()
        except KeyError:
            raise ImageError(f"{path} holds no array 'data'; it is no batch of the downsampled ImageNet") from None
        except Exception as problem:  # zipfile, zlib and numpy raise anything on a damaged archive
            raise ImageError(f"{path} is no whole .npz archive: {problem}. Download it again") from None
        side = self.config.resolution
        if fortran or dtype != np.uint8 or len(shape) != 2 or not shape[0]:
            raise ImageError(f"{path} holds {dtype} of shape {shape}, not one uint8 row for each image")
        if shape[1] != 3 * side * side:
            raise ImageError(
                f"{path} holds rows of {shape[1]} bytes, but images of 3x{side}x{side} have {3 * side * side}. "
                f"Take the archives of {side}x{side}, or an entry of the resolution of these"
            )
        return shape[0], crc, offset

    def _unpack(self, name: str) -> np.ndarray:
        """Return the rows of a batch, mapped from a temporary file, so that memory holds what is in use."""
        path = self._paths[name]
        try:
            with tempfile.TemporaryFile() as file:
                with zipfile.ZipFile(path) as archive, archive.open("data.npy") as member:
                    shutil.copyfileobj(member, file, 1 << 20)  # reads to the end, where the checksum is compared
                file.flush()
                return np.memmap(file, np.uint8, "r", self._offsets[name]).reshape(-1, 3 * self.config.resolution**2)
        except OSError as problem:  # of the disk, not of an image: it must end the packing, not leave a batch out
            raise OSError(
                problem.errno,
                f"{problem.strerror} while {path.name} was unpacked; TMPDIR names a folder with more room",
                tempfile.gettempdir(),
            ) from None
        except Exception as problem:  # zipfile.BadZipFile, zlib.error, ValueError: a damaged member
            raise ImageError(f"{path.name} is damaged: {problem}. Download it again") from None


def _npy_header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of an array; an array of objects, which would be a pickle, shows there as such."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(member)


def _has_classes(folder: Path) -> bool:
    return folder.is_dir() and any(CLASS.fullmatch(child.name) and child.is_dir() for child in folder.iterdir())
