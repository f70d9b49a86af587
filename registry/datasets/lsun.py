"""LSUN scenes (Yu et al. 2015) as they are distributed and mirrored: one LMDB a scene, from keys to encoded images.

The database is read from its folder, from the zip that it comes in, and a scene from Parquet mirrors too. torchvision's
class is not used: it writes a pickle of the keys beside the program and unpickles what lies there.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from benchmark.contract import HELD_OUT, HeldOut, ImageError, Positive, added, entry, install
from registry.datasets.decode import pillow, to_pixels
from registry.datasets.parquet import ParquetSource, mirror
from registry.datasets.resize import PREPROCESSING_VERSION
from registry.datasets.sources import Keys, Leftovers, contents, existing_folder, fingerprint, first_of, instead, no_whole

if TYPE_CHECKING:
    import lmdb

SUFFIX = "_train_lmdb"
COUNTS = {"church_outdoor": 126_227, "bedroom": 3_033_042, "bridge": 818_687, "tower": 708_264}


@entry(kind="lsun")
class Lsun:
    """The training images of one scene; an id is the key of the image in the LMDB (40 hex digits)."""

    resolution: Positive
    scene: Literal["church_outdoor", "bedroom", "bridge", "tower"]
    held_out: HeldOut = added(HELD_OUT)  # images for testing; fewer where there are few

    channels: ClassVar[int] = 3
    embedded: ClassVar[bool] = False
    preprocessing: ClassVar[str] = PREPROCESSING_VERSION

    @property
    def official_count(self) -> int:
        """The number of training images of the scene."""
        return COUNTS[self.scene]

    def open(self, root: Path | None) -> LsunSource | ParquetSource:
        """Open <scene>_train_lmdb or its zip, named by `root` or lying in it; raise ImageError where it is not there or another."""
        name = f"{self.scene}{SUFFIX}"
        what = f"the folder {name}, unpacked from {name}.zip, or the one that holds it"
        root = existing_folder(root, what, suffixes=(".zip", ".parquet"))
        pillow()
        archive = root if root.name == f"{name}.zip" else _below(root, f"{name}.zip", Path.is_file)
        folder = root if name in (root.name, root.resolve().name) else _below(root, name, Path.is_dir)
        if folder:
            try:
                if not (folder / "data.mdb").is_file():
                    raise ImageError(f"{folder / 'data.mdb'} is missing; {folder} should be {what}; {contents(folder)}")
                return LsunSource(self, folder)
            except ImageError:
                if not archive:  # whole, it may be, beside an unpacking that was stopped
                    raise
        if archive:
            return LsunSource(self, archive)
        if rows := mirror(root, ("train",), self.channels, self.resolution):
            return rows
        raise ImageError(f"{root} holds no {name}; it should be {what}; {contents(root)}")


def _below(root: Path, name: str, exists: Callable[[Path], bool]) -> Path | None:
    """Return where a scene lies: in the root, or in a folder that people put their scenes into."""
    return first_of((root / below / name for below in ("", "lsun", "LSUN", "scenes", "lsun/scenes")), exists)


class LsunSource:
    """The images of an LMDB in the order of their keys, opened read-only and without a lock file.

    That of a zip is unpacked into a temporary folder, for as long as it is open.
    """

    def __init__(self, config: Lsun, place: Path) -> None:
        self.config, self._lmdb = config, _library()
        self._unpacked = _unpacked(place) if place.is_file() else None
        folder = Path(self._unpacked.name) if self._unpacked else place
        self._path = folder / "data.mdb"
        self.ids, left_out = Keys(), Leftovers()
        try:
            self._environment = self._open(folder)
            try:
                self.fingerprint = fingerprint(self._keys())
            except (self._lmdb.Error, ValueError) as problem:
                raise self._damaged(problem) from None
            if not len(self.ids):
                raise ImageError(f"{self._path} holds no image")
        except ImageError:
            self._let_go()
            raise
        for path in folder.iterdir():
            if path.name not in ("data.mdb", "lock.mdb"):
                left_out.add("not part of the database", path.name)
        self.left_out = left_out.listed()

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
        self._let_go()

    def _let_go(self) -> None:
        if self._unpacked:
            self._unpacked.cleanup()

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
        with self._path.open("rb") as file:
            if found := instead(file.read(512)):
                return ImageError(f"{self._path} is {found}")
        return ImageError(f"{self._path} cannot be read as an LSUN database: {problem}. If it is damaged, unpack or download it again")


def _unpacked(archive: Path) -> tempfile.TemporaryDirectory[str]:
    """Unpack the database of a zip; raise ImageError where it has none or is damaged, OSError where the disk is full."""
    folder = tempfile.TemporaryDirectory(prefix="lsun-")
    try:
        with zipfile.ZipFile(archive) as members:
            found = [one for one in members.infolist() if PurePosixPath(one.filename).name == "data.mdb"]
            if len(found) != 1:
                raise ImageError(f"{archive} holds {len(found)} files data.mdb instead of one")
            room = shutil.disk_usage(folder.name).free
            if found[0].file_size > room:
                raise ImageError(
                    f"unpacking {archive} takes {found[0].file_size:,} bytes, and {folder.name} has room for {room:,}: "
                    "TMPDIR names a folder with more room, or unpack it yourself"
                )
            with members.open(found[0]) as packed, Path(folder.name, "data.mdb").open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
    except ImageError:
        folder.cleanup()
        raise
    except OSError as problem:
        folder.cleanup()
        raise ImageError(f"unpacking {archive} into {folder.name} failed: {problem.strerror or problem}") from None
    except Exception as problem:  # zipfile.BadZipFile, zlib.error, EOFError ...
        folder.cleanup()
        raise no_whole(archive, "zip file", problem) from None
    return folder


def _library() -> ModuleType:
    try:
        import lmdb
    except ImportError:
        raise ImageError(f"reading LSUN needs lmdb: {install('data')}") from None
    return lmdb
