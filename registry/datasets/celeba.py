"""CelebA (Liu et al. 2015) as it is distributed and mirrored: the aligned and cropped images and the partition file.

Read are the official folders and zip, what Kaggle and torchvision make of them, the PNG edition, and Parquet mirrors.
torchvision's class is not used: it asks for every annotation file, checks only archives that it has downloaded itself,
and does not read the zip.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

import numpy as np

from benchmark.contract import HELD_OUT, HeldOut, ImageError, Positive, added, entry
from registry.datasets.archives import Folder, Zip
from registry.datasets.decode import pillow, to_pixels
from registry.datasets.parquet import ParquetSource, mirror
from registry.datasets.partitions import check_partitions
from registry.datasets.resize import PREPROCESSING_VERSION
from registry.datasets.sources import Leftovers, contents, existing_folder, fingerprint, lines_of

PARTITIONS = {"train": 162_770, "val": 19_867, "test": 19_962}  # 0, 1, 2 in the partition file, and the images of each
PARTITION_FILES = ("list_eval_partition.txt", "list_eval_partition.csv")
IMAGES = ("img_align_celeba", "img_align_celeba_png")
ZIPS = (*(f"{name}.zip" for name in IMAGES), "archive.zip", "celeba-dataset.zip")  # the last two: Kaggle's
LAYOUT = "the folder with list_eval_partition.txt and img_align_celeba/ or img_align_celeba.zip"
NAME = re.compile(r"(?:.*/)?(\d{6})\.(?:jpg|png)")


@entry(kind="celeba")
class CelebA:
    """The aligned faces of the named partitions; ids are the file names, '000001.jpg'."""

    resolution: Positive
    partitions: tuple[Literal["train", "val", "test"], ...] = ("train",)
    held_out: HeldOut = added(HELD_OUT)  # images for testing; fewer where there are few

    channels: ClassVar[int] = 3
    embedded: ClassVar[bool] = False
    preprocessing: ClassVar[str] = PREPROCESSING_VERSION

    def validate(self) -> None:
        """Refuse no partition, or one named twice."""
        check_partitions(self.partitions, PARTITIONS)

    @property
    def official_count(self) -> int:
        """The number of images that the official partition file gives these partitions."""
        return sum(PARTITIONS[name] for name in self.partitions)

    def open(self, root: Path | None) -> CelebASource | ParquetSource:
        """Find the images of the partitions below `root`; raise ImageError naming what is missing."""
        root = existing_folder(root, LAYOUT, suffixes=(".zip", ".parquet"))
        pillow()
        stores = list(_stores(root))
        if not stores and (rows := mirror(root, self.partitions, self.channels, self.resolution, named=_official)):
            return rows
        name, lines = _partition_file(root, stores)
        if not stores:
            raise ImageError(f"{root} holds neither {IMAGES[0]}/ nor {IMAGES[0]}.zip; it should be {LAYOUT}; {contents(root)}")
        return CelebASource(self, stores, name, _partition(name, lines, self.partitions))


class CelebASource:
    """The images that the partition file lists, by file name; folder and zip give the same ids and fingerprint."""

    def __init__(self, config: CelebA, stores: Sequence[Path], partition: str, parts: dict[str, bool]) -> None:
        self.config = config
        self.ids: Sequence[str] = tuple(name for name, wanted in parts.items() if wanted)
        self._images, self._spelled = _complete(stores, self.ids, partition)
        self.distribution = "PNG files" if self._spelled else None
        self.left_out = self._counted(parts, [path for path in stores if path != self._images.path]).listed()
        self.fingerprint = fingerprint((name, self._images.sizes[self._spelled.get(name, name)]) for name in self.ids)
        self._known = frozenset(self.ids)
        named = {spelled: name for name, spelled in self._spelled.items()}
        self.newest = [named.get(name, name) for name in self._images.newest]

    def read(self, image_id: str) -> np.ndarray:
        """Return the image as uint8 (3, R, R); raise ImageError naming it where it is missing or damaged."""
        if image_id not in self._known:
            raise ImageError(f"there is no image '{image_id}'")
        content = self._images.content(self._spelled.get(image_id, image_id))
        return to_pixels(image_id, content, self.config.channels, self.config.resolution)

    def close(self) -> None:
        """Let go of the zip file."""
        self._images.close()

    def _counted(self, parts: dict[str, bool], others: Sequence[Path]) -> Leftovers:
        left_out, stems = Leftovers(), {PurePosixPath(name).stem: wanted for name, wanted in parts.items()}
        for name in self._images.sizes:
            path = PurePosixPath(name)
            if path.suffix.lower() not in (".jpg", ".png"):
                left_out.add(f"no image by its suffix ({path.suffix})", name, expected=path.suffix.lower() in (".txt", ".csv", ".md"))
            elif path.stem not in stems:
                left_out.add("not listed in the partition file", name)
            elif not stems[path.stem]:
                left_out.add("of another partition", name, expected=True)
        for reason, name in self._images.others:
            left_out.add(reason, name, expected=reason == "hidden")
        for other in others:
            left_out.add("not needed: the images are read from elsewhere", other.name, expected=True)
        return left_out


def _stores(root: Path) -> Iterator[Path]:
    """Yield every folder and zip that may hold the images, folders first."""
    if root.is_file():
        yield from (root,) if root.suffix == ".zip" else ()
        return
    places = [root / below / inner for below in ("", "celeba", "CelebA") for inner in ("", "Img")]
    for place in places:
        for name in IMAGES:
            if (folder := place / name).is_dir():
                inner = next((folder / one for one in IMAGES if (folder / one).is_dir()), None)
                yield inner or folder  # Kaggle's zip, and others that were unpacked into a folder of their own name
    yield from (place / name for place in places for name in ZIPS if (place / name).is_file())


def _complete(stores: Sequence[Path], wanted: Sequence[str], partition: str) -> tuple[Folder | Zip, dict[str, str]]:
    """Return the first store that holds every image, and the names of those that are PNG files; else say what each lacks."""
    said = []
    for path in stores:
        try:
            images = Folder(path) if path.is_dir() else Zip(path)
        except ImageError as problem:
            said.append(str(problem))
            continue
        spelled = {name: png for name in wanted if name not in images.sizes and (png := f"{PurePosixPath(name).stem}.png") in images.sizes}
        missing = [name for name in wanted if name not in images.sizes and name not in spelled]
        if not missing:
            return images, spelled
        images.close()
        lacks = f"{path} lacks {len(missing):,} of the {len(wanted):,} images that {partition} lists, the first is {missing[0]}"
        said.append(f"{lacks}. Unpack or download the images again")
    raise ImageError("; ".join(said))


def _partition_file(root: Path, stores: Sequence[Path]) -> tuple[str, Iterator[str]]:
    """Return the path of the partition file and its lines: beside the images, or in a zip of them."""
    if not root.is_file():
        for below in ("", "Eval", "Anno", "celeba", "CelebA", "celeba/Eval", "CelebA/Eval"):
            for name in PARTITION_FILES:
                if (path := root / below / name).is_file():
                    return str(path), lines_of(path)
    for path in stores:
        if path.is_file() and (archive := Zip(path)):
            for name in PARTITION_FILES:
                if name in archive.sizes:
                    text = archive.content(name).decode("utf-8-sig")
                    archive.close()
                    return f"{name} in {path}", (line.strip() for line in io.StringIO(text) if line.strip())
            archive.close()
    raise ImageError(
        f"{root / PARTITION_FILES[0]} is missing: the official partition, which says what images are for training and lies in Eval/ "
        f"of the distribution (Kaggle's is {PARTITION_FILES[1]}). {root} should be {LAYOUT}; {contents(root)}"
    )


def _partition(path: str, lines: Iterator[str], partitions: Sequence[str]) -> dict[str, bool]:
    """Return the names of all images in the order of the partition file, and whether each is of these partitions."""
    numbers = {str(list(PARTITIONS).index(name)) for name in partitions}
    parts: dict[str, bool] = {}
    for number, line in enumerate(lines, 1):
        name, _, part = (word.strip() for word in line.replace(",", " ").partition(" "))
        if number == 1 and part == "partition":
            continue  # the header of Kaggle's table
        if part not in ("0", "1", "2"):
            raise ImageError(f"{path}, line {number}: {line[:60]!r} is not 'NAME PARTITION' with a partition 0, 1 or 2")
        if name in parts:
            raise ImageError(f"{path} lists an image twice: {name}")
        parts[name] = part in numbers
    if not any(parts.values()):
        raise ImageError(f"{path} lists no image of {', '.join(partitions)}")
    return parts


def _official(path: str) -> str | None:
    """Return the official id of an image by the path that a Parquet row keeps."""
    match = NAME.fullmatch(path)
    return f"{match[1]}.jpg" if match else None
