"""Where the project's files are, and how one is written: whole, or not at all."""

import fcntl
import glob
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

from benchmark.errors import BenchError

PROJECT = Path(__file__).resolve().parent.parent  # holds benchmark/ and registry/: the checkout, or where a wheel was installed
DISTRIBUTION = "dit-generalization-bench"
PUBLISHED = PROJECT / "leaderboard" / "published"  # the paper's printed numbers


def is_checkout() -> bool:
    """Tell whether the package runs from a checkout of the project, whose own files commands may write."""
    return (PROJECT / "pyproject.toml").exists()


def home() -> Path:
    """Return the folder that holds runs/, packed/, data/ and leaderboard/: BENCH_HOME, else the checkout, else where we are."""
    named = os.environ.get("BENCH_HOME")
    if named:
        return Path(named).resolve()
    return PROJECT if is_checkout() else Path.cwd()


def install(extra: str) -> str:
    """Return the command that installs what an extra of the project needs: from the checkout, or package by package."""
    if is_checkout():
        return f"pip install -e '{'.' if Path.cwd() == PROJECT else PROJECT}[{extra}]'"
    from importlib.metadata import requires

    wanted = [word.partition(";") for word in requires(DISTRIBUTION) or ()]
    return " ".join(["pip install", *(f"'{word.strip()}'" for word, _, marker in wanted if f'"{extra}"' in marker.replace("'", '"'))])


def importing() -> dict[str, str]:
    """Return the environment in which a child process imports this very package, whatever lies in its working folder."""
    paths = [str(PROJECT)] if is_checkout() else []  # an installed package is found where it is
    paths += filter(None, [os.environ.get("PYTHONPATH")])
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(paths)} if paths else {"PYTHONSAFEPATH": "1"}


def check_room(needed: int, folder: Path, what: str) -> None:
    """Raise BenchError where the disk of a folder, which need not be there yet, has no room for so many bytes."""
    there = existing(folder)
    free = shutil.disk_usage(there).free
    if needed > free:
        raise BenchError(f"{what} would need {gibibytes(needed)} on the disk, and {there} has {gibibytes(free)} free. Free space first.")


def existing(folder: Path) -> Path:
    """Return the nearest folder, from this one upwards, that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def gibibytes(number: int) -> str:
    """Return a number of bytes in words; where they are few, in MiB."""
    if number < 2**30 / 100:
        return f"{number / 2**20:,.1f} MiB"
    return f"{number / 2**30:,.2f} GiB"


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new content, never half; survives a power cut."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically: temporary name, fsync, rename; raise BenchError where the disk refuses.

    What a killed process left half-written under this name is removed.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _aside(path) as file:
            temporary = file.name
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
    except OSError as problem:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise BenchError(f"{path} cannot be written: {problem.strerror}. Free space or make the folder writable, then run again.") from None
    remove_abandoned(path.parent, f".{glob.escape(path.name)}.*.tmp")


def remove_abandoned(folder: Path, pattern: str = ".*.tmp") -> None:
    """Remove the half-written files of that pattern in a folder whose processes are gone: nobody holds their locks."""
    for left in folder.glob(pattern):
        with suppress(OSError), left.open("rb") as file:  # removed, renamed or held by another process
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


def _aside(path: Path) -> IO[bytes]:
    """Open a new file beside `path` and lock it for as long as it is open: who finds it unlocked may remove it."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        file = open(name, "wb")  # noqa: SIM115  the caller closes it
        os.close(handle)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:  # else it was removed before it was locked
            return file
        file.close()
