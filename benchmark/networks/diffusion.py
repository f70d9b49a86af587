"""The noise schedule, the loss (Eq. 1) and what a noise estimate says about the clean image (Eq. 3)."""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmark.contract import OwnLoss

STEPS = 1000  # T of the forward process, t = 0 ... 999


def alphas_cumprod() -> Tensor:
    """Return abar_t, shape (1000,), float64: products of 1 - beta_t, beta linear from 1e-4 to 0.02 (Ho et al. 2020)."""
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64), dim=0)


def respaced(count: int) -> list[int]:
    """Return `count` diffusion steps spread evenly over 0 ... 999, both ends included (Nichol & Dhariwal 2021)."""
    if not 1 <= count <= STEPS:
        raise ValueError(f"{count} diffusion steps asked for; there are 1 to {STEPS}")
    return [STEPS // 2] if count == 1 else [round(i * (STEPS - 1) / (count - 1)) for i in range(count)]


def scaled(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [-1, 1], so that M of Eq. 4 is 2."""
    return images.float() / 127.5 - 1


class Levels(NamedTuple):
    """sqrt(abar_t) and sigma_t = sqrt(1 - abar_t), each (N, 1, 1, 1), for one step per image."""

    signal: Tensor
    sigma: Tensor


def levels(abar: Tensor, t: Tensor) -> Levels:
    """Return the signal and noise level of the steps t: (N,) as float32."""
    chosen = abar[t].view(-1, 1, 1, 1)
    return Levels(chosen.sqrt().float(), (1 - chosen).sqrt().float())


def noised(x0: Tensor, noise: Tensor, level: Levels) -> Tensor:
    """Return x_t = sqrt(abar_t) x_0 + sigma_t noise."""
    return level.signal * x0 + level.sigma * noise


def loss(network: nn.Module, x0: Tensor, t: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """Return the mean squared error of the noise estimate (Eq. 1), in fp32, plus the network's own loss where it has one.

    x0, noise: (N, C, R, R); t: (N,).
    """
    xt = noised(x0, noise, levels(abar, t))
    estimate, own = network.estimate_with_loss(xt, t) if isinstance(network, OwnLoss) else (network(xt, t), 0.0)
    return (estimate.float() - noise).square().mean() + own


class Denoised(NamedTuple):
    """The clean image in the three readings of Eq. 3, each (N, C, R, R)."""

    clipped: Tensor
    unclipped: Tensor
    literal: Tensor


def denoised(xt: Tensor, estimate: Tensor, level: Levels) -> Denoised:
    """Return x_0 from the noise estimate: clipped to [-1, 1], unclipped, and x_t - sigma_t eps_hat as printed."""
    literal = xt - level.sigma * estimate
    unclipped = literal / level.signal
    return Denoised(unclipped.clamp(-1, 1), unclipped, literal)


def random_key(*parts: object) -> int:
    """Return a 63-bit seed that is a function of `parts` alone, so that no random number depends on process state."""
    return int.from_bytes(hashlib.sha256(":".join(map(str, parts)).encode()).digest()[:8], "big") >> 1
