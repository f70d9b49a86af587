"""EDM's preconditioning, and denoisers that are told sigma or nothing: the same estimate of the image at the same signal-to-noise ratio."""

import math

import pytest
import torch
from torch import Tensor, nn

from benchmark.contract import ImageShape
from benchmark.declaring.recipe import External
from benchmark.networks.denoiser import EdmEstimate, ResidualEstimate, SigmaEstimate, noise_estimate
from benchmark.networks.diffusion import alphas_cumprod, levels, respaced
from benchmark.networks.objective import clean
from registry.backbones.unet_simple import BiasFreeNorm, SimpleUNet
from tests.gaussian import Gaussian, correlated

STEPS = respaced(50)


def preconditioned(denoiser, sigma_data: float):
    """Return the F of which EDM's preconditioning makes D: solved for in its own table of scalings, from F's inputs alone."""

    def inner(scaled: Tensor, c_noise: Tensor) -> Tensor:
        out = []
        for x, c in zip(scaled, c_noise.tolist(), strict=True):
            sigma = math.exp(4 * c)
            c_skip = sigma_data**2 / (sigma**2 + sigma_data**2)
            c_out = sigma * sigma_data / math.sqrt(sigma_data**2 + sigma**2)
            noisy = x * math.sqrt(sigma**2 + sigma_data**2)
            out.append((denoiser(noisy[None], sigma)[0] - c_skip * noisy) / c_out)
        return torch.stack(out)

    return inner


def told_sigma(denoiser):
    return lambda noisy, sigma: torch.cat([denoiser(x[None], s) for x, s in zip(noisy, sigma.tolist(), strict=True)])


def residual(denoiser):
    """Return y -> y - image of images in [0, 1] whose noise has the deviation that is told."""

    def found(y: Tensor, sigma: Tensor) -> Tensor:
        return torch.stack([one - (denoiser(2 * one[None] - 1, 2 * s)[0] + 1) / 2 for one, s in zip(y, sigma.tolist(), strict=True)])

    return found


class Called(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: Tensor) -> Tensor:
        return self.function(*given)


def estimates(denoiser) -> dict[str, nn.Module]:
    """Return D(image + sigma noise; sigma) in every convention that can hold it, as what scores sees it."""
    made = {f"edm {data}": (preconditioned(denoiser, data), {"convention": "edm", "sigma_data": data}) for data in (0.5, 0.3)}
    made |= {"sigma": (told_sigma(denoiser), {"convention": "sigma"}), "residual": (residual(denoiser), {"convention": "residual"})}
    return {
        name: noise_estimate(Called(function), External(psnr_steps=1, psnr_images=1, **words)) for name, (function, words) in made.items()
    }


def optimal(data: Gaussian):
    """Return E[x_0 | x_0 + sigma z] of a Gaussian: mu + Sigma (Sigma + sigma^2 I)^-1 (x - mu)."""

    def denoised(x: Tensor, sigma: float) -> Tensor:
        gain = torch.linalg.solve(data.covariance + sigma**2 * torch.eye(len(data.mean), dtype=torch.float64), data.covariance)
        return (data.mean + (x.flatten(1) - data.mean) @ gain).view(x.shape)

    return denoised


def image_of(network: nn.Module, x: Tensor, t: int) -> Tensor:
    steps = torch.full((len(x),), t)
    return clean(network(x, steps), x, levels(alphas_cumprod(), steps, torch.float64), "noise")


@pytest.mark.parametrize("convention", ["edm 0.5", "edm 0.3", "sigma", "residual"])
def test_the_optimal_denoiser_of_a_gaussian_has_the_analytic_error_at_every_scored_level(convention: str) -> None:
    data = correlated()
    network, size = estimates(optimal(data))[convention], len(data.mean)
    basis = torch.cat([torch.zeros(1, size), torch.eye(size)]).double().view(-1, *data.shape)
    for t in STEPS:
        abar = alphas_cumprod()[t]
        x0 = image_of(network, basis, t).flatten(1)
        assert (x0 - data.predict([abar.item()])(basis, 0).flatten(1)).abs().max() < 1e-10, t
        offset, gain = x0[0], (x0[1:] - x0[0]).T  # x0_hat = gain x + offset
        left = torch.eye(size) - abar.sqrt() * gain
        error = (left @ data.covariance @ left.T).trace() + (1 - abar) * gain.square().sum() + (left @ data.mean - offset).square().sum()
        sigma2 = (1 - abar) / abar
        assert error.item() == pytest.approx((data.variances * sigma2 / (data.variances + sigma2)).sum().item(), abs=1e-10), t


@pytest.mark.parametrize("convention", ["edm 0.5", "edm 0.3", "sigma", "residual"])
def test_a_known_denoiser_is_met_at_the_noisy_image_of_equal_signal_to_noise_ratio(convention: str) -> None:
    """One that is not linear: D is asked at x sqrt(1 + sigma^2), sigma^2 = 1 / SNR, and its image is the estimate."""

    def known(x: Tensor, sigma: float) -> Tensor:
        return torch.tanh(x / (1 + sigma)) * math.cos(sigma) + 0.1 * sigma / (1 + sigma)

    network = estimates(known)[convention]
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for t in STEPS:
        abar = alphas_cumprod()[t].item()
        sigma = math.sqrt((1 - abar) / abar)
        assert (image_of(network, x, t) - known(x * math.sqrt(1 + sigma**2), sigma)).abs().max() < 1e-10, t


def test_conventions_are_told_apart_and_labels_go_through() -> None:
    def of(**words: object) -> nn.Module:
        return noise_estimate(nn.Identity(), External(psnr_steps=1, psnr_images=1, **words))

    assert [type(of(convention=name)) for name in ("sigma", "edm", "residual")] == [SigmaEstimate, EdmEstimate, ResidualEstimate]
    seen: list[Tensor] = []
    network = Called(lambda x, c, y: (seen.append(y), x)[1])
    labels = torch.tensor([4, 1])
    for name in ("sigma", "edm", "residual"):
        noise_estimate(network, External(psnr_steps=1, psnr_images=1, convention=name))(
            torch.zeros(2, 1, 2, 2), torch.tensor([1, 2]), labels
        )
    assert all(torch.equal(labels, one) for one in seen) and len(seen) == 3


def test_a_noise_blind_network_is_scored_as_its_own_code_denoises() -> None:
    """y = image in [0, 1] + sigma z, image = y - f(y): by a loop over images in single precision, for a UNet that is blind to sigma."""
    torch.manual_seed(0)
    network = SimpleUNet(channels=8).build(ImageShape(1, 8)).eval()
    for module in network.modules():
        if isinstance(module, BiasFreeNorm):
            nn.init.normal_(module.gammas, 1.0, 0.3)
    estimate = noise_estimate(network, External(psnr_steps=1, psnr_images=1, convention="residual"))
    image01 = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    for t in (0, 300, 700, 999):
        abar = alphas_cumprod()[t].item()
        noise = torch.randn(1, 1, 8, 8, dtype=torch.float64)
        sigma01 = math.sqrt((1 - abar) / abar) / 2
        y = image01 + sigma01 * noise
        x = math.sqrt(abar) * (2 * image01 - 1) + math.sqrt(1 - abar) * noise
        with torch.no_grad():
            ours = estimate.double()(x, torch.tensor([t]))
            theirs = network.double()(y, torch.tensor([0])) / sigma01
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
