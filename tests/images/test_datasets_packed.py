"""Packing, loading and subsets: every byte accounted for, nothing half-written, subsets nested and disjoint."""

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.declaring import entries, registry, spec
from benchmark.declaring.fields import from_json
from benchmark.errors import BenchError, UsageError
from benchmark.images import datasets, manifest
from benchmark.images.manifest import Manifest
from benchmark.images.packing import pack
from registry.datasets.dead_leaves import DeadLeaves
from registry.datasets.image_folder import ImageFolder
from tests.conftest import Bench

LEAVES = DeadLeaves(resolution=8, count=330)
FOLDER = ImageFolder(resolution=8)
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 330 different pictures of 12x10 in three subfolders."""
    root = tmp_path / "pictures"
    for i in range(330):
        folder = root / "abc"[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def add(home: Path, root: Path, dataset: ImageFolder = FOLDER, **options: object) -> datasets.Added:
    """Add the folder under the name 'shots'."""
    return datasets.add("shots", dataset, home=home, root=root, **options)


def everything(home: Path) -> dict[str, bytes]:
    """Return every file below a home with its content, the locks left out."""
    files = (path for folder in ("packed", "data") for path in (home / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(home)): path.read_bytes() for path in files if ".locks" not in path.parts}


# --- packing and loading


def test_an_added_folder_loads_as_its_images_in_order(home: Path, pictures: Path) -> None:
    calls: list[tuple[int, int]] = []
    added = add(home, pictures, progress=lambda done, total: calls.append((done, total)))
    assert added.outcome == "new" and "330 images of 8x8" in added.sentence
    assert calls[-1] == (330, 330) and calls == sorted(calls)
    packed = datasets.load("shots", FOLDER, home=home)
    source = FOLDER.open(pictures)
    expected = np.stack([source.read(i) for i in source.ids])
    assert np.array_equal(packed.images, expected) and packed.images.dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        packed.images[0] = 0
    made = packed.manifest
    assert made.ids == source.ids == tuple(sorted(source.ids)) and made.count == 330
    assert made.sha256 == hashlib.sha256(expected.tobytes()).hexdigest()
    sizes = "".join(f"{i}\0{(pictures / i).stat().st_size}\n" for i in source.ids)
    assert made.fingerprint == hashlib.sha256(sizes.encode()).hexdigest()
    assert np.array_equal(np.load(home / "packed/shots/images.npy"), expected)  # a plain .npy file
    assert set(everything(home)) == {"packed/shots/images.npy", "packed/shots/manifest.json", "data/shots.json"}
    assert str(home) not in (home / "data/shots.json").read_text()


def test_adding_again_does_nothing_and_says_so(home: Path, pictures: Path) -> None:
    add(home, pictures)
    before = everything(home), (home / "packed/shots/images.npy").stat().st_mtime_ns
    again = add(home, pictures)
    assert again.outcome == "unchanged" and "nothing to do" in again.sentence
    assert before == (everything(home), (home / "packed/shots/images.npy").stat().st_mtime_ns)


def test_a_changed_source_or_entry_is_a_new_version(home: Path, pictures: Path) -> None:
    first = add(home, pictures)
    (pictures / "a/0.png").unlink()
    second = add(home, pictures)
    assert second.outcome == "changed" and "330 images" in second.sentence and "329 images" in second.sentence
    assert second.manifest.sha256 != first.manifest.sha256
    grey = ImageFolder(resolution=8, channels=1)
    with pytest.raises(UsageError, match="channels = 3 instead of 1.*datasets.add.'shots', ..., root=PATH.`"):
        datasets.load("shots", grey, home=home)
    assert add(home, pictures, grey).outcome == "changed"
    assert datasets.load("shots", grey, home=home).images.shape == (329, 1, 8, 8)


def test_a_stock_name_keeps_its_images(home: Path, pictures: Path) -> None:
    """Other photographs under a name that is pinned are refused before and after the packing, and nothing changes."""
    first = add(home, pictures)
    before = everything(home)
    assert add(home, pictures, keep=first.manifest).outcome == "unchanged"
    (pictures / "a/0.png").rename(pictures / "a/other.png")
    with pytest.raises(UsageError, match="by other names. Nothing was changed.*new.write.'dataset', 'my_photos', template=FOLDER"):
        add(home, pictures, keep=first.manifest)
    (pictures / "a/other.png").rename(pictures / "a/0.png")
    Image.new("RGB", (12, 10)).save(pictures / "a/0.png")
    with pytest.raises(UsageError, match="those in the folder have the sha256"):
        add(home, pictures, keep=first.manifest)
    assert everything(home) == before
    assert add(home, pictures).outcome == "changed"


def test_the_command_keeps_the_images_of_a_stock_name_unless_forced(home: Path, pictures: Path, bench: Bench) -> None:
    refused = bench("data", "add", "natural32", "--root", str(pictures))
    assert (refused.returncode, refused.stdout) == (2, "") and "pinned in data/natural32.json" in refused.stderr
    assert everything(home) == {}
    forced = bench("data", "add", "natural32", "--root", str(pictures), "--force", "--no-dvc")
    assert forced.returncode == 0 and "330 images" in forced.stdout
    again = bench("data", "add", "natural32", "--root", str(pictures), "--no-dvc")  # the home has a pin of its own now
    assert again.returncode == 0 and "nothing to do" in again.stdout


def test_images_that_only_the_pin_knows_are_packed_again_to_the_same_bytes(home: Path, pictures: Path) -> None:
    first = add(home, pictures)
    for path in (home / "packed/shots").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match="datasets.add.'shots', ..., root=PATH.`"):
        datasets.load("shots", FOLDER, home=home)
    missing = "pinned, but not packed here; `benchmark.images.datasets.add('shots', ..., root=PATH)` packs them"
    assert datasets.verify("shots", home=home) == [missing]
    again = add(home, pictures)
    assert again.outcome == "restored" and again.manifest == first.manifest


def test_images_that_are_not_there_say_how_to_add_them(home: Path) -> None:
    made = entries.load(registry.find("dataset", "lsun_church")).config
    with pytest.raises(UsageError, match="datasets.add.'lsun_church', ..., root=PATH.`") as problem:
        datasets.load("lsun_church", made, home=home)
    assert problem.value.exit_code == 2 and everything(home) == {}
    assert "datasets.add('lsun_church', ..., root=PATH)`" in datasets.status("lsun_church", home)[1]


def test_requests_that_make_no_sense_are_refused(home: Path, pictures: Path) -> None:
    for dataset, root, options, said in (
        (FOLDER, None, {}, "datasets.add.'shots', ..., root=PATH.` names the folder"),
        (LEAVES, pictures, {}, "generated, not read from files"),
        (LEAVES, None, {"limit": 5}, "leave `root=...` and `limit=...` out"),
        (FOLDER, pictures, {"limit": 0}, "`limit=0` must be at least 1"),
    ):
        with pytest.raises(UsageError, match=said):
            datasets.add("shots", dataset, home=home, root=root, **options)
    for name in ("../shots", "a/b", ".hidden", "", "-x"):
        with pytest.raises(UsageError, match="cannot name a dataset"):
            datasets.load(name, LEAVES, home=home)
    for root, said, code in ((pictures / "none", "does not exist", 2), (pictures / "a/0.png", "not a folder", 1)):
        with pytest.raises(BenchError, match=said) as problem:
            add(home, root)
        assert problem.value.exit_code == code  # a path that is not there is wrong usage
    assert everything(home) == {}


def test_corrupt_images_are_named_or_skipped_on_request(home: Path, pictures: Path) -> None:
    broken = [f"{'abc'[i % 3]}/{i}.png" for i in range(12)]
    for name in broken:
        (pictures / name).write_bytes((pictures / name).read_bytes()[:60])
    with pytest.raises(BenchError) as problem:
        add(home, pictures)
    said = str(problem.value)
    assert "12 images cannot be read" in said and "and 2 more" in said and "`skip_corrupt=True`" in said
    assert [name for name in sorted(broken) if name in said] == sorted(broken)[:10] and "\n" not in said
    assert everything(home) == {}
    added = add(home, pictures, skip_corrupt=True)
    assert added.manifest.count == 318 and {one.id for one in added.manifest.skipped} == set(broken)
    assert "12 unreadable (the manifest names them): " in added.sentence
    packed, source = datasets.load("shots", FOLDER, home=home), FOLDER.open(pictures)
    assert np.array_equal(packed.images, np.stack([source.read(i) for i in packed.manifest.ids]))
    assert add(home, pictures, skip_corrupt=True).outcome == "unchanged"
    with pytest.raises(BenchError, match="12 images cannot be read"):
        add(home, pictures)
    assert datasets.verify("shots", home=home) == []  # the packed images are still there, whole


def test_a_folder_of_nothing_but_corrupt_images_is_an_error(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/1.png").write_bytes(b"no image")
    for skip in (False, True):
        with pytest.raises(BenchError, match="1.png: no image that Pillow can read"):
            add(home, tmp_path / "bad", skip_corrupt=skip)
    assert everything(home) == {}


def test_a_limit_takes_images_of_every_folder(home: Path, pictures: Path) -> None:
    made = add(home, pictures, limit=60).manifest
    keys = {i: hashlib.sha256(f"shots:0:{i}".encode()).hexdigest() for i in FOLDER.open(pictures).ids}
    assert made.ids == tuple(sorted(sorted(keys, key=keys.get)[:60])) and made.limit == 60
    assert {i[0] for i in made.ids} == set("abc")
    assert add(home, pictures, limit=60).outcome == "unchanged"
    assert add(home, pictures).outcome == "changed"


# --- embedded datasets


def test_an_embedded_dataset_is_generated_on_first_use(home: Path) -> None:
    calls: list[tuple[int, int]] = []
    packed = datasets.load("leaves", LEAVES, home=home, progress=lambda done, total: calls.append((done, total)))
    source = LEAVES.open()
    assert np.array_equal(packed.images, np.stack([source.read(i) for i in source.ids]))
    assert packed.manifest.ids is None and packed.ids == source.ids and calls[-1] == (330, 330)
    assert set(everything(home)) == {"packed/leaves/images.npy", "packed/leaves/manifest.json"}  # git sees nothing
    before = (home / "packed/leaves/images.npy").stat().st_ino
    assert datasets.load("leaves", LEAVES, home=home).manifest == packed.manifest
    assert (home / "packed/leaves/images.npy").stat().st_ino == before
    wider = DeadLeaves(resolution=9, count=330)  # the entry was edited: what is there is of no use any more
    assert datasets.load("leaves", wider, home=home).images.shape == (330, 3, 9, 9)


def test_the_demo_dataset_has_its_golden_bytes(home: Path) -> None:
    made = entries.load(registry.find("dataset", "dead_leaves8")).config
    packed = datasets.load("dead_leaves8", made, home=home)
    assert packed.images.shape == (2048, 3, 8, 8)
    assert packed.manifest.sha256 == "e1cbc246c781f736124e7f11cdbfd59828e99e2d9c2d73b05ab87db7bdb288ee"
    taken = datasets.subset(packed, "dead_leaves8", 16, 0)
    assert taken.digest == "611767c1f3390334e713d5489615687d92ab8d299d64832b833c09e18e9bdc1b"
    assert taken.test_digest == "6a8587ce023fb885241838495400b9f5a54526da4298f0e83bc2046ee75d76e0"
    assert taken.train_indices == (1185, 1661, 483, 1693, 1719, 845, 978, 1851, 24, 187, 1140, 1417, 501, 314, 615, 1504)


def test_an_embedded_dataset_must_be_as_pinned(home: Path) -> None:
    pinned = datasets.add("leaves", LEAVES, home=home, root=None).manifest
    assert (home / "data/leaves.json").exists() and datasets.load("leaves", LEAVES, home=home).manifest == pinned
    manifest.write(home / "data/leaves.json", replace(pinned, sha256="0" * 64))
    with pytest.raises(BenchError, match=f"{pinned.sha256}.*{'0' * 64}.*datasets.add.'leaves', .*`") as problem:
        datasets.load("leaves", LEAVES, home=home)
    assert problem.value.exit_code == 1 and datasets.verify("leaves", home=home) == [str(problem.value)]
    assert datasets.add("leaves", LEAVES, home=home, root=None).outcome == "changed"
    assert datasets.load("leaves", LEAVES, home=home).manifest == pinned
    with pytest.raises(UsageError, match="count = 330 instead of 331"):
        datasets.load("leaves", DeadLeaves(resolution=8, count=331), home=home)


def test_overridden_fields_are_packed_under_a_name_of_their_own(home: Path) -> None:
    names = {"model": "dit_mini", "layout": "global", "dataset": "dead_leaves8", "recipe": "smoke"}

    def name(*overrides: str, dataset: str = "dead_leaves8") -> str:
        return datasets.packed_name(spec.resolve(names | {"dataset": dataset}, subset=4, seed=0, overrides=overrides))

    assert name() == "dead_leaves8" == name("recipe.steps=7")
    changed = name("dataset.count=400")
    assert changed.startswith("dead_leaves8-") and len(changed) == len("dead_leaves8-") + 8
    assert changed == name("dataset.count=400", "recipe.steps=7") == name("count=400") != name("dataset.count=401")
    with pytest.raises(UsageError, match="`overrides=...` cannot change 'natural8'.*`registry=.DIR.`"):
        name("dataset.resolution=4", dataset="natural8")


def first_use(home: Path, results: "multiprocessing.Queue[tuple[str, bool]]") -> None:
    """Load in another process and report whether this one generated the images."""
    generated: list[int] = []
    packed = datasets.load("leaves", LEAVES, home=home, progress=lambda done, total: generated.append(done))
    results.put((hashlib.sha256(packed.images.tobytes()).hexdigest(), bool(generated)))


def test_processes_that_start_at_once_generate_once(home: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=first_use, args=(home, results)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [results.get(timeout=900) for _ in processes]
    for process in processes:
        process.join()
    assert len({digest for digest, _ in found}) == 1 and [generated for _, generated in found].count(True) == 1


# --- damage, full disks, kills


def test_a_flipped_byte_is_found(home: Path, pictures: Path) -> None:
    add(home, pictures)
    datasets.load("leaves", LEAVES, home=home)
    assert datasets.verify("shots", home=home) == [] == datasets.verify("leaves", home=home)
    for name, dataset, way_out in (("shots", FOLDER, "datasets.add.'shots'"), ("leaves", LEAVES, "Remove packed/leaves")):
        path = home / "packed" / name / "images.npy"
        sound = path.read_bytes()
        path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
        with pytest.raises(BenchError, match=f"damaged: their sha256 is .*{way_out}"):
            datasets.load(name, dataset, home=home)
        assert len(datasets.verify(name, home=home)) == 1
        for damaged in (b"", sound[:50], sound[:-1], b"x" * 500):
            path.write_bytes(damaged)
            with pytest.raises(BenchError, match=way_out):
                datasets.load(name, dataset, home=home)
    assert add(home, pictures).outcome == "restored" and datasets.verify("shots", home=home) == []


@pytest.mark.parametrize(
    "change, said",
    [
        ({"count": 329}, "ids holds 330"),
        ({"sha256": "abc"}, "64 hex digits"),
        ({"count": "330"}, "whole number"),
        ({"format": 2}, "format = 2"),
        ({"extra": 1}, "no field 'extra'"),
        (None, "damaged"),
    ],
)
def test_a_damaged_manifest_is_named(home: Path, pictures: Path, change: dict[str, object] | None, said: str) -> None:
    add(home, pictures, limit=None)
    path = home / "data/shots.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | change) if change else path.read_text()[:300])
    with pytest.raises(BenchError, match=said) as problem:
        datasets.load("shots", FOLDER, home=home)
    assert str(path) in str(problem.value) and "\n" not in str(problem.value)
    assert said in datasets.verify("shots", home=home)[0] and said in datasets.status("shots", home)[1]


def test_a_folder_that_cannot_be_written_is_named(home: Path, pictures: Path) -> None:
    (home / "packed").write_text("a file where the folder should be")
    for call in (lambda: add(home, pictures), lambda: datasets.load("leaves", LEAVES, home=home)):
        with pytest.raises(BenchError, match="packed.*cannot be written"):
            call()
    (home / "packed").unlink()
    (home / "data").write_text("a file where the folder should be")
    with pytest.raises(BenchError, match="cannot be"):
        add(home, pictures)


def test_a_full_disk_leaves_what_was_there(home: Path, pictures: Path) -> None:
    add(home, pictures)
    before = everything(home)
    code = (
        "import resource; from pathlib import Path; from benchmark.images import datasets\n"
        "from benchmark.errors import BenchError; from registry.datasets.image_folder import ImageFolder\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n"
        "try: datasets.add('shots', ImageFolder(resolution=16), home=Path('.'), root=Path('pictures'))\n"
        "except BenchError as problem: print(problem)"
    )
    assert 330 * 3 * 16 * 16 > 100_000
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=home, check=True, env=os.environ | {"PYTHONPATH": str(CHECKOUT)}
    )
    assert "packed/shots cannot be written: File too large" in done.stdout and not done.stderr
    assert everything(home) == before


def test_a_killed_process_leaves_nothing_in_the_way(home: Path) -> None:
    code = (
        "from pathlib import Path; from benchmark.images import datasets\n"
        "from registry.datasets.dead_leaves import DeadLeaves\n"
        "datasets.load('leaves', DeadLeaves(resolution=8, count=100_000), home=Path('.'))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=home, env=os.environ | {"PYTHONPATH": str(CHECKOUT)})
    aside = home / "packed/leaves/images.npy.tmp"
    until = time.monotonic() + 900
    while not (aside.exists() and aside.stat().st_size > 0) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert aside.exists() and not (home / "packed/leaves/images.npy").exists()
    packed = datasets.load("leaves", LEAVES, home=home)  # the lock went with the process
    assert len(packed.images) == 330 and not aside.exists()


def test_code_that_returns_something_else_than_it_declares_is_named(home: Path) -> None:
    @dataclass(frozen=True)
    class Wrong:
        resolution, channels, embedded, preprocessing = 8, 1, True, "1"
        ids, fingerprint = ("0",), "0" * 64

        def open(self, root: Path | None) -> "Wrong":
            return self

        def read(self, image_id: str) -> np.ndarray:
            return np.zeros((8, 8), dtype=np.uint8)

    with pytest.raises(BenchError, match=r"returns uint8 of shape \(8, 8\) for image '0'"):
        pack("wrong", Wrong(), Wrong(), home=home)
    assert everything(home) == {}


# --- the manifest and the listings


def test_the_manifest_round_trips_and_its_digest_is_its_content(home: Path, pictures: Path) -> None:
    made = add(home, pictures).manifest
    assert manifest.read(home / "data/shots.json") == made == manifest.read(home / "packed/shots/manifest.json")
    document = json.loads((home / "data/shots.json").read_text())
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert made.digest == hashlib.sha256(canonical.encode()).hexdigest() and from_json(Manifest, document) == made
    assert replace(made, limit=3).digest != made.digest


def test_listings_say_what_is_there(home: Path, pictures: Path) -> None:
    assert datasets.packed_names(home) == []
    assert datasets.status("leaves", home, LEAVES) == ("", "not packed here: generated on first use")
    assert datasets.status("shots", home, FOLDER) == ("", "not packed here: `benchmark.images.datasets.add('shots', ..., root=PATH)`")
    with pytest.raises(UsageError, match="datasets.add.'shots', ..., root=PATH.`"):
        datasets.facts("shots", home)
    added = add(home, pictures)
    datasets.load("leaves", LEAVES, home=home)
    assert datasets.packed_names(home) == ["leaves", "shots"]
    assert datasets.status("shots", home) == ("330", "packed and pinned")
    assert datasets.status("leaves", home) == ("330", "packed")
    facts = datasets.facts("shots", home)
    assert facts["count"] == 330 and facts["sha256"] == added.manifest.sha256 and "ids" not in facts
    assert added.to_json() == {"outcome": "new"} | facts | {"taken": 330, "left_out": []} and json.dumps(facts)
    missing = "there are no images of that name; `benchmark.images.datasets.add('none', ..., root=PATH)` adds them"
    assert datasets.verify("none", home=home) == [missing]


# --- subsets


def test_the_order_is_golden() -> None:
    ids = [str(i) for i in range(10)]
    assert datasets.order("dead_leaves8", 0, ids) == [4, 8, 3, 0, 7, 2, 9, 5, 6, 1]
    assert datasets.order("dead_leaves8", 1, ids) == [8, 7, 0, 1, 6, 2, 5, 9, 4, 3]
    assert datasets.order("natural8", 0, ids) == [2, 8, 6, 1, 9, 5, 7, 4, 3, 0]
    assert [ids[i] for i in datasets.order("x", 0, ids)] == [ids[::-1][i] for i in datasets.order("x", 0, ids[::-1])]


def test_subsets_nest_and_avoid_the_test_images(home: Path) -> None:
    packed = datasets.load("leaves", LEAVES, home=home)
    whole = datasets.subset(packed, "leaves", 30, 5)
    keys = {i: hashlib.sha256(f"leaves:5:{i}".encode()).hexdigest() for i in packed.ids}
    ranked = [int(i) for i in sorted(keys, key=keys.get)]
    assert list(whole.test_indices) == ranked[:300] and list(whole.train_indices) == ranked[300:]
    for size in (1, 7, 29):
        part = datasets.subset(packed, "leaves", size, 5)
        assert part.train_indices == whole.train_indices[:size] and part.test_indices == whole.test_indices
        assert part.train_ids == tuple(str(i) for i in part.train_indices)
        assert np.array_equal(part.train, packed.images[list(part.train_indices)])
        assert part.size == len(part.train) == size
        assert part.digest == hashlib.sha256(part.train.tobytes()).hexdigest() != whole.digest
        assert part.test_digest == hashlib.sha256(part.test.tobytes()).hexdigest() == whole.test_digest
        assert part.manifest_digest == packed.manifest.digest
    assert datasets.subset(packed, "leaves", 7, 6).train_indices != part.train_indices[:7]
    whole.train[0] = 0  # a copy of its own, not the file
    assert datasets.verify("leaves", home=home) == []


def test_copies_of_test_images_leave_the_pool(home: Path, pictures: Path) -> None:
    ordered = datasets.order("shots", 0, FOLDER.open(pictures).ids)
    ids = FOLDER.open(pictures).ids
    test, pool = [ids[i] for i in ordered[:300]], [ids[i] for i in ordered[300:]]
    for original, copy in ((test[0], pool[0]), (test[0], pool[3]), (test[5], pool[9]), (test[7], test[8]), (pool[20], pool[21])):
        (pictures / copy).write_bytes((pictures / original).read_bytes())
    added = add(home, pictures)
    groups = {frozenset(group) for group in added.manifest.duplicates}
    assert groups == {
        frozenset((test[0], pool[0], pool[3])),
        frozenset((test[5], pool[9])),
        frozenset((test[7], test[8])),
        frozenset((pool[20], pool[21])),
    }
    packed = datasets.load("shots", FOLDER, home=home)
    taken = datasets.subset(packed, "shots", 27, 0)
    assert taken.dropped_duplicates == 3
    assert list(taken.train_ids) == [i for i in pool if i not in (pool[0], pool[3], pool[9])]
    assert {image.tobytes() for image in taken.train}.isdisjoint({image.tobytes() for image in taken.test})
    with pytest.raises(UsageError, match="`subset=28` is more than the 27 images"):
        datasets.subset(packed, "shots", 28, 0)


def test_a_subset_that_the_pool_cannot_give_says_the_way_out(home: Path, pictures: Path) -> None:
    packed = datasets.load("leaves", LEAVES, home=home)
    with pytest.raises(UsageError, match="`subset=31` .* the 30 images .*at most 30, or `overrides=.'dataset.count=331'.`"):
        datasets.subset(packed, "leaves", 31, 0)
    with pytest.raises(UsageError, match="`subset=0` must be at least 1"):
        datasets.subset(packed, "leaves", 0, 0)
    few = datasets.load("few", DeadLeaves(resolution=8, count=300), home=home)
    with pytest.raises(UsageError, match="has 300 images; 300 are held out .* at least 301 are needed"):
        datasets.subset(few, "few", 1, 0)
    add(home, pictures)
    with pytest.raises(UsageError, match="Use at most 30, or a dataset with more images"):
        datasets.subset(datasets.load("shots", FOLDER, home=home), "shots", 1000, 0)


def test_the_same_bytes_under_other_ids_are_a_new_version_that_says_why(home: Path, pictures: Path) -> None:
    add(home, pictures)
    above = datasets.add("shots", FOLDER, home=home, root=pictures.parent)
    assert above.outcome == "changed" and "its ids are others" in above.sentence
