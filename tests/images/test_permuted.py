"""A permuted dataset: the same images in another order of their pixels, and the same subsets, held-out images and pairs."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.contract import Entry, FieldError, ImageError
from benchmark.declaring import entries, registry, spec
from benchmark.declaring.fields import to_json
from benchmark.errors import BenchError, UsageError
from benchmark.images import datasets, manifest
from benchmark.images.preview import preview
from benchmark.images.subsets import largest
from benchmark.quality.reference import reference
from registry.datasets.dead_leaves import DeadLeaves
from registry.datasets.image_folder import ImageFolder
from registry.datasets.permuted import Permuted, permutation

LEAVES = Entry("leaves", "dead_leaves", DeadLeaves(resolution=8, count=330))
SHOTS = Entry("shots", "image_folder", ImageFolder(resolution=6))
NAMES = {"model": "dit_mini", "layout": "global", "dataset": "dead_leaves8_permuted", "recipe": "mini"}


def made(name: str, of: Entry, home: Path, key: int | str = 0) -> datasets.Packed:
    """Return the packed images of a permuted dataset."""
    return datasets.load(name, Permuted(of=of, key=key), home=home)


def pictures(root: Path, seed: int = 0) -> Path:
    """Return a folder of 305 different pictures of height 6, the first two of which have the same pixels."""
    root.mkdir(parents=True, exist_ok=True)
    for i in range(305):
        pixels = np.random.default_rng([seed, max(i, 1)]).integers(0, 256, (6, 6 + seed, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{i:03}.png")
    return root


def mine(folder: Path, **files: str) -> tuple[Path, ...]:
    """Return a search path with dataset entries of one's own; `of` names another entry."""
    (folder / "datasets").mkdir(parents=True)
    for name, of in files.items():
        text = f"# A permuted dataset\nimport registry.datasets.permuted\n\nPermuted.of = {of!r}\nPermuted.key = 'mine'\n"
        (folder / "datasets" / f"{name}.gin").write_text(text)
    return registry.roots([folder])


def test_the_permutation_is_golden_and_each_key_has_its_own() -> None:
    assert permutation(0, 9).tolist() == [7, 4, 3, 8, 2, 6, 0, 5, 1]  # by sha256sum and sort
    assert sorted(permutation("text", 1024)) == list(range(1024))
    assert permutation(1, 64).tolist() == permutation("1", 64).tolist() != permutation(2, 64).tolist()
    keys = {n: hashlib.sha256(f"any key:{n}".encode()).hexdigest() for n in range(64)}
    assert permutation("any key", 64).tolist() == sorted(keys, key=lambda n: keys[n])


def test_every_image_and_channel_is_permuted_alike_and_keeps_all_but_locality(home: Path) -> None:
    plain, other = datasets.load(LEAVES.name, LEAVES.config, home=home), made("mixed", LEAVES, home)
    order = permutation(0, 64)
    for image, mixed in zip(plain.images[:20], other.images[:20], strict=True):
        for channel in range(3):
            assert [image[channel].flat[p] for p in order] == list(mixed[channel].flat)
    a, b = (x.images.reshape(330, -1).astype(np.int64) for x in (plain, other))
    assert np.array_equal(a @ a.T, b @ b.T)  # every inner product, and so every distance
    across = [float(np.abs(np.diff(x.images.astype(int), axis=3)).mean()) for x in (plain, other)]
    assert across[1] > 1.5 * across[0]  # neighbours are no longer alike


def test_the_subsets_are_the_same_images(home: Path) -> None:
    plain, other, order = datasets.load(LEAVES.name, LEAVES.config, home=home), made("mixed", LEAVES, home), permutation(0, 64)
    for size, seed, half in ((1, 0, None), (30, 0, None), (17, 4, None), (9, 1, "a"), (9, 1, "b")):
        one, two = datasets.subset(plain, "leaves", size, seed, half), datasets.subset(other, "mixed", size, seed, half)
        assert (one.train_indices, one.test_indices, one.train_ids) == (two.train_indices, two.test_indices, two.train_ids)
        assert np.array_equal(one.train.reshape(size, 3, -1)[:, :, order], two.train.reshape(size, 3, -1))
        assert np.array_equal(one.test.reshape(300, 3, -1)[:, :, order], two.test.reshape(300, 3, -1))
        assert one.digest != two.digest
    assert largest(other, "mixed", 0) == largest(plain, "leaves", 0) == 30
    looks = [preview(packed, name, size=9, seed=2, half=None, test=True) for packed, name in ((plain, "leaves"), (other, "mixed"))]
    assert looks[0].train_ids == looks[1].train_ids and looks[0].test_ids == looks[1].test_ids
    chosen = [reference(packed, name, home, limit=40).images[0:40] for packed, name in ((plain, "leaves"), (other, "mixed"))]
    assert np.array_equal(chosen[0].reshape(40, 3, -1)[:, :, order], chosen[1].reshape(40, 3, -1))


def test_the_manifest_says_what_it_follows_and_is_made_of(home: Path) -> None:
    plain, other = datasets.load(LEAVES.name, LEAVES.config, home=home), made("mixed", LEAVES, home)
    told = other.manifest.document()
    assert (told["follows"], told["made_of"]) == ("leaves", plain.manifest.sha256) and "'follows:seed:id'" in told["ordering"]
    assert told["config"] == {"of": LEAVES.to_json(), "key": 0}
    assert not {"follows", "made_of"} & plain.manifest.document().keys()
    twice = made("again", Entry("mixed", "permuted", Permuted(of=LEAVES, key=0)), home)
    assert twice.manifest.follows == "leaves"


def test_a_packed_folder_is_permuted_without_its_files(home: Path) -> None:
    with pytest.raises(UsageError, match=r"datasets.add\('shots', ..., root=PATH\)"):
        made("mixed", SHOTS, home)
    datasets.add("shots", SHOTS.config, home=home, root=pictures(home / "root"))
    plain, other = datasets.load("shots", SHOTS.config, home=home), made("mixed", SHOTS, home, "x")
    assert list(other.ids) == list(plain.ids) and other.manifest.duplicates == plain.manifest.duplicates != ()
    assert np.array_equal(plain.images.reshape(305, 3, -1)[:, :, permutation("x", 36)], other.images.reshape(305, 3, -1))
    assert datasets.verify("mixed", home=home) == []
    with pytest.raises(ImageError, match="made from those of 'shots'"):
        Permuted(of=SHOTS, key=0).open(home)


def test_other_images_under_the_old_name_are_permuted_anew(home: Path) -> None:
    datasets.add("shots", SHOTS.config, home=home, root=pictures(home / "root"))
    before = made("mixed", SHOTS, home).manifest
    assert made("mixed", SHOTS, home).manifest == before
    datasets.add("shots", SHOTS.config, home=home, root=pictures(home / "other", seed=1))
    after = made("mixed", SHOTS, home).manifest
    assert after.sha256 != before.sha256 and after.made_of != before.made_of
    datasets.add("mixed", Permuted(of=SHOTS, key=0), home=home, root=None)  # pinned
    datasets.add("shots", SHOTS.config, home=home, root=pictures(home / "third", seed=2))
    with pytest.raises(BenchError, match="generates other images"):
        made("mixed", SHOTS, home)


def test_the_spec_holds_the_other_dataset_and_is_rebuilt_from_a_record() -> None:
    stock = spec.resolve(NAMES, subset=16, seed=0)
    document = stock.to_json()
    assert document["dataset"]["config"] == {"of": entries.load(registry.find("dataset", "dead_leaves8")).to_json(), "key": 0}
    again = spec.from_record(document)
    assert again == stock and again.id == stock.id == "b0d177ee439a" and stock.describes(document)
    assert (stock.images.channels, stock.images.resolution) == (3, 8)
    document["dataset"]["config"]["of"]["config"]["count"] = 100
    assert not stock.describes(document) and spec.from_record(document).id != stock.id
    other = spec.resolve(NAMES, subset=16, seed=0, overrides=["dataset.key=7"])
    assert other.dataset.config == replace(stock.dataset.config, key=7) and datasets.packed_name(other) != stock.dataset.name
    with pytest.raises(UsageError, match="'of' is another entry"):
        spec.resolve(NAMES, subset=16, seed=0, overrides=["dataset.of=natural8"])


def test_an_entry_of_ones_own_names_another_one_of_ones_own(tmp_path: Path) -> None:
    search = mine(tmp_path, outer="inner", inner="dead_leaves8", loop="loop", none="no_such")
    outer = entries.load(registry.find("dataset", "outer", search))
    assert outer.config.of.config.of.name == "dead_leaves8" == outer.config.follows
    with pytest.raises(UsageError, match="of = 'loop' makes it a part of itself"):
        entries.load(registry.find("dataset", "loop", search))
    with pytest.raises(UsageError, match="No dataset is called 'no_such'"):
        entries.load(registry.find("dataset", "none", search))
    with pytest.raises(FieldError, match="of = 3 must be"):
        Permuted(of=3, key=0)


def test_the_stock_entry_is_golden(home: Path) -> None:
    entry = entries.load(registry.find("dataset", "dead_leaves8_permuted"))
    packed = datasets.load(entry.name, entry.config, home=home)
    pinned = manifest.read(manifest.pin(Path(__file__).parents[2], entry.name))
    assert pinned and pinned.same_images(packed.manifest) and to_json(pinned) == packed.manifest.document()
    assert packed.manifest.sha256 == "a52fd3d4dc7dca317b4b43d33bff0beaac298a5395c681ae5b1b01b281cd6e44"
