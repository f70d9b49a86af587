"""C^alpha images: two regular regions that meet along a regular contour, generated, never downloaded.

Kadkhodaie, Guth, Simoncelli and Mallat (2024) probe trained denoisers with this class because what is optimal on it is
known. An image is uniformly C^alpha away from contours that are themselves C^alpha curves. A basis adapted to the
geometry (bandlets: Le Pennec and Mallat 2005, Peyre and Mallat 2008) approximates it with M terms to a squared error
of order M^-alpha, where wavelets reach M^-1 because of the contour. Thresholding in such a basis denoises, up to
logarithms and asymptotically as the noise sd sigma goes to 0, to a mean squared error of order
sigma^(2 alpha / (alpha + 1)), and no estimator does better in order over the class: the PSNR of an optimal denoiser
rises with the slope alpha / (alpha + 1) against -20 log10 sigma. At a few dozen pixels a side this is a guide, not an
identity: it speaks of small noise and fine pixels. What is exact at any size is `Geometry.denoise`: the least mean
squared error of a denoiser that is told the contour, by shrinkage in the basis adapted to it.

That paper fixes the class, not these bytes: the generator below is a member of it by construction. Its cosine series
have random coefficients that decay as the regularity asks and end at TERMS terms, finer than which a small image shows
nothing. The bytes are the same on every machine by the rules of dead_leaves.py: raw Philox words, float64 operations
that IEEE 754 rounds exactly, one numpy call each, added one by one (no sum or product of matrices, whose order may differ).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np

from benchmark.contract import ImageError, Positive, Range, entry
from registry.datasets.dead_leaves import (
    OVERSAMPLING,
    averaged,
    near_normal,
    sine_turns,
)

TERMS = 16  # cosines along each axis of a region, and along the contour
CONTRAST = 0.3  # sd of a region's values on the scale [-1, 1], over images: few are clipped
BEND = 0.12  # sd of the contour's distance from a straight line, in sides
WORDS = 12  # raw words per normal draw


@entry(kind="c_alpha")
class CAlpha:
    """Grey images whose regions and contours have the regularity `alpha`."""

    resolution: Positive
    count: Positive
    alpha: Annotated[int, Range(least=1, most=8)]
    seed: Annotated[int, Range(least=0, below=2**63)] = 0

    channels: ClassVar[int] = 1
    embedded: ClassVar[bool] = True
    preprocessing: ClassVar[str] = "c-alpha-1"

    def open(self, root: Path | None = None) -> CAlphaSource:
        """Return the generator of the images; raise ImageError where a root folder is given."""
        if root is not None:
            raise ImageError("C^alpha images are generated, there is no folder to open: leave the root out")
        return CAlphaSource(self)


@dataclass(frozen=True)
class CAlphaSource:
    """Images by index: image i is a function of (seed, i), alpha and the resolution."""

    config: CAlpha

    @property
    def ids(self) -> Sequence[str]:
        """The decimal indices."""
        return tuple(map(str, range(self.config.count)))

    @property
    def fingerprint(self) -> str:
        """What the images are a function of, as one sha256."""
        c = self.config
        words = f"{c.preprocessing} resolution={c.resolution} count={c.count} alpha={c.alpha} seed={c.seed}"
        return hashlib.sha256(words.encode()).hexdigest()

    def read(self, image_id: str) -> np.ndarray:
        """Return image `image_id` as uint8 (1, R, R)."""
        return self.geometry(image_id).paint()

    def geometry(self, image_id: str) -> Geometry:
        """Return what image `image_id` is made of; raise ImageError where there is no such image."""
        if not (image_id.isascii() and image_id.isdecimal()) or int(image_id) >= self.config.count:
            raise ImageError(f"there is no image '{image_id}': the indices end at {self.config.count - 1}")
        return draw(self.config.seed, int(image_id), self.config.alpha, self.config.resolution)


@dataclass(frozen=True, eq=False)
class Geometry:
    """One image before it is painted: the coefficients of its two regions, their sd, and where the second one lies."""

    coefficients: np.ndarray  # (2, TERMS, TERMS): region, cosine along y, cosine along x
    spread: np.ndarray  # (TERMS, TERMS): the sd of each coefficient over images
    second: np.ndarray  # (S, S) bool, S = OVERSAMPLING * R: above the contour

    def paint(self) -> np.ndarray:
        """Return the image as uint8 (1, R, R)."""
        side = len(self.second)
        regions = [series(coefficients, side) for coefficients in self.coefficients]
        return averaged(np.where(self.second, regions[1], regions[0])[None], side // OVERSAMPLING)

    def atoms(self) -> np.ndarray:
        """Return the adapted atoms (2 TERMS^2, R^2): each region's cosines times their sd, cut off at the contour.

        An image, before it is clipped and rounded to bytes, is their sum with independent standard normal weights.
        """
        resolution = len(self.second) // OVERSAMPLING
        waves = cosines(len(self.second))  # (i, S)
        made = np.empty((2, TERMS, TERMS, resolution * resolution))
        for region, part in enumerate((~self.second, self.second)):
            for i in range(TERMS):
                cut = self.spread[i, :, None, None] * waves[i, :, None] * waves[:, None, :] * part  # (j, S, S)
                boxes = cut.reshape(TERMS, resolution, OVERSAMPLING, resolution, OVERSAMPLING)
                made[region, i] = boxes.mean(axis=(2, 4)).reshape(TERMS, -1)
        return made.reshape(2 * TERMS * TERMS, -1)

    def basis(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the orthonormal basis adapted to this contour, (K, R^2), and the image's variance along each vector, falling.

        The eigenvectors of the covariance of all images with this contour: no basis has a smaller mean M-term error on them.
        """
        _, values, vectors = np.linalg.svd(self.atoms(), full_matrices=False)
        return vectors, values**2

    def denoise(self, noisy: np.ndarray, sigma: float) -> np.ndarray:
        """Return the mean of clean images given `noisy` (N, R, R) on [-1, 1] with noise of sd `sigma`, and the contour.

        Shrinkage of each coefficient in the adapted basis by variance / (variance + sigma^2): Wiener's filter, exact for
        these normal coefficients but for the clipping to [-1, 1] and the rounding to bytes.
        """
        vectors, variances = self.basis()
        shrunk = noisy.reshape(len(noisy), -1) @ vectors.T * (variances / (variances + sigma**2))
        return (shrunk @ vectors).reshape(noisy.shape)


def draw(seed: int, index: int, alpha: int, resolution: int) -> Geometry:
    """Draw image `index`."""
    draws = 2 * TERMS * TERMS + TERMS
    words = np.random.Philox(key=np.array([seed, index], dtype=np.uint64)).random_raw(draws * WORDS + TERMS + 2)
    normal = near_normal(words[: draws * WORDS].reshape(draws, WORDS).T)  # (draws,)
    uniform = (words[draws * WORDS :] >> np.uint64(11)) * 2.0**-53  # in [0, 1), exactly
    weights = spread(alpha)
    return Geometry(
        coefficients=normal[: 2 * TERMS * TERMS].reshape(2, TERMS, TERMS) * weights,
        spread=weights,
        second=above(normal[2 * TERMS * TERMS :], uniform, alpha, OVERSAMPLING * resolution),
    )


def spread(alpha: int) -> np.ndarray:
    """Return the sd of a region's coefficients, (TERMS, TERMS).

    Proportional to (1 + i^2 + j^2)^(-(alpha + 1) / 2): in two dimensions this decay is that of fields which are C^s for
    every s below alpha. Scaled to the variance CONTRAST^2, averaged over the square.
    """
    numbers = np.arange(TERMS)
    weights = _power(1.0 + numbers[:, None] ** 2 + numbers[None, :] ** 2, alpha + 1)  # (i, j)
    mean_square = np.where(numbers > 0, 0.5, 1.0)  # of each cosine
    energy = math.fsum((weights * weights * mean_square[:, None] * mean_square[None, :]).ravel().tolist())
    return weights * (CONTRAST / math.sqrt(energy))


def cosines(side: int) -> np.ndarray:
    """Return cos(pi j x) at the centres of `side` pixels, (TERMS, side)."""
    at = (np.arange(side) + 0.5) / side
    return sine_turns(0.5 * np.arange(TERMS)[:, None] * at[None, :] + 0.25)


def series(coefficients: np.ndarray, side: int) -> np.ndarray:
    """Return sum over i, j of c_ij cos(pi i y) cos(pi j x), (S, S), rows by columns."""
    waves = cosines(side)
    along = np.zeros_like(waves)  # (i, S)
    for j in range(TERMS):
        along = along + coefficients[:, j, None] * waves[j]
    total = np.zeros((side, side))
    for i in range(TERMS):
        total = total + waves[i][:, None] * along[i]
    return total


def above(normal: np.ndarray, uniform: np.ndarray, alpha: int, side: int) -> np.ndarray:
    """Return where a point lies above a random contour of regularity alpha, (S, S) bool.

    In coordinates (s, d) turned by a random angle about the centre, the contour is d = offset + sum over k of
    n_k k^-(alpha + 1/2) cos(pi k s + phase_k): the decay of curves which are C^s for every s below alpha.
    """
    at = (np.arange(side) + 0.5) / side - 0.5
    cosine, sine = sine_turns(uniform[:1] + 0.25)[0], sine_turns(uniform[:1])[0]
    s, d = cosine * at[None, :] + sine * at[:, None], cosine * at[:, None] - sine * at[None, :]
    weights = _power(np.arange(1.0, TERMS + 1.0), 2 * alpha + 1)
    weights = normal * weights * (BEND / math.sqrt(0.5 * math.fsum((weights * weights).tolist())))
    contour = np.full_like(s, 0.6 * (uniform[1] - 0.5))
    turn_cosine, turn_sine = sine_turns(0.5 * s + 0.25), sine_turns(0.5 * s)  # of pi s
    wave_cosine, wave_sine = turn_cosine, turn_sine  # of pi k s, by rotation from k to k + 1
    phase_cosine, phase_sine = sine_turns(uniform[2:] + 0.25), sine_turns(uniform[2:])
    for k in range(TERMS):
        contour = contour + weights[k] * (wave_cosine * phase_cosine[k] - wave_sine * phase_sine[k])
        wave_cosine, wave_sine = (wave_cosine * turn_cosine - wave_sine * turn_sine, wave_sine * turn_cosine + wave_cosine * turn_sine)
    return d > contour


def _power(base: np.ndarray, halves: int) -> np.ndarray:
    """Return base^(-halves / 2) by square roots and products alone, which are rounded exactly."""
    root, product = np.sqrt(base), np.ones_like(base)
    for _ in range(halves):
        product = product * root
    return 1.0 / product
