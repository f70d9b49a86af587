"""LSUN scenes (Yu et al. 2015) as they are distributed: one LMDB a scene, from keys to encoded images.

torchvision's class is not used: it writes a pickle of the keys beside the program and unpickles what lies there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from benchmark.contract import ImageError, Positive, entry, install
from registry.datasets.decode import pillow, to_pixels
from registry.datasets.resize import PREPROCESSING_VERSION
from registry.datasets.sources import Keys, contents, existing_folder, fingerprint

if TYPE_CHECKING:
    import lmdb

SUFFIX = "_train_lmdb"
COUNTS = {"church_outdoor": 126_227, "bedroom": 3_033_042, "bridge": 818_687, "tower": 708_264}


@entry(kind="lsun")
class Lsun:
    """The training images of one scene; an id is the key of the image in the LMDB (40 hex digits)."""

    resolution: Positive
    scene: Literal["church_outdoor", "bedroom", "bridge", "tower"]

    channels: ClassVar[int] = 3
    embedded: ClassVar[bool] = False
    preprocessing: ClassVar[str] = PREPROCESSING_VERSION

    @property
    def official_count(self) -> int:
        """The number of training images of the scene."""
        return COUNTS[self.scene]

    def open(self, root: Path | None) -> LsunSource:
        """Open <scene>_train_lmdb, named by `root` or lying in it; raise ImageError where it is not there or another."""
        name = f"{self.scene}{SUFFIX}"
        what = f"the folder {name}, unpacked from {name}.zip, or the one that holds it"
        root = existing_folder(root, what)
        pillow()
        folder = root if root.resolve().name == name else root / name
        if not folder.is_dir():
            unpack = f"{root / name}.zip is not unpacked yet: unpack it first"
            here = f"{root} holds no {name}; it should be {what}; {contents(root)}"
            raise ImageError(unpack if (root / f"{name}.zip").is_file() else here)
        if not (folder / "data.mdb").is_file():
            raise ImageError(f"{folder / 'data.mdb'} is missing; {folder} should be {what}; {contents(folder)}")
        return LsunSource(self, folder)


class LsunSource:
    """The images of an LMDB in the order of their keys, opened read-only and without a lock file."""

    def __init__(self, config: Lsun, folder: Path) -> None:
        self.config, self._path = config, folder / "data.mdb"
        self._lmdb = _library()
        self._environment = self._open(folder)
        self.ids = Keys()
        try:
            self.fingerprint = fingerprint(self._keys())
        except (self._lmdb.Error, ValueError) as problem:
            raise self._damaged(problem) from None
        if not len(self.ids):
            raise ImageError(f"{self._path} holds no image")

    def read(self, image_id: str) -> np.ndarray:
        """Return the image as uint8 (3, R, R); raise ImageError naming its key where it is missing or damaged."""
        try:
            with self._environment.begin() as transaction:
                content = transaction.get(image_id.encode())
        except self._lmdb.Error as problem:
            raise ImageError(f"{image_id}: damaged in {self._path.name}: {problem}") from None
        if content is None:
            raise ImageError(f"there is no image '{image_id}'")
        return to_pixels(image_id, content, self.config.channels, self.config.resolution)

    def close(self) -> None:
        """Let go of the database: a process can open it only once at a time."""
        self._environment.close()

    def _open(self, folder: Path) -> lmdb.Environment:
        try:
            environment = self._lmdb.open(str(folder), readonly=True, lock=False, readahead=False)
        except (self._lmdb.Error, OSError) as problem:
            raise self._damaged(problem) from None
        # Touching a page beyond the end of a truncated file would kill the process.
        whole = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        if (there := self._path.stat().st_size) < whole:
            environment.close()
            raise ImageError(f"{self._path} is cut off: it has {there:,} of {whole:,} bytes. Unpack or download it again")
        return environment

    def _keys(self) -> Iterator[tuple[str, int]]:
        """Collect every key and yield it with the size of its image, of which no byte is read."""
        with self._environment.begin(buffers=True) as transaction, transaction.cursor() as cursor:
            for key, value in cursor:
                self.ids.append(bytes(key))
                yield bytes(key).decode("ascii"), len(value)

    def _damaged(self, problem: Exception) -> ImageError:
        return ImageError(f"{self._path} cannot be read as an LSUN database: {problem}. If it is damaged, unpack or download it again")


def _library() -> ModuleType:
    try:
        import lmdb
    except ImportError:
        raise ImageError(f"reading LSUN needs lmdb: {install('data')}") from None
    return lmdb
