"""Too few images are said at once: where the entry is written, checked and added, and where a run is only planned."""

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.images import enough
from registry.datasets.celeba import CelebA
from registry.datasets.dead_leaves import DeadLeaves
from registry.datasets.image_folder import ImageFolder
from registry.datasets.lsun import Lsun
from registry.datasets.patches import Patches
from tests.pictures import noise, stored

ROW = ["--model", "dit_mini", "--layout", "global", "--recipe", "mini", "--dataset", "my_photos"]


@pytest.fixture
def photos(home: Path) -> list[str]:
    """Write 20 images, and return the words that name the folder of the entry."""
    root = home / "photos"
    root.mkdir()
    for number in range(20):
        (root / f"{number:03}.png").write_bytes(stored(Image.fromarray(noise(8, 8, number))))
    return ["--registry", str(home)]


def test_too_few_images_are_said_at_every_step(photos: list[str], home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(home / "photos")]
    assert main(["new", "dataset", "my_photos", "--folder", *photos]) == 0
    assert "300 are held out for testing, so at least 301 images are needed. Fewer are held out by a line `held_out = 50`" in _said(capsys)
    assert main(["check", "my_photos", *photos]) == 0
    assert "not run  enough          its images are not here; 300 are held out for testing" in capsys.readouterr().out
    assert main(["data", "add", "my_photos", *root, *photos]) == 0
    few = "It has too few images to train on: 300 are held out for testing, so at least 301 are needed. Add more. Or hold out fewer: "
    assert f"{few}`held_out = 5` in its entry" in _said(capsys)
    assert main(["check", "my_photos", *photos]) == 1
    assert f"problem  enough          {few}" in capsys.readouterr().out
    assert main(["run", *ROW, "--subset", "16", "--dry-run", "--json", *photos]) == 0
    assert few in " ".join(capsys.readouterr().err.split())

    entry = home / "datasets" / "my_photos.gin"
    entry.write_text(entry.read_text().replace("# ImageFolder.held_out = 50", "ImageFolder.held_out = 5"))
    assert main(["data", "add", "my_photos", *root, *photos]) == 0
    assert "too few" not in _said(capsys)
    assert json.loads((home / "data" / "my_photos.json").read_text())["held_out"] == 5
    assert main(["check", "my_photos", *photos]) == 0
    assert "20 images, 5 of them for testing" in capsys.readouterr().out
    assert main(["run", *ROW, "--subset", "16", "--dry-run", "--json", *photos]) == 0
    assert "--subset 16 is more than the 15 images that are left for training (20 less 5 held out)" in _said(capsys, "err")


def test_what_is_held_out_apart_or_generated_is_counted_as_it_is() -> None:
    assert enough.too_few(300, DeadLeaves(resolution=8, count=300)).endswith("so at least 301 are needed. Add more.")
    assert enough.too_few(301, DeadLeaves(resolution=8, count=301)) == enough.too_few(10, Patches(resolution=8)) == ""
    assert "more than the 10 images" in enough.too_few_for(310, DeadLeaves(resolution=8, count=310), 11)
    assert enough.too_few_for(310, DeadLeaves(resolution=8, count=310), 10) == ""
    for dataset in (
        CelebA(resolution=8, held_out=20),
        Lsun(resolution=8, scene="tower", held_out=20),
        ImageFolder(resolution=8, held_out=20),
    ):
        assert enough.too_few(21, dataset) == "" and "at least 21" in enough.too_few(20, dataset)


def _said(capsys: pytest.CaptureFixture[str], stream: str = "out") -> str:
    return " ".join(getattr(capsys.readouterr(), stream).split())
