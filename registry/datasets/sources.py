"""What the sources of stored images share: compact ids of very many images, fingerprints, what a wrong root holds."""

from __future__ import annotations

import hashlib
import os
import threading
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import accumulate
from pathlib import Path
from typing import Generic, Protocol, TypeVar, overload

from benchmark.contract import ImageError, LeftOut

SHOWN = 5  # names that an error lists of what lies at a root


class Sized(Protocol):
    """Something with a length."""

    def __len__(self) -> int: ...


T = TypeVar("T", bound=Sized)


class Ids(Sequence[str], ABC):
    """Ids that are made when they are asked for, each by its place."""

    @abstractmethod
    def at(self, index: int) -> str:
        """Return the id at a place counted from 0."""

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        return self.at(range(len(self))[index])


class Numbered(Ids):
    """The ids 'part:row' of the rows of several parts, made when they are asked for: millions of them cost nothing."""

    def __init__(self, rows: dict[str, int]) -> None:
        self._parts = list(rows)
        self._rows = rows
        self._starts = [0, *accumulate(rows.values())]

    def __len__(self) -> int:
        return self._starts[-1]

    def at(self, index: int) -> str:
        """Return the id at a place counted from 0."""
        part = bisect_right(self._starts, index) - 1
        return f"{self._parts[part]}:{index - self._starts[part]}"

    def split(self, image_id: str) -> tuple[str, int]:
        """Return the part and the row of an id; raise ImageError where there is no such row."""
        part, _, row = image_id.rpartition(":")
        if not (row.isascii() and row.isdecimal()) or int(row) >= self._rows.get(part, 0):
            raise ImageError(f"there is no image '{image_id}'")
        return part, int(row)


class Keys(Ids):
    """ASCII ids in one run of bytes, about 50 bytes each instead of 100."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("Q", [0])

    def append(self, key: bytes) -> None:
        """Add one id; raise ValueError where it is not ASCII."""
        key.decode("ascii")
        self._bytes += key
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def at(self, index: int) -> str:
        """Return the id at a place counted from 0."""
        return self._bytes[self._ends[index] : self._ends[index + 1]].decode("ascii")


class Recent(Generic[T]):
    """The latest results of an expensive reading, for threads that read forward together.

    It holds as many as have `rows` rows in all, and at least two, so that no thread has to read again what another
    one has just let go. A thread waits only for the part that it needs.
    """

    def __init__(self, read: Callable[[str], T], rows: int) -> None:
        self._read, self._most = read, rows
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Future[T]] = OrderedDict()

    def __call__(self, key: str) -> T:
        """Return what `read(key)` gives, or raise what it raises."""
        with self._lock:
            mine = key not in self._held
            future = self._held.setdefault(key, Future())
            self._held.move_to_end(key)
        if mine:
            try:
                future.set_result(self._read(key))
            except BaseException as problem:
                future.set_exception(problem)
            self._let_go()
        return future.result()

    def _let_go(self) -> None:
        with self._lock:
            sizes = [len(f.result()) if f.done() and not f.exception() else 0 for f in self._held.values()]
            while len(self._held) > 2 and sum(sizes) > self._most:
                self._held.popitem(last=False)
                sizes.pop(0)


class Leftovers:
    """What a source does not take, by reason: counted, and the first names kept."""

    def __init__(self, begin: Iterable[LeftOut] = ()) -> None:
        self._found = {one.reason: one for one in begin}

    def add(self, reason: str, name: str, count: int = 1, *, expected: bool = False, asked: bool = False) -> None:
        """Count one thing, or what it holds, as left out."""
        before = self._found.get(reason) or LeftOut(reason, 0, ())
        first = (*before.first, name) if len(before.first) < SHOWN else before.first
        self._found[reason] = LeftOut(reason, before.count + count, first, expected, asked)

    def listed(self) -> tuple[LeftOut, ...]:
        """Return every reason, in the order in which it was first met."""
        return tuple(self._found.values())


def fingerprint(sizes: Iterable[tuple[str, int]]) -> str:
    """Return one sha256 over the name and size of everything; it does not see an edit that keeps a size."""
    total = hashlib.sha256()
    for name, size in sizes:
        total.update(f"{name}\0{size}\n".encode())
    return total.hexdigest()


def whole(path: str, size: int) -> bytes:
    """Return the bytes of a file of about `size`, without the objects of pathlib and io: they cost as much as reading a small file."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(handle, size + 1)]
        if len(parts[0]) == size:  # one byte more was asked for: this is its end
            return parts[0]
        while parts[-1]:
            parts.append(os.read(handle, 1 << 20))
        return b"".join(parts)
    finally:
        os.close(handle)


def instead(head: bytes) -> str | None:
    """Say what lies in place of a file, by its first bytes: a pointer or a page, where a download gave no file."""
    begin = head[:512].lstrip().lower()
    if begin.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer in place of the file: `git lfs pull` in the clone fetches it"
    if begin.startswith((b"<!doctype html", b"<html")):
        return "a web page in place of the file: the site asked for something (a log-in, a confirmation); download it in a browser"
    return None


def no_whole(path: Path, what: str, problem: object) -> ImageError:
    """Return what says that a file is not what it should be: a pointer or a page in its place, or damaged."""
    try:
        with path.open("rb") as file:
            found = instead(file.read(512))
    except OSError as refusal:
        return ImageError(f"{path} cannot be read: {refusal.strerror}")
    return ImageError(f"{path} is {found}" if found else f"{path} is no whole {what}: {problem}. Download it again")


def hub(root: Path) -> Path:
    """Return the snapshot in a folder of the Hugging Face hub's cache, or the folder itself where it is none.

    Raise ImageError where several datasets or snapshots lie side by side: they are never merged.
    """
    for pattern, what in (("datasets--*", "datasets"), ("snapshots/*", "snapshots")):
        inside = sorted(path for path in root.glob(pattern) if path.is_dir())
        if what == "snapshots" and not ((root / "blobs").is_dir() or (root / "refs").is_dir()):
            break
        if len(inside) > 1:
            raise ImageError(f"{root} holds {len(inside)} {what} of a hub's cache side by side: give one: `root={str(inside[0])!r}`")
        root = inside[0] if inside else root
    return root


def existing_folder(root: Path | None, what: str, suffixes: Sequence[str] = ()) -> Path:
    """Return `root` where it is a folder that can be read, or a file of one of `suffixes`; of a hub's cache, its snapshot.

    Raise ImageError saying what it should be.
    """
    if root is None:
        raise ImageError(f"a root is needed: {what}")
    if root.suffix in suffixes and root.is_file():
        return root
    try:
        next(root.iterdir(), None)
    except FileNotFoundError:
        raise ImageError(f"{root} does not exist; it should be {what}") from None
    except NotADirectoryError:
        raise ImageError(f"{root} is not a folder; it should be {what}") from None
    except OSError as problem:
        raise ImageError(f"{root} cannot be read: {problem.strerror}") from None
    return hub(root)


def contents(folder: Path) -> str:
    """Say what lies in a folder, in a few names."""
    if folder.is_file():
        return f"it is a file of {folder.stat().st_size:,} bytes"
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"there is {', '.join(names[:SHOWN])}{more}" if names else "it is empty"


def first_of(candidates: Iterable[Path], exists: Callable[[Path], bool]) -> Path | None:
    """Return the first of the places where something may lie, or None."""
    return next(filter(exists, candidates), None)


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a text file of a distribution that are not empty; raise ImageError where it is none."""
    try:
        with path.open(encoding="utf-8-sig") as file:  # some editors begin with a byte-order mark
            yield from (line.strip() for line in file if line.strip())
    except OSError as problem:
        raise ImageError(f"{path} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise ImageError(f"{path} is no text file") from None
