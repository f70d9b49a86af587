"""Denoisers with nothing to train: fitted to the training subset in closed form, they tell what the numbers mean.

Each is a posterior mean E[x_0 | x_t] under a model of the images, turned into the noise estimate
(x_t - sqrt(abar) E[x_0 | x_t]) / sqrt(1 - abar). All arithmetic is in double precision: at t = 0 a squared distance is
divided by 2 (1 - abar) = 2e-4, and what single precision loses of it would decide between two images.
"""

from collections.abc import Iterable, Iterator
from functools import reduce
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn

from benchmark.contract import Attention, FieldError, Fraction, ImageShape, Range, entry
from benchmark.networks.diffusion import alphas_cumprod, scaled

PAIRS_AT_ONCE = 2**22  # of a query with a training image or patch ...
NUMBERS_AT_ONCE = 2**23  # ... and of training images: both bound the memory at some 100 MB whatever N is


@entry(kind="empirical_optimal")
class EmpiricalOptimal:
    """The Bayes-optimal denoiser of the training images themselves: the perfect memoriser.

    `bandwidth` > 0 blurs it: every training image stands for a Gaussian of that standard deviation around it.
    """

    bandwidth: Annotated[float, Range(least=0)] = 0.0

    attention_layers = 0

    def build(self, images: ImageShape, attention: tuple[Attention, ...] = ()) -> nn.Module:
        """Build the network, to be fitted; raise FieldError where there is attention."""
        no_attention(attention)
        return EmpiricalDenoiser(self.bandwidth)


@entry(kind="wiener")
class Wiener:
    """The linear denoiser of least squared error for the mean and covariance of the training images.

    The covariance S becomes (1 - shrinkage) S + shrinkage tr(S)/D I; `shrinkage` None is that of Ledoit & Wolf 2004.
    """

    shrinkage: Fraction | None = None

    attention_layers = 0

    def build(self, images: ImageShape, attention: tuple[Attention, ...] = ()) -> nn.Module:
        """Build the network, to be fitted; raise FieldError where there is attention."""
        no_attention(attention)
        return WienerDenoiser(self.shrinkage)


class EmpiricalDenoiser(nn.Module):
    """x_0 is one of the training images, each as likely as the other, or lies around one at the bandwidth."""

    images: Tensor | None
    abar: Tensor

    def __init__(self, bandwidth: float) -> None:
        super().__init__()
        self.bandwidth = bandwidth
        self.register_buffer("abar", alphas_cumprod(), persistent=False)
        self.register_buffer("images", None, persistent=False)

    def fit(self, images: Tensor) -> None:
        """Keep the training images (N, C, R, R), uint8."""
        self.images = images

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the estimated noise in x: (N, C, R, R) at steps t: (N,); raise FieldError before the fit."""
        images, level = fitted(self.images), Level.at(self.abar, t)
        noisy, wider = x.double().flatten(1), Level(level.signal, level.variance + (level.signal * self.bandwidth) ** 2)
        blocks = in_blocks(images, PAIRS_AT_ONCE // len(x))
        nearest = posterior_mean(noisy, wider, ((block, block) for block in blocks))
        clean = nearest + level.signal * self.bandwidth**2 / wider.variance * (noisy - level.signal * nearest)
        return noise_estimate(x, clean.view(x.shape), level)


class WienerDenoiser(nn.Module):
    """x_0 is Gaussian, with the mean and the shrunk covariance of the training images."""

    mean: Tensor | None
    axes: Tensor | None
    variances: Tensor | None
    rest: Tensor | None
    abar: Tensor

    def __init__(self, shrinkage: float | None) -> None:
        super().__init__()
        self.shrinkage = shrinkage
        self.register_buffer("abar", alphas_cumprod(), persistent=False)
        for name in ("mean", "axes", "variances", "rest"):
            self.register_buffer(name, None, persistent=False)

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Find the axes (D, r) along which images: (N, C, R, R) uint8 vary, r = min(N, D), and the variance of each.

        `rest` is the variance along every other direction: nothing but what the shrinkage puts there.
        """
        n, dimension = len(images), images[0].numel()
        mean = total(block.sum(dim=0) for block in in_blocks(images)) / n
        if n < dimension:
            centred = scaled(images).double().flatten(1) - mean
            found, vectors = torch.linalg.eigh(centred @ centred.mT / n)  # (N,), (N, N)
            lengths = (found.clamp_min(0) * n).sqrt()
            axes = centred.mT @ vectors / lengths.clamp_min(1e-300)
            axes = torch.where(found > 1e-12 * found[-1], axes, 0)  # of no variance: no direction of its own
        else:
            blocks = (block - mean for block in in_blocks(images))
            found, axes = torch.linalg.eigh(total(block.mT @ block for block in blocks) / n)
        found = found.clamp_min(0)
        fraction = _shrinkage(images, mean, found) if self.shrinkage is None else self.shrinkage
        average = found.sum() / dimension
        self.mean, self.axes = mean, axes
        self.variances, self.rest = (1 - fraction) * found + fraction * average, fraction * average

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the estimated noise in x: (N, C, R, R) at steps t: (N,); raise FieldError before the fit."""
        mean, axes, variances, rest = map(fitted, (self.mean, self.axes, self.variances, self.rest))
        level = Level.at(self.abar, t)
        off = x.double().flatten(1) - level.signal * mean  # (N, D)

        def gain(variance: Tensor) -> Tensor:
            return level.signal * variance / (level.signal**2 * variance + level.variance)

        along = off @ axes  # (N, r)
        clean = mean + gain(rest) * off + ((gain(variances) - gain(rest)) * along) @ axes.mT
        return noise_estimate(x, clean.view(x.shape), level)


def _shrinkage(images: Tensor, mean: Tensor, found: Tensor) -> Tensor:
    """Return the shrinkage of Ledoit & Wolf 2004 from the mean (D,) and the eigenvalues of the covariance S of n images.

    min(b, d) / d with d = |S - tr(S)/D I|^2, b = mean |x x' - S|^2 / n over the centred images x.
    """
    n, dimension = len(images), len(mean)
    square = found.square().sum()  # |S|^2
    distance = square - found.sum().square() / dimension  # |S - tr(S)/D I|^2
    fourth = total((block - mean).square().sum(dim=1).square().sum() for block in in_blocks(images))
    error = (fourth - n * square) / n**2
    return torch.where(distance > 0, error.minimum(distance) / distance.clamp_min(1e-300), 1.0)


def total(parts: Iterable[Tensor]) -> Tensor:
    """Return the sum of tensors of one shape, at least one."""
    return reduce(torch.add, parts)


def in_blocks(images: Tensor, most: int = NUMBERS_AT_ONCE) -> Iterator[Tensor]:
    """Yield images (N, C, R, R) uint8 as (n, D) float64 in [-1, 1]: so many at once, or fewer for the memory."""
    for block in images.split(max(1, min(most, NUMBERS_AT_ONCE // images[0].numel()))):
        yield scaled(block).double().flatten(1)


class Level(NamedTuple):
    """sqrt(abar_t) and 1 - abar_t of each query, (N, 1) float64."""

    signal: Tensor
    variance: Tensor

    @classmethod
    def at(cls, abar: Tensor, t: Tensor) -> "Level":
        """Return the level at the steps t: (N,)."""
        chosen = abar[t][:, None]
        return cls(chosen.sqrt(), 1 - chosen)


def posterior_mean(queries: Tensor, level: Level, candidates: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the mean of the candidates' values under their posterior given noisy queries, (Q, V).

    queries: (Q, D) float64, each sqrt(abar) times a candidate's key plus Gaussian noise of its level. candidates:
    blocks of keys (n, D) and values (n, V). The log-sum-exp streams over them; |query|^2, common to all, is left out.
    """
    highest, weight, mean = queries.new_full((), -torch.inf), queries.new_zeros(()), queries.new_zeros(())
    for keys, values in candidates:
        scores = queries @ keys.mT * level.signal - level.signal**2 / 2 * keys.square().sum(dim=1)  # (Q, n)
        scores /= level.variance
        higher = scores.detach().amax(dim=1, keepdim=True).clamp_min(highest)  # cancels: of no derivative
        weights, fade = scores.sub_(higher).exp_(), (highest - higher).exp()
        weight, mean, highest = weight * fade + weights.sum(dim=1, keepdim=True), mean * fade + weights @ values, higher
    return mean / weight


def noise_estimate(x: Tensor, clean: Tensor, level: Level) -> Tensor:
    """Return the noise in x: (N, C, R, R), given E[x_0 | x] of that shape, in the type of x."""
    signal, variance = (part[:, :, None, None] for part in level)
    return ((x.double() - signal * clean) / variance.sqrt()).to(x.dtype)


def fitted(found: Tensor | None) -> Tensor:
    """Return what a fit has left; raise FieldError where there was none."""
    if found is None:
        raise FieldError("this network is not trained but fitted: call fit(images) with the training images first")
    return found


def no_attention(attention: tuple[Attention, ...]) -> None:
    """Raise FieldError where a layout is meant for a network without attention."""
    if attention:
        raise FieldError(f"this network has no layer that a layout can address, but the layout gives {len(attention)}")
