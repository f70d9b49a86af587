"""A source of images to one packed array on disk, and that array back: streamed, hashed, whole or not at all."""

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmark.contract import HELD_OUT, Dataset, ImageError, Source
from benchmark.declaring.fields import to_json
from benchmark.errors import BenchError
from benchmark.files import check_room, write_bytes
from benchmark.images import manifest
from benchmark.images.manifest import FOLLOWING, ORDERING, Manifest, Skipped, packed_folder
from benchmark.images.partial import ARRAY, HEADER, Partial, Tally, discard
from benchmark.images.reading import CHUNK, WorkerGone, read_all

Progress = Callable[[int, int], None]
Note = Callable[[str], None]

NAMED = 10  # unreadable images that an error names


@dataclass(frozen=True, eq=False)
class Packed:
    """The images of a dataset, uint8 (N, C, R, R), mapped from disk, their manifest and their ids; their labels where asked for."""

    images: np.ndarray
    manifest: Manifest
    ids: Sequence[str]  # in the order of the array
    labels: np.ndarray | None = None  # uint16 (N,)


def pack(
    name: str,
    dataset: Dataset,
    source: Source,
    *,
    home: Path,
    skip_corrupt: bool = False,
    limit: int | None = None,
    ids: Sequence[str] | None = None,
    made_of: str | None = None,
    pinned: bool = False,
    accept: Callable[[Manifest], None] = lambda made: None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> Manifest:
    """Write packed/<name>/images.npy and its manifest from an opened source, and return the manifest.

    `ids` are the images to take (default: all), `limit` and `made_of` are only written down; `pinned` writes the pin as well;
    `accept` may raise on the finished manifest, before anything that was there is replaced. The
    caller holds the dataset's lock. Memory does not grow with the images, only with their number (an id and a digest
    each). The same call takes up what a killed or interrupted process left. Raise BenchError naming the unreadable
    images (unless `skip_corrupt`), or the path that cannot be written; then nothing has changed.
    """
    folder = packed_folder(home, name)
    facts = {
        "name": name,
        "kind": manifest.kind_of(dataset),
        "config": to_json(dataset),
        "limit": limit,
        "preprocessing": dataset.preprocessing,
        "fingerprint": source.fingerprint,
        "made_of": made_of,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shape = (dataset.channels, dataset.resolution, dataset.resolution)
        wanted = source.ids if ids is None else ids
        check_room(len(wanted) * math.prod(shape), folder, f"The {len(wanted):,} images of '{name}' at {shape[1]}x{shape[2]}")
        tally = _stream(folder, facts, source, wanted, shape, progress, note)
        if tally.skipped and not skip_corrupt:
            raise BenchError(_unreadable(name, tally.skipped))
        if not tally.kept:
            raise BenchError(f"Dataset '{name}': none of the {len(tally.skipped)} images can be read. {_named(tally.skipped)}.")
        made = _described(dataset, source, facts, tally)
        accept(made)
        _put(home, made, tally.kept, pinned=pinned)
        return made
    except OSError as problem:
        discard(folder)
        raise BenchError(
            f"{folder} cannot be written: {problem.strerror or problem}. Free space or make the folder writable, then run again."
        ) from None
    except WorkerGone:
        raise
    except BenchError:
        discard(folder)
        raise


def open_images(home: Path, described: Manifest) -> np.ndarray:
    """Map packed/<name>/images.npy read-only; raise BenchError where it is not there or not what its header says."""
    path = packed_folder(home, described.name) / "images.npy"
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else "it is no whole .npy file"
        raise BenchError(f"The packed images {path} cannot be read: {reason}. {way_out(described)}") from None
    if images.dtype != np.uint8 or images.shape != described.shape:
        raise BenchError(
            f"The packed images {path} are {images.dtype} of shape {images.shape}, their manifest says "
            f"uint8 {described.shape}. {way_out(described)}"
        )
    return images


class Stack(Protocol):
    """Images (N, C, R, R), as an array gives them: piece by piece."""

    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, where: slice, /) -> np.ndarray: ...


def digest(images: Stack) -> str:
    """Return the sha256 of the bytes of an array, read piece by piece."""
    total = hashlib.sha256()
    for start in range(0, len(images), 4096):
        total.update(np.ascontiguousarray(images[start : start + 4096]).data.cast("B"))
    return total.hexdigest()


def way_out(described: Manifest) -> str:
    """Say how to get sound images again."""
    if described.embedded:
        return f"Remove packed/{described.name}: it is generated again on the next use."
    return (
        f"{manifest.adding(described.name)} packs them again; `dvc checkout --force packed/{described.name}.dvc` "
        "restores them where DVC has them."
    )


def _stream(
    folder: Path,
    facts: dict[str, Any],
    source: Source,
    ids: Sequence[str],
    shape: tuple[int, int, int],
    progress: Progress | None,
    note: Note | None,
) -> Tally:
    """Write the images of `ids` aside and return what they are."""
    partial = Partial(folder, facts, ids, math.prod(shape))
    tally = partial.tally
    if note and tally.done:
        note(f"{tally.done:,} of {len(ids):,} images are here from a packing that was stopped; going on from there.")
    with closing(partial), closing(read_all(source, ids, tally.done)) as images:
        for image_id, image in images:
            if isinstance(image, ImageError):
                partial.skip(image_id, str(image).removeprefix(f"{image_id}: "))
            else:
                _check(image_id, image, shape)
                partial.keep(image_id, image.tobytes())
            if progress and (tally.done % CHUNK == 0 or tally.done == len(ids)):
                progress(tally.done, len(ids))
        partial.complete(npy_header((len(tally.kept), *shape)))
    return tally


def _described(dataset: Dataset, source: Source, facts: dict[str, Any], tally: Tally) -> Manifest:
    """Return the manifest of what was written aside."""
    left_out = {one.reason: one.count for one in getattr(source, "left_out", ())} if dataset.embedded else {}
    ids, follows = _compact(tally.kept), getattr(dataset, "follows", None)
    many = ids is not None and len(ids) > manifest.LISTED
    return Manifest(
        format=1,
        **facts,
        embedded=dataset.embedded,
        count=len(tally.kept),
        channels=dataset.channels,
        resolution=dataset.resolution,
        ids=None if many else ids,
        ordering=FOLLOWING if follows else ORDERING,
        follows=follows,
        held_out_from=getattr(dataset, "held_out_from", None),
        held_out=held_out if (held_out := getattr(dataset, "held_out", HELD_OUT)) != HELD_OUT else None,
        left_out=left_out,
        distribution=getattr(source, "distribution", None),
        sha256=tally.sha256.hexdigest(),
        skipped=tuple(tally.skipped),
        duplicates=tuple(tuple(tally.kept[i] for i in group) for group in tally.groups.values()),
        ids_sha256=hashlib.sha256(manifest.encoded_ids(tally.kept)).hexdigest() if many else None,
    )


def _put(home: Path, made: Manifest, ids: Sequence[str], *, pinned: bool) -> None:
    """Write what goes beside the array aside, then rename everything into place: no write can fail midway."""
    folder, beside = packed_folder(home, made.name), manifest.beside(home, made.name)
    texts = {manifest.ids_file(home, made.name): manifest.encoded_ids(ids)} if made.ids_sha256 else {}
    texts |= {manifest.pin(home, made.name): manifest.encoded(made)} if pinned else {}
    texts |= {beside: manifest.encoded(made)}  # last: the array counts once its manifest is there
    aside = {path: path.with_name(f".{path.name}.tmp") for path in texts}
    try:
        for path, content in texts.items():
            write_bytes(aside[path], content)
        beside.unlink(missing_ok=True)  # never an array under another array's manifest
        os.replace(folder / ARRAY, folder / "images.npy")
        for path, written in aside.items():
            os.replace(written, path)
        if not made.ids_sha256:
            manifest.ids_file(home, made.name).unlink(missing_ok=True)
    finally:
        for written in aside.values():
            with suppress(OSError):  # its folder is no folder: the error on its way out says so
                written.unlink(missing_ok=True)
    discard(folder)  # the journal, and what an earlier kill may have left


def _check(image_id: str, image: np.ndarray, shape: tuple[int, int, int]) -> None:
    if image.dtype != np.uint8 or image.shape != shape:
        raise BenchError(
            f"The dataset's code returns {image.dtype} of shape {image.shape} for image '{image_id}', "
            f"but it declares uint8 {shape}. Correct its `read`."
        )


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
    return (
        f"Dataset '{name}': {count} cannot be read. {_named(skipped)}. Replace or remove them, or leave them out "
        "with `skip_corrupt=True` (the manifest then names them)."
    )
