"""An edit that keeps a file's size is noticed: a sample of the content at every `add`, all of it by `verify --root`."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.contract import Dataset
from benchmark.images import adding, datasets
from registry.datasets.celeba import CelebA
from registry.datasets.image_folder import ImageFolder
from registry.datasets.imagenet import ImageNet
from registry.datasets.lsun import Lsun
from registry.datasets.sources import whole
from tests.pictures import celeba, imagenet, lsun, lsun_key, noise, stored

BMPS = [stored(Image.fromarray(noise(16, 16, seed)), "BMP") for seed in range(12)]  # of one size, whatever they show
OTHER = stored(Image.fromarray(noise(16, 16, 99)), "BMP")


def kept_time(path: Path, content: bytes) -> None:
    """Overwrite a file by as many bytes, and give it the time that it had."""
    before = path.stat()
    assert before.st_size == len(content)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def tree(root: Path, images: list[bytes]) -> Path:
    for number, content in enumerate(images):
        (root / f"{number:02}.bmp").parent.mkdir(parents=True, exist_ok=True)
        (root / f"{number:02}.bmp").write_bytes(content)
    return root


def edit_scene(root: Path) -> None:
    with lmdb.open(str(root / "church_outdoor_train_lmdb"), map_size=1 << 30) as database, database.begin(write=True) as transaction:
        transaction.put(lsun_key(5).encode(), OTHER)


CASES: dict[str, tuple[Dataset, Callable[[Path, list[bytes]], Path], Callable[[Path], None]]] = {
    "folder": (ImageFolder(resolution=8), tree, lambda root: kept_time(root / "05.bmp", OTHER)),
    "celeba": (CelebA(resolution=8), celeba, lambda root: kept_time(root / "img_align_celeba" / "000006.jpg", OTHER)),
    "imagenet": (ImageNet(resolution=8), imagenet, lambda root: kept_time(root / "train/n02085620/n02085620_10031.JPEG", OTHER)),
    "lsun": (Lsun(resolution=8, scene="church_outdoor"), lsun, edit_scene),
}


@pytest.mark.parametrize("case", CASES)
def test_an_edit_that_keeps_the_size_and_the_time_is_packed_anew(case: str, home: Path) -> None:
    dataset, write, edit = CASES[case]
    root = write(home / "root", BMPS)
    before = datasets.add("mine", dataset, home=home, root=root)
    assert datasets.add("mine", dataset, home=home, root=root).outcome == "unchanged"
    edit(root)
    again = datasets.add("mine", dataset, home=home, root=root)
    assert again.outcome == "changed" and again.manifest.fingerprint == before.manifest.fingerprint
    assert datasets.compare("mine", dataset, home=home, root=root) == []


def test_what_was_changed_last_is_looked_at_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding, "LOOKED_AT", 1)
    for name, dataset, write, path in (
        ("folder", ImageFolder(resolution=8), tree, "07.bmp"),
        ("faces", CelebA(resolution=8), celeba, "img_align_celeba/000008.jpg"),
    ):
        root = write(home / name, BMPS)
        datasets.add(name, dataset, home=home, root=root)
        (root / path).write_bytes(OTHER)
        later = (root / path).stat().st_mtime_ns + 10**9
        os.utime(root / path, ns=(later, later))
        assert datasets.add(name, dataset, home=home, root=root).outcome == "changed"


def test_verify_with_the_folder_reads_all_of_it(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(adding, "LOOKED_AT", 0)  # as of a folder with very many images
    own, root = ["--registry", str(home)], tree(home / "root", BMPS)
    (home / "datasets").mkdir()
    (home / "datasets" / "mine.gin").write_text("# mine\nimport registry.datasets.image_folder\n\nImageFolder.resolution = 8\n")
    words = ["data", "verify", "mine", "--root", str(root), *own]
    assert main(["data", "add", "mine", "--root", str(root), *own]) == 0
    assert main(words) == 0
    assert "mine: every byte as in its manifest, and every image as in the folder" in " ".join(capsys.readouterr().out.split())
    kept_time(root / "05.bmp", OTHER)
    assert main(["data", "add", "mine", "--root", str(root), *own]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(words) == 1
    assert "mine: 05.bmp: other pixels" in capsys.readouterr().out
    assert main([*words, "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"mine": ["05.bmp: other pixels"]}
    (root / "00.bmp").unlink()
    assert main(words) == 1
    assert "11 images by other names than the 12 that are packed" in " ".join(capsys.readouterr().out.split())
    assert main(["data", "verify", "--root", str(root)]) == 2
    assert "--root belongs to one dataset: name it" in capsys.readouterr().err


@pytest.mark.parametrize("size", (0, 1, 5, 9, 10, 11, 3_000_000))
def test_a_file_is_read_whole_whatever_size_it_was_said_to_have(size: int, tmp_path: Path) -> None:
    for content in (b"", b"0123456789", bytes(range(256)) * 10_000):
        (tmp_path / "file").write_bytes(content)
        assert whole(str(tmp_path / "file"), size) == content
