"""Checkpoint to PSNR curves: Eq. 2-4 of the paper, in the three readings of Eq. 3, from the same forward passes."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmark.diffusion import alphas_cumprod, denoised, levels, noised, random_key, respaced, scaled
from benchmark.record import Curves, Psnr

Progress = Callable[[int, int], None]
# 100 dB: an error of a 400th of the step between two uint8 values, and what single precision leaves of a perfect noise
# estimate at the noisiest step. Beyond it the rounding is measured, which no two machines share; an error of 0 has no PSNR.
SMALLEST_MSE = 4e-10
READINGS = ("clipped", "unclipped", "literal", "noise_mse")


class Split(NamedTuple):
    """Images to score and how many noise draws each gets; `name` ('train' or 'test') keys the noise."""

    name: str
    images: Tensor  # (K, C, R, R) uint8
    draws: int


def splits(train: Tensor, test: Tensor, images: int) -> tuple[Split, Split]:
    """Return the first `images` of both sides; few training images get several draws, so that both have as many pairs."""
    train, test = train[:images], test[:images]
    return Split("train", train, max(1, round(len(test) / len(train)))), Split("test", test, 1)


def psnr(network: nn.Module, train: Tensor, test: Tensor, *, seed: int, steps: int, images: int,
         batch: int = 256, progress: Progress | None = None) -> Psnr:
    """Score a network on training and test images (uint8, (K, C, R, R)) at `steps` evenly respaced diffusion steps.

    The noise of (image, step, draw) is a function of the seed alone, so the result depends on neither the batch size
    (to 1e-4 dB) nor the model. The network's mode and gradient state are left as they were.
    """
    timesteps = respaced(steps)
    pair = splits(train, test, images)
    total = sum(len(side.images) * side.draws for side in pair) * len(timesteps)
    done = 0
    curves: dict[str, list[list[float]]] = {name: [] for name in READINGS}
    was_training = network.training
    network.eval()
    for side in pair:
        sums = torch.zeros(len(READINGS), len(timesteps), dtype=torch.float64)
        for places, errors in _errors(network, side, timesteps, seed, batch):
            sums.index_add_(1, places, errors)
            done += len(places)
            if progress:
                progress(done, total)
        means = sums / (len(side.images) * side.draws)
        for name, mean in zip(READINGS, means, strict=True):
            curves[name].append([_decibel(m) if name != "noise_mse" else m for m in mean.tolist()])
    network.train(was_training)
    return Psnr(
        diffusion_steps=tuple(timesteps), images_train=len(pair[0].images), images_test=len(pair[1].images),
        draws_train=pair[0].draws, draws_test=pair[1].draws,
        **{name: Curves(train=tuple(both[0]), test=tuple(both[1])) for name, both in curves.items()},
    )


def mean(values: tuple[float, ...]) -> float:
    """Return the mean over the diffusion steps."""
    return math.fsum(values) / len(values)


def _decibel(mse: float) -> float:
    """Return 10 (log10 M^2 - log10 MSE) with M = 2 (Eq. 4), at most 100 dB."""
    return 10 * (math.log10(4) - math.log10(max(mse, SMALLEST_MSE)))


@torch.no_grad()
def _errors(network: nn.Module, side: Split, timesteps: list[int], seed: int, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, batch by batch, the place of each pair in `timesteps` (B,) and its four mean squared errors (4, B)."""
    device = side.images.device
    abar = alphas_cumprod().to(device)
    pairs = [(i, d, p) for i in range(len(side.images)) for d in range(side.draws) for p in range(len(timesteps))]
    shape = tuple(side.images.shape[1:])
    for start in range(0, len(pairs), batch):
        chunk = pairs[start:start + batch]
        index = torch.tensor([i for i, _, _ in chunk], device=device)
        t = torch.tensor([timesteps[p] for _, _, p in chunk], device=device)
        noise = torch.stack([_noise(shape, seed, side.name, i, d, timesteps[p]) for i, d, p in chunk]).to(device)
        x0, level = scaled(side.images[index]), levels(abar, t)
        xt = noised(x0, noise, level)
        estimate = network(xt, t).float()
        targets = [(image, x0) for image in denoised(xt, estimate, level)] + [(estimate, noise)]
        errors = torch.stack([(a.double() - b.double()).square().mean(dim=(1, 2, 3)) for a, b in targets])
        yield torch.tensor([p for _, _, p in chunk]), errors.cpu()


def _noise(shape: tuple[int, ...], seed: int, side: str, image: int, draw: int, t: int) -> Tensor:
    """Return the noise (C, R, R) of one pair, drawn on the CPU so that every device scores the same."""
    generator = torch.Generator().manual_seed(random_key("psnr", seed, side, image, draw, t))
    return torch.randn(shape, generator=generator)
