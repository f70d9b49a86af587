"""registry/: every entry, without naming any: a new file is tested by being there."""

import os
from pathlib import Path

import pytest
import torch

from benchmark.contract import ArtifactMissing, Attention, ImageShape
from benchmark.contributing import check
from benchmark.declaring import registry
from benchmark.declaring.entries import load
from benchmark.errors import UsageError

ENTRIES = [file for axis in registry.FOLDERS for file in registry.entries(axis).values()]
MODELS = list(registry.entries("model").values())
LAYOUTS = list(registry.entries("layout").values())


@pytest.mark.parametrize("file", ENTRIES, ids=lambda file: f"{file.axis}-{file.name}")
def test_entry_keeps_its_contract(file: registry.EntryFile) -> None:
    """It parses strictly, is described, and builds on meta, places, opens or names what exists."""
    check.check_entry(file.path, (registry.STOCK,))
    assert 20 <= len(file.description) <= 120


@pytest.mark.parametrize("file", MODELS, ids=lambda file: file.name)
def test_model_learns_at_a_small_size(file: registry.EntryFile) -> None:
    """One forward and backward pass on two 4x4 images: the shape is kept and every trainable weight gets a gradient."""
    config = load(file).config
    torch.manual_seed(0)
    try:
        network = config.build(ImageShape(3, 8), tuple(Attention(window=3) for _ in range(config.attention_layers)))
    except ArtifactMissing as missing:
        pytest.skip(str(missing))
    for parameter in network.parameters():  # adaLN-Zero and zero-initialised outputs block gradients at the start
        if parameter.requires_grad and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    if hasattr(network, "fit"):
        network.fit(torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8))
    x = torch.randn(2, 3, 8, 8)
    labels = [torch.tensor([0, 1])] if getattr(config, "num_classes", 0) else []
    out = network(x, torch.tensor([3, 700]), *labels)
    assert out.shape == x.shape
    trained = [p for p in network.parameters() if p.requires_grad]
    assert hasattr(network, "fit") is not bool(trained)  # fitted or trained, never both
    if trained:
        out.square().mean().backward()
    without = [n for n, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not without


@pytest.mark.parametrize("file", LAYOUTS, ids=lambda file: file.name)
def test_layout_fits_the_paper_depth(file: registry.EntryFile) -> None:
    assert len(load(file).config.place(12)) == 12


def test_every_recipe_names_how_many_images_it_is_made_for() -> None:
    assert [file.name for file in registry.entries("recipe").values() if not file.subset] == []


def test_names_are_files() -> None:
    assert {file.name for file in MODELS} == {path.stem for path in (registry.STOCK / "backbones").glob("*.gin")}
    assert {"dit_xs1", "dit_s1", "dit_480", "unet", "dit_mini", "unet_mini"} <= {file.name for file in MODELS}


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UsageError) as refusal:
        registry.find("layout", "local_haed")
    assert "Did you mean 'local_head'" in str(refusal.value)
    assert "registry.entries('layout')" in str(refusal.value)


def test_a_name_claimed_twice_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mini.gin").write_text("# mine\nimport benchmark.recipe\nRecipe.steps = 3\n")
    with pytest.raises(UsageError, match="Two files claim the recipe 'mini'"):
        registry.find("recipe", "mini", registry.roots([tmp_path]))


def test_extra_folder_must_hold_entries(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no entries"):
        registry.roots([tmp_path])
    with pytest.raises(UsageError, match="is not a folder"):
        registry.roots([tmp_path / "none"])


def test_the_mark_and_the_line_ends_of_an_editor_change_nothing(tmp_path: Path) -> None:
    text = b"# Windows of 3\r\nimport registry.layouts.windows\r\n\r\nWindows.windows = (3,)\r\n"
    (tmp_path / "layouts").mkdir()
    path = tmp_path / "layouts" / "marked.gin"
    path.write_bytes(b"\xef\xbb\xbf" + text)
    file = registry.read("layout", path)
    assert file.description == "Windows of 3" and load(file).config.windows == (3,)


def test_names_that_begin_with_a_dot_are_no_entries(tmp_path: Path) -> None:
    (tmp_path / "layouts").mkdir()
    for name in ("._mine.gin", ".#mine.gin"):
        (tmp_path / "layouts" / name).write_bytes(b"\x00\x05\x16\x07")
    assert not registry.entries("layout", (tmp_path,)) and not check.check([tmp_path], (registry.STOCK,))


def test_what_is_no_text_of_an_entry_stops_no_list(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    os.mkfifo(tmp_path / "recipes" / "a_pipe.gin")
    (tmp_path / "recipes" / "b_device.gin").symlink_to("/dev/zero")
    (tmp_path / "recipes" / "c_huge.gin").write_text("#" * (registry.LARGEST_ENTRY + 1))
    (tmp_path / "recipes" / "d_digits.gin").write_text("# D\n# subset: " + "9" * 5000 + "\n")
    (tmp_path / "recipes" / "e_lines.gin").write_text("# E\n# subset: 1__0_\n# subset: \u0663\n")
    found = registry.entries("recipe", (tmp_path,))
    assert [bool(file.unreadable) for file in found.values()] == [True, True, True, False, False]
    assert not any(file.subset for file in found.values())
    with pytest.raises(UsageError, match="it is no file"):
        load(found["a_pipe"])
