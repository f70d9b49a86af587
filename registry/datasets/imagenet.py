"""ImageNet (Deng et al. 2009), ILSVRC2012: the folder of class folders, and Parquet mirrors of it.

torchvision's class is not used: it asks for the development kit and scipy, and unpacks what it finds.
"""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from typing import ClassVar

from benchmark.contract import HELD_OUT, HeldOut, ImageError, Positive, added, entry
from registry.datasets.decode import pillow
from registry.datasets.image_folder import ImageFolderSource
from registry.datasets.imagenet_downsampled import DownsampledImageNet  # entries elsewhere import it from here
from registry.datasets.parquet import ParquetSource, mirror
from registry.datasets.resize import PREPROCESSING_VERSION
from registry.datasets.sources import Leftovers, contents, existing_folder, first_of
from registry.datasets.tree import ARCHIVES, COMPANIONS, Found, Search

__all__ = ["DownsampledImageNet", "ImageNet"]

CLASS = re.compile(r"n\d{8}")
TREE = "the ILSVRC2012 training images, one folder a class: n01440764/n01440764_10026.JPEG"
PLACES = ("", "train", "ILSVRC2012_img_train", "ILSVRC/Data/CLS-LOC/train", "Data/CLS-LOC/train", "imagenet/train", "ILSVRC2012/train")
NAME = re.compile(r"(?:.*/)?(?:(n\d{8})_(\d+)|(n\d{8})_(\d+)_n\d{8})\.(?:JPEG|jpeg|jpg|png)")


@entry(kind="imagenet")
class ImageNet:
    """The training images from their class folders; ids are 'n01440764/n01440764_10026.JPEG'."""

    resolution: Positive
    held_out: HeldOut = added(HELD_OUT)  # images for testing; fewer where there are few

    channels: ClassVar[int] = 3
    embedded: ClassVar[bool] = False
    preprocessing: ClassVar[str] = PREPROCESSING_VERSION
    official_count: ClassVar[int] = 1_281_167
    classes: ClassVar[int] = 1000

    def open(self, root: Path | None) -> ImageFolderSource | ParquetSource:
        """Find the class folders in `root`, or where the distribution puts them below it."""
        root = existing_folder(root, TREE, suffixes=(".parquet",))
        pillow()
        folder = first_of((root / name for name in PLACES), _has_classes)
        if folder is not None:
            return ImageFolderSource(folder, self.channels, self.resolution, _images(folder))
        if rows := mirror(root, ("train",), self.channels, self.resolution, named=_official):
            return rows
        raise ImageError(f"{root} has no class folders (n and eight digits) in it; it should be {TREE}; {contents(root)}{_unpack(root)}")


def _images(folder: Path) -> Found:
    """Return the images of the class folders, links to class folders included; what else lies there is counted."""
    search = Search(folder)
    for child in sorted(folder.iterdir(), key=lambda path: path.name):
        if CLASS.fullmatch(child.name) and child.is_dir():
            search.enter(child, f"{child.name}/")
        elif child.suffix == ".tar" and CLASS.fullmatch(child.stem):
            _count_archive(child, search.left_out)
        elif child.suffix in ARCHIVES:
            search.left_out.add("an archive", child.name)
        elif child.is_dir():
            search.left_out.add("a folder that is no class", child.name, expected=child.name.startswith("."))
        else:
            search.left_out.add("a file outside of the class folders", child.name, expected=child.suffix in COMPANIONS)
    found = search.found()
    if not found.sizes:
        raise ImageError(f"the class folders of {folder} hold no image; it should be {TREE}")
    return found


def _count_archive(archive: Path, left_out: Leftovers) -> None:
    """Count the images of a class's archive that are not in the folder of its name: an unpacking may have been stopped at any of them."""
    folder = archive.with_suffix("")
    try:
        with tarfile.open(archive, "r:") as members:
            absent = [one.name for one in members if one.isfile() and not _is_unpacked(one, folder)]
    except (OSError, tarfile.TarError):  # not even that many are known
        left_out.add("a class that is still an archive, which is damaged", archive.name, asked=True)
        return
    if not absent:
        left_out.add("an archive of a class that is unpacked beside it", archive.name, expected=True)
    for name in absent:
        stage = "unpacked in part" if folder.is_dir() else "not unpacked"
        left_out.add(f"in the archive of a class that is {stage}", f"{archive.name}:{name}", asked=True)


def _is_unpacked(member: tarfile.TarInfo, folder: Path) -> bool:
    try:
        return (folder / Path(member.name).name).stat().st_size == member.size
    except OSError:
        return False


def _unpack(root: Path) -> str:
    """Say which archives must be unpacked first, if there are any."""
    for folder in (root / name for name in PLACES):
        tars = sorted(folder.glob("*.tar")) if folder.is_dir() else []
        classes = [path for path in tars if CLASS.fullmatch(path.stem)]
        if classes:
            each = f"for a in {folder}/n*.tar; do mkdir -p ${{a%.tar}} && tar xf $a -C ${{a%.tar}}; done"
            return f". {len(classes):,} classes are still archives ({classes[0].name}, …). Unpack each into a folder of its name: {each}"
        if tars:
            return f". Unpack {tars[0].name} first, and the archive of every class in it"
    return ""


def _official(path: str) -> str | None:
    """Return the official id of an image by the path that a Parquet row keeps."""
    match = NAME.fullmatch(path)
    name = match and (match[1] or match[3])
    return f"{name}/{name}_{match[2] or match[4]}.JPEG" if match else None


def _has_classes(folder: Path) -> bool:
    return folder.is_dir() and any(CLASS.fullmatch(child.name) and child.is_dir() for child in folder.iterdir())
