"""One process at a time: a file lock on this machine, and in the folder of a run a lease across machines."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from benchmark.errors import BenchError, UsageError
from benchmark.running import leftovers
from benchmark.running.lease import Held, Lease, held
from benchmark.running.lease_files import Folder


@contextmanager
def exclusive(lock: Path, what: str, busy: str) -> Iterator[None]:
    """Hold the file `lock`, whose folder is made; raise UsageError(`busy`) where another process does.

    `what` cannot be written, says the BenchError of a folder that refuses it.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as problem:
        raise BenchError(f"{what} cannot be written to {lock.parent}: {problem.strerror}. Free space or make it writable.") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(busy) from None
        yield


@contextmanager
def only_one(folder: Path, wait: bool = False, note: Callable[[str], None] = lambda text: None) -> Iterator[Lease]:
    """Hold the folder of a run; a second process is told so, or waits, instead of writing into it.

    A file lock holds on one machine and ends with its process; the lease holds on every machine that sees the folder.
    """
    what = f"The run {folder.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as problem:
        raise BenchError(f"The run folder {folder} cannot be made: {problem.strerror}. Free space or make it writable.") from None
    with lock:
        locked = _lock(lock, what, wait, note)
        with held(Folder(folder / "lease"), what, alone=locked, wait=wait, note=note) as lease:
            leftovers.remove(folder)
            yield lease


def clean(folder: Path) -> None:
    """Remove what a killed process left in the folder of a run, unless another one works there."""
    if leftovers.found(folder):
        with suppress(BenchError), only_one(folder):
            pass


def _lock(lock: IO[str], what: str, wait: bool, note: Callable[[str], None]) -> bool:
    """Lock a file against other processes of this machine; False where its file system has no locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            raise Held(f"{what} is in progress in another process. Wait for it, or stop it first.") from None
        note(f"{what} is in progress in another process. Waiting for it to end.")
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        return False
    return True
