"""benchmark/networks/diffusion.py against loops and closed forms."""

import math

import pytest
import torch

from benchmark.networks.diffusion import (
    alphas_cumprod,
    denoised,
    levels,
    loss,
    noised,
    random_key,
    respaced,
    scaled,
)


def test_alphas_cumprod_is_the_product_of_one_minus_beta() -> None:
    product, abar = 1.0, alphas_cumprod()
    for t in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999)
        assert abar[t].item() == pytest.approx(product, rel=1e-12)
    assert abar[999].item() == pytest.approx(4.0358e-5, rel=1e-4)  # Ho et al. 2020: almost no signal is left


def test_respaced_steps_are_even_and_hold_both_ends() -> None:
    fifty = respaced(50)
    assert len(set(fifty)) == 50
    assert (fifty[0], fifty[1], fifty[-1]) == (0, 20, 999)
    assert {b - a for a, b in zip(fifty, fifty[1:], strict=False)} == {20, 21}
    assert respaced(1000) == list(range(1000))
    with pytest.raises(ValueError, match="1001"):
        respaced(1001)


def test_scaled_uses_the_whole_range() -> None:
    assert scaled(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


def test_the_true_noise_gives_back_the_image() -> None:
    abar, t = alphas_cumprod(), torch.tensor([0, 100, 500])
    x0 = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    level = levels(abar, t)
    xt = noised(x0, noise, level)
    readings = denoised(xt, noise, level)
    assert torch.allclose(readings.clipped, x0, atol=1e-5)
    assert torch.allclose(readings.unclipped, x0, atol=1e-5)
    for k, step in enumerate(t.tolist()):  # the literal reading keeps the factor sqrt(abar)
        assert torch.allclose(readings.literal[k], x0[k] * math.sqrt(abar[step]), atol=1e-5)
        assert torch.allclose(xt[k], x0[k] * math.sqrt(abar[step]) + noise[k] * math.sqrt(1 - abar[step]), atol=1e-6)


def test_loss_is_the_mean_squared_error_of_the_noise() -> None:
    class Half(torch.nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return x * 0 + 0.5

    noise = torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    got = loss(Half(), torch.zeros(5, 1, 2, 2), torch.arange(5), noise, alphas_cumprod())
    assert got.item() == pytest.approx(sum((v - 0.5) ** 2 for v in noise.flatten().tolist()) / 20, rel=1e-6)


def test_random_key_is_pinned() -> None:
    """Every record depends on this function; a change of it is a change of every number."""
    assert random_key("train", 0, 0) == 8214931329842670599
    assert random_key("psnr", 0, "train", 1, 0, 20) != random_key("psnr", 0, "train", 10, 0, 20)
    assert 0 <= random_key("x") < 2**63
