"""Every adapter on a small real distribution: the pixels and the order are golden, and every fault names its file."""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.contract import Dataset, ImageError
from benchmark.declaring import entries, registry
from benchmark.errors import BenchError
from benchmark.images import datasets
from registry.datasets import decode
from registry.datasets.resize import shrink, to_array
from tests.conftest import Bench
from tests.pictures import (
    JPEGS,
    WEBPS,
    batches,
    celeba,
    everything,
    imagenet,
    lsun,
    noise,
    parquet,
    stored,
)

LAYOUTS: dict[str, Callable[[Path, Sequence[bytes]], Path]] = {
    "celeba": celeba,
    "celeba zipped": lambda root, images: celeba(root, images, zipped=True),
    "lsun_church": lsun,
    "imagenet": imagenet,
    "parquet32": parquet,
}
# The sha256 over the six images at 32x32 in the order of the array. Another decoder or resize gives another one.
PIXELS = {
    "celeba": "17b862be1e055c137de504ee1d3e6f8d7993dc8bd7524e4d4013ed9cad02fe5e",
    "lsun_church": "0cf4527cbd587d5a5312334c1f561e7ba961209e2a5eced80f6c25c9985e759f",
    "imagenet": "99ea4e843b38fd769edb2d75a8605c92a1c0e1bf4265b51f676631cc6169160e",
    "parquet32": "17b862be1e055c137de504ee1d3e6f8d7993dc8bd7524e4d4013ed9cad02fe5e",
}
ORDERS = {  # the indices of twelve images in the order of seed 0, by the entry's name and the ids of its layout
    "celeba": [3, 2, 10, 6, 5, 9, 11, 4, 7, 1, 0, 8],
    "lsun_church": [2, 4, 0, 1, 11, 5, 3, 7, 10, 8, 9, 6],
    "imagenet": [7, 9, 0, 2, 3, 1, 4, 5, 6, 10, 8, 11],
    "parquet32": [0, 8, 9, 11, 1, 4, 10, 3, 7, 5, 6, 2],
}


def entry_of(layout: str) -> tuple[str, Dataset]:
    """Return the name and the stock entry that reads a layout."""
    name = layout.split()[0]
    return name, entries.load(registry.find("dataset", name)).config


def added(layout: str, home: Path, root: Path, **options: bool) -> datasets.Packed:
    """Add a layout and load it again."""
    name, dataset = entry_of(layout)
    datasets.add(name, dataset, home=home, root=root, **options)
    return datasets.load(name, dataset, home=home)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_pixels_and_the_order_of_a_distribution_are_golden(layout: str, home: Path) -> None:
    name, dataset = entry_of(layout)
    packed = added(layout, home, LAYOUTS[layout](home / "root", JPEGS + WEBPS))
    assert packed.images.shape == (6, 3, 32, 32) and packed.images.std() > 30
    assert packed.manifest.sha256 == PIXELS[name]
    twelve = dataset.open(LAYOUTS[layout](home / "twelve", (JPEGS + WEBPS) * 2))
    assert datasets.order(name, 0, twelve.ids) == ORDERS[name]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_image_is_its_file_shrunk(layout: str, home: Path) -> None:
    packed = added(layout, home, LAYOUTS[layout](home / "root", JPEGS))
    expected = [to_array(shrink(Image.open(Path(__file__).parents[1] / f"images/{i}.jpg"), 32)).tobytes() for i in range(3)]
    assert sorted(expected) == sorted(image.tobytes() for image in packed.images) and len(set(expected)) == 3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_adding_again_does_nothing_and_another_source_is_a_new_version(layout: str, home: Path) -> None:
    name, dataset = entry_of(layout)
    one, other = (LAYOUTS[layout](home / folder, images) for folder, images in (("one", JPEGS), ("other", JPEGS + WEBPS)))
    first = datasets.add(name, dataset, home=home, root=one)
    assert first.outcome == "new"
    assert ("The source has 3 images, the official distribution" in first.sentence) == (name != "parquet32")
    assert datasets.add(name, dataset, home=home, root=one).outcome == "unchanged"
    second = datasets.add(name, dataset, home=home, root=other)
    assert second.outcome == "changed" and "a new version: it had 3 images" in second.sentence
    assert datasets.add(name, dataset, home=home, root=one, limit=2).manifest.count == 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_mode_is_turned_to_upright_rgb(layout: str, home: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # shown by turning it clockwise by 90 degrees
    left = Image.new("RGB", (64, 64), (250, 250, 250))
    left.paste((10, 10, 10), (0, 0, 64, 32))  # black above: after the turn, black is on the right
    images = [
        stored(left, "JPEG", exif=turned, quality=95),
        stored(Image.new("L", (40, 40), 90), "JPEG", quality=95),
        stored(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "JPEG", quality=95),
        stored(Image.new("RGBA", (40, 40), (0, 0, 0, 51)), "WEBP", lossless=True),
        stored(Image.fromarray(np.full((40, 40), 257 * 60, dtype=np.uint16)), "PNG"),
    ]
    _, dataset = entry_of(layout)
    source = dataset.open(LAYOUTS[layout](home / "root", images))
    read = sorted(map(source.read, source.ids), key=lambda image: tuple(image[:, 16, 31]))  # by a pixel on the right
    expected = [(10, 10, 10), (60, 60, 60), (90, 90, 90), (204, 204, 204), (255, 0, 0)]
    assert np.abs(np.stack([image[:, 16, 31] for image in read]).astype(int) - expected).max() < 4
    assert read[0][:, :, :14].min() > 240 and read[0][:, :, 18:].max() < 20


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_truncated_image_is_named_and_nothing_is_added(layout: str, home: Path) -> None:
    name, dataset = entry_of(layout)
    root = LAYOUTS[layout](home / "root", [JPEGS[0], JPEGS[1][:1500], WEBPS[0], b""])
    with pytest.raises(BenchError, match="2 images cannot be read.*`skip_corrupt=True`") as problem:
        datasets.add(name, dataset, home=home, root=root)
    source = dataset.open(root)
    bad = [image_id for image_id in source.ids if f"{image_id}: " in str(problem.value)]
    getattr(source, "close", int)()
    assert len(bad) == 2 and "truncated" in str(problem.value) and "empty file" in str(problem.value)
    assert everything(home) == {}
    packed = added(layout, home, root, skip_corrupt=True)
    assert packed.manifest.count == 2 and sorted(one.id for one in packed.manifest.skipped) == sorted(bad)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_id_that_is_not_there_is_refused(layout: str, tmp_path: Path) -> None:
    source = entry_of(layout)[1].open(LAYOUTS[layout](tmp_path / "root", JPEGS))
    for image_id in ("000009.jpg", "../x", "data/train-00000-of-00002.parquet:99", ""):
        with pytest.raises(ImageError):
            source.read(image_id)


EXPECTED = {
    "celeba": "list_eval_partition.txt and img_align_celeba/ or img_align_celeba.zip",
    "lsun_church": "the folder church_outdoor_train_lmdb, unpacked from",
    "imagenet": "one folder a class: n01440764/",
    "imagenet32": "train_data_batch_1.npz to train_data_batch_10.npz",
    "parquet32": "no shard that matches",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_root_that_is_something_else_says_what_was_expected_and_what_is_there(name: str, tmp_path: Path) -> None:
    roots = {
        "celeba": celeba(tmp_path / "a", JPEGS),
        "lsun_tower": lsun(tmp_path / "b", WEBPS, "tower"),
        "imagenet": imagenet(tmp_path / "c", JPEGS),
        "parquet32": parquet(tmp_path / "d", JPEGS),
    }
    batches(tmp_path / "e", 1)
    roots |= {"imagenet32": tmp_path / "e"}
    there = {
        "celeba": "img_align_celeba/",
        "lsun_tower": "tower_train_lmdb/",
        "imagenet": "train/",
        "parquet32": "data/",
        "imagenet32": "train_data_batch_1.npz",
    }
    _, dataset = entry_of(name)
    for other, root in roots.items():
        if other not in (name, "parquet32"):  # a Parquet mirror may be of any dataset
            with pytest.raises(ImageError) as problem:
                dataset.open(root)
            said = str(problem.value)
            assert EXPECTED[name] in said and f"there is {there[other]}" in said and str(root) in said and "\n" not in said
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no image")
    for root, words in (("none", "does not exist"), ("empty", "it is empty"), ("file", "file")):
        with pytest.raises(ImageError, match=words) as problem:
            dataset.open(tmp_path / root)
        assert str(tmp_path / root) in str(problem.value)
    with pytest.raises(ImageError, match="root is needed"):
        dataset.open(None)


def test_the_command_line_names_what_is_wrong_and_adds_nothing(bench: Bench, home: Path) -> None:
    lsun(home / "lsun", WEBPS)
    done = bench("data", "add", "celeba", "--root", str(home / "lsun"), "--no-dvc")
    assert done.returncode == 1 and not done.stdout and "Traceback" not in done.stderr
    assert "should be the folder with list_eval_partition.txt" in done.stderr
    assert "there is church_outdoor_train_lmdb/" in done.stderr
    assert not (home / "data").exists() and everything(home) == {}
    done = bench("data", "add", "lsun_church", "--root", str(home / "lsun"), "--resolution", "64")
    assert done.returncode == 2 and "Copy its .gin file as datasets/lsun_church_64.gin" in done.stderr
    # the way out that it names
    entry = registry.find("dataset", "lsun_church").path.read_text()
    (home / "mine" / "datasets").mkdir(parents=True)
    (home / "mine" / "datasets" / "lsun_church_64.gin").write_text(entry.replace("resolution = 32", "resolution = 64"))
    done = bench("data", "add", "lsun_church_64", "--root", str(home / "lsun"), "--registry", str(home / "mine"))
    assert done.returncode == 0 and "packed 3 images of 64x64" in done.stdout and "126,227" in done.stdout
    assert "Looking through" in done.stderr


def test_the_noise_of_these_tests_is_golden() -> None:
    digest = hashlib.sha256(noise(5, 7, 3).tobytes()).hexdigest()
    assert digest == "4768d4b09a0ce1b41c7da838552fe89edd9b654fa72323aa67cb0babde4b657a"


MODES = ("RGB", "L", "RGBA", "LA", "I;16", "P", "RGB keyed")


def _random(mode: str, width: int, height: int) -> Image.Image:
    """Return an image of noise as a file may hold it: transparent, of 16 bits, with a palette, with a colour that is no colour."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 4), dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(noise[..., :2].copy().view(np.uint16)[..., 0])
    image = Image.fromarray(noise).convert("RGB" if mode == "RGB keyed" else mode.replace("P", "L"))
    if mode == "P":
        image = image.convert("P")
        image.info["transparency"] = 7
    if mode == "RGB keyed":
        image.info["transparency"] = tuple(int(value) for value in noise[0, 0, :3])
    return image


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(64, 48), (61, 47)])
def test_a_large_image_is_read_in_strips_to_the_same_bytes(mode: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    stored = io.BytesIO()
    image = _random(mode, *size)
    image.save(stored, "PNG", **({"transparency": found} if (found := image.info.get("transparency")) is not None else {}))
    for channels in (1, 3):
        whole = decode.to_pixels("one", stored.getvalue(), channels, 8)
        with monkeypatch.context() as small:
            small.setattr(decode, "STRIP", 7 * size[0])
            assert (decode.to_pixels("one", stored.getvalue(), channels, 8) == whole).all()
