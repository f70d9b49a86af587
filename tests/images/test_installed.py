"""Real images that need no download: the digits and the patches of photographs that installed packages carry."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from benchmark.contract import FieldError, ImageError
from benchmark.declaring import entries, registry
from benchmark.errors import UsageError
from benchmark.images import datasets, manifest
from benchmark.images.subsets import largest
from registry.datasets import installed, patches
from registry.datasets.digits import Digits
from registry.datasets.installed import Carried
from registry.datasets.patches import BAND, FLAT, PHOTOGRAPHS, Patches

GOLDEN = {
    "digits8": "b41ca9fd3354",
    "patches8": "23a2d8b298f4",
    "patches16": "510d530a1784",
    "patches8_permuted": "e931d94599ae",
}
CHECKOUT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", GOLDEN)
def test_the_bytes_are_golden_and_as_pinned(name: str, home: Path) -> None:
    made = datasets.load(name, entries.load(registry.find("dataset", name)).config, home=home).manifest
    assert made.sha256.startswith(GOLDEN[name]) and manifest.read(manifest.pin(CHECKOUT, name)) == made


def test_the_digits_are_those_of_scikit_learn() -> None:
    source, theirs = Digits(channels=1).open(), load_digits().images
    assert len(source.ids) == len(theirs) == Digits.count
    for i in (0, 1, 500, 1796):
        grey = source.read(str(i))
        assert grey.shape == (1, 8, 8) and np.array_equal(grey[0], np.floor(theirs[i] * 255 / 16 + 0.5))
        assert np.array_equal(Digits(channels=3).open().read(str(i)), np.repeat(grey, 3, axis=0))
    with pytest.raises(ImageError, match="rows end at 1796"):
        source.read("1797")
    with pytest.raises(ImageError, match="no folder to open"):
        Digits().open(Path())


@pytest.mark.parametrize("side", (8, 16))
def test_patches_tile_the_photographs_and_flat_ones_are_counted(side: int) -> None:
    source = Patches(resolution=side).open()
    names = [f"{i.split('/')[1].split(':')[0]}" for i in source.ids]
    (flat,) = source.left_out
    assert flat.reason == "nearly flat" and len(flat.first) == 5
    pixels = {"china": (427, 640), "flower": (427, 640), "hopper": (300, 256)}
    assert len(source.ids) + flat.count == sum((height // side) * (width // side) for height, width in pixels.values())
    assert list(dict.fromkeys(names)) == [one.name for one in PHOTOGRAPHS]
    photographs = dict(zip(("china", "flower"), load_sample_images().images, strict=True))
    kept = {i.partition("/")[2] for i in source.ids}
    for name, photograph in photographs.items():
        luma = np.asarray(Image.fromarray(photograph).convert("L"), dtype=np.float64)
        for row in range(427 // side):
            for column in range(640 // side):
                rows, columns = slice(row * side, row * side + side), slice(column * side, column * side + side)
                assert bool(luma[rows, columns].std() >= FLAT - 1e-9) is (f"{name}:{row}:{column}" in kept)
        for image_id in [i for i in source.ids if f"/{name}:" in i][::97]:
            row, column = map(int, image_id.split(":")[1:])
            tile = photograph[row * side : row * side + side, column * side : column * side + side]
            assert np.array_equal(source.read(image_id), tile.transpose(2, 0, 1))


@pytest.mark.parametrize("name", ("patches8", "patches16", "patches8_permuted"))
@pytest.mark.parametrize("seed", (0, 1))
def test_training_and_test_patches_come_from_disjoint_regions(name: str, seed: int, home: Path) -> None:
    packed = datasets.load(name, entries.load(registry.find("dataset", name)).config, home=home)
    side = packed.manifest.resolution
    most = largest(packed, name, seed)
    taken = datasets.subset(packed, name, most, seed)
    test_ids = [packed.ids[i] for i in taken.test_indices]
    assert len(test_ids) == 300 and most == sum(not i.startswith("test/") for i in packed.ids) - taken.dropped_duplicates > 800

    def regions(ids: list[str] | tuple[str, ...]) -> set[tuple[str, int]]:
        return {(i.split("/")[1].split(":")[0], int(i.split(":")[2]) * side // BAND) for i in ids}

    tested, trained = regions(test_ids), regions(taken.train_ids)
    assert not tested & trained and {band % 4 for _, band in tested} == {1}
    assert {photograph for photograph, _ in tested} == {photograph for photograph, _ in trained} == {one.name for one in PHOTOGRAPHS}
    a, b = (datasets.subset(packed, name, most // 2, seed, half) for half in ("a", "b"))
    assert not set(a.train_ids) & set(b.train_ids) and a.test_indices == b.test_indices == taken.test_indices
    with pytest.raises(UsageError, match=f"Use at most {most}"):
        datasets.subset(packed, name, most + 1, seed)
    assert packed.manifest.document()["held_out_from"] == "test/"


def test_the_manifest_counts_what_the_rule_left_out(home: Path) -> None:
    packed = datasets.load("patches16", Patches(resolution=16), home=home)
    (flat,) = Patches(resolution=16).open().left_out
    assert packed.manifest.document()["left_out"] == datasets.facts("patches16", home)["left_out"] == {"nearly flat": flat.count}


def test_a_size_that_no_band_is_cut_into_is_refused() -> None:
    with pytest.raises(FieldError, match="resolution = 12 must divide 64"):
        Patches(resolution=12)
    with pytest.raises(ImageError, match="no folder to open"):
        Patches(resolution=8).open(Path())
    with pytest.raises(ImageError, match="no image 'train/china:0:0'"):
        Patches(resolution=8).open().read("train/china:0:0")


def test_another_file_or_none_is_named() -> None:
    with pytest.raises(ImageError, match=r"pip install -e '\.\[data\]'"):
        installed.content(Carried("scikit-none", "sklearn_none", "a", "0" * 64))
    with pytest.raises(ImageError, match=r"nothing.jpg of scikit-learn [0-9.]+ cannot be read: No such file"):
        installed.content(patches.PHOTOGRAPHS[0].file._replace(path="datasets/images/nothing.jpg"))
    with pytest.raises(ImageError, match="has the sha256 8378025a.* is made from 0000"):
        installed.content(patches.PHOTOGRAPHS[0].file._replace(sha256="0" * 64))
