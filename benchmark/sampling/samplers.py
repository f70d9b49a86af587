"""Noise to images: the samplers, as recursions over the kept diffusion steps, from the noisiest to the cleanest.

Each yields x after every step; the last is the sample. `abar` holds the signal level abar_t of the kept steps, falling
in noise; behind the last comes abar = 1, the clean image. `predict(x, i)` returns x0_hat at the i-th kept step.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from benchmark.networks.denoiser import Estimate
from benchmark.networks.diffusion import STEPS, alphas_cumprod, respaced, times

Predict = Callable[[Tensor, int], Tensor]
Draw = Callable[[], Tensor]  # standard normal noise, shape and device of x
Variance = Literal["beta_tilde", "beta"]

SAMPLERS = ("ancestral", "ddim", "dpm", "euler", "heun")


def kept_steps(sampler: str, count: int) -> list[int]:
    """Return the `count` diffusion steps that a sampler visits, from the noisiest (999) to the cleanest (0).

    Even in t (improved diffusion's respacing) for `ancestral` and `ddim`; even in the log signal-to-noise ratio for
    `dpm`, as Lu et al. 2022 advise for small images: on Gaussian data of variance 0.01 to 1, 20 steps then miss the
    standard deviation by 1.5%, against 30% with steps even in t. Even in the share of the noise for `euler` and `heun`, which
    miss it by 8% with 50 steps and by 1.4% with 25.
    """
    if count == 1 or sampler in ("ancestral", "ddim"):
        return respaced(count)[::-1]
    return _even(torch.special.logit(alphas_cumprod()) if sampler == "dpm" else times("straight"), count)


def signal_levels(steps: Sequence[int]) -> list[float]:
    """Return abar_t of the kept steps."""
    return alphas_cumprod()[list(steps)].tolist()


def predictor(estimate: Estimate, steps: Sequence[int], *, clip: bool = True) -> Predict:
    """Turn a noise estimate into predict(x, i) = (x - sqrt(1 - abar) eps_hat) / sqrt(abar) (Eq. 3), clipped to [-1, 1]."""
    abar = signal_levels(steps)

    def predict(x: Tensor, i: int) -> Tensor:
        noise = estimate(x, torch.full((len(x),), steps[i], device=x.device)).to(x.dtype)
        x0 = (x - math.sqrt(1 - abar[i]) * noise) / math.sqrt(abar[i])
        return x0.clamp(-1, 1) if clip else x0

    return predict


def guided(network: Callable[..., Tensor], labels: Tensor, null: int, scale: float) -> Estimate:
    """Return eps_u + scale (eps_c - eps_u) on all channels (Ho & Salimans 2022), labels: (N,), `null` the label of no class.

    A scale of 1 is the conditional estimate alone, at the cost of one forward pass instead of two.
    """

    def estimate(x: Tensor, t: Tensor) -> Tensor:
        if scale == 1:
            return network(x, t, labels)
        both = network(torch.cat([x, x]), torch.cat([t, t]), torch.cat([labels, torch.full_like(labels, null)]))
        conditional, unconditional = both.chunk(2)
        return unconditional + scale * (conditional - unconditional)

    return estimate


def ancestral(x: Tensor, predict: Predict, abar: Sequence[float], draw: Draw, variance: Variance = "beta_tilde") -> Iterator[Tensor]:
    """Sample from the posterior q(x_before | x, x0_hat) of every kept step (Ho et al. 2020, Eq. 6-7).

    The betas are those of the kept steps, 1 - abar / abar_before (Nichol & Dhariwal 2021). The fixed variance is one of
    the two of Ho et al., section 3.2. The smaller, beta-tilde, loses variance: on Gaussian data of variance 0.05, 5.6%
    of the standard deviation with 250 steps and 1.7% with 1000. The larger, beta, which the official DiT code takes
    where no variance is learned, gains 2% with 250 steps, but 11% with 50. The last step adds no noise under either.
    """
    for i, (now, before) in enumerate(pairwise([*abar, 1.0])):
        beta = 1 - now / before
        x0 = predict(x, i)
        x = math.sqrt(before) * beta / (1 - now) * x0 + math.sqrt(now / before) * (1 - before) / (1 - now) * x
        if before < 1:
            x = x + math.sqrt(beta if variance == "beta" else beta * (1 - before) / (1 - now)) * draw()
        yield x


def ddim(x: Tensor, predict: Predict, abar: Sequence[float], draw: Draw, eta: float = 0.0) -> Iterator[Tensor]:
    """Take the steps of Song et al. 2021, Eq. 12 and 16: deterministic with eta = 0, `ancestral` with eta = 1.

    The noise is taken from x0_hat, so that a clip of x0_hat reaches both.
    """
    for i, (now, before) in enumerate(pairwise([*abar, 1.0])):
        x0 = predict(x, i)
        noise = (x - math.sqrt(now) * x0) / math.sqrt(1 - now)
        sigma = eta * math.sqrt((1 - before) / (1 - now) * (1 - now / before))
        x = math.sqrt(before) * x0 + math.sqrt(1 - before - sigma**2) * noise
        if sigma > 0:
            x = x + sigma * draw()
        yield x


def dpm(x: Tensor, predict: Predict, abar: Sequence[float]) -> Iterator[Tensor]:
    """Solve the probability flow to second order: DPM-Solver++ 2M (Lu et al. 2022, Algorithm 2), data prediction.

    The first step has no predecessor and is of first order; so is the last, whose log signal-to-noise ratio is
    infinite, and which returns x0_hat.
    """
    last_x0, last_width = None, 0.0
    for i, (now, before) in enumerate(pairwise([*abar, 1.0])):
        x0 = predict(x, i)
        if before == 1:
            yield x0
            return
        width = _half_log_snr(before) - _half_log_snr(now)
        data = x0 if last_x0 is None else x0 + (x0 - last_x0) * (width / (2 * last_width))
        x = math.sqrt((1 - before) / (1 - now)) * x - math.sqrt(before) * math.expm1(-width) * data
        last_x0, last_width = x0, width
        yield x


def straight(x: Tensor, predict: Predict, abar: Sequence[float], *, corrected: bool) -> Iterator[Tensor]:
    """Solve the probability flow along the straight path z = (1 - u) x_0 + u eps by Euler's steps, or by Heun's (`corrected`).

    z = x / (a + s), and its velocity is (z - x0_hat) / u (Lipman et al. 2023; Ma et al. 2024). Heun's rule takes the mean of the
    velocities at both ends of a step, a second evaluation; the last step ends at u = 0, where Euler's returns x0_hat.
    """
    for i, (now, before) in enumerate(pairwise([*abar, 1.0])):
        start, end = _noise_share(now), _noise_share(before)
        x0, z = predict(x, i), x / (math.sqrt(now) + math.sqrt(1 - now))
        if before == 1:
            yield x0
            return
        velocity = (z - x0) / start
        to_x = math.sqrt(before) + math.sqrt(1 - before)
        x = (z + (end - start) * velocity) * to_x
        if corrected:
            velocity = (velocity + (x / to_x - predict(x, i + 1)) / end) / 2
            x = (z + (end - start) * velocity) * to_x
        yield x


def trajectory(
    sampler: str, x: Tensor, predict: Predict, abar: Sequence[float], draw: Draw, eta: float, variance: Variance = "beta_tilde"
) -> Iterator[Tensor]:
    """Return the recursion of a sampler by its name."""
    if sampler == "ancestral":
        return ancestral(x, predict, abar, draw, variance)
    if sampler == "ddim":
        return ddim(x, predict, abar, draw, eta)
    return dpm(x, predict, abar) if sampler == "dpm" else straight(x, predict, abar, corrected=sampler == "heun")


def _half_log_snr(abar: float) -> float:
    return 0.5 * math.log(abar / (1 - abar))


def _noise_share(abar: float) -> float:
    """Return u, the share of the noise on the straight path at the level abar."""
    return math.sqrt(1 - abar) / (math.sqrt(abar) + math.sqrt(1 - abar))


def _even(coordinate: Tensor, count: int) -> list[int]:
    """Return distinct steps 999 ... 0 nearest to evenly spaced values of what rises or falls with t, (1000,)."""
    if not 1 <= count <= STEPS:
        raise ValueError(f"{count} diffusion steps asked for; there are 1 to {STEPS}")
    wanted = torch.linspace(coordinate[-1].item(), coordinate[0].item(), count, dtype=torch.float64)
    steps = (coordinate[None] - wanted[:, None]).abs().argmin(dim=1).tolist()
    for i in reversed(range(count - 1)):  # the cleanest steps lie apart by more than one: push those that coincide up
        steps[i] = max(steps[i], steps[i + 1] + 1)
    steps[0] = STEPS - 1
    for i in range(1, count):
        steps[i] = min(steps[i], steps[i - 1] - 1)
    return steps
