"""The simplified UNet: its parameters by arithmetic, freedom from bias, and its norm against a loop in float64."""

import math

import pytest
import torch
from torch import nn

from benchmark.contract import Attention, FieldError, ImageShape
from benchmark.declaring import registry
from benchmark.declaring.entries import load
from registry.backbones.unet_simple import BiasFreeNorm, SimpleUNet

GREY = ImageShape(1, 16)
STEPS = torch.tensor([3, 700])


def warm(channels: int = 1) -> nn.Module:
    """A small network whose norms have seen images and whose gains are far from their start."""
    torch.manual_seed(0)
    network = SimpleUNet(channels=8).build(ImageShape(channels, 16))
    for module in network.modules():
        if isinstance(module, BiasFreeNorm):
            nn.init.normal_(module.gammas, 1.0, 0.3)
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(4, channels, 16, 16), STEPS)
    return network.eval()


def test_parameters_are_those_the_paper_prints() -> None:
    config = load(registry.find("model", "unet_simple")).config
    assert (config.channels, config.scales, config.convolutions) == (64, 3, 2)
    with torch.device("meta"):
        counts = [sum(p.numel() for p in config.build(ImageShape(c, 32)).parameters()) for c in (1, 3)]
    w = [64, 128, 256, 512]
    convolutions = 9 * (w[0] + w[0] * w[0])  # down to the middle ...
    convolutions += sum(9 * (w[s - 1] * w[s] + w[s] * w[s]) for s in (1, 2, 3))
    convolutions += sum(9 * (w[s + 1] * w[s] + w[s] * w[s]) for s in (1, 2)) + 9 * (w[1] * w[0] + w[0])  # ... and up
    upwards = sum(4 * w[s + 1] * w[s] for s in (0, 1, 2))
    gains = w[0] + 2 * (w[1] + w[2] + w[3]) + 2 * (w[2] + w[1]) + w[0]
    assert counts[0] == convolutions + upwards + gains
    assert counts[1] - counts[0] == 2 * 2 * 9 * w[0]  # two more channels into the first and out of the last convolution
    assert round(counts[0] / 1e6, 1) in (7.6, 7.7)


@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_no_layer_adds_a_constant(channels: int) -> None:
    network, x = warm(channels).double(), torch.randn(2, channels, 16, 16, dtype=torch.float64)
    out = network(x, STEPS)
    assert out.abs().max() > 0.01
    for factor in (0.01, 3.0, 100.0):
        torch.testing.assert_close(network(factor * x, STEPS), factor * out, rtol=1e-9, atol=0)
    assert not network(torch.zeros_like(x), STEPS).any()
    assert not torch.allclose(network(-x, STEPS), -out, rtol=0.1)  # for positive factors only: the rectifiers are there
    assert not [name for name, _ in network.named_parameters() if "bias" in name]


@torch.no_grad()
def test_it_is_blind_to_the_step_and_to_the_batch() -> None:
    network, x = warm(), torch.randn(2, 1, 16, 16)
    assert torch.equal(network(x, STEPS), network(x, torch.tensor([999, 0])))
    torch.testing.assert_close(network(x[1:], STEPS[1:]), network(x, STEPS)[1:])


def test_the_norm_divides_by_the_deviation_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    norm, x = BiasFreeNorm(2), torch.randn(3, 2, 4, 4) * 5 + 7
    nn.init.constant_(norm.gammas, 0.5)
    out, running = norm.train()(x), []
    for c in range(2):
        values = x[:, c].flatten().double().tolist()
        mean = math.fsum(values) / len(values)
        deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values) + 1e-5)
        expected = torch.tensor([0.5 * v / deviation for v in values])
        torch.testing.assert_close(out[:, c].flatten(), expected, rtol=1e-5, atol=1e-5)
        running.append(0.9 + 0.1 * deviation)
    assert norm.running_sd.flatten().tolist() == pytest.approx(running, rel=1e-5)
    torch.testing.assert_close(norm.eval()(x), 0.5 * x / norm.running_sd)
    assert norm.running_sd.flatten().tolist() == pytest.approx(running, rel=1e-5)  # evaluation leaves it
    assert "running_sd" in norm.state_dict()


def test_it_learns_the_noise_of_one_image() -> None:
    torch.manual_seed(0)
    network = SimpleUNet(channels=8).build(GREY).train()
    optimizer, image, losses = torch.optim.Adam(network.parameters(), lr=3e-3), torch.rand(1, 1, 16, 16), []
    for _ in range(60):
        noise = torch.randn(8, 1, 16, 16)
        loss = (network(image + noise, STEPS) - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(1.0, abs=0.1)  # it starts with next to no estimate
    assert losses[-1] < 0.5


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(FieldError, match="the resolution 12 does not allow"):
        SimpleUNet().build(ImageShape(1, 12))
    with pytest.raises(FieldError, match="the layout gives 1"):
        SimpleUNet().build(GREY, (Attention(),))
    with pytest.raises(FieldError, match="convolutions = 1 must be at least 2"):
        SimpleUNet(convolutions=1)
    with pytest.raises(FieldError, match="takes no labels"):
        warm()(torch.zeros(2, 1, 16, 16), STEPS, STEPS)
