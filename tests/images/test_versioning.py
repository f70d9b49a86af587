"""Versions of images are one thing, packed images another: what DVC refuses is said in its own words, and costs no images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark import cli
from benchmark.images.loading import packed_here


def test_packing_succeeds_where_dvc_refuses_and_says_why_once(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / ".dvc").mkdir()  # of a copy without .git
    for folder in ("pictures", "registry/datasets"):
        (home / folder).mkdir(parents=True)
    for number in range(3):
        Image.fromarray(np.full((8, 8, 3), 10 * number, np.uint8)).save(home / "pictures" / f"{number}.png")
    (home / "registry/datasets/mine.gin").write_text("# Mine\nimport registry.datasets.image_folder\n\nImageFolder.resolution = 8\n")
    words = ["data", "add", "mine", "--root", str(home / "pictures"), "--registry", str(home / "registry")]
    assert cli.main(words) == 0
    printed = capsys.readouterr()
    assert "packed 3 images" in printed.out and (packed := packed_here("mine", home)) and packed.count == 3
    assert printed.err.count("not versioned: `dvc add packed/mine` failed") == 1 and "not a git repository" in printed.err


def test_a_root_that_is_not_there_is_wrong_usage(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "add", "celeba", "--root", str(home / "nowhere")]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err
