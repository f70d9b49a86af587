"""Ranks from all pairs of one table at once, in columns: a board of thousands of rows has millions of pairs."""

import numpy as np

from benchmark.pages.statistics import CONFIDENCE, special

NOT_RUN = -1  # in place of a run's images


def ranges(gaps: np.ndarray, images: np.ndarray) -> tuple[list[tuple[int, int] | None], int]:
    """Return best and worst rank of every row, and the number of pairs tested; None where a row shares two seeds with no other.

    gaps: rows x seeds, dB. images: rows x seeds, a number for the images of a run, NOT_RUN where there is none: only runs of the same
    images are paired. A pair is separated where the p-value of its mean difference, corrected by Holm over all pairs, is below 0.05.
    """
    rows = len(gaps)
    first, second, mean, p = _pairs(gaps, images)
    side = np.where(_holm(p) < 1 - CONFIDENCE, np.sign(mean), 0).astype(int)
    lower = np.bincount(first[side > 0], minlength=rows) + np.bincount(second[side < 0], minlength=rows)
    higher = np.bincount(first[side < 0], minlength=rows) + np.bincount(second[side > 0], minlength=rows)
    paired = np.bincount(first, minlength=rows) + np.bincount(second, minlength=rows) > 0
    ranked = int(paired.sum())
    return [(1 + int(lower[row]), ranked - int(higher[row])) if paired[row] else None for row in range(rows)], len(p)


def _pairs(gaps: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return of every pair of rows that shares two seeds: both rows, the mean difference, and its two-sided p-value."""
    found = [_pairs_of(row, gaps, images) for row in range(len(gaps))] or [(np.empty(0, int), np.empty(0, int), np.empty(0), np.empty(0))]
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))  # type: ignore[return-value]


def _pairs_of(row: int, gaps: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs of one row with those after it."""
    both = (images[row + 1 :] == images[row]) & (images[row] != NOT_RUN)  # rows after it x seeds
    others = np.flatnonzero(both.sum(axis=1) > 1)
    both, n = both[others], both[others].sum(axis=1)
    apart = np.where(both, gaps[row] - gaps[row + 1 + others], 0.0)
    mean = apart.sum(axis=1) / n
    sd = np.sqrt((np.where(both, apart - mean[:, None], 0.0) ** 2).sum(axis=1) / (n - 1))
    with np.errstate(divide="ignore", invalid="ignore"):  # no spread at all: p is 0, or 1 where there is no difference either
        p = np.where(mean == 0, 1.0, np.minimum(1.0, 2 * special().stdtr(n - 1, -np.abs(mean) / (sd / np.sqrt(n)))))
    return np.full(len(others), row), row + 1 + others, mean, p


def _holm(p: np.ndarray) -> np.ndarray:
    """Correct p-values for their number, as statistics.holm does."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.minimum(1.0, (len(p) - np.arange(len(p))) * p[order])) if len(p) else p
    corrected = np.empty_like(p)
    corrected[order] = stepped
    return corrected
