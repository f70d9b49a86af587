"""What a killed process leaves in the folder of a run, removed by the next that holds the folder."""

import shutil
import time
from contextlib import suppress
from pathlib import Path

from benchmark.files import remove_abandoned

PARTIAL = "partial_scores.safetensors"  # the scores so far, in the run's folder
HALF = ("**/.*.tmp", "**/.*.tmp.json", "checkpoints/.writing-*")
FORGOTTEN = 3600.0  # seconds: nobody needs as long between making a lease and putting it into place


def found(folder: Path) -> list[Path]:
    """Return what a process that was killed may have left in the folder of a run."""
    left = [path for pattern in HALF for path in folder.glob(pattern)]
    partial, record = folder / PARTIAL, folder / "record.json"
    if partial.exists() and record.exists() and partial.stat().st_mtime_ns <= record.stat().st_mtime_ns:
        left.append(partial)  # of the scoring that made the record; one that scores again is younger
    return left


def remove(folder: Path) -> None:
    """Remove it; only who holds the folder may. What another process has open (the mirror) stays."""
    for path in found(folder):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix == ".tmp":
            remove_abandoned(path.parent, path.name)
        else:
            path.unlink(missing_ok=True)
    for path in (folder / "lease").glob(".*"):  # of processes that wait for the lease, perhaps
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > FORGOTTEN:
                path.unlink()
