"""CIFAR-10 as it is downloaded and mirrored: the archive, its folder, shards, trees; no pickle is ever opened."""

import gzip
import io
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.contract import Dataset, ImageError
from benchmark.declaring import entries, registry
from benchmark.images import datasets
from registry.datasets import cifar10
from registry.datasets.cifar10 import Cifar10
from registry.datasets.resize import shrink, to_array
from tests.images.test_layouts import shard
from tests.pictures import noise, stored

WHOLE, TESTS = Cifar10(resolution=32), Cifar10(resolution=32, partitions=("test",))
NAMES = [*cifar10.BATCHES["train"], "test_batch"]


def pixels(rows: int = 12) -> np.ndarray:
    """Return images, (rows, 32, 32, 3), to be dealt out to the six batches."""
    return np.stack([noise(32, 32, seed) for seed in range(rows)])


def binary(root: Path, rows: int = 12) -> Path:
    """Write cifar-10-batches-bin/ as the archive unpacks: rows of a class and three planes."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    images = pixels(rows).transpose(0, 3, 1, 2).reshape(6, rows // 6, -1)
    for name, part in zip(NAMES, images, strict=True):
        (folder / f"{name}.bin").write_bytes(b"".join(bytes([number % 10]) + row.tobytes() for number, row in enumerate(part)))
    (folder / "batches.meta.txt").write_text("airplane\n")
    (folder / "readme.html").write_text("<html>")
    return root


def archive(root: Path, name: str = "cifar-10-binary.tar.gz", rows: int = 12) -> Path:
    """Write the archive alone."""
    with tarfile.open(root / name, "w:gz" if name.endswith("gz") else "w") as packed:
        packed.add(binary(root / "unpacked", rows) / "cifar-10-batches-bin", "cifar-10-batches-bin")
    shutil.rmtree(root / "unpacked")
    return root


def read(dataset: Dataset, root: Path) -> dict[str, np.ndarray]:
    source = dataset.open(root)
    images = {image_id: source.read(image_id) for image_id in source.ids}
    getattr(source, "close", int)()
    return images


def test_the_rows_of_the_binary_version_are_the_pixels(tmp_path: Path) -> None:
    found = read(WHOLE, binary(tmp_path / "root"))
    assert list(found) == [f"data_batch_{number}:{row}" for number in range(1, 6) for row in range(2)]
    assert np.array_equal(np.stack(list(found.values())), pixels()[:10].transpose(0, 3, 1, 2))
    assert np.array_equal(np.stack(list(read(TESTS, tmp_path / "root").values())), pixels()[10:].transpose(0, 3, 1, 2))
    small = read(Cifar10(resolution=8), tmp_path / "root")
    assert np.array_equal(small["data_batch_2:1"], to_array(shrink(Image.fromarray(pixels()[3]), 8)))


@pytest.mark.parametrize("name", cifar10.ARCHIVES)
def test_the_archive_is_read_as_it_is_downloaded_and_its_checksum_compared(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "root").mkdir()
    root = archive(home / "root", name)
    expected = read(WHOLE, binary(home / "plain"))
    for place in (root, root / name):
        found = read(WHOLE, place)
        assert list(found) == list(expected) and all(np.array_equal(found[i], expected[i]) for i in expected)
    source, plain = WHOLE.open(root), WHOLE.open(home / "plain")
    assert source.fingerprint == plain.fingerprint and "(the published one of cifar-10-binary.tar.gz is c32a1d4a" in str(
        source.distribution
    )
    added = datasets.add("mine", WHOLE, home=home, root=root)
    assert "an archive of the md5" in str(added.manifest.distribution) and "50,000" in added.sentence
    assert added.sentence.count("Taken: 10; left out: 2 (2 of another partition: test_batch:0, …).") == 1
    monkeypatch.setattr(cifar10, "MD5", str(source.distribution).split()[5])
    assert WHOLE.open(root).distribution is None


def test_a_damaged_archive_and_other_files_in_its_place_are_named(tmp_path: Path) -> None:
    root = archive(tmp_path)
    path = root / "cifar-10-binary.tar.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="is no whole archive of CIFAR-10's binary version.*Download it again"):
        WHOLE.open(root)
    path.write_bytes(b"<!DOCTYPE html><title>Moved</title>")
    with pytest.raises(ImageError, match="is a web page in place of the file"):
        WHOLE.open(root)
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(ImageError, match="holds no data_batch_1.bin|is no whole archive"):
        WHOLE.open(root)
    binary(root)
    assert len(read(WHOLE, root)) == 10  # the whole folder beside it
    (root / "cifar-10-batches-bin" / "data_batch_3.bin").unlink()
    path.unlink()
    with pytest.raises(ImageError, match=r"data_batch_3.bin is missing beside data_batch_1, data_batch_2, .*download the archive again"):
        WHOLE.open(root)
    assert len(read(TESTS, root)) == 2
    test = root / "cifar-10-batches-bin" / "test_batch.bin"
    test.write_bytes(test.read_bytes()[:-1])
    with pytest.raises(ImageError, match="no whole number of rows of 3,073"):
        TESTS.open(root)
    test.write_bytes(b"\x0a" + bytes(3072))
    with pytest.raises(ImageError, match="it has a class 10, and there are ten from 0"):
        TESTS.open(root)


def test_pickles_are_refused_unopened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "opened",)

    folder = tmp_path / "root" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "data_batch_1").write_bytes(pickle.dumps({"data": Trap()}))
    for root in (tmp_path / "root", folder):
        with pytest.raises(ImageError, match=r"cifar-10-batches-py is a pickle.*take the binary version, cifar-10-binary.tar.gz"):
            WHOLE.open(root)
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as packed:
        packed.add(folder, "cifar-10-batches-py")
    with pytest.raises(ImageError, match=r"cifar-10-python.tar.gz is a pickle"):
        WHOLE.open(tmp_path / "cifar-10-python.tar.gz")
    assert not (tmp_path / "opened").exists()
    assert len(read(WHOLE, binary(tmp_path / "root"))) == 10  # the binary version beside it


def test_shards_and_trees_are_read_and_say_what_they_are(home: Path) -> None:
    images = [stored(Image.fromarray(image)) for image in pixels()]
    shard(home / "hub" / "plain_text" / "train-00000-of-00001.parquet", [(content, None) for content in images[:10]], "img")
    shard(home / "hub" / "plain_text" / "test-00000-of-00001.parquet", [(content, None) for content in images[10:]], "img")
    for number, content in enumerate(images):
        path = home / "tree" / ("test" if number >= 10 else "train") / ("cat", "dog")[number % 2] / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (home / "tree" / "README.md").write_text("")
    (home / "tree" / "get.bin").write_text("")
    for root, said in ((home / "hub", "Parquet shards"), (home / "tree", "image files, one a photograph")):
        source = WHOLE.open(root)
        assert len(source.ids) == 10 and source.distribution == said
        assert {source.read(i).tobytes() for i in source.ids} == {to_array(Image.fromarray(p)).tobytes() for p in pixels()[:10]}
        taken = len(source.ids) + sum(one.count for one in source.left_out)
        assert taken == 12 + (2 if root.name == "tree" else 0)
        assert [one.reason for one in source.left_out if not one.expected] == (["beside the partitions"] if root.name == "tree" else [])
    with pytest.raises(ImageError, match=r"holds no batch of CIFAR-10; it should be .*; there is plain.png"):
        (home / "other").mkdir()
        (home / "other" / "plain.png").write_bytes(images[0])
        WHOLE.open(home / "other")


def test_the_three_entries_have_one_order(home: Path) -> None:
    root = binary(home / "root", 6 * 70)
    taken = []
    for name in ("cifar10", "cifar10_16", "cifar10_8"):
        entry = entries.load(registry.find("dataset", name))
        datasets.add(name, entry.config, home=home, root=root)
        taken.append(datasets.subset(datasets.load(name, entry.config, home=home), name, 16, 3))
    assert {one.train_ids for one in taken} == {taken[0].train_ids}
    assert [one.train.shape[-1] for one in taken] == [32, 16, 8]
    first = Image.open(io.BytesIO(stored(Image.fromarray(taken[0].train[0].transpose(1, 2, 0)))))
    assert np.array_equal(to_array(shrink(first, 8)), taken[2].train[0])
