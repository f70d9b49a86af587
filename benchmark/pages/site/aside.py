"""A folder that is made beside another one, to take its place whole: what killed processes left of such folders is removed."""

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def aside(out: Path) -> Iterator[Path]:
    """Make a folder beside `out` for the time of the block; remove it, and those of processes that are gone."""
    out.parent.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".tmp"))
    held = os.open(room, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)  # for as long as this process lives
        for left in out.parent.glob(f".{glob.escape(out.name)}.*.tmp"):
            _remove_abandoned(left)
        yield room
    finally:
        os.close(held)
        shutil.rmtree(room, ignore_errors=True)


def _remove_abandoned(room: Path) -> None:
    with suppress(OSError):  # a living process holds it, or it is gone
        there = os.open(room, os.O_RDONLY)
        try:
            fcntl.flock(there, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(room)
        finally:
            os.close(there)
