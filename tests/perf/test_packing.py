"""What packing adds to the bare decoder on the same cores, processes against threads, and the memory of 10^5 images.

Turn by turn in one run. The bare decoder: forked processes, one a core, that decode and resize the same bytes and drop them.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from benchmark.contract import Source
from benchmark.images import datasets, reading
from benchmark.running.cores import cores
from registry.datasets.celeba import CelebA
from registry.datasets.decode import to_pixels
from registry.datasets.image_folder import ImageFolder
from registry.datasets.imagenet import ImageNet
from registry.datasets.lsun import Lsun
from tests.pictures import IMAGES, JPEGS, WEBPS, celeba, imagenet, lsun, stored

LARGE = [stored(Image.open(IMAGES / f"{i}.webp").resize((500, 375)), "JPEG", quality=90) for i in range(3, 6)]
TINY = [stored(Image.open(IMAGES / f"{i}.jpg").resize((32, 32)), "JPEG") for i in range(3)]
CASES = {
    "celeba": (CelebA(resolution=32), celeba, JPEGS, 3000),
    "celeba zipped": (CelebA(resolution=32), lambda root, images: celeba(root, images, zipped=True), JPEGS, 3000),
    "lsun": (Lsun(resolution=32, scene="church_outdoor"), lsun, WEBPS, 1500),
    "imagenet": (ImageNet(resolution=32), imagenet, LARGE, 1000),
    "folder of 32x32": (ImageFolder(resolution=32), imagenet, TINY, 8000),
}


def decode_alone(contents: Sequence[bytes], workers: int) -> None:
    """Decode every image in forked processes, one a core, and drop it."""
    children = []
    for number in range(workers):
        if not (child := os.fork()):
            for content in contents[number::workers]:
                to_pixels("", content, 3, 32)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds on the clock and of all cores that a call and its processes take."""
    before, began = os.times(), time.perf_counter()
    call()
    after = os.times()
    return time.perf_counter() - began, sum(after[:4]) - sum(before[:4])


def drain(read: Callable[[Source, Sequence[str], int, int], reading.Images], source: Source) -> None:
    """Read every image of a source and drop it."""
    for _ in read(source, source.ids, 0, cores()):
        pass


@pytest.mark.parametrize("case", CASES)
def test_packing_against_the_bare_decoder(benchmark: BenchmarkFixture, tmp_path: Path, case: str) -> None:
    dataset, write, images, count = CASES[case]
    contents = [images[i % len(images)] for i in range(count)]
    root = write(tmp_path / "root", contents)
    taken: dict[str, list[tuple[float, float]]] = {"bare": [], "packing": [], "processes": [], "threads": []}

    def turn() -> None:
        taken["bare"].append(seconds(lambda: decode_alone(contents, cores())))
        taken["packing"].append(seconds(lambda: datasets.add("shots", dataset, home=tmp_path / "home", root=root)))
        shutil.rmtree(tmp_path / "home")
        source = dataset.open(root)
        for read in (reading.by_processes, reading.by_threads):
            taken[read.__name__.removeprefix("by_")].append(seconds(lambda read=read: drain(read, source)))  # type: ignore[misc]
        getattr(source, "close", int)()

    benchmark.pedantic(turn, rounds=5, warmup_rounds=1)
    best = {name: [min(column) for column in zip(*times[1:], strict=True)] for name, times in taken.items()}
    benchmark.extra_info |= {f"{name}, images a second": round(count / clock) for name, (clock, _) in best.items()}
    benchmark.extra_info |= {f"{name}, CPU ms an image": round(1e3 * cpu / count, 3) for name, (_, cpu) in best.items()}
    # Tiny files take least: there the start of the readers, hashing and fsync weigh as much as decoding. Reported, not judged.
    benchmark.extra_info["packing's share of the bare decoder's speed"] = round(best["bare"][0] / best["packing"][0], 2)


def memory_of(process: int) -> int:
    """Return the bytes that a process and its children hold, shared pages divided among them (PSS)."""
    total = 0
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        for one in (process, *map(int, children)):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):  # it has just ended
        pass
    return total


def shards(root: Path, images: Sequence[bytes]) -> None:
    """Write one shard, one row group for 10,000 images."""
    (root).mkdir()
    column = pa.StructArray.from_arrays([pa.array(images, pa.binary())], ["bytes"])
    pq.write_table(pa.table({"image": column}), root / "train-00000-of-00001.parquet", row_group_size=10_000, use_dictionary=False)


HUNDRED_THOUSAND = {  # how they lie there, what reads them, and the most memory, in MiB
    "lsun": (lsun, "registry.datasets.lsun", "Lsun(resolution=32, scene='church_outdoor')", 1024),
    "parquet": (shards, "registry.datasets.parquet", "Parquet(resolution=32)", 512),
}


@pytest.mark.parametrize("layout", HUNDRED_THOUSAND)
def test_the_memory_of_a_hundred_thousand_images_is_bounded(layout: str, tmp_path: Path) -> None:
    write, module, dataset, mebibytes = HUNDRED_THOUSAND[layout]
    write(tmp_path / "root", [TINY[i % 3] for i in range(100_300)])
    code = (
        f"from pathlib import Path; from benchmark.images import datasets; from {module} import {dataset.partition('(')[0]}\n"
        f"print(datasets.add('many', {dataset}, home=Path('.'), root=Path('root')).sentence)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(Path.cwd())}, stdout=subprocess.PIPE, text=True
    )
    most = 0
    while process.poll() is None:
        most = max(most, memory_of(process.pid))
        time.sleep(0.05)
    assert process.stdout is not None and "packed 100,300 images of 32x32" in process.stdout.read()
    print(f"most memory of packing 100,300 images of {layout} with {reading.cores()} workers: {most / 2**20:.0f} MiB")
    assert 50 * 2**20 < most < mebibytes * 2**20
    assert (tmp_path / "packed/many/images.npy").stat().st_size == 128 + 100_300 * 3072
