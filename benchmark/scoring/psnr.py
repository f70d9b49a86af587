"""Checkpoint to PSNR curves: Eq. 2-4 of the paper, in the three readings of Eq. 3, from the same forward passes."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmark.networks.diffusion import (
    alphas_cumprod,
    denoised,
    levels,
    noised,
    random_key,
    respaced,
    scaled,
)
from benchmark.networks.passes import Passes
from benchmark.recording.errors import decibel
from benchmark.recording.record import Curves, Psnr
from benchmark.running.processes import ALONE, Processes
from benchmark.scoring.partial import PartialScores

Progress = Callable[[int, int], None]
READINGS = ("clipped", "unclipped", "literal", "noise_mse")


BATCH = 256
CACHED = 64 * 8 * 8  # pixels, on a CPU: the activations of linear layers stay in its caches, 1.1 to 1.3 times as fast; not of convolutions
LEAST = 8  # images of these pixels, or what a pass costs beside its products shows


class Split(NamedTuple):
    """Images to score, how many noise draws each gets, and the name and seed that key the noise."""

    name: str
    images: Tensor  # (K, C, R, R) uint8
    draws: int
    seed: int
    labels: Tensor | None = None  # (K,), where the network takes them
    noise_of: str = ""  # the name of the side whose noise it gets, where that is another


def splits(train: Tensor, test: Tensor, images: int, seed: int) -> tuple[Split, Split]:
    """Return the first `images` of both sides; few training images get several draws, so that both have as many pairs."""
    train, test = train[:images], test[:images]
    return Split("train", train, draws_for(len(train), len(test)), seed), Split("test", test, 1, seed)


def draws_for(images: int, pairs: int) -> int:
    """Return the draws of each image that make about `pairs` pairs of an image and a noise."""
    return max(1, round(pairs / images))


def psnr(
    network: nn.Module,
    train: Tensor,
    test: Tensor,
    *,
    seed: int,
    steps: int,
    images: int,
    batch: int | None = None,
    progress: Progress | None = None,
    processes: Processes = ALONE,
    partial: PartialScores | None = None,
) -> Psnr:
    """Score a network on training and test images (uint8, (K, C, R, R)) at `steps` evenly respaced diffusion steps."""
    pair = splits(train, test, images, seed)
    errors = squared_errors(network, pair, steps=steps, batch=batch, progress=progress, processes=processes, partial=partial)
    return curves(pair, errors, steps)


def squared_errors(
    network: nn.Module,
    sides: Sequence[Split],
    *,
    steps: int,
    batch: int | None = None,
    progress: Progress | None = None,
    processes: Processes = ALONE,
    partial: PartialScores | None = None,
) -> list[Tensor]:
    """Return the mean squared errors of each side, (4 readings, images, draws, steps), float64 on the CPU.

    The noise of (image, step, draw) is a function of the side's seed and name alone, so the result depends on neither
    the batch size (to 1e-4 dB) nor the model. The network's mode and gradient state are left as they were. Several
    processes take the batches in turn; `partial` keeps the errors of those that are done, so that a kill loses little.
    A batch that does not fit into memory is taken in halves. None of it changes the result of a batch.
    """
    timesteps = respaced(steps)
    total = sum(len(side.images) * side.draws for side in sides) * len(timesteps)
    done, found = 0, []
    size = batch or batch_for(network, sides[0].images)
    was_training = network.training
    network.eval()
    for side in sides:
        batches = []
        for errors in _batches(network, side, timesteps, size, processes, partial):
            batches.append(errors)
            done += errors.shape[1]
            if progress:
                progress(done, total)
        found.append(torch.cat(batches, dim=1).view(len(READINGS), len(side.images), side.draws, len(timesteps)))
    network.train(was_training)
    return found


def curves(pair: Sequence[Split], errors: Sequence[Tensor], steps: int) -> Psnr:
    """Return the PSNR curves of the training and the test side from their errors."""
    both = [_readings(side) for side in errors]
    return Psnr(
        diffusion_steps=tuple(respaced(steps)),
        images_train=len(pair[0].images),
        images_test=len(pair[1].images),
        draws_train=pair[0].draws,
        draws_test=pair[1].draws,
        **{name: Curves(train=both[0][name], test=both[1][name]) for name in READINGS},
    )


def clipped(errors: Tensor) -> tuple[float, ...]:
    """Return the PSNR in dB at each step, clipped reading, of errors (4, images, draws, steps)."""
    return _readings(errors)["clipped"]


def _readings(errors: Tensor) -> dict[str, tuple[float, ...]]:
    means = errors.mean(dim=(1, 2))
    return {
        name: tuple(mean.tolist() if name == "noise_mse" else map(decibel, mean.tolist()))
        for name, mean in zip(READINGS, means, strict=True)
    }


def batch_for(network: nn.Module, images: Tensor) -> int:
    """Return how many pairs with such images (N, C, R, R) to score at a time, by measurement: no result depends on it beyond rounding."""
    linear = sum(layer.weight.numel() for layer in network.modules() if isinstance(layer, nn.Linear))
    mostly_linear = 2 * linear > sum(weight.numel() for weight in network.parameters())
    if images.device.type != "cpu" or not mostly_linear:
        return BATCH
    return min(BATCH, max(LEAST, CACHED // images.shape[2:].numel()))


def _batches(
    network: nn.Module, side: Split, timesteps: list[int], batch: int, processes: Processes, partial: PartialScores | None
) -> Iterator[Tensor]:
    """Yield the mean squared errors (4, B) of the pairs, batch by batch, image by image, draw by draw, step by step."""
    pairs = [(i, d, p) for i in range(len(side.images)) for d in range(side.draws) for p in range(len(timesteps))]
    batches = [pairs[start : start + batch] for start in range(0, len(pairs), batch)]
    passes, done = Passes(network, batch), 0
    for first in range(0, len(batches), processes.size):
        turn = batches[first : first + processes.size]  # one batch for each process
        ends = [0, *accumulate(map(len, turn))]
        errors = partial.errors(side.name, done, ends[-1]) if partial else None
        if errors is None:
            errors = torch.zeros(len(READINGS), ends[-1], dtype=torch.float64)
            if processes.rank < len(turn):
                mine = _of_batch(passes, side, turn[processes.rank], timesteps)
                errors[:, ends[processes.rank] : ends[processes.rank + 1]] = mine
            errors = processes.total(errors)  # the others' part of it is zero
            if partial:
                partial.keep(side.name, done, errors)
        done += ends[-1]
        yield errors


@torch.no_grad()
def _of_batch(passes: Passes, side: Split, chunk: list[tuple[int, int, int]], timesteps: list[int]) -> Tensor:
    """Return the four mean squared errors (4, B) of a batch of pairs (image, draw, place in `timesteps`), on the CPU."""
    device = side.images.device
    shape = tuple(side.images.shape[1:])
    index = torch.tensor([i for i, _, _ in chunk], device=device)
    t = torch.tensor([timesteps[p] for _, _, p in chunk], device=device)
    noise = torch.stack([_noise(shape, side, i, d, timesteps[p]) for i, d, p in chunk]).to(device)
    x0, level = scaled(side.images[index]), levels(alphas_cumprod().to(device), t)
    xt = noised(x0, noise, level)
    given = (xt, t) if side.labels is None else (xt, t, side.labels[index])
    estimate = passes.over(*given).float()
    targets = [(image, x0) for image in denoised(xt, estimate, level)] + [(estimate, noise)]
    return torch.stack([(a.double() - b.double()).square().mean(dim=(1, 2, 3)) for a, b in targets]).cpu()


def _noise(shape: tuple[int, ...], side: Split, image: int, draw: int, t: int) -> Tensor:
    """Return the noise (C, R, R) of one pair, drawn on the CPU so that every device scores the same."""
    generator = torch.Generator().manual_seed(random_key("psnr", side.seed, side.noise_of or side.name, image, draw, t))
    return torch.randn(shape, generator=generator)
