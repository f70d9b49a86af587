"""The files of a folder or of a zip, by their names alone: distributions come both ways."""

from __future__ import annotations

import heapq
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from benchmark.contract import ImageError
from registry.datasets.sources import no_whole, whole
from registry.datasets.tree import RECENT


class Folder:
    """The files that lie directly in a folder; `newest` are those that were changed last, `others` what is no file, and why."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with os.scandir(path) as entries:
                found = {entry.name: entry.stat() if entry.is_file() else None for entry in entries}
        except OSError as problem:
            raise ImageError(f"{problem.filename} cannot be read: {problem.strerror}") from None
        states = {name: state for name, state in found.items() if state}
        self.sizes: Mapping[str, int] = {name: state.st_size for name, state in states.items()}
        self.others = [("a folder, or a link that leads nowhere", name) for name, state in found.items() if state is None]
        self.newest = heapq.nlargest(RECENT, states, key=lambda name: states[name].st_mtime_ns)

    def content(self, name: str) -> bytes:
        """Return the bytes of a file; raise ImageError where it cannot be read."""
        try:
            return whole(f"{self.path}/{name}", self.sizes[name])
        except OSError as problem:
            raise ImageError(f"{name}: {problem.strerror}") from None

    def close(self) -> None:
        """Hold nothing open."""


class Zip:
    """The members of a zip, by the last part of their names; `others` are those left out, and why; folders do not count."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()
        self.others: list[tuple[str, str]] = []
        self._members: dict[str, zipfile.ZipInfo] = {}
        for one in self._archive.infolist():
            if one.is_dir():
                continue
            if _hidden(one.filename):
                self.others.append(("hidden", one.filename))
            elif self._members.setdefault(PurePosixPath(one.filename).name, one) is not one:
                self.others.append(("a second file of its name in the zip", one.filename))
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
