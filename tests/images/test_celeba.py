"""CelebA: the partition decides, files and zip are the same, and whatever is missing or damaged is named."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from benchmark.contract import FieldError, ImageError
from benchmark.errors import BenchError
from benchmark.images import datasets
from registry.datasets.celeba import CelebA
from tests.pictures import JPEGS, celeba, everything

FACES = CelebA(resolution=16)


def test_the_partition_file_decides_which_images_there_are(tmp_path: Path) -> None:
    root = celeba(tmp_path / "root", JPEGS * 2, "010220")
    assert FACES.open(root).ids == ("000001.jpg", "000003.jpg", "000006.jpg")
    assert CelebA(resolution=16, partitions=("val",)).open(root).ids == ("000002.jpg",)
    both = CelebA(resolution=16, partitions=("test", "val"))
    assert both.open(root).ids == ("000002.jpg", "000004.jpg", "000005.jpg") and both.official_count == 19_867 + 19_962
    assert FACES.official_count == 162_770 and 162_770 + both.official_count == 202_599
    (root / "img_align_celeba" / "000002.jpg").unlink()  # of another partition: not missed
    assert len(FACES.open(root).ids) == 3
    for wrong in ((), ("train", "train")):
        with pytest.raises(FieldError, match="one or more of train, val, test"):
            CelebA(resolution=16, partitions=wrong)


def test_files_and_zip_are_the_same_source(home: Path) -> None:
    files, archive = celeba(home / "files", JPEGS), celeba(home / "zip", JPEGS, zipped=True)
    one, other = FACES.open(files), FACES.open(archive)
    assert one.ids == other.ids and one.fingerprint == other.fingerprint
    assert all(np.array_equal(one.read(i), other.read(i)) for i in one.ids)
    assert datasets.add("faces", FACES, home=home, root=files).outcome == "new"
    assert datasets.add("faces", FACES, home=home, root=archive).outcome == "unchanged"


def test_the_folders_of_the_distribution_are_found(tmp_path: Path) -> None:
    root = celeba(tmp_path / "root", JPEGS)
    (root / "Img").mkdir()
    (root / "Eval").mkdir()
    (root / "img_align_celeba").rename(root / "Img" / "img_align_celeba")
    (root / "list_eval_partition.txt").rename(root / "Eval" / "list_eval_partition.txt")
    assert len(FACES.open(root).ids) == 3
    (root / "Img" / "img_align_celeba").rename(root / "inner")  # a zip that was unpacked into a folder of its name
    (root / "img_align_celeba").mkdir()
    (root / "inner").rename(root / "img_align_celeba" / "img_align_celeba")
    assert len(FACES.open(root).ids) == 3


def test_what_is_missing_or_malformed_is_named(tmp_path: Path) -> None:
    root = celeba(tmp_path / "root", JPEGS)
    partition = root / "list_eval_partition.txt"
    lines = partition.read_text()
    for text, said in (
        (lines + "000004.jpg 3\n", "line 4: '000004.jpg 3' is not 'NAME PARTITION'"),
        (lines + "000001.jpg 0\n", "an image twice"),
        ("000001.jpg 1\n", "no image of train"),
        ("", "no image of train"),
        (lines + "\n", ""),
        (lines + "000004.jpg 0\n000005.jpg 0\n", "lacks 2 of the 5 images .* the first is 000004.jpg"),
    ):
        partition.write_text(text)
        if said:
            with pytest.raises(ImageError, match=said) as problem:
                FACES.open(root)
            assert str(root) in str(problem.value)
        else:
            assert len(FACES.open(root).ids) == 3
    partition.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ImageError, match="list_eval_partition.txt is no text file"):
        FACES.open(root)
    partition.unlink()
    with pytest.raises(ImageError, match="list_eval_partition.txt is missing.*there is img_align_celeba/"):
        FACES.open(root)


def test_a_damaged_zip_is_named(home: Path) -> None:
    root = celeba(home / "root", JPEGS, zipped=True)
    path = root / "img_align_celeba.zip"
    sound = path.read_bytes()
    for damaged in (sound[: len(sound) // 2], b"no zip", b""):
        path.write_bytes(damaged)
        with pytest.raises(BenchError, match=f"{path} is no whole zip file.*Download it again"):
            datasets.add("faces", FACES, home=home, root=root)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("img_align_celeba/000001.jpg", JPEGS[0])
    with pytest.raises(BenchError, match="lacks 2 of the 3 images .* the first is 000002.jpg"):
        datasets.add("faces", FACES, home=home, root=root)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number, content in enumerate(JPEGS, 1):
            archive.writestr(f"img_align_celeba/00000{number}.jpg", content)
    flipped = bytearray(path.read_bytes())
    flipped[flipped.index(JPEGS[1]) + 2000] ^= 1  # a valid JPEG still: only the checksum tells
    path.write_bytes(bytes(flipped))
    with pytest.raises(BenchError, match="1 image cannot be read. 000002.jpg: damaged in img_align_celeba.zip: Bad CRC"):
        datasets.add("faces", FACES, home=home, root=root)
    assert everything(home) == {}
