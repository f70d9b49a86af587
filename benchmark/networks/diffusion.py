"""The noise schedules, the loss (Eq. 1) and what a noise estimate says about the clean image (Eq. 3).

All schedules are variance-preserving, x = sqrt(abar) x_0 + sqrt(1 - abar) eps, over the same range of levels: the straight
path (1 - u) x_0 + u eps of flow matching is divided by sqrt((1 - u)^2 + u^2). So a network sees the same noisy image at the
same log signal-to-noise ratio whichever schedule it was trained along.
"""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmark.contract import OwnLoss
from benchmark.declaring.recipe import NoiseSchedule
from benchmark.networks.objective import NOISE, Levels, Objective, target, weights

STEPS = 1000  # T of the forward process, t = 0 ... 999


def alphas_cumprod() -> Tensor:
    """Return abar_t, shape (1000,), float64: products of 1 - beta_t, beta linear from 1e-4 to 0.02 (Ho et al. 2020)."""
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64), dim=0)


def abar_along(schedule: NoiseSchedule) -> Tensor:
    """Return abar_t of a schedule, shape (1000,), float64; all begin and end at the levels of the linear one.

    straight: u rises evenly (Lipman et al. 2023); cosine: abar = cos^2 of an angle that rises evenly (Nichol & Dhariwal 2021).
    """
    linear = alphas_cumprod()
    if schedule == "linear":
        return linear
    first, last = _coordinate(linear[[0, -1]], schedule)
    even = torch.linspace(float(first), float(last), STEPS, dtype=torch.float64)
    return even.cos().square() if schedule == "cosine" else (1 - even).square() / ((1 - even).square() + even.square())


def times(schedule: NoiseSchedule) -> Tensor:
    """Return where each step of the linear schedule lies on another: the t of the same abar, shape (1000,), float64, 0 to 999."""
    if schedule == "linear":
        return torch.arange(STEPS, dtype=torch.float64)
    place = _coordinate(alphas_cumprod(), schedule)
    return (place - place[0]) / (place[-1] - place[0]) * (STEPS - 1)


def _coordinate(abar: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Return what rises evenly in t along a schedule: the angle of the cosine one, u of the straight one."""
    signal, sigma = abar.sqrt(), (1 - abar).sqrt()
    return torch.atan2(sigma, signal) if schedule == "cosine" else sigma / (sigma + signal)


def respaced(count: int) -> list[int]:
    """Return `count` diffusion steps spread evenly over 0 ... 999, both ends included (Nichol & Dhariwal 2021)."""
    if not 1 <= count <= STEPS:
        raise ValueError(f"{count} diffusion steps asked for; there are 1 to {STEPS}")
    return [STEPS // 2] if count == 1 else [round(i * (STEPS - 1) / (count - 1)) for i in range(count)]


def scaled(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [-1, 1], so that M of Eq. 4 is 2."""
    return images.float() / 127.5 - 1


def levels(abar: Tensor, t: Tensor, dtype: torch.dtype = torch.float32) -> Levels:
    """Return the signal and noise level of the steps t: (N,)."""
    chosen = abar[t].view(-1, 1, 1, 1)
    return Levels(chosen.sqrt().to(dtype), (1 - chosen).sqrt().to(dtype))


def noised(x0: Tensor, noise: Tensor, level: Levels) -> Tensor:
    """Return x_t = sqrt(abar_t) x_0 + sigma_t noise."""
    return level.signal * x0 + level.sigma * noise


def loss(
    network: nn.Module, x0: Tensor, t: Tensor, noise: Tensor, abar: Tensor, objective: Objective = NOISE, y: Tensor | None = None
) -> Tensor:
    """Return the mean squared error of the estimate (Eq. 1 where it is of the noise), plus the network's own loss where it has one.

    x0, noise: (N, C, R, R); t: (N,), the steps of the schedule whose abar is given; y: (N,) labels, where the network takes
    them. In fp32, and wider where the images are.
    """
    level = levels(abar, t, x0.dtype)
    xt = noised(x0, noise, level)
    given = (xt, t) if y is None else (xt, t, y)
    estimate, own = network.estimate_with_loss(*given) if isinstance(network, OwnLoss) else (network(*given), 0.0)
    error = (estimate.to(noise.dtype) - target(x0, noise, level, objective.prediction)).square()
    weighted = error if objective.plain else error * weights(objective, level)
    return weighted.mean() + own


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
