"""Exact nearest neighbours among many images or features, in blocks: fp32 to find candidates, float64 to decide."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmark.errors import BenchError

Progress = Callable[[int, int], None]

SPARE = 8  # candidates beyond those asked for, so that the rounding of fp32 rarely calls for the slow way
REFINED = 64  # queries refined at once


class Neighbours(NamedTuple):
    """The nearest rows of every query, nearest first, ties in the order of the references."""

    indices: np.ndarray  # (Q, k) int64
    distances: np.ndarray  # (Q, k) float64, l2


def nearest(
    queries: np.ndarray,
    references: np.ndarray,
    k: int = 1,
    *,
    block: int = 4096,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Neighbours:
    """Return the k nearest references of every query by l2 distance, exactly.

    queries: (Q, ...), references: (N, ...), uint8 images or real features, memory-mapped or not; rows are flattened
    and compared in their own units. Memory is bounded by `block` rows of each side and their distances. Raise
    BenchError where there are fewer than k references, or a value is not finite.
    """
    if len(references) < k:
        raise BenchError(f"{k} nearest neighbours were asked for, but there are only {len(references)} rows to search.")
    if queries.shape[1:] != references.shape[1:]:
        raise BenchError(f"Rows of shape {queries.shape[1:]} cannot be compared with rows of shape {references.shape[1:]}.")
    queries, references = queries.reshape(len(queries), -1), references.reshape(len(references), -1)
    search = _Search(references, min(k + SPARE, len(references)), block, torch.device(device))
    indices = np.empty((len(queries), k), dtype=np.int64)
    squared = np.empty((len(queries), k), dtype=np.float64)
    for start in range(0, len(queries), block):
        found, beyond = search.candidates(queries[start : start + block])
        for first in range(0, len(found), REFINED):
            piece = slice(first, first + REFINED)
            rows = slice(start + first, start + first + len(found[piece]))
            indices[rows], squared[rows] = _refine(queries[rows], references, found[piece], beyond[piece], k, block)
        if progress:
            progress(min(start + block, len(queries)), len(queries))
    return Neighbours(indices, np.sqrt(squared))


class _Search:
    """The references, and how to find the few of them that can be near, in fp32."""

    def __init__(self, references: np.ndarray, count: int, block: int, device: torch.device) -> None:
        self.references, self.count, self.block, self.device = references, count, block, device
        self.centre = _real(references[:block]).mean(axis=0)  # less of it, the norms are small and round less

    def candidates(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the apparently nearest references (Q, count), and a squared distance (Q,) that all others exceed or equal."""
        left, left_norms = self._single(queries)
        best = torch.empty((len(left), 0), device=self.device)
        found = torch.empty((len(left), 0), dtype=torch.int64, device=self.device)
        widest = 0.0
        for start in range(0, len(self.references), self.block):
            right, right_norms = self._single(self.references[start : start + self.block])
            squared = torch.addmm(left_norms[:, None] + right_norms[None], left, right.T, alpha=-2)
            near, places = squared.topk(min(self.count, len(right)), dim=1, largest=False)
            best, found = torch.cat([best, near], dim=1), torch.cat([found, places + start], dim=1)
            best, kept = best.topk(min(self.count, best.shape[1]), dim=1, largest=False)
            found = found.gather(1, kept)
            widest = max(widest, right_norms.max().item())
        if self.count == len(self.references):  # there are no others
            return found.cpu().numpy(), np.full(len(left), np.inf)
        error = (left.shape[1] + 16) * 2.0**-24 * (left_norms.double().sqrt() + widest**0.5) ** 2
        return found.cpu().numpy(), (best[:, -1].double() - error).cpu().numpy()

    def _single(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return rows less the centre as fp32 (N, D), and their squared norms (N,); raise BenchError at a value not finite."""
        values = torch.from_numpy((_real(rows) - self.centre).astype(np.float32)).to(self.device)
        norms = values.double().square().sum(dim=1).float()
        if not norms.isfinite().all():
            raise BenchError("Nearest neighbours need finite values; there is a NaN or an infinity among the rows.")
        return values, norms


def _refine(
    queries: np.ndarray, references: np.ndarray, found: np.ndarray, beyond: np.ndarray, k: int, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """Decide among the candidates in float64; where one that is none could be as near, search all references.

    An fp32 squared distance errs by at most (D + 16) 2^-24 (|q| + |r|)^2, the usual bound of a sum of D products.
    """
    found = np.sort(found, axis=1)
    exact = _squared(queries[:, None], references[found])
    order = np.argsort(exact, axis=1, kind="stable")[:, :k]
    indices, squared = np.take_along_axis(found, order, axis=1), np.take_along_axis(exact, order, axis=1)
    for row in np.flatnonzero(squared[:, -1] >= beyond):
        every = np.concatenate([_squared(queries[row], references[start : start + block]) for start in range(0, len(references), block)])
        indices[row] = np.argsort(every, kind="stable")[:k]
        squared[row] = every[indices[row]]
    return indices, squared


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return squared distances along the last axis in float64; exact for uint8."""
    return np.square(a.astype(np.float64) - b).sum(axis=-1)


def _real(rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.float32 if rows.dtype == np.uint8 else np.float64)
