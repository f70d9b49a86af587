"""Runs kept under a URL, for machines that share no directory: any store that fsspec reaches (s3://, gs://, file://, …).

    URL/<id>/…          the run's folder as its worker last uploaded it
    URL/<id>/lease/     who works on it (benchmark/running/lease.py)

What is there is the truth: a worker begins by downloading it, and its record comes last.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from benchmark.errors import BenchError, UsageError
from benchmark.files import install
from benchmark.running.lease import Lost, held
from benchmark.running.lease_files import Files

UPLOAD_SECONDS = 5.0
OWN = ("lock", "lease")  # of the machine that works on a run


class Store:
    """The runs under a URL."""

    def __init__(self, url: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise UsageError(f"Runs at {url} need fsspec: {install('cluster')}.") from None
        try:
            self._system, self._root = url_to_fs(url, use_listings_cache=False)
        except Exception as problem:  # every file system has errors of its own
            raise UsageError(f"Runs cannot be kept at {url}: {problem}") from None
        self._url = url
        self._uploaded: dict[str, tuple[int, int]] = {}  # size and time of what is there already

    def files(self, run: str) -> Files:
        """Return the folder of a run's lease."""
        return _Remote(self._system, f"{self._root}/{run}/lease", f"{self._url}/{run}/lease")

    def download(self, run: str, folder: Path) -> None:
        """Make a folder what is stored of a run, all but what belongs to the machine itself."""
        stored = self._stored(run)
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            name = path.relative_to(folder).as_posix()
            if name not in stored and name.partition("/")[0] not in OWN:
                path.unlink()
        for name, size in stored.items():
            target = folder / name
            if not (name.startswith("checkpoints/") and target.exists() and target.stat().st_size == size):
                self.fetch(run, name, target)

    def fetch(self, run: str, name: str, target: Path) -> None:
        """Download one file of a run, whole or not at all; nothing where it is not stored."""
        aside = target.with_name(f".{target.name}.part")
        with self._named(run):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                self._system.get_file(f"{self._root}/{run}/{name}", str(aside))
                if name != "record.json" or _is_json(aside):  # an upload that was cut short counts for nothing
                    os.replace(aside, target)
            except FileNotFoundError:
                pass
            finally:
                aside.unlink(missing_ok=True)

    def upload(self, run: str, folder: Path) -> None:
        """Store what has changed in a run's folder since the last call: sums after what they sum, the record last."""
        with self._named(run):
            for name in sorted(_present(folder), key=lambda name: (name == "record.json", name.endswith("/sha256.json"), name)):
                with suppress(FileNotFoundError):  # an old checkpoint that was just dropped
                    state = (folder / name).stat()
                    now = (state.st_size, state.st_mtime_ns)
                    if self._uploaded.get(name) != now:
                        target = f"{self._root}/{run}/{name}"
                        self._system.makedirs(target.rpartition("/")[0], exist_ok=True)
                        self._system.put_file(str(folder / name), target)
                        self._uploaded[name] = now
            kept = {path.name for path in (folder / "checkpoints").glob("[0-9]*")}
            for step in {PurePosixPath(name).parts[1] for name in self._stored(run) if name.startswith("checkpoints/")} - kept:
                self._system.rm(f"{self._root}/{run}/checkpoints/{step}", recursive=True)

    def drop(self, run: str) -> None:
        """Remove what is stored of a run, but not who works on it."""
        with self._named(run):
            for name in self._stored(run):
                self._system.rm_file(f"{self._root}/{run}/{name}")

    def check(self) -> None:
        """Raise BenchError where nothing can be written under the URL."""
        with self._named(""):
            self._system.makedirs(self._root, exist_ok=True)
            self._system.pipe_file(f"{self._root}/.writable", b"")
            self._system.rm_file(f"{self._root}/.writable")

    def _stored(self, run: str) -> dict[str, int]:
        """Return the files of a run and their sizes."""
        root = f"{self._root}/{run}"
        with self._named(run):
            try:
                found = self._system.find(root, detail=True)
            except FileNotFoundError:
                return {}
        names = {path[path.index(f"/{run}/") + len(run) + 2 :]: about["size"] for path, about in found.items()}
        return {name: size for name, size in names.items() if name.partition("/")[0] not in OWN}

    @contextmanager
    def _named(self, run: str) -> Iterator[None]:
        try:
            yield
        except BenchError:
            raise
        except Exception as problem:  # every file system has errors of its own
            where = f"{self._url}/{run}" if run else self._url
            raise BenchError(
                f"{where} cannot be used: {problem or type(problem).__name__}. Check the address, the "
                "credentials and the space there, then run the same command again."
            ) from None


class _Remote:
    """`Files` under a URL; the store must be able to create a file exclusively."""

    def __init__(self, system: Any, path: str, url: str) -> None:
        self._system, self._path, self._url = system, path, url

    def __str__(self) -> str:
        return self._url

    def names(self) -> list[str]:
        with _as_os_error():
            try:
                return [path.rstrip("/").rpartition("/")[2] for path in self._system.ls(self._path, detail=False, refresh=True)]
            except FileNotFoundError:
                return []

    def read(self, name: str) -> bytes:
        with _as_os_error():
            return self._system.cat_file(f"{self._path}/{name}")

    def create(self, name: str, content: bytes) -> bool:
        with _as_os_error():
            self._system.makedirs(self._path, exist_ok=True)
            try:
                self._system.pipe_file(f"{self._path}/{name}", content, mode="create")
            except FileExistsError:
                return False
            return True

    def replace(self, name: str, content: bytes) -> None:
        with _as_os_error():
            self._system.pipe_file(f"{self._path}/{name}", content)

    def remove(self, name: str) -> None:
        with _as_os_error(), suppress(FileNotFoundError):
            self._system.rm_file(f"{self._path}/{name}")


@contextmanager
def stored(
    store: Store, run: str, folder: Path, *, force: bool, note: Callable[[str], None], interrupt: Callable[[], None]
) -> Iterator[None]:
    """Hold a run in the store and keep it up to date while its folder changes; `interrupt` ends a run that was lost.

    force: forget what is stored. A store that cannot be reached for a while is tried again until the run has ended.
    """
    with held(store.files(run), f"The run {run}", wait=True, note=note) as lease:
        if force:
            store.drop(run)
        store.download(run, folder)
        ended, lost = threading.Event(), list[Lost]()

        def keep() -> None:
            said = False
            while not ended.wait(UPLOAD_SECONDS):
                try:
                    lease.check()
                    store.upload(run, folder)
                except Lost as problem:
                    lost.append(problem)
                    interrupt()
                    return
                except BenchError as problem:
                    if not said:
                        note(f"{problem} The run goes on meanwhile.")
                    said = True

        thread = threading.Thread(target=keep, name="upload", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            if lost:
                raise lost[0]
            lease.check()
            store.upload(run, folder)


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except OSError:
        raise
    except (NotImplementedError, ValueError) as problem:
        raise OSError(f"this store cannot create a file exclusively ({problem})") from None
    except Exception as problem:  # every file system has errors of its own
        raise OSError(str(problem) or type(problem).__name__) from None


def _present(folder: Path) -> list[str]:
    """Return the files of a run that are finished and not the machine's own."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    finished = (name for name in names if not any(part.startswith(".") for part in name.split("/")))
    return [name for name in finished if name.partition("/")[0] not in OWN]


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return True
