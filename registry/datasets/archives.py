"""The files of a folder or of a zip, by their names alone: distributions come both ways."""

from __future__ import annotations

import heapq
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from benchmark.contract import ImageError
from registry.datasets.sources import no_whole
from registry.datasets.tree import RECENT


class Folder:
    """The files that lie directly in a folder; `newest` are the names of those that were changed last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with os.scandir(path) as entries:
                states = {entry.name: entry.stat() for entry in entries if entry.is_file()}
        except OSError as problem:
            raise ImageError(f"{problem.filename} cannot be read: {problem.strerror}") from None
        self.sizes: Mapping[str, int] = {name: state.st_size for name, state in states.items()}
        self.newest = heapq.nlargest(RECENT, states, key=lambda name: states[name].st_mtime_ns)

    def content(self, name: str) -> bytes:
        """Return the bytes of a file; raise ImageError where it cannot be read."""
        try:
            return (self.path / name).read_bytes()
        except OSError as problem:
            raise ImageError(f"{name}: {problem.strerror}") from None

    def close(self) -> None:
        """Hold nothing open."""


class Zip:
    """The members of a zip, by the last part of their names; hidden ones and folders are left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()
        members = (member for member in self._archive.infolist() if not member.is_dir())
        self._members = {PurePosixPath(one.filename).name: one for one in members if not _hidden(one.filename)}
        self.newest: list[str] = []  # of all that is in it nobody can tell
        self.sizes: Mapping[str, int] = {name: member.file_size for name, member in self._members.items()}

    def content(self, name: str) -> bytes:
        """Return the bytes of a member; raise ImageError where it is damaged."""
        if os.getpid() != self._process:  # a forked process would share the place in the file with the others
            self._open()
        try:
            return self._archive.read(self._members[name])
        except Exception as problem:  # zlib.error, BadZipFile, OSError, NotImplementedError: the archive is damaged
            raise ImageError(f"{name}: damaged in {self.path.name}: {problem}") from None

    def close(self) -> None:
        """Let go of the file."""
        self._archive.close()

    def _open(self) -> None:
        try:
            self._archive, self._process = zipfile.ZipFile(self.path), os.getpid()  # it locks its file against other threads
        except (OSError, zipfile.BadZipFile) as problem:
            raise no_whole(self.path, "zip file", problem) from None


def _hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") for part in parts) or "__MACOSX" in parts
