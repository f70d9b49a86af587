"""The bias-free denoisers of Kadkhodaie et al. 2024: files in their naming, against a forward pass over the names alone."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import benchmark
from benchmark import run
from benchmark.cli import main
from benchmark.contract import Attention, FieldError, ImageShape
from benchmark.declaring import registry
from benchmark.declaring.entries import load
from benchmark.declaring.spec import resolve
from benchmark.errors import BenchError
from benchmark.networks import weights
from benchmark.recording import record
from benchmark.running.place import here
from benchmark.running.progress import Display
from registry.backbones.bf_cnn import BiasFreeCnn
from registry.backbones.unet_simple import SimpleUNet
from tests.conftest import ENTRIES

WIDTH = 4


def normed(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.running_sd": (1, channels, 1, 1), f"{name}.gammas": (1, channels, 1, 1)}


def names_of_unet(channels: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a UNet of three scales with two convolutions a block."""
    w = [WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH]
    found = {"encoder.0.0.weight": (w[0], channels, 3, 3), "encoder.0.2.weight": (w[0], w[0], 3, 3), **normed("encoder.0.3", w[0])}
    wide = [(f"encoder.{b}", w[b - 1], w[b]) for b in (1, 2)] + [("mid_block", w[2], w[3])]
    for name, before, out in wide + [(f"decoder.{b}", w[b + 1], w[b]) for b in (2, 1)]:
        found |= {f"{name}.0.weight": (out, before, 3, 3), f"{name}.3.weight": (out, out, 3, 3)}
        found |= normed(f"{name}.1", out) | normed(f"{name}.4", out)
    found |= {"decoder.0.0.weight": (w[0], w[1], 3, 3), "decoder.0.3.weight": (channels, w[0], 3, 3), **normed("decoder.0.1", w[0])}
    return found | {f"upsample.{b}.weight": (w[b + 1], w[b], 2, 2) for b in (2, 1, 0)}


def names_of_cnn(channels: int, layers: int = 5) -> dict[str, tuple[int, ...]]:
    found = {"conv_layers.0.weight": (WIDTH, channels, 3, 3), f"conv_layers.{layers - 1}.weight": (channels, WIDTH, 3, 3)}
    for i in range(1, layers - 1):
        found |= {f"conv_layers.{i}.weight": (WIDTH, WIDTH, 3, 3), **normed(f"BN_layers.{i - 1}", WIDTH)}
    return found


def made(names: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    found = {name: torch.randn(shape, generator=generator) * math.sqrt(2 / math.prod(shape[1:])) for name, shape in names.items()}
    of_norms = {name: 0.5 + value.abs() for name, value in found.items() if name.endswith("running_sd")}
    return found | of_norms | {name: 1 + value / 5 for name, value in found.items() if name.endswith("gammas")}


def unet(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """The forward pass, written over the names."""

    def conv(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"], padding=1)

    def unit(name: str, first: int, x: Tensor) -> Tensor:
        at = f"{name}.{first + 1}"
        return F.relu(conv(f"{name}.{first}", x) * w[f"{at}.gammas"] / w[f"{at}.running_sd"])

    kept = []
    for b in range(3):
        x = unit(f"encoder.{b}", 0, x) if b else F.relu(conv("encoder.0.0", x))
        kept.append(unit(f"encoder.{b}", 3 if b else 2, x))
        x = kept[-1].unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean(dim=(3, 5))
    x = unit("mid_block", 3, unit("mid_block", 0, x))
    for b in (2, 1, 0):
        up = F.conv_transpose2d(x, w[f"upsample.{b}.weight"], stride=2)
        x = unit(f"decoder.{b}", 0, torch.cat([up, kept[b]], dim=1))
        x = unit(f"decoder.{b}", 3, x) if b else conv("decoder.0.3", x)
    return x


def cnn(w: dict[str, Tensor], x: Tensor, *, rectified: bool = False) -> Tensor:
    x = F.conv2d(x, w["conv_layers.0.weight"], padding=1)
    x = F.relu(x) if rectified else x
    for i in range(1, 4):
        x = F.conv2d(x, w[f"conv_layers.{i}.weight"], padding=1)
        x = F.relu(x / w[f"BN_layers.{i - 1}.running_sd"] * w[f"BN_layers.{i - 1}.gammas"])
    return F.conv2d(x, w["conv_layers.4.weight"], padding=1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["unet", "cnn", "cnn, rectified"])
def test_weights_in_their_naming_give_their_outputs(kind: str, channels: int) -> None:
    state = made((names_of_unet if kind == "unet" else names_of_cnn)(channels))
    spec = SimpleUNet(channels=WIDTH) if kind == "unet" else BiasFreeCnn(channels=WIDTH, layers=5, rectified_first="rect" in kind)
    network = spec.build(ImageShape(channels, 16)).eval()
    assert weights.fill(network, state, Path("model.pt"), kind) == []
    x = torch.rand(2, channels, 16, 16, generator=torch.Generator().manual_seed(1))
    want = unet(state, x) if kind == "unet" else cnn(state, x, rectified="rect" in kind)
    with torch.no_grad():
        torch.testing.assert_close(network(x, torch.tensor([1, 2])), want, rtol=1e-5, atol=1e-5)
    assert want.abs().mean() > 0.01
    other = unet if kind == "unet" else lambda w, x: cnn(w, x, rectified="rect" not in kind)
    changed = state | {"encoder.1.1.running_sd": 2 * state["encoder.1.1.running_sd"]} if kind == "unet" else state
    assert (other(changed, x) - want).abs().max() > 1e-3  # a norm, and a rectifier, matter


def test_deviations_that_training_measured_may_not_be_missing() -> None:
    state = made(names_of_cnn(1))
    network = BiasFreeCnn(channels=WIDTH, layers=5).build(ImageShape(1, 8))
    with pytest.raises(BenchError, match=r"1 missing: BN_layers\.1\.running_sd"):
        weights.fill(network, {k: v for k, v in state.items() if k != "BN_layers.1.running_sd"}, Path("model.pt"), "bf_cnn")


def test_their_file_is_a_row_that_denoises_as_their_code_does(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """y = image in [0, 1] + sigma z and image = y - f(y), at every scored level; a file as a parallel training leaves it."""
    state = made(names_of_unet(3))
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "model.pt")
    words = ["--weights", str(tmp_path / "model.pt"), "--format", "bias_free", "--model", "unet_simple", "--set", f"model.channels={WIDTH}"]
    words += ["--layout", "global", "--dataset", "leaves_tiny", "--recipe", "tiny", "--subset", "6", "--registry", str(ENTRIES)]
    assert main(["evaluate", *words, "--device", "cpu", "--json"]) == 0
    found = record.read(Path(json.loads(capsys.readouterr().out)["record"]))
    assert found.spec["recipe"]["config"]["convention"] == "residual"

    def by_hand(x: Tensor, t: Tensor) -> Tensor:
        product, abar = 1.0, []
        for step in range(1000):
            product *= 1 - (1e-4 + (0.02 - 1e-4) * step / 999)
            abar.append(product)
        out = []
        for one, step in zip(x, t.tolist(), strict=True):
            a = abar[step]
            y = (one / math.sqrt(a) + 1) / 2
            image = 2 * (y - unet(state, y[None])[0]) - 1
            out.append((one - math.sqrt(a) * image) / math.sqrt(1 - a))
        return torch.stack(out)

    names = {"model": "dit_tiny", "layout": "global", "dataset": "leaves_tiny", "recipe": "tiny"}
    with Display() as display:
        subset = run.load_subset(resolve(names, subset=6, seed=0, search=registry.roots([ENTRIES])), here("cpu", None), display)
    want = benchmark.score(by_hand, subset.train, subset.test, steps=3, images=8)
    for reading in ("clipped", "unclipped"):
        for side in ("train", "test"):
            assert getattr(getattr(found.psnr, reading), side) == pytest.approx(getattr(getattr(want, reading), side), abs=2e-3)


def test_the_cnn_is_declared_as_in_their_code() -> None:
    config = load(registry.find("model", "bf_cnn")).config
    assert (config.channels, config.layers, config.rectified_first) == (64, 20, False)
    with torch.device("meta"):
        counted = sum(p.numel() for p in config.build(ImageShape(1, 32)).parameters())
    assert counted == 2 * 9 * 64 + 18 * (9 * 64 * 64 + 64)
    with pytest.raises(FieldError, match="the layout gives 1"):
        config.build(ImageShape(1, 8), (Attention(),))
    with pytest.raises(FieldError, match="takes no labels"):
        BiasFreeCnn(channels=2, layers=3).build(ImageShape(1, 4))(torch.zeros(1, 1, 4, 4), torch.tensor([0]), torch.tensor([0]))
