"""How alike the features of a network's stages are, from sums that features are added to batch by batch.

Linear CKA (Kornblith et al. 2019) with the unbiased HSIC of Song et al. 2012, summed over minibatches as Nguyen et al.
2021 do; the effective rank of Roy & Vetterli 2007; the three terms of DiverseDiT's loss (Yang et al. 2026).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

FEWEST = 4  # images of a minibatch: the unbiased HSIC has n - 3 in a denominator
SMALLEST = 1e-8  # what a norm below it counts as, as in DiverseDiT's loss
LARGEST_VARIANCE = 0.25  # of numbers between 0 and 1


def unbiased_hsic(grams: Tensor) -> Tensor:
    """Return the unbiased HSIC of every pair of Gram matrices: (stages, stages) for (stages, n, n), n >= 4.

    Song et al. 2012, Eq. 5: [tr(KL) + 1'K1 1'L1 / (n-1)(n-2) - 2 1'KL1 / (n-2)] / n(n-3), diagonals set to zero.
    """
    n = grams.shape[1]
    if n < FEWEST:
        raise ValueError(f"{n} images are too few for an unbiased HSIC; it takes {FEWEST}")
    kernels = grams - torch.diag_embed(grams.diagonal(dim1=1, dim2=2))
    flat, rows = kernels.flatten(1), kernels.sum(2)
    totals = rows.sum(1)
    traces = flat @ flat.T
    return (traces + torch.outer(totals, totals) / ((n - 1) * (n - 2)) - 2 * rows @ rows.T / (n - 2)) / (n * (n - 3))


def gram(features: Tensor) -> Tensor:
    """Return the linear Gram matrix (n, n) in float64 of features (n, positions, channels), flattened by image."""
    flat = features.flatten(1).double()
    return flat @ flat.T


def effective_rank(scatter: Tensor) -> float:
    """Return exp of the entropy of the singular values of centred features, from their scatter matrix X'X.

    From 1, one direction, to the number of channels, all directions alike; 0 where nothing varies.
    """
    singular = torch.linalg.eigvalsh(scatter).clamp(min=0).sqrt()
    if not (total := singular.sum()) > 0:
        return 0.0
    shares = singular / total
    return (-torch.special.xlogy(shares, shares).sum()).exp().item()


@dataclass
class Moments:
    """What is kept of the samples (images x positions) of one stage's features, all in float64."""

    count: int
    mean: Tensor  # (channels,)
    scatter: Tensor  # (channels, channels), about the mean
    magnitude: Tensor  # (channels,): sum of |f|
    power: Tensor  # (channels,): sum of f^2

    @classmethod
    def of(cls, features: Tensor) -> "Moments":
        """Return the moments of features (n, positions, channels)."""
        samples = features.flatten(0, 1).double()
        mean = samples.mean(0)
        centred = samples - mean
        return cls(len(samples), mean, centred.T @ centred, samples.abs().sum(0), samples.square().sum(0))

    def __add__(self, other: "Moments") -> "Moments":
        """Return the moments of both (Chan, Golub & LeVeque 1979)."""
        count, apart = self.count + other.count, other.mean - self.mean
        return Moments(
            count,
            self.mean + apart * (other.count / count),
            self.scatter + other.scatter + torch.outer(apart, apart) * (self.count * other.count / count),
            self.magnitude + other.magnitude,
            self.power + other.power,
        )


class Comparison:
    """The stages of a network compared on the same images, minibatch by minibatch."""

    def __init__(self) -> None:
        self.batches = 0
        self.hsic = torch.zeros(())  # (stages, stages), summed over the minibatches
        self.cosines = torch.zeros(())  # (stages, stages), summed over the samples; NaN where shapes differ
        self.moments: list[Moments] = []

    def add(self, features: Sequence[Tensor]) -> None:
        """Take in the features of a minibatch of n >= 4 images: one tensor (n, positions, channels) for each stage."""
        hsic = unbiased_hsic(torch.stack([gram(stage) for stage in features]))
        cosines, moments = _summed_cosines(features), [Moments.of(stage) for stage in features]
        self.hsic = self.hsic.to(hsic) + hsic
        self.cosines = self.cosines.to(cosines) + cosines
        self.moments = [a + b for a, b in zip(self.moments, moments, strict=True)] if self.batches else moments
        self.batches += 1

    def cka(self) -> Tensor:
        """Return linear CKA of every pair of stages (stages, stages); NaN where a stage does not tell images apart."""
        own = self.hsic.diagonal()
        norm = torch.where(own > 0, own, torch.nan).sqrt()
        return self.hsic / torch.outer(norm, norm)

    def cosine(self) -> Tensor:
        """Return the mean over the samples of the cosine between two stages' features, 0 where one is zero: (stages, stages).

        NaN where their shapes differ.
        """
        return self.cosines / torch.tensor([stage.count for stage in self.moments]).to(self.cosines)

    def effective_rank(self) -> Tensor:
        """Return the effective rank of every stage's features, samples x channels, less their mean: (stages,)."""
        return torch.tensor([effective_rank(stage.scatter) for stage in self.moments], dtype=torch.float64)

    def result(self) -> dict[str, Tensor]:
        """Return all that, and of stages of one shape the moments that `diversity` takes, (stages, channels)."""
        found = {"cka": self.cka(), "cosine": self.cosine(), "effective_rank": self.effective_rank()}
        if not found["cosine"].isnan().any():
            for name in ("mean", "magnitude", "power"):
                found[name] = torch.stack([getattr(stage, name) for stage in self.moments])
        return found


class Diversity(NamedTuple):
    """The three terms of DiverseDiT's loss, over all pairs of stages, and the loss: a third of the first two less the last."""

    mean_similarity: float
    token_similarity: float
    usage_variance: float
    diversity_loss: float


def diversity(levels: Sequence[dict[str, Tensor]]) -> Diversity | None:
    """Return DiverseDiT's terms on the features of several noise levels together, as many samples of each.

    `levels` are results of Comparison. The loss in training takes some of the pairs and the batch at hand; here all
    pairs count, and all samples. None where stages differ in shape, or where there is but one.
    """
    if any("mean" not in level for level in levels) or (stages := len(levels[0]["cosine"])) < 2:
        return None
    cosine, mean, magnitude, power = (
        torch.stack([level[name] for level in levels]).mean(0) for name in ("cosine", "mean", "magnitude", "power")
    )
    first, second = torch.tensor(list(combinations(range(stages), 2))).T
    units = F.normalize(mean, dim=1, eps=SMALLEST)
    mean_similarity = (units @ units.T)[first, second].mean().item()
    token_similarity = cosine[first, second].abs().mean().item()
    usage = (magnitude / power.clamp(min=SMALLEST**2).sqrt()).mean(0)  # up to a factor, which goes next
    usage = usage / (usage.max() + SMALLEST)
    variance = (usage.var(correction=0) / LARGEST_VARIANCE).clamp(0, 1).item()
    return Diversity(mean_similarity, token_similarity, variance, (mean_similarity + token_similarity - variance) / 3)


def _summed_cosines(features: Sequence[Tensor]) -> Tensor:
    """Return the sums over samples of the cosine between stages (stages, stages), NaN where their shapes differ."""
    sums = torch.full((len(features), len(features)), torch.nan, dtype=torch.float64, device=features[0].device)
    units = [F.normalize(stage.float(), dim=2, eps=SMALLEST) for stage in features]
    for i, one in enumerate(units):
        for j, other in enumerate(units[: i + 1]):
            if one.shape == other.shape:
                sums[i, j] = sums[j, i] = (one * other).sum(2).double().sum()
    return sums
