"""The photographs of natural8, natural16 and natural32: which they are, and that the whole public copy gives them again."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.declaring import entries, registry
from benchmark.errors import UsageError
from benchmark.files import PROJECT
from benchmark.images import datasets, distributions, manifest
from registry.datasets.image_folder import ImageFolder
from tests.pictures import noise, stored

NAMES = ("natural8", "natural16", "natural32")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COPY = {"train": 5_000, "test": 1_000}  # files of a class in the public copy, numbered from 0
TAKEN = {"train": 1_040, "test": 160}
SMALL = ImageFolder(resolution=8)


def test_the_lists_are_one_and_take_as_many_of_every_class() -> None:
    lists = {name: manifest.read(manifest.pin(PROJECT, name)) for name in NAMES}
    assert len({one.ids for one in lists.values() if one}) == 1 and None not in lists.values()
    ids = [image_id.split("/") for image_id in (lists["natural8"] or pytest.fail("no pin")).ids or ()]
    assert len(ids) == 12_000 == sum(TAKEN.values()) * len(CLASSES)
    for part, most in COPY.items():
        for group in CLASSES:
            numbers = {int(file.removesuffix(".jpg")) for where, name, file in ids if (where, name) == (part, group)}
            assert len(numbers) == TAKEN[part] and numbers <= set(range(most))


@pytest.mark.parametrize("name", NAMES)
def test_the_facts_say_the_same(name: str) -> None:
    found = distributions.where(name, entries.load(registry.find("dataset", name)).config)
    assert found and found.images == sum(COPY.values()) * len(CLASSES)
    for number in (*TAKEN.values(), sum(TAKEN.values()) * len(CLASSES), *(count * len(CLASSES) for count in COPY.values())):
        assert f"{number:,}" in found.take


def copy(root: Path, each: int) -> Path:
    """Write a small copy: `each` files of two classes in train/, half as many in test/, and what lies beside them."""
    for part, count in (("train", each), ("test", each // 2)):
        for seed, group in enumerate(CLASSES[:2]):
            for number in range(count):
                path = root / part / group / f"{number:04}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(stored(Image.fromarray(noise(32, 32, 100 * seed + number)), "JPEG"))
    (root / "README.md").write_text("")
    (root / ".git").mkdir()
    return root


def test_the_whole_copy_gives_the_listed_ones_byte_for_byte(home: Path) -> None:
    whole = copy(home / "whole", 8)
    listed = [
        f"{part}/{group}/{number:04}.jpg"
        for part, numbers in (("train", (1, 4, 6)), ("test", (0, 3)))
        for group in CLASSES[:2]
        for number in numbers
    ]
    for name in listed:
        path = home / "chosen" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((whole / name).read_bytes())
    made = datasets.add("mine", SMALL, home=home, root=home / "chosen").manifest
    before = np.array(datasets.load("mine", SMALL, home=home).images)
    (home / "packed" / "mine" / "images.npy").unlink()

    again = datasets.add("mine", SMALL, home=home, root=whole, keep=made)
    assert again.outcome == "restored" and again.manifest.same_images(made)
    assert np.array_equal(datasets.load("mine", SMALL, home=home).images, before)
    left_out = {one.reason: one.count for one in again.left_out}
    assert left_out == {"not one of the images that the name stands for": 24 - 10, "hidden": 1, "no image by its suffix (.md)": 1}

    (whole / listed[0]).write_bytes(stored(Image.fromarray(noise(32, 32, 999)), "JPEG"))
    with pytest.raises(UsageError, match=r"The name 'mine' stands for the 10 images pinned .* those in the folder have the sha256"):
        datasets.add("mine", SMALL, home=home, root=whole, keep=made)
    (whole / listed[0]).unlink()
    with pytest.raises(UsageError, match=r"there are 23 in the folder, by other names"):
        datasets.add("mine", SMALL, home=home, root=whole, keep=made)
