"""Attention maps of whole networks: they are what the layers apply, their averages those of all maps, in little memory."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmark.analysis.attention import (
    NAMES,
    analyse,
    attention_layers,
    averages,
    numbers,
    shape,
    visit_maps,
)
from benchmark.analysis.attention_figures import brought_to_unit, draw_maps, figures
from benchmark.analysis.locality import locality
from benchmark.analysis.study import Parts, Request, noisy, pictures
from benchmark.contract import Attention, ImageShape
from benchmark.errors import NotRun
from benchmark.networks import artifacts
from registry.backbones.attention import visible_keys
from registry.backbones.dit import DiT
from registry.backbones.dit_gpsa import GatedPositionalDiT
from registry.backbones.dit_pca import PcaDiT
from registry.backbones.dit_shared import SharedDiT
from registry.backbones.unet import UNet

SIDE = 6
SHAPE = {"hidden": 16, "depth": 2, "heads": 2}
GLOBAL = (Attention(), Attention())
LOCAL = (Attention(window=3), Attention(window=5, border="shifted"))


def trained(config: DiT, layout: tuple[Attention, ...] = GLOBAL) -> nn.Module:
    """Return a network whose attention depends on image and step, as training makes it."""
    torch.manual_seed(0)
    network = config.build(ImageShape(3, SIDE * config.patch), layout)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network.eval().requires_grad_(False)


def components(home: Path) -> str:
    """Make an artifact of components, rows of the mean summing to one and of the others to zero; return its digest."""
    torch.manual_seed(3)
    tokens = SIDE**2
    mean, others = torch.randn(2, tokens, tokens).softmax(2), torch.randn(2, 3, tokens, tokens) / tokens
    tensors = {
        "mean": mean,
        "components": others - others.mean(3, keepdim=True),
        "deviations": torch.rand(2, 3),
        "explained": torch.ones(2, 3) / 3,
    }
    return artifacts.save(home, "tiny_pca", tensors, {"run": "none"})[1]


KINDS = {
    "global": (DiT(**SHAPE), GLOBAL),
    "local": (DiT(**SHAPE), LOCAL),
    "patch 2": (DiT(**SHAPE, patch=2), GLOBAL),
    "shared": (SharedDiT(**SHAPE, group=2), LOCAL),
    "gated": (GatedPositionalDiT(**SHAPE, gated=1), LOCAL),
    "pca": (None, LOCAL),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_maps_are_what_the_layers_apply(home: Path, kind: str) -> None:
    """Weights times values, head by head, projected: the output of every layer, which the analysis does not change."""
    config, layout = KINDS[kind]
    network = trained(config or PcaDiT(**SHAPE, count=3, components=components(home)), layout)
    x = torch.randn(2, 3, SIDE * network.patch, SIDE * network.patch)
    t = torch.tensor([20, 700])
    before, calls, maps = network(x, t), [], {}
    handles = [
        layer.register_forward_hook(lambda module, given, out: calls.append((module, given[0], out))) for layer in attention_layers(network)
    ]
    visit_maps(network, x, t, lambda layer, found: maps.update({layer: found}))
    for handle in handles:
        handle.remove()
    assert torch.equal(network(x, t), before)
    assert len(calls) == len(maps) == 2
    for layer, (module, given, out) in enumerate(calls):
        values = module.value(given) if kind == "pca" else module.qkv(given)[:, :, -16:]
        attended = [maps[layer][:, head] @ values[:, :, 8 * head : 8 * head + 8] for head in range(2)]
        assert (module.proj(torch.cat(attended, 2)) - out).abs().max() < 1e-5 * out.abs().max()
        assert kind == "pca" or not maps[layer][:, :, ~visible_keys(layout[layer], SIDE)].any()


@pytest.mark.parametrize("keep_heads", [True, False])
def test_averages_are_those_of_all_maps_at_once(keep_heads: bool) -> None:
    network, x = trained(DiT(**SHAPE, patch=2), LOCAL).double(), torch.randn(5, 3, 2 * SIDE, 2 * SIDE).double()
    every: dict[int, Tensor] = {}
    visit_maps(network, x, torch.full((5,), 300), lambda layer, found: every.update({layer: found.double()}))
    done: list[int] = []
    found = averages(network, x, 300, keep_heads=keep_heads, progress=done.append)
    assert done == [1, 2, 3, 4, 5]
    for layer, maps in every.items():
        mean = maps.mean(0) if keep_heads else maps.mean((0, 1))[None]
        torch.testing.assert_close(found["maps"][layer].double(), mean, rtol=1e-6, atol=1e-9)
        for name, values in locality(maps, patch=2).items():
            torch.testing.assert_close(found[name][layer], values.mean(0), rtol=1e-9, atol=1e-12)
    assert found["distance"].dtype == torch.float64 and found["maps"].dtype == torch.float32


def test_numbers_are_the_means_of_layers_levels_and_all() -> None:
    arrays = {name: np.random.default_rng(place).random((2, 3, 4)) for place, name in enumerate(NAMES)}  # levels, layers, heads
    found = numbers(arrays, (50, 500))
    assert found["entropy"] == pytest.approx(sum(arrays["entropy"].flatten()) / 24)
    assert found["mass_5_t500"] == pytest.approx(arrays["mass_5"][1].mean())
    assert found["distance_layer3"] == pytest.approx((arrays["distance"][0, 2].mean() + arrays["distance"][1, 2].mean()) / 2)
    assert len(found) == len(NAMES) * 3 + (len(NAMES) - 1) * 3  # `negative_mass` is not told by layer


def test_an_analysis_sees_each_image_at_each_level_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    network, images = trained(DiT(**SHAPE), LOCAL), torch.randint(256, (3, 3, SIDE, SIDE), dtype=torch.uint8)
    request, shown = Request(images=3, timesteps=(50, 500)), []
    result = analyse(network, images, request, lambda done, total: shown.append((done, total)), Parts(tmp_path))
    assert shown[-1] == (6, 6) and result.settings == {"layers": 2, "heads": 2, "tokens": 36, "maps": "every head"}
    assert result.arrays["maps"].shape == (2, 2, 2, 36, 36)
    for level, t in enumerate((50, 500)):
        expected = averages(network, noisy(images, t, request)[0], t, keep_heads=True, progress=lambda done: None)
        np.testing.assert_array_equal(result.arrays["maps"][level], expected["maps"])
        np.testing.assert_array_equal(result.arrays["distance"][level], expected["distance"])
    with torch.no_grad():
        network.blocks[0].attn.qkv.weight.zero_()  # what was kept is not computed again
    again = analyse(network, images, request, lambda done, total: None, Parts(tmp_path))
    assert again.numbers == result.numbers


def test_what_has_no_maps_is_told_so() -> None:
    network = UNet(channels=8, residual_blocks=1, multipliers=(1, 1), heads=2).build(ImageShape(3, 8))
    with pytest.raises(NotRun, match="no attention layers whose maps can be taken: .* What applies to it is `what='representations'`"):
        shape(network, torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


class Odd(nn.Module):
    """A network with one layer whose maps are over tokens that are no square."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = OddLayer()

    def forward(self, x: Tensor, t: Tensor, y: None = None) -> Tensor:
        return self.layer(x)


class OddLayer(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x

    def maps(self, x: Tensor) -> Tensor:
        return torch.full((len(x), 1, 6, 6), 1 / 6)


def test_maps_over_no_square_of_tokens_are_refused() -> None:
    with pytest.raises(NotRun, match="not over a square grid"):
        shape(Odd(), torch.zeros(1, 3, 2, 3, dtype=torch.uint8))


def test_pictures_bring_maps_to_unit_and_are_drawn_at_every_depth() -> None:
    maps = torch.randn(2, 36, 36).softmax(2).numpy()
    unit = brought_to_unit(maps)
    assert unit.min() == 0 and unit.max() == 1
    np.testing.assert_allclose(unit[0] * (maps[0].max() - maps[0].min()) + maps[0].min(), maps[0], rtol=1e-5)
    assert not brought_to_unit(np.full((4, 4), 0.25)).any()
    for layers, heads in ((1, 1), (7, 2)):
        arrays = {"maps": torch.randn(2, layers, heads, 16, 16).softmax(4).numpy(), "timesteps": np.array([50, 500])}
        arrays |= {name: np.random.default_rng(0).random((2, layers, heads)) for name in NAMES}
        for name, draw in figures(arrays, 8).items():
            svg, png = pictures(draw, name)
            assert svg.startswith("<?xml") and png.startswith(b"\x89PNG")


@pytest.mark.parametrize(("tokens", "shades"), [(16, 1.0), (256, 0.4)])
def test_the_picture_of_maps_shows_every_value_or_means_of_blocks(tokens: int, shades: float) -> None:
    """The colours end at 0.1 of the largest weight for 1024 tokens, at four times as much for a quarter of them."""
    maps = torch.randn(2, 2, 3, tokens, tokens).softmax(4).numpy()  # levels, layers, heads
    figure = Figure()
    draw_maps({"maps": maps, "timesteps": np.array([500, 50])}, figure)
    first = figure.axes[0].images[0]
    unit = brought_to_unit(maps[1, 0].mean(0))  # at the lower of two levels
    along = np.arange(128) * tokens // 128 if tokens < 128 else np.arange(0, tokens, 2)
    expected = unit[along][:, along] if tokens < 128 else sum(unit[along + i][:, along + j] for i in (0, 1) for j in (0, 1)) / 4
    np.testing.assert_allclose(first.get_array(), expected, rtol=1e-5)
    assert first.get_clim() == (0, pytest.approx(shades))


MEMORY = """
import resource, torch
from benchmark.analysis.attention import averages
from benchmark.contract import Attention, ImageShape
from registry.backbones.dit import DiT
torch.set_num_threads(1)
network = DiT(hidden=4, depth=12, heads=1, mlp_ratio=1.0).build(ImageShape(1, 32), (Attention(),) * 12).eval()
peaks = []
averages(network, torch.randn(2, 1, 32, 32), 500, keep_heads=True,
         progress=lambda done: peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
print(peaks[0], peaks[-1])
"""
MIB = 1024  # of ru_maxrss, which counts in KiB


def test_memory_does_not_grow_with_the_images() -> None:
    """1024 tokens, 12 layers: a map is 4 MiB, those of one image 48 MiB. What is freed goes back to the system at once."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        capture_output=True,
        text=True,
        timeout=900,
        check=True,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "1048576"},
    )
    first, last = (int(word) / MIB for word in done.stdout.split())
    assert last - first < 24
