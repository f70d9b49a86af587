"""Eigenvalues and singular values of a matrix: all of a small one, the leading ones of one that is never formed."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

TOLERANCE = 1e-5  # of a residual, in units of the largest eigenvalue: no eigenvalue found is further from a true one
ROUNDS = 40  # of the subspace iteration, at most
EXTRA = 4  # directions beside those asked for, which speed up the last of them
BASIS = 10  # blocks that the subspace keeps before it starts again from the best directions

Product = Callable[[Tensor], Tensor]  # (B, D) float64 -> (B, D)


class Operator(Protocol):
    """A square matrix by its products: M v and M^T v for directions v: (B, D)."""

    size: int

    def forward(self, directions: Tensor) -> Tensor: ...

    def transposed(self, directions: Tensor) -> Tensor: ...


class Modes(NamedTuple):
    """The leading eigenvectors of the symmetric part of a matrix, and its leading singular vectors; largest first.

    A direction is a row. All eigenvalues and singular values where the matrix was formed, else the leading ones.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor  # (count, D)
    singular_values: Tensor
    right: Tensor  # (count, D): directions of the input ...
    left: Tensor  # (count, D): ... and of the output
    residual: float  # the largest of those found, in units of the largest eigenvalue; rounding alone where it was formed


def modes(matrix: Tensor, count: int) -> Modes:
    """Return the modes of a matrix (D, D)."""
    matrix = matrix.double()
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    left, singular, right = torch.linalg.svd(matrix)
    return Modes(values.flip(0), signed(vectors.flip(1)[:, :count].mT), singular, *_paired(right[:count], left[:, :count].mT), 0.0)


def leading_modes(operator: Operator, count: int, generator: torch.Generator) -> Modes:
    """Return the leading modes of a matrix that is known by its products alone."""

    def symmetric(directions: Tensor) -> Tensor:
        return (operator.forward(directions) + operator.transposed(directions)) / 2

    values, vectors, residual = leading(symmetric, operator.size, count, generator)
    squares, right, other = leading(lambda v: operator.transposed(operator.forward(v)), operator.size, count, generator)
    singular = squares.clamp_min(0).sqrt()
    left = operator.forward(right) / singular.clamp_min(1e-300)[:, None]
    return Modes(values, signed(vectors), singular, *_paired(right, left), max(residual, other))


def leading(product: Product, size: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Return the `count` largest eigenvalues of a symmetric matrix, their eigenvectors (count, D), the largest residual.

    Subspace iteration that keeps the earlier blocks (block Krylov with Rayleigh-Ritz, restarted from the best
    directions; Saad 2011, chapters 5 and 7): each round multiplies one block, what is missing of the leading directions.
    """
    block = min(size, count + EXTRA)
    basis = torch.zeros(0, size, dtype=torch.float64)
    images = basis
    new = _orthonormal(torch.randn(block, size, dtype=torch.float64, generator=generator), basis)
    for _ in range(ROUNDS):
        basis, images = torch.cat([basis, new]), torch.cat([images, product(new)])
        inner = basis @ images.mT
        values, mix = torch.linalg.eigh((inner + inner.mT) / 2)
        values, mix = values.flip(0), mix.flip(1).mT
        found, moved = mix @ basis, mix @ images
        missing = moved[:block] - values[:block, None] * found[:block]
        residual = (missing[:count].norm(dim=1).max() / values.abs().max().clamp_min(1e-300)).item()
        if residual <= TOLERANCE or len(basis) >= size:
            break
        if len(basis) + block > BASIS * block:
            basis, images = found[: 2 * block], moved[: 2 * block]
        new = _orthonormal(missing, basis)
        if not len(new):
            break
    return values[:count], found[:count], residual


def _orthonormal(directions: Tensor, basis: Tensor) -> Tensor:
    """Return an orthonormal basis of what the directions (B, D) add to a basis, as many as still fit."""
    directions = directions / directions.norm(dim=1, keepdim=True).clamp_min(1e-300)
    for _ in range(2):  # the second time takes away what rounding left
        directions = directions - directions @ basis.mT @ basis
    _, lengths, right = torch.linalg.svd(directions, full_matrices=False)
    room = min(int((lengths > 1e-8).sum()), basis.shape[1] - len(basis))
    new = right[:room]
    new = new - new @ basis.mT @ basis
    return torch.linalg.qr(new.mT).Q.mT if room else new


def signed(directions: Tensor) -> Tensor:
    """Return directions (B, D) with the sign that makes the largest entry of each positive: an eigenvector has none."""
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return torch.where(largest < 0, -directions, directions)


def _paired(right: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """Return right and left singular vectors (B, D), both turned so that the largest entry of the right one is positive."""
    largest = right.gather(1, right.abs().argmax(1, keepdim=True))
    sign = torch.where(largest < 0, -1.0, 1.0)
    return right * sign, left * sign
