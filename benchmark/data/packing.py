"""A source of images to one packed array on disk, and that array back: streamed, hashed, whole or not at all."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from benchmark.contract import Dataset, ImageError, Source
from benchmark.data import manifest
from benchmark.data.manifest import ORDERING, Manifest, Skipped, packed_folder
from benchmark.errors import BenchError
from benchmark.fields import to_json

Progress = Callable[[int, int], None]

CHUNK = 64  # images that a thread reads before it hands them on
HEADER = 128  # bytes of the .npy header, the same for any count, so that it can be written last
NAMED = 10  # unreadable images that an error names


@dataclass(frozen=True, eq=False)
class Packed:
    """The images of a dataset, uint8 (N, C, R, R), mapped from disk, and their manifest."""

    images: np.ndarray
    manifest: Manifest


def pack(name: str, dataset: Dataset, source: Source, *, home: Path, skip_corrupt: bool = False,
         limit: int | None = None, ids: Sequence[str] | None = None, progress: Progress | None = None) -> Manifest:
    """Write packed/<name>/images.npy and its manifest from an opened source, and return the manifest.

    `ids` are the images to take (default: all), `limit` is only written down. The caller holds the dataset's lock.
    Memory does not grow with the images, only with their number (an id and a digest each). Raise BenchError naming
    the unreadable images (unless `skip_corrupt`), or the path that cannot be written; then nothing has changed.
    """
    folder = packed_folder(home, name)
    aside = folder / "images.npy.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shape = (dataset.channels, dataset.resolution, dataset.resolution)
        kept, skipped, groups, sha256 = _stream(aside, source, source.ids if ids is None else ids, shape, progress)
        if skipped and not skip_corrupt:
            raise BenchError(_unreadable(name, skipped))
        if not kept:
            raise BenchError(f"Dataset '{name}': none of the {len(skipped)} images can be read. {_named(skipped)}.")
        made = Manifest(
            format=1, name=name, kind=manifest.kind_of(dataset), config=to_json(dataset), embedded=dataset.embedded,
            count=len(kept), channels=dataset.channels, resolution=dataset.resolution, ids=_compact(kept),
            ordering=ORDERING, sha256=sha256, preprocessing=dataset.preprocessing, fingerprint=source.fingerprint,
            limit=limit, skipped=tuple(skipped), duplicates=tuple(tuple(kept[i] for i in group) for group in groups),
        )
        manifest.beside(home, name).unlink(missing_ok=True)  # never an array under another array's manifest
        os.replace(aside, folder / "images.npy")
        manifest.write(manifest.beside(home, name), made)
        return made
    except OSError as problem:
        raise BenchError(f"{folder} cannot be written: {problem.strerror or problem}. Free space or make the folder "
                         "writable, then run again.") from None
    finally:
        _discard(aside)


def open_images(home: Path, described: Manifest) -> np.ndarray:
    """Map packed/<name>/images.npy read-only; raise BenchError where it is not there or not what its header says."""
    path = packed_folder(home, described.name) / "images.npy"
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else "it is no whole .npy file"
        raise BenchError(f"The packed images {path} cannot be read: {reason}. {way_out(described)}") from None
    if images.dtype != np.uint8 or images.shape != described.shape:
        raise BenchError(f"The packed images {path} are {images.dtype} of shape {images.shape}, their manifest says "
                         f"uint8 {described.shape}. {way_out(described)}")
    return images


def digest(images: np.ndarray) -> str:
    """Return the sha256 of the bytes of an array, read piece by piece."""
    total = hashlib.sha256()
    for start in range(0, len(images), 4096):
        total.update(np.ascontiguousarray(images[start : start + 4096]).data.cast("B"))
    return total.hexdigest()


def way_out(described: Manifest) -> str:
    """Say how to get sound images again."""
    if described.embedded:
        return f"Remove packed/{described.name}: it is generated again on the next use."
    return f"`bench data add {described.name} --root PATH` packs them again."


def _stream(path: Path, source: Source, ids: Sequence[str], shape: tuple[int, int, int],
            progress: Progress | None) -> tuple[list[str], list[Skipped], list[list[int]], str]:
    """Write the images of `ids`; return the ids kept, those skipped, the groups of equal images, and the sha256."""
    kept: list[str] = []
    skipped: list[Skipped] = []
    first: dict[bytes, int] = {}
    groups: dict[int, list[int]] = {}
    total = hashlib.sha256()
    with path.open("wb") as file, closing(_read_all(source, ids)) as images:
        file.write(bytes(HEADER))
        for done, (image_id, image) in enumerate(images, 1):
            if isinstance(image, ImageError):
                skipped.append(Skipped(id=image_id, reason=str(image).removeprefix(f"{image_id}: ")))
            else:
                _check(image_id, image, shape)
                content = image.tobytes()
                file.write(content)
                total.update(content)
                seen = first.setdefault(hashlib.sha256(content).digest(), len(kept))
                if seen != len(kept):
                    groups.setdefault(seen, [seen]).append(len(kept))
                kept.append(image_id)
            if progress and (done % CHUNK == 0 or done == len(ids)):
                progress(done, len(ids))
        file.seek(0)
        file.write(npy_header((len(kept), *shape)))
        file.flush()
        os.fsync(file.fileno())
    return kept, skipped, list(groups.values()), total.hexdigest()


def _read_all(source: Source, ids: Sequence[str]) -> Iterator[tuple[str, np.ndarray | ImageError]]:
    """Read the images in order, a few chunks ahead, on as many threads as there are cores (decoders free the lock)."""

    def read(chunk: Sequence[str]) -> list[np.ndarray | ImageError]:
        return [_read(source, image_id) for image_id in chunk]

    threads = min(8, os.cpu_count() or 1)
    chunks = (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))
    pool = ThreadPoolExecutor(threads)
    try:
        ahead = deque((chunk, pool.submit(read, chunk)) for chunk in islice(chunks, 2 * threads))
        while ahead:
            chunk, images = ahead.popleft()
            yield from zip(chunk, images.result(), strict=True)
            ahead.extend((chunk, pool.submit(read, chunk)) for chunk in islice(chunks, 1))
    finally:
        pool.shutdown(cancel_futures=True)


def _read(source: Source, image_id: str) -> np.ndarray | ImageError:
    try:
        return source.read(image_id)
    except ImageError as problem:
        return problem


def _check(image_id: str, image: np.ndarray, shape: tuple[int, int, int]) -> None:
    if image.dtype != np.uint8 or image.shape != shape:
        raise BenchError(f"The dataset's code returns {image.dtype} of shape {image.shape} for image '{image_id}', "
                         f"but it declares uint8 {shape}. Correct its `read`.")


def npy_header(shape: tuple[int, ...]) -> bytes:
    """Return the header of a .npy file (format 1.0) of uint8 in C order, padded with spaces to HEADER bytes."""
    words = repr({"descr": "|u1", "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little") + words.ljust(HEADER - 11) + b"\n"


def _compact(ids: list[str]) -> tuple[str, ...] | None:
    return None if all(image_id == str(index) for index, image_id in enumerate(ids)) else tuple(ids)


def _named(skipped: Sequence[Skipped]) -> str:
    more = f" and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
    return "; ".join(f"{one.id}: {one.reason}" for one in skipped[:NAMED]) + more


def _unreadable(name: str, skipped: Sequence[Skipped]) -> str:
    count = "1 image" if len(skipped) == 1 else f"{len(skipped)} images"
    return (f"Dataset '{name}': {count} cannot be read. {_named(skipped)}. Replace or remove them, or leave them out "
            "with --skip-corrupt (the manifest then names them).")


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # the folder itself is gone or refuses; the error on its way out says so
        pass
