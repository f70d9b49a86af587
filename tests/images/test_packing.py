"""Packing: a killed one goes on, a full disk leaves nothing, very many ids lie beside the array, bad requests are refused."""

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.contract import ImageError
from benchmark.errors import BenchError, UsageError
from benchmark.images import datasets, manifest, partial, reading
from benchmark.images.manifest import Manifest
from registry.datasets.c_alpha import CAlpha
from registry.datasets.dead_leaves import DeadLeaves
from registry.datasets.image_folder import ImageFolder
from registry.datasets.imagenet import DownsampledImageNet
from tests.pictures import JPEGS, batches, everything, imagenet

CHECKOUT = Path(__file__).parents[2]
FOLDER = ImageFolder(resolution=8)
BATCHES = DownsampledImageNet(resolution=8)
COUNT = 1200


# Packs images, with the journal written every 10 ms, and sends itself a signal after so many lines of it.
PACKING = """
import os, sys
from pathlib import Path
from benchmark.images import datasets, partial
from registry.datasets.image_folder import ImageFolder
partial.SECONDS, lines, number, note = 0.01, int(sys.argv[1]), int(sys.argv[2]), partial.Partial._note
def noted(packing):
    note(packing)
    if Path("packed/shots", partial.JOURNAL).read_bytes().count(b"\\n") >= lines:
        os.kill(os.getpid(), number)
partial.Partial._note = noted
datasets.add("shots", ImageFolder(resolution=8), home=Path("."), root=Path("root"), skip_corrupt=True)
"""


def environment() -> dict[str, str]:
    """Return the environment of a process that imports this checkout."""
    return os.environ | {"PYTHONPATH": str(CHECKOUT)}


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """COUNT images (hard links to three), every 500th damaged."""
    root = tmp_path / "root"
    root.mkdir()
    for number, content in enumerate([*JPEGS, JPEGS[0][:900]]):
        (tmp_path / str(number)).write_bytes(content)
    for number in range(COUNT):
        os.link(tmp_path / ("3" if number % 500 == 250 else str(number % 3)), root / f"{number:04d}.jpg")
    return root


def stopped(home: Path, lines: int, number: signal.Signals = signal.SIGKILL) -> int:
    """Pack in a process that ends itself by a signal after so many lines of the journal; return how many images it had."""
    command = [sys.executable, "-c", PACKING, str(lines), str(int(number))]
    done = subprocess.run(command, cwd=home, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == -number, done.stderr
    return json.loads((home / "packed" / "shots" / partial.JOURNAL).read_bytes().split(b"\n")[lines - 1])["done"]


def test_a_killed_packing_goes_on_where_it_was(home: Path, many: Path) -> None:
    whole = datasets.add("shots", FOLDER, home=home / "elsewhere", root=many, skip_corrupt=True).manifest
    first = stopped(home, 4)
    second = stopped(home, 6)  # killed again, after it had gone on
    assert 0 < first < second < COUNT
    assert set(everything(home)) == {"packed/shots/images.npy.tmp", f"packed/shots/{partial.JOURNAL}"}
    with (home / "packed/shots" / partial.JOURNAL).open("ab") as journal:
        journal.write(b'{"done": 29')  # a line that the kill cut
    with (home / "packed/shots" / partial.ARRAY).open("ab") as array:
        array.write(b"half an image")
    told: list[str] = []
    calls: list[int] = []
    made = datasets.add(
        "shots", FOLDER, home=home, root=many, skip_corrupt=True, progress=lambda done, _: calls.append(done), note=told.append
    )
    assert made.outcome == "new" and made.manifest == whole and datasets.verify("shots", home=home) == []
    taken_up = int(told[1].split()[0].replace(",", ""))
    assert second <= taken_up <= calls[0] and "of 1,200 images are here from a packing that was stopped" in told[1]
    assert set(everything(home)) == {"packed/shots/images.npy", "packed/shots/manifest.json", "data/shots.json"}
    assert len(made.manifest.skipped) == 2 and len(made.manifest.duplicates) == 3


def test_what_a_kill_left_counts_only_where_it_is_sound(home: Path, many: Path) -> None:
    stopped(home, 4)
    sound = {name: (home / "packed/shots" / name).read_bytes() for name in (partial.ARRAY, partial.JOURNAL)}
    array, journal = sound[partial.ARRAY], sound[partial.JOURNAL]
    source = FOLDER.open(many)
    for number, change in enumerate(
        (
            {partial.ARRAY: array[:400]},
            {partial.ARRAY: None},
            {partial.ARRAY: array[:200] + bytes([array[200] ^ 1]) + array[201:]},
            {partial.JOURNAL: journal[:40]},
            {partial.JOURNAL: journal.replace(b'"resolution": 8', b'"resolution": 9')},
        )
    ):
        place = home / f"copy {number}"
        (place / "packed/shots").mkdir(parents=True)
        for name, content in (sound | change).items():
            if content is not None:
                (place / "packed/shots" / name).write_bytes(content)
        told: list[str] = []
        made = datasets.add("shots", FOLDER, home=place, root=many, skip_corrupt=True, limit=None, note=told.append).manifest
        assert len(told) == 1 and made.count == COUNT - 2  # from the start
        expected = b"".join(source.read(image_id).tobytes() for image_id in made.ids[:9])
        assert datasets.load("shots", FOLDER, home=place).images[:9].tobytes() == expected


def test_a_stopped_packing_keeps_what_it_has(home: Path, many: Path) -> None:
    assert stopped(home, 3, signal.SIGTERM) > 0
    assert (home / "packed/shots" / partial.JOURNAL).exists() and not (home / "data").exists()


# --- workers


@dataclass(frozen=True)
class Numbers:
    """A source of 8x8 images whose pixels are their number; some numbers misbehave."""

    count: int
    fingerprint: str = "0" * 64
    fault: str = ""

    @property
    def ids(self) -> range:
        return range(self.count)  # type: ignore[return-value]

    def read(self, image_id: int) -> np.ndarray:
        if self.fault and image_id == 700:
            if self.fault == "dies":
                os.kill(os.getpid(), 9)
            raise {"bug": ZeroDivisionError("bug"), "disk": OSError(28, "No space left on device", "there")}[self.fault]
        if image_id % 100 == 99:
            raise ImageError(f"{image_id}: damaged")
        return np.full((1, 8, 8), image_id % 256, dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize("done", [0, 37])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_threads_and_processes_read_the_same_images_in_the_same_order(count: int, done: int, workers: int) -> None:
    source = Numbers(count)
    for images in (
        reading.by_processes(source, source.ids, done, workers),
        reading.read_all(source, source.ids, done),
        reading.by_threads(source, source.ids, done, workers),
    ):
        read = list(images)
        assert [image_id for image_id, _ in read] == list(range(done, count))
        for number, image in read:
            assert str(image) == f"{number}: damaged" if number % 100 == 99 else (np.asarray(image) == number % 256).all()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    "fault, error, said",
    [
        ("dies", reading.WorkerGone, "has ended unexpectedly.*goes on from where it was"),
        ("bug", ZeroDivisionError, "bug"),
        ("disk", BenchError, "Reading the image '700' failed in there: No space left on device"),
    ],
)
def test_what_goes_wrong_in_a_process_is_raised_here(fault: str, error: type[Exception], said: str) -> None:
    source = Numbers(2000, fault=fault)
    images = reading.by_processes(source, source.ids, 0, 2)
    with pytest.raises(error, match=said):
        list(images)
    assert not multiprocessing.active_children()
    half = reading.by_processes(Numbers(2000), range(2000), 0, 2)  # type: ignore[arg-type]
    next(half)
    half.close()
    assert not multiprocessing.active_children()


def alive(process: str) -> bool:
    """Tell whether a process is there and has not ended; one that has may wait to be reaped."""
    try:
        return Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_processes_of_a_killed_one_end_too(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.images.test_packing import Numbers\nfrom benchmark.images import reading\n"
        "images = reading.by_processes(Numbers(10**7), range(10**7), 0, 3); next(images); print(flush=True); import time; "
        "time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=home, env=environment(), stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 3
    process.kill()
    process.wait()
    until = time.monotonic() + 600
    while any(alive(child) for child in children):
        assert time.monotonic() < until
        time.sleep(0.01)
    process.stdout.close()


# --- full disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one MiB; skipped where it cannot be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs more rights")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_disk_that_fills_up_leaves_what_was_there(small_disk: Path, tmp_path: Path) -> None:
    root = imagenet(tmp_path / "root", JPEGS * 10)
    before = datasets.add("shots", FOLDER, home=small_disk, root=root).manifest
    kept = everything(small_disk)
    with pytest.raises(BenchError, match="The 30 images of 'shots' at 128x128 would need 1.4 MiB on the disk, and .* MiB free. Free space"):
        datasets.add("shots", ImageFolder(resolution=128), home=small_disk, root=root)
    assert everything(small_disk) == kept and datasets.load("shots", FOLDER, home=small_disk).manifest == before


@pytest.mark.parametrize("room", [6_000, 9_000, 12_000, 15_000, 18_000])
def test_a_disk_that_fills_up_at_any_moment_leaves_what_was_there(small_disk: Path, tmp_path: Path, room: int) -> None:
    root = imagenet(tmp_path / "root", JPEGS * 10)
    datasets.add("shots", ImageFolder(resolution=4), home=small_disk, root=root)
    kept = everything(small_disk)
    taken = small_disk / "taken"
    taken.write_bytes(bytes((os.statvfs(small_disk).f_bavail * 4096) - room // 4096 * 4096))
    try:
        assert datasets.add("shots", FOLDER, home=small_disk, root=root).outcome == "changed"
    except BenchError as problem:
        assert ("cannot be written" in str(problem) or "would need" in str(problem)) and everything(small_disk) == kept
    taken.unlink()
    assert datasets.verify("shots", home=small_disk) == []
    assert datasets.add("shots", FOLDER, home=small_disk, root=root).outcome in ("changed", "unchanged")
    assert datasets.load("shots", FOLDER, home=small_disk).images.shape == (30, 3, 8, 8)


# --- the ids of very many images


def test_the_ids_of_very_many_images_lie_beside_the_array(home: Path) -> None:
    images = batches(home / "root", 2100, side=8)
    made = datasets.add("small", BATCHES, home=home, root=home / "root").manifest
    assert made.count == 21_000 > manifest.LISTED and made.ids is None
    beside = ("images.npy", "manifest.json", "ids.json", "labels.npy", "labels.json")
    assert set(everything(home)) == {*(f"packed/small/{name}" for name in beside), "data/small.json", "data/labels/small.json"}
    assert (home / "data/small.json").stat().st_size < 2000
    packed = datasets.load("small", BATCHES, home=home)
    assert np.array_equal(packed.images[::500], images[::500]) and packed.ids == tuple(BATCHES.open(home / "root").ids)
    path = home / "packed/small/ids.json"
    content = path.read_bytes()
    assert json.loads(content) == list(packed.ids) and hashlib.sha256(content).hexdigest() == made.ids_sha256
    assert datasets.add("small", BATCHES, home=home, root=home / "root").outcome == "unchanged"
    taken = datasets.subset(packed, "small", 5, 0)
    keys = sorted(packed.ids, key=lambda i: hashlib.sha256(f"small:0:{i}".encode()).hexdigest())
    assert list(taken.train_ids) == keys[300:305]
    assert np.array_equal(taken.train, images[[packed.ids.index(image_id) for image_id in keys[300:305]]])
    changed = content.replace(b"batch_1:7", b"batch_1:x")
    for damaged, said in ((changed, "are damaged: their sha256 is"), (None, "cannot be read")):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        with pytest.raises(BenchError, match=f"The ids .*ids.json {said}.*.*datasets.add\\('small', ..., root=PATH\\)"):
            datasets.load("small", BATCHES, home=home)
        assert said in datasets.verify("small", home=home)[0]
    assert datasets.add("small", BATCHES, home=home, root=home / "root").outcome == "restored"
    few = datasets.add("small", BATCHES, home=home, root=home / "root", limit=400).manifest
    assert few.ids_sha256 is None and not path.exists() and len(few.ids or ()) == 400


def test_the_committed_manifests_read_and_write_to_the_same_bytes_and_digests() -> None:
    digests = {
        "dead_leaves8": "69bf72f7c891b1a489127b9b758572a37a42bb2e419c8e9e07eed8d1cfec44a7",
        "natural8": "90c607ba50bdf77f76a2cb28115385bab21770d375fa9847837ec2df717fef63",
        "natural32": "891e394fe576dd316be7e27daa01763f48dc3410b07a370cb567b863e16dd564",
    }
    for path in (CHECKOUT / "data").glob("*.json"):
        read = manifest.read(path)
        assert isinstance(read, Manifest) and manifest.encoded(read) == path.read_bytes()
        canonical = json.dumps(json.loads(path.read_text()), sort_keys=True, separators=(",", ":"))
        assert read.digest == hashlib.sha256(canonical.encode()).hexdigest() == digests.get(path.stem, read.digest)
        assert "ids_sha256" not in read.document() and read.ids_sha256 is None
        with pytest.raises(ValueError, match="ids and ids_sha256 cannot both be given"):
            replace(read, ids=tuple(map(str, range(read.count))), ids_sha256="0" * 64)
    assert set(digests) <= {path.stem for path in (CHECKOUT / "data").glob("*.json")}


# --- requests


def test_another_resolution_is_refused_with_the_way_out(home: Path) -> None:
    root = imagenet(home / "root", JPEGS)
    assert datasets.add("shots", FOLDER, home=home, root=root, resolution=8).outcome == "new"
    kept = everything(home)
    with pytest.raises(UsageError, match=r"`resolution=64`: the images of 'shots' are 8x8.*datasets/shots_64.gin"):
        datasets.add("shots", FOLDER, home=home, root=root, resolution=64)
    for embedded in (DeadLeaves(resolution=8, count=5), CAlpha(resolution=8, count=5, alpha=2)):
        with pytest.raises(UsageError, match=r"`overrides=\['dataset.resolution=64'\]` generates others"):
            datasets.add("made", embedded, home=home, root=None, resolution=64)
    assert everything(home) == kept
