"""Where a lease lies: a folder of small files with the two operations that it needs to be atomic."""

import os
import uuid
from pathlib import Path
from typing import Protocol


class Files(Protocol):
    """A folder of small files with the two operations that a lease needs to be atomic: `create` and `replace`."""

    def names(self) -> list[str]:
        """Return the names in it, empty where it is not there."""

    def read(self, name: str) -> bytes:
        """Return the content; raise OSError where there is none."""

    def create(self, name: str, content: bytes) -> bool:
        """Make a file that is not there yet, whole; return False where it is there."""

    def replace(self, name: str, content: bytes) -> None:
        """Put new content in place of the old, never half of it."""

    def remove(self, name: str) -> None:
        """Remove a file; do nothing where it is not there."""


class Folder:
    """`Files` in a directory, perhaps of a network file system."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def names(self) -> list[str]:
        """Return the names in it, empty where it is not there."""
        try:
            return os.listdir(self._path)
        except FileNotFoundError:
            return []

    def read(self, name: str) -> bytes:
        """Return the content; raise OSError where there is none."""
        return (self._path / name).read_bytes()

    def create(self, name: str, content: bytes) -> bool:
        """Make a file that is not there yet, whole; return False where it is there."""
        self._path.mkdir(exist_ok=True)
        aside = self._aside(content)
        try:
            os.link(aside, self._path / name)  # unlike O_EXCL it makes the whole content appear at once
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            return self._create_exclusively(name, content)
        finally:
            aside.unlink(missing_ok=True)
        return True

    def replace(self, name: str, content: bytes) -> None:
        """Put new content in place of the old, never half of it."""
        os.replace(self._aside(content), self._path / name)

    def remove(self, name: str) -> None:
        """Remove a file; do nothing where it is not there."""
        (self._path / name).unlink(missing_ok=True)

    def _create_exclusively(self, name: str, content: bytes) -> bool:
        try:
            handle = os.open(self._path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        return True

    def _aside(self, content: bytes) -> Path:
        path = self._path / f".{uuid.uuid4().hex}"
        try:
            path.write_bytes(content)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return path
