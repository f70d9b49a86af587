"""ImageNet: the tree of class folders, and the ten downsampled batches, read without a pickle and without much memory."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.contract import ImageError
from benchmark.errors import BenchError
from benchmark.images import datasets
from registry.datasets.decode import to_pixels
from registry.datasets.imagenet import DownsampledImageNet, ImageNet
from tests.pictures import JPEGS, batches, everything, imagenet, noise, stored

TREE = ImageNet(resolution=16)
BATCHES = DownsampledImageNet(resolution=8)
CHECKOUT = Path(__file__).parents[2]


def test_the_classes_are_found_wherever_the_distribution_puts_them(tmp_path: Path) -> None:
    root = imagenet(tmp_path / "root", JPEGS * 2)
    ids = (
        "n01440764/n01440764_10026.JPEG",
        "n01440764/n01440764_10029.JPEG",
        "n01443537/n01443537_10027.JPEG",
        "n01443537/n01443537_10030.JPEG",
        "n02085620/n02085620_10028.JPEG",
        "n02085620/n02085620_10031.JPEG",
    )
    (root / "train" / "extra").mkdir()
    (root / "train" / "extra" / "1.JPEG").write_bytes(JPEGS[0])  # no class
    (root / "train" / "n01440764" / "notes.txt").write_text("no image")
    found = TREE.open(root)
    assert found.ids == TREE.open(root / "train").ids == ids
    assert np.array_equal(found.read(ids[2]), to_pixels("", JPEGS[1], 3, 16))
    (root / "ILSVRC" / "Data" / "CLS-LOC").mkdir(parents=True)
    (root / "train").rename(root / "ILSVRC" / "Data" / "CLS-LOC" / "train")
    assert TREE.open(root).ids == ids and TREE.open(root).fingerprint == found.fingerprint
    with pytest.raises(ImageError, match="no class folders"):
        TREE.open(root / "ILSVRC" / "Data")


def test_a_png_that_is_named_jpeg_is_read_as_the_official_set_has_one(tmp_path: Path) -> None:
    pixels = noise(16, 16)
    source = TREE.open(imagenet(tmp_path, [stored(Image.fromarray(pixels))]))
    assert np.array_equal(source.read(source.ids[0]), pixels.transpose(2, 0, 1))


def test_archives_that_are_not_unpacked_and_empty_classes_are_named(tmp_path: Path) -> None:
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(b"")
    with pytest.raises(ImageError, match="Unpack ILSVRC2012_img_train.tar first"):
        TREE.open(tmp_path)
    (tmp_path / "n01440764").mkdir()
    (tmp_path / "n01440764" / "n01440764_1.JPEG.part").write_bytes(b"")
    with pytest.raises(ImageError, match="holds? no image"):
        TREE.open(tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
def test_batches_are_read_as_they_are(home: Path, compressed: bool) -> None:
    images = batches(home / "root", 32, side=8, compressed=compressed)
    source = BATCHES.open(home / "root")
    assert len(source.ids) == 320 and source.ids[0] == "train_data_batch_1:0" and source.ids[-1] == "train_data_batch_10:31"
    assert source.ids[64] == "train_data_batch_3:0" and len(set(source.ids)) == 320  # by number: 10 comes last
    datasets.add("small", BATCHES, home=home, root=home / "root")
    packed = datasets.load("small", BATCHES, home=home)
    assert np.array_equal(packed.images, images) and packed.manifest.preprocessing == "as-distributed-1"
    taken = datasets.subset(packed, "small", 8, 0)
    assert taken.digest == "5e86f032265454d84147758276c7253eda62481d4fb92ff8282c86318ff855fe"
    assert taken.test_digest == "52f6872b1c4c8749dad202560baf77189ea859073328902c85c3a593466d8fe0"
    assert taken.train_indices == (248, 263, 201, 284, 140, 203, 2, 228)


def test_a_batch_that_is_missing_pickled_or_something_else_is_named(home: Path) -> None:
    root = home / "root"
    batches(root, 2, side=8)
    path = root / "train_data_batch_7.npz"
    sound = path.read_bytes()
    path.unlink()
    with pytest.raises(ImageError, match=f"{path} is missing"):
        BATCHES.open(root)
    evil = np.array([{"a": 1}], dtype=object)
    for content, said in (
        (sound[: len(sound) // 2], "is no whole .npz archive: .*Download it again"),
        (b"", "no whole .npz"),
        ({"other": np.zeros(3)}, "holds no array 'data'"),
        ({"data": evil}, "holds object of shape"),
        ({"data": np.zeros((2, 192))}, "holds float64 of shape"),
        ({"data": np.zeros((2, 3072), np.uint8)}, "rows of 3072 bytes"),
        ({"data": np.zeros((0, 192), np.uint8)}, "not one uint8 row"),
    ):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.savez(path, **content)
        with pytest.raises(BenchError, match=said) as problem:
            datasets.add("small", BATCHES, home=home, root=root)
        assert str(path) in str(problem.value)
    assert everything(home) == {}


def test_a_flipped_bit_in_a_batch_is_found_by_its_checksum(home: Path) -> None:
    root = home / "root"
    batches(root, 60)
    path = root / "train_data_batch_7.npz"
    flipped = bytearray(path.read_bytes())
    flipped[150_000] ^= 1
    path.write_bytes(bytes(flipped))
    with pytest.raises(BenchError, match="60 images cannot be read. train_data_batch_7:0: .*batch_7.npz is damaged: Bad CRC"):
        datasets.add("small", DownsampledImageNet(resolution=32), home=home, root=root)
    assert everything(home) == {}


def test_pickled_batches_are_refused_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "train_data_batch_1").write_bytes(pickle.dumps({"data": 1}))
    with pytest.raises(ImageError, match="train_data_batch_1 is a pickled batch.*Give the folder of the .npz archives"):
        BATCHES.open(tmp_path)


def test_a_full_temporary_folder_ends_the_packing_even_where_corrupt_images_may_be_left_out(home: Path) -> None:
    batches(home / "root", 40, side=32)  # 123 kB a batch
    code = (
        "import resource; from pathlib import Path; from benchmark.images import datasets\n"
        "from benchmark.errors import BenchError; from registry.datasets.imagenet import DownsampledImageNet\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))\n"
        "try: datasets.add('small', DownsampledImageNet(resolution=32), home=Path('.'), root=Path('root'), skip_corrupt=True)\n"
        "except BenchError as problem: print(problem)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=home, check=True, env=os.environ | {"PYTHONPATH": str(CHECKOUT)}
    )
    assert "while train_data_batch_1.npz was unpacked; TMPDIR names a folder with more room" in done.stdout and not done.stderr
    assert everything(home) == {}
    shutil.rmtree(home / "root")
