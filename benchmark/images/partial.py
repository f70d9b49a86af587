"""Images on their way into an array: counted, hashed, compared, journalled, and taken up again after a kill.

packed/<name>/images.npy.tmp       the images so far, after room for the header
packed/<name>/images.journal.tmp   what is being packed, then a line for every few seconds of it
"""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from benchmark.images.manifest import Skipped

HEADER = 128  # bytes of the .npy header, the same for any count, so that it can be written last
SECONDS = 2.0  # between two lines of the journal
ARRAY, JOURNAL = "images.npy.tmp", "images.journal.tmp"


class Tally:
    """What is known of the images so far: which were kept, which skipped, which have equal bytes, and the sha256."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.skipped: list[Skipped] = []
        self.groups: dict[int, list[int]] = {}  # by their first: indices of images with the same bytes
        self.sha256 = hashlib.sha256()
        self._first: dict[bytes, int] = {}

    def keep(self, image_id: str, content: bytes) -> None:
        """Count one image in."""
        self.sha256.update(content)
        seen = self._first.setdefault(hashlib.sha256(content).digest(), len(self.kept))
        if seen != len(self.kept):
            self.groups.setdefault(seen, [seen]).append(len(self.kept))
        self.kept.append(image_id)

    @property
    def done(self) -> int:
        """How many images have been looked at."""
        return len(self.kept) + len(self.skipped)


class Partial:
    """The array aside and its journal, opened to go on where an equal request was killed; else empty.

    `request` says what is being packed. What the journal vouches for is read again and hashed before it counts.
    """

    def __init__(self, folder: Path, request: dict[str, Any], ids: Sequence[str], image_bytes: int) -> None:
        self._array, self._journal = folder / ARRAY, folder / JOURNAL
        self.tally = self._taken_up(request, ids, image_bytes) or Tally()
        if not self.tally.done:
            self._array.write_bytes(bytes(HEADER))
            self._journal.write_text(json.dumps(request) + "\n", encoding="ascii")
        self._file: BinaryIO = self._array.open("r+b")
        self._file.truncate(HEADER + len(self.tally.kept) * image_bytes)
        self._file.seek(0, os.SEEK_END)
        self._lines: TextIO = self._journal.open("a", encoding="ascii")
        self._noted, self._told = time.monotonic(), len(self.tally.skipped)

    def keep(self, image_id: str, content: bytes) -> None:
        """Append one image."""
        self._file.write(content)
        self.tally.keep(image_id, content)
        self._note()

    def skip(self, image_id: str, reason: str) -> None:
        """Leave one image out."""
        self.tally.skipped.append(Skipped(id=image_id, reason=reason))
        self._note()

    def complete(self, header: bytes) -> None:
        """Put the header in front and everything on the disk."""
        self._file.seek(0)
        self._file.write(header)
        self._sync()

    def close(self) -> None:
        """Let go of the files; they stay."""
        self._file.close()
        self._lines.close()

    def _note(self) -> None:
        """Write a line of the journal every few seconds, once the images that it vouches for are on the disk."""
        if time.monotonic() - self._noted < SECONDS:
            return
        self._sync()
        news = [[one.id, one.reason] for one in self.tally.skipped[self._told :]]
        line = {"done": self.tally.done, "skipped": news, "sha256": self.tally.sha256.hexdigest()}
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()
        self._noted, self._told = time.monotonic(), len(self.tally.skipped)

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def _taken_up(self, request: dict[str, Any], ids: Sequence[str], image_bytes: int) -> Tally | None:
        """Return the tally of what a killed process left, None where there is nothing of use."""
        lines, length = _whole_lines(self._journal)
        if len(lines) < 2 or lines[0] != json.loads(json.dumps(request)):
            return None
        skipped = [Skipped(id=image_id, reason=reason) for line in lines[1:] for image_id, reason in line["skipped"]]
        left_out = {one.id for one in skipped}
        tally = Tally()
        tally.skipped = skipped
        try:
            with self._array.open("rb") as file:
                file.seek(HEADER)
                for image_id in ids[: lines[-1]["done"]]:
                    if image_id not in left_out:
                        tally.keep(image_id, file.read(image_bytes))
        except FileNotFoundError:
            return None
        os.truncate(self._journal, length)  # drops the line that the kill may have cut
        sound = (tally.done, tally.sha256.hexdigest()) == (lines[-1]["done"], lines[-1]["sha256"])
        return tally if sound else None


def discard(folder: Path) -> None:
    """Remove what a packing left aside."""
    for path in folder.glob("*.tmp"):
        try:
            path.unlink(missing_ok=True)
        except OSError:  # the folder itself is gone or refuses; the error on its way out says so
            return


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the lines of a journal up to the first that a kill or a crash spoiled, and how many bytes they are."""
    lines: list[dict[str, Any]] = []
    length = 0
    try:
        for line in path.read_bytes().split(b"\n")[:-1]:
            lines.append(json.loads(line))
            length += len(line) + 1
    except (OSError, ValueError):
        pass
    return lines, length
