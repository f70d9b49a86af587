"""benchmark/images/preview.py and its command: the picture shows the images of the subset, each where it belongs."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.errors import UsageError
from benchmark.images import datasets
from benchmark.images.preview import preview
from benchmark.recording.grids import MARGIN, TEXT, labelled
from registry.datasets.dead_leaves import DeadLeaves


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> datasets.Packed:
    return datasets.load("leaves", DeadLeaves(resolution=8, count=330), home=tmp_path_factory.mktemp("leaves"))


def cell(page: np.ndarray, top: int, number: int, columns: int, factor: int, side: int) -> np.ndarray:
    """The image that is drawn `number`-th below `top`, at its own size again."""
    row, column = divmod(number, columns)
    y, x = top + row * (factor * side + MARGIN) + MARGIN, column * (factor * side + MARGIN) + MARGIN
    large = page[y : y + factor * side, x : x + factor * side]
    assert large.shape[:2] == (factor * side, factor * side)
    small = large[::factor, ::factor]
    assert np.array_equal(large, small.repeat(factor, 0).repeat(factor, 1))
    return small.transpose(2, 0, 1)


def test_every_image_of_every_section_is_drawn_below_its_label(packed: datasets.Packed) -> None:
    made = preview(packed, "leaves", size=20, seed=3, half=None, test=True, shown=18)
    taken = datasets.subset(packed, "leaves", 20, 3)
    page = np.asarray(Image.open(io.BytesIO(made.png)))
    height = 3 * (64 + MARGIN) + MARGIN  # of three rows of eight
    assert page.shape == (2 * (2 * TEXT + height), 8 * (64 + MARGIN) + MARGIN, 3)
    for top, images in ((2 * TEXT, taken.train), (2 * (2 * TEXT) + height, taken.test)):
        for number in range(18):
            assert np.array_equal(cell(page, top, number, 8, 8, 8), images[number])
        assert (page[top - 2 * TEXT : top] < 128).any()  # the label
        assert (page[top : top + MARGIN] == 255).all()  # it ends above the images
    assert made.train_ids == taken.train_ids[:18]
    assert made.test_ids == tuple(str(i) for i in taken.test_indices[:18])
    assert made.to_json()["train_sha256"] == taken.digest


def test_without_a_size_a_preview_shows_what_there_is(packed: datasets.Packed) -> None:
    assert preview(packed, "leaves", size=None, seed=0, half=None, test=False, shown=8).taken.size == 8
    assert preview(packed, "leaves", size=None, seed=0, half=None, test=False).taken.size == 30
    half = preview(packed, "leaves", size=None, seed=0, half="b", test=False)
    assert half.taken.size == 15 and half.stem == "leaves-n15-s0-half_b" and half.test_ids == ()
    with pytest.raises(UsageError, match="`shown=0` must be at least 1"):
        preview(packed, "leaves", size=None, seed=0, half=None, test=False, shown=0)


def test_grey_images_and_labels_wider_than_they() -> None:
    grey = np.arange(2 * 64, dtype=np.uint8).reshape(2, 1, 8, 8)
    label = "a label that is much wider than two small images " * 2
    page = np.asarray(Image.open(io.BytesIO(labelled([(label, grey)]))))
    assert page.shape[1] > 2 * (64 + MARGIN) + MARGIN
    assert np.array_equal(cell(page, 2 * TEXT, 1, 2, 8, 8), grey[1].repeat(3, axis=0))
    narrow = np.asarray(Image.open(io.BytesIO(labelled([(label, grey), ("x", grey[:1])]))))
    assert narrow.shape[1] == page.shape[1] and narrow.shape[0] == 2 * page.shape[0]


def test_the_command_writes_and_says_what_it_drew(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "preview", "dead_leaves8", "--subset", "100", "--half", "a", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["picture"] == str(home / "build/previews/dead_leaves8-n100-s0-half_a.png")
    assert (len(said["train_ids"]), said["test_ids"], said["subset"]) == (64, [], 100)
    assert Image.open(said["picture"]).size == (8 * 66 + 2, 8 * 66 + 2 + 2 * TEXT)
    assert main(["data", "preview", "dead_leaves8", "--count", "4", "--test", "--out", str(home / "mine.png")]) == 0
    assert "dead_leaves8-n4-s0: training images sha256" in (out := capsys.readouterr().out) and "mine.png" in out
    assert not list(home.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["natural32"], "`bench data add natural32 --root PATH`"),
        (["natural3"], "Did you mean 'natural32'?"),
        (["dead_leaves8", "--subset", "5000"], "Use at most 1748"),
        (["dead_leaves8", "--seed", "-1"], "--seed -1 must be at least 0"),
        (["dead_leaves8", "--out", "picture.jpg"], "must be the name of a .png file"),
    ],
)
def test_a_wrong_request_is_one_paragraph(home: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert main(["data", "preview", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (home / "build").exists()
