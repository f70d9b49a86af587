"""From files as they are downloaded to a smoke row, with nothing but what `bench data where` prints."""

import json
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from benchmark.cli import main
from tests.images.test_cifar10 import archive
from tests.images.test_layouts import kaggle, shard, zipped
from tests.pictures import batches, celeba, imagenet, lsun, noise, stored

ENOUGH = 320  # 300 are held out, and the smoke recipe trains on 16


@cache
def pictures(kind: str = "JPEG") -> Sequence[bytes]:
    """Return images of which no two have the same bytes."""
    return [stored(Image.fromarray(noise(32, 32, seed)), kind) for seed in range(ENOUGH)]


def faces_zipped(root: Path) -> None:
    celeba(root, pictures(), zipped=True)


def faces_of_kaggle(root: Path) -> None:
    kaggle(root / "unpacked", pictures())
    zipped(root / "unpacked", root / "archive.zip")
    shutil.rmtree(root / "unpacked")


def faces_of_the_hub(root: Path) -> None:
    rows = [(content, f"{number:06}.jpg") for number, content in enumerate(pictures(), 1)]
    shard(root / "img_align+identity+attr" / "train-00000-of-00001.parquet", rows)


def church_zipped(root: Path) -> None:
    lsun(root / "unpacked", pictures("WEBP"))
    zipped(root / "unpacked", root / "church_outdoor_train_lmdb.zip")
    shutil.rmtree(root / "unpacked")


def church_of_the_hub(root: Path) -> None:
    shard(root / "data" / "train-00000-of-00001.parquet", [(content, None) for content in pictures("WEBP")])


def classes(root: Path) -> None:
    imagenet(root, pictures())


def batches_zipped(root: Path) -> None:
    batches(root / "unpacked", ENOUGH // 10)
    zipped(root / "unpacked", root / "Imagenet32_train_npz.zip", "Imagenet32_train_npz/")
    shutil.rmtree(root / "unpacked")


def cifar(root: Path) -> None:
    archive(root, rows=6 * (ENOUGH // 5))


def cifar_of_the_hub(root: Path) -> None:
    shard(root / "plain_text" / "train-00000-of-00001.parquet", [(content, None) for content in pictures("PNG")], "img")


DOWNLOADS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "CelebA's zip": ("celeba", faces_zipped),
    "CelebA from Kaggle": ("celeba", faces_of_kaggle),
    "CelebA from a hub": ("celeba", faces_of_the_hub),
    "LSUN's zip": ("lsun_church", church_zipped),
    "LSUN from a hub": ("lsun_church", church_of_the_hub),
    "ImageNet's classes": ("imagenet", classes),
    "the downsampled zip": ("imagenet32", batches_zipped),
    "CIFAR-10's archive": ("cifar10", cifar),
    "CIFAR-10 from a hub": ("cifar10_16", cifar_of_the_hub),
    "any shards": ("parquet32", church_of_the_hub),
}


@pytest.mark.parametrize("download", DOWNLOADS)
def test_a_newcomer_gets_a_row(download: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, write = DOWNLOADS[download]
    (home / "downloads").mkdir()
    write(home / "downloads")
    assert main(["data", "where", name, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    _typed(told["next"].replace("PATH", str(home / "downloads")))
    assert f"packed {ENOUGH} images" in capsys.readouterr().out
    _typed(f"{told['then']} --no-track --json")
    made = json.loads(capsys.readouterr().out)
    assert made["status"] == "finished" and Path(made["record"]).is_file()


def _typed(command: str) -> None:
    words = command.split()
    assert words[0] == "bench"
    assert main(words[1:]) == 0, command
