"""benchmark/images/subsets.py: halves for the strong-generalization test, and golden digests of which images a subset holds."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.declaring import kinds, spec
from benchmark.declaring.fields import FieldError
from benchmark.errors import BenchError, UsageError
from benchmark.images import datasets
from benchmark.pages import leaderboard
from benchmark.recording import record
from registry.datasets.dead_leaves import DeadLeaves
from registry.datasets.image_folder import ImageFolder
from tests.conftest import ENTRIES, TINY, Bench
from tests.records import make_record

LEAVES = DeadLeaves(resolution=8, count=331)
NAMES = {"model": "dit_mini", "layout": "global", "dataset": "dead_leaves8", "recipe": "mini"}
RECORDS = sorted((Path(__file__).parents[2] / "leaderboard" / "records").rglob("*.json"))


def digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


@pytest.fixture(scope="module")
def leaves(tmp_path_factory: pytest.TempPathFactory) -> datasets.Packed:
    return datasets.load("leaves", LEAVES, home=tmp_path_factory.mktemp("leaves"))


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> datasets.Packed:
    return datasets.load("dead_leaves8", DeadLeaves(resolution=8, count=2048), home=tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> datasets.Packed:
    """331 pictures, with copies over every border: test to pool, half to half, within a half, and three of a kind."""
    root, home = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("home")
    for i in range(331):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / f"{i}.png")
    ids = sorted(path.name for path in root.iterdir())
    ranked = sorted(ids, key=lambda name: hashlib.sha256(f"doubled:0:{name}".encode()).hexdigest())
    test, pool = ranked[:300], ranked[300:]
    copies = (
        (test[2], pool[0]),
        (test[2], pool[7]),
        (pool[1], pool[2]),
        (pool[4], pool[10]),
        (pool[5], pool[8]),
        (pool[5], pool[13]),
        (test[0], test[1]),
    )
    for original, copy in copies:
        (root / copy).write_bytes((root / original).read_bytes())
    datasets.add("doubled", ImageFolder(resolution=8), home=home, root=root)
    return datasets.load("doubled", ImageFolder(resolution=8), home=home)


def by_hand(packed: datasets.Packed, name: str, seed: int, half: str | None) -> tuple[list[int], int]:
    """The whole pool or half of it, from the bytes of the images alone, and how many images were dropped."""
    ids = packed.ids
    ranked = sorted(range(len(ids)), key=lambda i: hashlib.sha256(f"{name}:{seed}:{ids[i]}".encode()).hexdigest())
    seen = {packed.images[i].tobytes() for i in ranked[:300]}
    pool = []
    for i in ranked[300:]:
        content = packed.images[i].tobytes()
        if content not in seen:
            pool.append(i)
        if half:
            seen.add(content)
    dropped = len(ranked) - 300 - len(pool)
    return (pool if half is None else [i for place, i in enumerate(pool) if "ab"[place % 2] == half]), dropped


@pytest.mark.parametrize("half", [None, "a", "b"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_subset_is_what_the_bytes_say(leaves: datasets.Packed, doubled: datasets.Packed, seed: int, half: str | None) -> None:
    for packed, name in ((leaves, "leaves"), (doubled, "doubled")):
        wanted, dropped = by_hand(packed, name, seed, half)
        room = len(by_hand(packed, name, seed, "b")[0]) if half else len(wanted)
        for size in (1, 2, 5, room):
            taken = datasets.subset(packed, name, size, seed, half)
            assert list(taken.train_indices) == wanted[:size]  # so that subsets nest
            assert taken.dropped_duplicates == dropped
            assert taken.half == half and taken.size == size == len(taken.train)
            assert np.array_equal(taken.train, packed.images[wanted[:size]])
    assert doubled.manifest.duplicates and not leaves.manifest.duplicates


def test_copies_over_every_border_are_dropped_and_counted(doubled: datasets.Packed) -> None:
    whole = datasets.subset(doubled, "doubled", 10, 0)
    a, b = (datasets.subset(doubled, "doubled", 12, 0, half) for half in ("a", "b"))
    assert whole.dropped_duplicates == 2  # the copies of test images alone
    assert a.dropped_duplicates == b.dropped_duplicates == 6  # and the later ones of each kind in the pool
    assert a.test_digest == b.test_digest == whole.test_digest
    images = [{image.tobytes() for image in part} for part in (a.train, b.train, a.test)]
    assert all(images[i].isdisjoint(images[k]) for i, k in ((0, 1), (0, 2), (1, 2)))
    assert len(images[0]) == len(images[1]) == 12  # nor is any image twice in a half


def test_two_halves_are_the_first_of_the_pool_and_share_nothing(leaves: datasets.Packed) -> None:
    for size in (1, 4, 15):
        a, b = (datasets.subset(leaves, "leaves", size, 3, half) for half in ("a", "b"))
        assert set(a.train_indices).isdisjoint(b.train_indices)
        assert set(a.train_indices) | set(b.train_indices) == set(datasets.subset(leaves, "leaves", 2 * size, 3).train_indices)
        assert set(a.train_indices).isdisjoint(a.test_indices) and a.test_indices == b.test_indices
    assert datasets.subset(leaves, "leaves", 4, 4, "a").train_indices != datasets.subset(leaves, "leaves", 4, 3, "a").train_indices


def test_a_half_that_is_too_small_says_the_way_out(leaves: datasets.Packed, doubled: datasets.Packed, home: Path) -> None:
    with pytest.raises(
        UsageError, match="`subset=16, half='b'` is more than the 15 images .*Use at most 15, or `overrides=.'dataset.count=332'.`"
    ):
        datasets.subset(leaves, "leaves", 16, 0, "b")
    assert len(datasets.subset(leaves, "leaves", 15, 0, "b").train) == 15
    with pytest.raises(UsageError, match="more than the 12 images .*Use at most 12, or a dataset with more images"):
        datasets.subset(doubled, "doubled", 13, 0, "a")
    few = datasets.load("few", DeadLeaves(resolution=8, count=301), home=home)
    with pytest.raises(UsageError, match="at least 302 are needed. Use `overrides=.'dataset.count=302'.`"):
        datasets.subset(few, "few", 1, 0, "a")


# A change of Python, numpy, torch or Pillow that would give a study other images changes one of these.


@pytest.mark.parametrize(
    ("name", "seed", "first", "all_of_them"),
    [
        ("celeba", 0, [2931, 259, 4366, 783], "aa26f59689d0139d"),
        ("imagenet", 1, [1667, 2837, 3653, 675], "6d5e182ab4310875"),
        ("lsun_church", 2, [3240, 3443, 3961, 2421], "b5e73971a81e2f38"),
    ],
)
def test_the_order_of_many_ids_is_golden(name: str, seed: int, first: list[int], all_of_them: str) -> None:
    found = datasets.order(name, seed, [f"folder/{i:06}.jpg" for i in range(5000)])
    assert (found[:4], digest(found)) == (first, all_of_them)


@pytest.mark.parametrize(
    ("size", "seed", "half", "found"),
    [
        (16, 0, None, ("611767c1f3390334", "6a8587ce023fb885")),
        (512, 2, None, ("e676dd016db2844e", "291bf0c40b830017")),
        (16, 0, "a", ("667be39e38a69f79", "6a8587ce023fb885")),
        (16, 0, "b", ("13cee80043dcf9b8", "6a8587ce023fb885")),
        (512, 1, "b", ("ba10b3b5e8ac751a", "040abb969522625f")),
    ],
)
def test_the_bytes_of_the_mini_subsets_are_golden(
    size: int, seed: int, half: str | None, found: tuple[str, str], mini: datasets.Packed
) -> None:
    taken = datasets.subset(mini, "dead_leaves8", size, seed, half)
    assert (taken.digest[:16], taken.test_digest[:16]) == found
    assert taken.dropped_duplicates == 0


# --- halves in a run and in its record


def test_a_half_is_part_of_the_identity_and_no_half_is_no_part_of_it() -> None:
    plain, a, b = (spec.resolve(NAMES, subset=16, seed=0, half=half) for half in (None, "a", "b"))
    assert "half" not in plain.to_json() and a.to_json() == plain.to_json() | {"half": "a"}
    assert len({plain.id, a.id, b.id}) == 3
    assert "half" not in plain.title and b.title.endswith("half b")
    for one, other in ((plain, a), (a, b), (b, plain)):
        assert one.describes(one.to_json()) and not one.describes(other.to_json())
        assert spec.from_record(one.to_json()).half == one.half and spec.from_record(one.to_json()).id == one.id


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_no_committed_record_has_another_id_than_when_it_was_made(path: Path) -> None:
    document = json.loads(path.read_text())
    given, stored = (kinds.hashed_document(one, spec.AXES) for one in (spec.from_record(document["spec"]).to_json(), document["spec"]))
    assert given == stored
    assert spec.from_record(document["spec"]).id == document["id"]


def test_a_record_of_a_half_has_a_place_of_its_own_and_no_row_on_the_page(tmp_path: Path) -> None:
    whole = make_record()
    half = halved(whole, "a")
    path = record.path_of(tmp_path, half.row, half.half)
    assert half.row == whole.row and path == tmp_path / "mini/dead_leaves8/dit_mini-global-n16-s0-half_a.json"
    for one in (whole, half):
        record.write(one, record.path_of(tmp_path, one.row, one.half))
    assert {one.half for one in record.read_all(tmp_path)} == {None, "a"}
    rows = [row for table in leaderboard.as_json(tmp_path)["tables"] for row in table["rows"]]
    assert len(rows) == 1
    record.write(half, record.path_of(tmp_path, half.row, "b"))
    with pytest.raises(BenchError, match="half_b.json belongs at .*half_a.json"):
        record.read_all(tmp_path)
    with pytest.raises(FieldError, match="spec.half = 'c' must be one of 'a', 'b'"):
        halved(whole, "c")


def halved(whole: record.Record, half: str) -> record.Record:
    document = whole.spec | {"half": half}
    return dataclasses.replace(whole, spec=document, id=spec.spec_id(document))


def test_the_strong_generalization_test_by_the_command_line(bench: Bench, home: Path) -> None:
    """Two halves, trained and compared; a wrong request leaves no folder behind."""
    refused = bench("run", *TINY, "--subset", "16", "--half", "a")
    assert refused.returncode == 2 and "Use at most 15" in refused.stderr
    assert "recipe tiny" not in refused.stderr and not (home / "runs").exists()
    made = [json.loads(bench("run", *TINY, "--subset", "15", "--half", half, "--no-track", "--json").stdout) for half in "ab"]
    assert made[0]["weights_sha256"] != made[1]["weights_sha256"]
    listed = json.loads(bench("list", "runs", "--json").stdout)
    assert {(one["N"], one["half"], one["state"]) for one in listed} == {(15, "a", "finished"), (15, "b", "finished")}
    words = [made[0]["id"], made[1]["id"], "--count", "4", "--sampling-steps", "5", "--registry", str(ENTRIES), "--device", "cpu"]
    compared = json.loads(bench("compare", *words, "--json").stdout)
    assert compared["shared_images"] == 0 and compared["train_images"] == [15, 15]
    assert "agree too" in bench("compare", *words).stdout
    again = json.loads(bench("run", "--record", made[1]["record"], "--registry", str(ENTRIES), "--no-track", "--json").stdout)
    assert (again["id"], again["status"]) == (made[1]["id"], "already finished")
    page = bench("sample", made[0]["id"], "--publish", "--registry", str(ENTRIES))
    assert page.returncode == 2 and "runs on halves have no row" in page.stderr


@pytest.mark.parametrize("seeds", [(0, 1), (0, 1, 2, 5)])
def test_peers_own_the_images_that_no_other_peer_trains_on(
    leaves: datasets.Packed, doubled: datasets.Packed, seeds: tuple[int, ...]
) -> None:
    """Held against the bytes themselves, in datasets of 31 and fewer training images, in one of which some are twice."""
    for packed, name in ((leaves, "leaves"), (doubled, "doubled")):
        for size, most in ((4, 3), (16, 64), (20, 64)):
            trained = {seed: by_hand(packed, name, seed, None)[0][:size] for seed in seeds}
            for peer in datasets.peers_of(packed, name, size, seeds, most):
                others = {packed.images[i].tobytes() for seed in seeds if seed != peer.seed for i in trained[seed]}
                own = [i for i in trained[peer.seed] if packed.images[i].tobytes() not in others]
                assert peer.left == len(own)
                wanted = own[:most] if len(own) >= min(16, 3 * size / 4) else []
                assert [image.tobytes() for image in peer.images] == [packed.images[i].tobytes() for i in wanted]
                assert peer.digest == hashlib.sha256(b"".join(packed.images[i].tobytes() for i in wanted)).hexdigest()
