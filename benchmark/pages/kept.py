"""Pictures as they were drawn before: the same numbers, drawn by the same code, give the same text, and drawing takes most of a page."""

import hashlib
import json
import platform
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from benchmark.errors import BenchError
from benchmark.files import PROJECT, write_text
from benchmark.recording.style import Picture

FOLDER = Path("build", "pictures")  # under the home: what may be deleted at any time
MOST = 500  # pictures; the longest unused go first
ROOMS = ("pages", "recording")  # hold all of the project's code that draws
LIBRARIES = ("matplotlib", "numpy")


class Kept:
    """The pictures that were drawn before; without a folder none is kept."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def svg(self, picture: Picture, draw: Callable[[Picture], str]) -> str:
        """Return a picture as SVG: as it was drawn before from the same numbers, by the same code and libraries; else drawn now."""
        if self._folder is None:
            return draw(picture)
        path = self._folder / hashlib.sha256(json.dumps([picture.digest, picture.alt, self._drawer]).encode()).hexdigest()
        if (there := _read(path)) is not None:
            return there
        text = draw(picture)
        with suppress(BenchError, OSError):  # a disk that takes no more costs the next page its time, and nothing else
            write_text(path, f"{_digest(text)}\n{text}")
            self._forget()
        return text

    @cached_property
    def _drawer(self) -> list[str]:
        """What a drawing depends on beside its numbers: the code of the project that draws, the libraries, the machine."""
        code = sorted(path for room in ROOMS for path in (PROJECT / "benchmark" / room).rglob("*.py"))
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in code]
        return [*digests, *map(version, LIBRARIES), platform.python_version(), platform.machine()]

    def _forget(self) -> None:
        assert self._folder is not None
        for path in sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)[:-MOST]:
            path.unlink(missing_ok=True)


def _read(path: Path) -> str | None:
    """Return a kept picture; None where there is none, or where it is not what was written."""
    try:
        digest, _, text = path.read_text(encoding="utf-8").partition("\n")
        path.touch()
    except (OSError, UnicodeDecodeError):
        return None
    return text if digest == _digest(text) else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
