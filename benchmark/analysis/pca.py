"""Principal components of the attention maps of a trained network, over images, heads and diffusion steps.

Maps arrive in batches and are never all in memory. With a rank of at least their number the result is exact (to the
rounding of single precision); below it, what is dropped on the way is summed up and reported.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmark.analysis.attention import attention_maps
from benchmark.networks.diffusion import (
    alphas_cumprod,
    levels,
    noised,
    random_key,
    respaced,
    scaled,
)

NOTHING = 1e-12  # share of the variance below which a direction is rounding


class Principal(NamedTuple):
    """The mean of vectors, their first principal directions, and how much they vary along them."""

    mean: Tensor  # (size,) float32
    directions: Tensor  # (count, size) float32, orthonormal; zero where nothing varies
    deviations: Tensor  # (count,) float32: standard deviation along each
    explained: Tensor  # (count,) float64: share of the variance
    lost: float  # share of the variance dropped on the way: no `explained` is too small by more


class StreamingPca:
    """PCA of vectors that come in batches, in the memory of twice `rank` vectors and a batch.

    The rows kept have the scatter matrix of all vectors so far, less what truncation dropped; a batch is merged by its
    own scatter and one row for the shift of the mean (Chan, Golub & LeVeque 1979; Ross et al. 2008).
    """

    def __init__(self, size: int, rank: int) -> None:
        self.rank, self.count = rank, 0
        self.mean = torch.zeros(size, dtype=torch.float64)
        self.rows = torch.zeros(0, size)
        self.total = self.dropped = 0.0  # of the scatter's trace

    def add(self, vectors: Tensor) -> None:
        """Take in vectors (count, size)."""
        vectors = vectors.double().cpu()
        own, count = vectors.mean(0), len(vectors)
        weight = math.sqrt(self.count * count / (self.count + count))
        new = torch.cat([vectors - own, (weight * (own - self.mean))[None]])
        self.count += count
        self.mean += (own - self.mean) * (count / self.count)
        self.total += new.square().sum().item()
        self.rows = torch.cat([self.rows, new.float()])
        if len(self.rows) > 2 * self.rank:
            values, self.rows = self._principal(self.rank)
            self.rows *= values.sqrt()[:, None].float()

    def result(self, count: int) -> Principal:
        """Return the first `count` components of all vectors so far."""
        values, directions = self._principal(count, keep_rest=True)
        share = values / self.total if self.total else torch.zeros_like(values)
        lost = self.dropped / self.total if self.total else 0.0
        return Principal(self.mean.float(), directions, (values / self.count).sqrt().float(), share, lost)

    def _principal(self, count: int, *, keep_rest: bool = False) -> tuple[Tensor, Tensor]:
        """Return the largest eigenvalues (count,) of the scatter and their unit eigenvectors (count, size).

        They come from the Gram matrix of the rows, which is small where vectors are long.
        """
        gram = sum(block.double() @ block.double().T for block in self.rows.split(1 << 14, dim=1))
        values, vectors = torch.linalg.eigh(gram)
        values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)[:, :count]
        if not keep_rest:
            self.dropped += values[count:].sum().item()
        values = torch.nn.functional.pad(values[:count], (0, max(0, count - len(values))))
        real = values > NOTHING * self.total
        directions = torch.zeros(count, self.rows.shape[1])
        kept = int(real.sum())
        directions[:kept] = vectors[:, :kept].float().T @ self.rows
        directions[:kept] /= directions[:kept].norm(dim=1, keepdim=True)
        return torch.where(real, values, 0.0), directions


class Components(NamedTuple):
    """The components of every attention layer, as an artifact stores them; T tokens."""

    mean: Tensor  # (layers, T, T)
    components: Tensor  # (layers, count, T, T), orthonormal within a layer
    deviations: Tensor  # (layers, count)
    explained: Tensor  # (layers, count)
    maps: int  # of each layer
    lost: float  # the largest over the layers


def attention_components(
    network: nn.Module,
    images: Tensor,
    *,
    seed: int,
    timesteps: int,
    count: int,
    rank: int,
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Components:
    """Return the components of a network's maps on images (uint8, (N, C, R, R)) at `timesteps` evenly spread steps.

    The noise of (image, step) is a function of the seed.
    """
    abar, steps = alphas_cumprod().to(images.device), respaced(timesteps)
    pairs = [(image, step) for image in range(len(images)) for step in steps]
    layers: list[StreamingPca] = []
    side = 0
    for start in range(0, len(pairs), batch):
        chunk = pairs[start : start + batch]
        t = torch.tensor([step for _, step in chunk], device=images.device)
        noise = torch.stack([_noise(tuple(images.shape[1:]), seed, *pair) for pair in chunk]).to(images.device)
        x0 = scaled(images[[image for image, _ in chunk]])
        found = attention_maps(network, noised(x0, noise, levels(abar, t)), t)
        side = found[0].shape[-1]
        layers = layers or [StreamingPca(side * side, rank) for _ in found]
        for layer, of_layer in zip(layers, found, strict=True):
            layer.add(of_layer.flatten(0, 1).flatten(1))
        if progress:
            progress(start + len(chunk), len(pairs))
    return _components([layer.result(count) for layer in layers], (side, side), layers[0].count)


def _components(layers: Sequence[Principal], square: tuple[int, int], maps: int) -> Components:
    return Components(
        torch.stack([one.mean.unflatten(0, square) for one in layers]),
        torch.stack([one.directions.mul(_signs(one.directions)).unflatten(1, square) for one in layers]),
        torch.stack([one.deviations for one in layers]),
        torch.stack([one.explained.float() for one in layers]),
        maps,
        max(one.lost for one in layers),
    )


def _signs(directions: Tensor) -> Tensor:
    """Return the sign (count, 1) that makes the largest entry of each direction positive: a component has none."""
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return torch.where(largest < 0, -1.0, 1.0)


def _noise(shape: tuple[int, ...], seed: int, image: int, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(random_key("pca", seed, image, step))
    return torch.randn(shape, generator=generator)
