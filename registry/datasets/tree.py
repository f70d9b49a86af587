"""The images of a folder tree: every file is taken, or left out for a reason that is counted."""

from __future__ import annotations

import heapq
import os
import stat
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmark.contract import ImageError, LeftOut
from registry.datasets.decode import suffixes
from registry.datasets.sources import Leftovers

# What lies beside the images of a distribution as a matter of course: said, but no reason to ask whether it is meant.
COMPANIONS = frozenset(
    [
        ".cff",
        ".conf",
        ".csv",
        ".db",
        ".doc",
        ".docx",
        ".dvc",
        ".gitattributes",
        ".gitignore",
        ".htm",
        ".html",
        ".ini",
        ".ipynb",
        ".json",
        ".jsonl",
        ".lock",
        ".log",
        ".m",
        ".mat",
        ".md",
        ".md5",
        ".nfo",
        ".pdf",
        ".py",
        ".rst",
        ".rtf",
        ".sh",
        ".sha1",
        ".sha256",
        ".toml",
        ".tsv",
        ".txt",
        ".url",
        ".xls",
        ".xlsx",
        ".xml",
        ".yaml",
        ".yml",
    ]
)
ARCHIVES = frozenset(
    ".7z .arrow .bin .bz2 .gz .h5 .hdf5 .lmdb .mdb .npy .npz .parquet .pickle .pkl .pt .rar .tar .tfrecord .tgz .xz .zip .zst".split()  # noqa: SIM905
)
RECENT = 500  # files changed last, which a second look reads first


@dataclass(frozen=True)
class Found:
    """The images below a folder by id (the relative POSIX path, NFC): their sizes, and what was left out.

    `spelled` holds the path of an id that is spelled otherwise on the disk; `newest` the ids that were changed last.
    """

    sizes: Mapping[str, int]
    spelled: Mapping[str, str] = field(default_factory=dict)
    newest: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def only(self, ids: list[str]) -> Found:
        """Return these images alone; the others are counted as left out."""
        kept = {image_id: self.sizes[image_id] for image_id in ids}
        others = Leftovers(self.left_out)
        for image_id in self.sizes:
            if image_id not in kept:
                others.add("not one of the images that the name stands for", image_id, expected=True)
        return replace(self, sizes=kept, newest=tuple(i for i in self.newest if i in kept), left_out=others.listed())


class Search:
    """A walk through a tree. Hidden things and links to folders are not entered.

    A link to a file is read as that file (hubs and caches store so), unless it leads to an image of the tree itself,
    which would be the same image twice.
    """

    def __init__(self, root: Path) -> None:
        self.left_out = Leftovers()
        self._root, self._real = root, os.path.realpath(root)
        self._suffixes = suffixes()
        self._sizes: dict[str, int] = {}
        self._spelled: dict[str, str] = {}
        self._times: list[tuple[int, str]] = []

    def enter(self, folder: Path, within: str = "") -> None:
        """Take the images below `folder`; their ids begin with `within`."""
        for entry in _listed(folder):
            if entry.name.startswith("."):
                self.left_out.add("hidden", within + entry.name, expected=True)
            elif entry.is_dir(follow_symlinks=False):
                self.enter(Path(entry.path), f"{within}{entry.name}/")
            else:
                self._meet(entry, within + entry.name)

    def found(self) -> Found:
        """Return what was found, sorted by id."""
        newest = tuple(name for _, name in heapq.nlargest(RECENT, self._times))
        return Found(dict(sorted(self._sizes.items())), self._spelled, newest, self.left_out.listed())

    def _meet(self, entry: os.DirEntry[str], name: str) -> None:
        suffix = os.path.splitext(entry.name)[1].lower()
        try:
            state = entry.stat()
        except FileNotFoundError:
            return self.left_out.add("a link that leads nowhere", name)
        except OSError as problem:
            raise unreadable(problem) from None
        if stat.S_ISDIR(state.st_mode):
            return self.left_out.add("a link to a folder", name)
        if not stat.S_ISREG(state.st_mode):
            return self.left_out.add("no file", name)
        if suffix not in self._suffixes:
            return self.left_out.add(refused(suffix), name, expected=suffix in COMPANIONS)
        if entry.is_symlink() and self._is_taken(entry.path):
            return self.left_out.add("a link to an image of the folder itself", name)
        return self._take(name, state)

    def _is_taken(self, path: str) -> bool:
        """Tell whether a link leads to an image that the walk meets anyway."""
        target = os.path.realpath(path)
        inside = os.path.relpath(target, self._real)
        visible = not any(part.startswith(".") for part in inside.split(os.sep))
        return visible and os.path.splitext(target)[1].lower() in self._suffixes

    def _take(self, name: str, state: os.stat_result) -> None:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ImageError(f"the name of {name!r} is not valid UTF-8: rename it") from None
        image_id = name if name.isascii() else unicodedata.normalize("NFC", name)
        if image_id in self._sizes:
            raise ImageError(f"{self._root / image_id}: two files are spelled so, one composed and one decomposed (NFC, NFD): rename one")
        if image_id != name:
            self._spelled[image_id] = name
        self._sizes[image_id] = state.st_size
        self._times.append((state.st_mtime_ns, image_id))


def find_images(root: Path) -> Found:
    """Return the images below `root`, which may be a link; raise ImageError where there is none."""
    if not os.path.isdir(root):
        raise ImageError(f"{root} is not a folder" if os.path.lexists(root) else f"{root} does not exist")
    search = Search(root)
    search.enter(root)
    found = search.found()
    if not found.sizes:
        raise ImageError(none_said(root, found.left_out))
    return found


def none_said(root: Path, left_out: tuple[LeftOut, ...]) -> str:
    """Say that a folder has no image, and what it has."""
    there = "; ".join(f"{one.count:,} left out: {one.reason} ({', '.join(one.first)})" for one in left_out)
    return f"{root} holds no image: looked below it for files that Pillow reads (.jpeg, .jpg, .png, .webp, …). {there or 'It is empty'}"


def refused(suffix: str) -> str:
    """Say why a file of that suffix is no image of a tree."""
    if suffix in ARCHIVES:
        return f"an archive that is not opened ({suffix})"
    return f"no image by its suffix ({suffix})" if suffix else "no suffix"


def unreadable(problem: OSError) -> ImageError:
    """Return what says that a file or folder cannot be read."""
    return ImageError(f"{problem.filename} cannot be read: {problem.strerror}")


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as problem:
        raise unreadable(problem) from None
    return listed
