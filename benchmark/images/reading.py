"""The images of a source, read in order on every core.

Forked processes read 1.0 to 1.6 times as many images a second as threads on two busy cores
(tests/perf/test_packing.py): between the decoder's steps, which free Python's lock, stand many small ones that hold
it. Threads serve where a process cannot fork safely, and for sources whose images come in large parts that should be
unpacked once for all (`in_parts`).
"""

import fcntl
import gc
import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection
from typing import TypeAlias

import numpy as np

from benchmark.contract import ImageError, Source
from benchmark.errors import BenchError
from benchmark.running.cores import cores

Image: TypeAlias = np.ndarray | ImageError
Images: TypeAlias = Generator[tuple[str, Image], None, None]

CHUNK = 64  # images that a worker reads before it hands them on
FEW = 4 * CHUNK  # images that are not worth another process
MOST_WORKERS = 16
PIPE = 1 << 20  # bytes that a worker may be ahead; Linux allows this much to everyone


class WorkerGone(BenchError):
    """A process that reads images has ended; what was read is sound."""


def read_all(source: Source, ids: Sequence[str], done: int) -> Images:
    """Read the images from number `done` on in order, each with its id; an image that cannot be read is its ImageError."""
    workers = min(MOST_WORKERS, cores())
    if len(ids) - done <= FEW or workers == 1:
        return ((image_id, read(source, image_id)) for image_id in ids[done:])
    forks = sys.platform == "linux" and not multiprocessing.current_process().daemon
    if forks and not getattr(source, "in_parts", False):
        return by_processes(source, ids, done, workers)
    return by_threads(source, ids, done, workers)


def read(source: Source, image_id: str) -> Image:
    """Read one image, or return why it cannot be read; raise BenchError where the fault is not the image's."""
    try:
        return source.read(image_id)
    except ImageError as problem:
        return problem
    except OSError as problem:  # a full disk where an archive is unpacked, say
        raise BenchError(
            f"Reading the image '{image_id}' failed in {problem.filename}: {problem.strerror}. Mend that, then run again."
        ) from None


def by_threads(source: Source, ids: Sequence[str], done: int, workers: int) -> Images:
    """Read on threads, two chunks a thread ahead."""

    def read_chunk(chunk: Sequence[str]) -> list[Image]:
        return [read(source, image_id) for image_id in chunk]

    chunks = (ids[start : start + CHUNK] for start in range(done, len(ids), CHUNK))
    pool = ThreadPoolExecutor(workers)
    try:
        ahead = deque((chunk, pool.submit(read_chunk, chunk)) for chunk in islice(chunks, 2 * workers))
        while ahead:
            chunk, images = ahead.popleft()
            yield from zip(chunk, images.result(), strict=True)
            ahead.extend((chunk, pool.submit(read_chunk, chunk)) for chunk in islice(chunks, 1))
    finally:
        pool.shutdown(cancel_futures=True)


def by_processes(source: Source, ids: Sequence[str], done: int, workers: int) -> Images:
    """Read in forked processes: process k of n takes the chunks k, k + n, ... and waits when its pipe is full."""
    context = multiprocessing.get_context("fork")  # the source is there in the child, whatever it holds
    ends: list[Connection] = []
    children = []
    try:
        for number in range(workers):
            end, other = context.Pipe(duplex=False)
            ends.append(end)
            with suppress(OSError):  # a pipe of the usual size will do
                fcntl.fcntl(other.fileno(), fcntl.F_SETPIPE_SZ, PIPE)
            starts = range(done + number * CHUNK, len(ids), workers * CHUNK)
            child = context.Process(target=_serve, args=(source, ids, starts, other, tuple(ends)), daemon=True)
            child.start()
            children.append(child)
            other.close()  # so that its end is seen when the child is gone
        for turn, start in enumerate(range(done, len(ids), CHUNK)):
            yield from zip(ids[start : start + CHUNK], _received(ends[turn % workers]), strict=True)
    finally:
        for end in ends:
            end.close()
        for child in children:
            child.terminate()
            child.join()


def _serve(source: Source, ids: Sequence[str], starts: range, out: Connection, ends: Sequence[Connection]) -> None:
    """Read chunks and send them; end without a word once nobody listens, as when the parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which ends this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.freeze()  # what the parent holds is no garbage here: looking through it would copy its pages
    for end in ends:  # inherited: held open here, they would hide that the parent has gone
        end.close()
    with suppress(BrokenPipeError):
        for start in starts:
            try:
                chunk: np.ndarray | list[Image] | BaseException = _packed(
                    [read(source, image_id) for image_id in ids[start : start + CHUNK]]
                )
            except Exception as problem:  # of the dataset's own code: it is raised where the images are awaited
                chunk = problem
            out.send(chunk)


def _packed(images: list[Image]) -> np.ndarray | list[Image]:
    """Return the images of a chunk as one array where they are alike: small ones are sent in half the time."""
    shapes = {(image.shape, image.dtype) if isinstance(image, np.ndarray) else None for image in images}
    return images if None in shapes or len(shapes) > 1 else np.stack([image for image in images if isinstance(image, np.ndarray)])


def _received(end: Connection) -> Sequence[Image] | np.ndarray:
    """Return the next chunk of a process; raise what its code raised, or WorkerGone."""
    try:
        chunk = end.recv()
    except EOFError:
        raise WorkerGone(
            "A process that reads images has ended unexpectedly: a decoder crashed, or the memory was used up. "
            "Run the same command again; it goes on from where it was."
        ) from None
    if isinstance(chunk, BaseException):
        raise chunk
    return chunk
