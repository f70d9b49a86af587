"""Features to a Fréchet distance: mean and covariance block by block in float64, and the distance of two Gaussians."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from benchmark.errors import BenchError


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean (D,) and covariance (D, D) of `count` feature vectors, float64; the covariance divides by count - 1."""

    count: int
    mean: np.ndarray
    covariance: np.ndarray


def gaussian(blocks: Iterable[np.ndarray]) -> Gaussian:
    """Return mean and covariance of all rows of the blocks (n_i, D), of which one at a time is in memory.

    Blocks are merged by the pairwise update of Chan, Golub & LeVeque 1983, which never subtracts large squares.
    """
    count, mean, scatter = 0, np.zeros(0), np.zeros((0, 0))
    for block in blocks:
        rows = np.asarray(block, dtype=np.float64)
        middle = rows.mean(axis=0)
        centred = rows - middle
        inner = centred.T @ centred
        if count == 0:
            count, mean, scatter = len(rows), middle, inner
            continue
        total, shift = count + len(rows), middle - mean
        scatter += inner + np.outer(shift, shift) * (count * len(rows) / total)
        mean, count = mean + shift * (len(rows) / total), total
    if count < 2:
        raise BenchError(f"A covariance needs at least 2 images; there are {count}.")
    return Gaussian(count, mean, scatter / (count - 1))


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """Return |mu1 - mu2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2)) (Dowson & Landau 1982; FID: Heusel et al. 2017).

    With S = R^T R, tr((S1 S2)^(1/2)) is the sum of the singular values of R1 R2^T. The roots of the eigenvalues of
    S1 S2 would be the same, but there a rounding error e of a zero eigenvalue becomes sqrt(e), 2048 times.
    """
    if one.mean.shape != other.mean.shape:
        raise BenchError(f"Features of {len(one.mean)} and of {len(other.mean)} dimensions have no Fréchet distance.")
    between = torch.from_numpy(_root(one.covariance) @ _root(other.covariance).T)
    cross = torch.linalg.svdvals(between).sum().item()
    shift = one.mean - other.mean
    return float(shift @ shift + np.trace(one.covariance) + np.trace(other.covariance) - 2 * cross)


def _root(covariance: np.ndarray) -> np.ndarray:
    """Return R (rank, D) with R^T R = S: Cholesky with the largest remaining variance as pivot (Higham 1990).

    It ends where the rest is rounding error, so a singular S costs only its rank and brings no noise along.
    """
    rest = covariance.diagonal().copy()
    negligible = len(rest) * np.finfo(np.float64).eps * rest.max()
    root = np.empty_like(covariance)
    for rank in range(len(rest)):
        pivot = int(rest.argmax())
        if rest[pivot] <= negligible:
            return root[:rank]
        root[rank] = (covariance[pivot] - root[:rank, pivot] @ root[:rank]) / math.sqrt(rest[pivot])
        rest -= root[rank] ** 2
    return root
