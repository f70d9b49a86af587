"""The samples of a run on disk: one growing array that a kill cannot damage, and what it holds.

<run>/samples/<key>/images.npy      uint8, N x C x R x R; images.npy.partial while it grows
<run>/samples/<key>/samples.json    what they are; `done` images are whole, `complete` once all are
"""

import json
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import BenchError
from benchmark.files import write_text
from benchmark.images.packing import HEADER, digest, npy_header
from benchmark.running.hold import exclusive


class Store:
    """The folder of one key: append whole batches, know how many images are safe, close the array."""

    def __init__(self, folder: Path, identity: dict[str, Any], shape: tuple[int, int, int]) -> None:
        self.folder, self.identity, self.shape = folder, identity, shape
        self.array, self.partial, self.description = folder / "images.npy", folder / "images.npy.partial", folder / "samples.json"
        before = _read(self.description)
        self.done: int = before.get("done", 0)
        self.complete = before.get("complete") is True
        if before:
            self._check(before)

    def extend(self, count: int) -> None:
        """Open the array for more images: what is whole stays, what a kill left half-written goes."""
        self.describe(max(count, self.done), complete=False)
        if self.array.exists() and not self.partial.exists():
            os.replace(self.array, self.partial)
        safe = self._bytes(self.done) if self.done else 0
        with self.partial.open("ab") as file:
            if file.tell() < safe:
                raise BenchError(
                    f"The samples {self.partial} are shorter than the {self.done} images that {self.description} "
                    f"counts. Remove the folder {self.folder} and sample again."
                )
            file.truncate(safe)
            if not safe:
                file.write(bytes(HEADER))

    def append(self, images: np.ndarray) -> None:
        """Add a batch; once this returns, a kill no longer loses it."""
        try:
            with self.partial.open("ab") as file:
                file.write(images.tobytes())
                file.flush()
                os.fsync(file.fileno())
            self.done += len(images)
            self.describe(self.count, complete=False)
        except OSError as problem:
            raise BenchError(
                f"The samples {self.partial} cannot be written: {problem.strerror or problem}. What is whole "
                "is kept; free space, then run again."
            ) from None

    def finish(self) -> None:
        """Write the header, give the array its name and say that it is complete."""
        with self.partial.open("r+b") as file:
            file.write(npy_header((self.done, *self.shape)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(self.partial, self.array)
        self.describe(self.done, complete=True)

    def images(self) -> np.ndarray:
        """Map the complete array, after comparing it with its digest."""
        way_out = f"Remove the folder {self.folder} and sample again."
        try:
            images = np.load(self.array, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as problem:
            raise BenchError(f"The samples {self.array} cannot be read: {problem}. {way_out}") from None
        if images.dtype != np.uint8 or images.shape != (self.done, *self.shape):
            raise BenchError(
                f"The samples {self.array} are {images.dtype} of shape {images.shape}, not uint8 {(self.done, *self.shape)}. {way_out}"
            )
        if digest(images) != _read(self.description).get("sha256"):
            raise BenchError(f"The samples {self.array} have changed since they were made. {way_out}")
        return images

    def describe(self, count: int, *, complete: bool) -> None:
        """Write samples.json."""
        self.count, self.complete = count, complete
        sha256 = digest(np.load(self.array, mmap_mode="r")) if complete else None
        document = self.identity | {"count": count, "done": self.done, "sha256": sha256, "complete": complete}
        write_text(self.description, json.dumps(document, indent=1) + "\n")

    def _bytes(self, images: int) -> int:
        return HEADER + images * int(np.prod(self.shape))

    def _check(self, before: dict[str, Any]) -> None:
        differing = [name for name, value in self.identity.items() if before.get(name) != value]
        if differing:
            name = differing[0]
            raise BenchError(
                f"The samples in {self.folder} were made with {name} = {before.get(name)}, and the run now has "
                f"{name} = {self.identity[name]}. Remove that folder and sample again."
            )
        if not isinstance(self.done, int) or self.done < 0 or (self.complete and self.done < 1):
            raise BenchError(f"{self.description} counts {self.done!r} images. Remove the folder {self.folder} and sample again.")


def _read(path: Path) -> dict[str, Any]:
    """Read samples.json, empty where there is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as problem:
        raise BenchError(f"{path} is damaged: {problem}. Remove the folder {path.parent} and sample again.") from None
    if not isinstance(document, dict):
        raise BenchError(f"{path} holds no description of samples. Remove the folder {path.parent} and sample again.")
    return document


def held(folder: Path) -> AbstractContextManager[None]:
    """Hold the folder of a key, so that two processes never append to one array."""
    return exclusive(
        folder / "lock", "The samples", f"The samples in {folder} are being made by another process. Wait for it, or stop it first."
    )
