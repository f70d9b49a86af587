"""Dead leaves: images of overlapping shapes (Matheron 1968; Lee, Mumford and Huang 2001), generated, never downloaded.

The bytes are part of the benchmark, so they must be the same on every machine. Hence raw Philox words only (numpy
promises no stable stream for its distributions), and only float64 operations that IEEE 754 rounds exactly
(+ - * / sqrt floor rint), one numpy call each so that no compiler fuses two; the sine is a polynomial, the cube root
a Newton iteration, a normal draw a sum of uniforms, and the box average is taken in integers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np

from benchmark.contract import ImageError, Positive, Range, entry

OVERSAMPLING = 4  # painted at 4x the resolution, then box-averaged
FRACTION = 256  # fixed-point steps per byte value before the average
SMALLEST, LARGEST = 0.08, 0.7  # radii, in sides of the image; density proportional to r^-2.5
LUMINANCE, WARMTH, GREEN = 0.45, 0.18, 0.10  # sd along (1, 1, 1), (1, 0, -1), (-1/2, 1, -1/2) on the scale [-1, 1]
SHADING, TEXTURE = 0.12, 0.15  # sd of the slope across a radius; largest amplitude of the wave
WORDS = 47  # raw words per leaf: 11 uniforms, then 3 normals of 12 uniforms each


@entry(kind="dead_leaves")
class DeadLeaves:
    """Discs and rectangles painted back to front, each with its colour, linear shading and sinusoidal texture."""

    resolution: Positive
    count: Positive
    leaves: Positive = 24
    seed: Annotated[int, Range(least=0, below=2**63)] = 0

    channels: ClassVar[int] = 3
    embedded: ClassVar[bool] = True
    preprocessing: ClassVar[str] = "dead-leaves-1"

    def open(self, root: Path | None = None) -> DeadLeavesSource:
        """Return the generator of the images; raise ImageError where a root folder is given."""
        if root is not None:
            raise ImageError("dead leaves are generated, there is no folder to open: leave the root out")
        return DeadLeavesSource(self)


@dataclass(frozen=True)
class DeadLeavesSource:
    """Images by index: image i is a function of (seed, i), the resolution and the number of leaves."""

    config: DeadLeaves

    @property
    def ids(self) -> Sequence[str]:
        """The decimal indices."""
        return tuple(str(index) for index in range(self.config.count))

    @property
    def fingerprint(self) -> str:
        """What the images are a function of, as one sha256."""
        c = self.config
        words = f"{c.preprocessing} resolution={c.resolution} count={c.count} leaves={c.leaves} seed={c.seed}"
        return hashlib.sha256(words.encode()).hexdigest()

    def read(self, image_id: str) -> np.ndarray:
        """Return image `image_id` as uint8 (3, R, R)."""
        if not (image_id.isascii() and image_id.isdecimal()) or int(image_id) >= self.config.count:
            raise ImageError(f"there is no image '{image_id}': the indices end at {self.config.count - 1}")
        leaves = draw_leaves(self.config.seed, int(image_id), self.config.leaves)
        return paint(leaves, self.config.resolution)


@dataclass(frozen=True)
class Leaves:
    """One image's leaves from back to front as arrays of length leaves + 1; number 0 is the background.

    Lengths are in sides of the image, angles and phases in turns, colours on the scale [-1, 1].
    """

    centre: np.ndarray  # (2, L): x, y
    radius: np.ndarray  # (L,)
    aspect: np.ndarray  # (L,): half height of a rectangle in radii
    disc: np.ndarray  # (L,) bool
    cosine: np.ndarray  # (L,)
    sine: np.ndarray  # (L,)
    colour: np.ndarray  # (3, L)
    slope: np.ndarray  # (2, L): change of luminance along x and y per side
    wave: np.ndarray  # (2, L): cycles per side along x and y
    phase: np.ndarray  # (L,)
    amplitude: np.ndarray  # (L,)


def draw_leaves(seed: int, index: int, leaves: int) -> Leaves:
    """Draw the leaves of image `index`: Philox4x64-10 keyed by (seed, index), a fixed run of words per leaf."""
    words = np.random.Philox(key=np.array([seed, index], dtype=np.uint64)).random_raw((leaves + 1) * WORDS)
    words = words.reshape(leaves + 1, WORDS).T  # (WORDS, L)
    u = (words[:11] >> np.uint64(11)) * 2.0**-53  # uniform in [0, 1), exactly
    normal = near_normal(words[11:].reshape(3, 12, -1))
    cosine, sine = sine_turns(u[4] + 0.25), sine_turns(u[4])
    radius = power_law_radius(u[2])
    radius[0] = LARGEST  # the background: only its shading depends on it
    luminance, warmth, green = LUMINANCE * normal[0], WARMTH * normal[1], GREEN * normal[2]
    cycles = 1.0 + 7.0 * u[7]
    slope = SHADING * (np.stack([u[5], u[6]]) * 2.0 - 1.0) * np.sqrt(3.0) / radius
    return Leaves(
        centre=u[:2],
        radius=radius,
        aspect=0.3 + 0.7 * u[3],
        disc=words[3] & np.uint64(1) == 0,
        cosine=cosine,
        sine=sine,
        colour=np.stack([luminance + warmth - 0.5 * green, luminance + green, luminance - warmth - 0.5 * green]),
        slope=slope,
        wave=np.stack([cycles * sine_turns(u[8] + 0.25), cycles * sine_turns(u[8])]),
        phase=u[9],
        amplitude=TEXTURE * u[10],
    )


def paint(leaves: Leaves, resolution: int) -> np.ndarray:
    """Paint the leaves and return uint8 (3, R, R)."""
    side = OVERSAMPLING * resolution
    at = (np.arange(side) + 0.5) / side  # pixel centres, in sides
    top = np.zeros((side, side), dtype=np.intp)  # the number of the leaf that is seen
    for leaf in range(1, len(leaves.radius)):
        rows, columns, inside = _footprint(leaves, leaf, at)
        top[rows, columns][inside] = leaf
    dx = at[None, :] - leaves.centre[0].take(top)  # (S, S)
    dy = at[:, None] - leaves.centre[1].take(top)
    ramp = leaves.slope[0].take(top) * dx + leaves.slope[1].take(top) * dy
    wave = sine_turns(leaves.wave[0].take(top) * dx + leaves.wave[1].take(top) * dy + leaves.phase.take(top))
    luminance = ramp + leaves.amplitude.take(top) * wave
    colour = leaves.colour.take(top, axis=1) + luminance  # (3, S, S)
    return averaged(colour, resolution)


def averaged(colour: np.ndarray, resolution: int) -> np.ndarray:
    """Turn (C, S, S) on the scale [-1, 1], S = OVERSAMPLING * R, into uint8 (C, R, R): clipped, averaged in integers."""
    value = (colour + 1.0) * (127.5 * FRACTION)  # [-1, 1] to [0, 255 * FRACTION]
    fine = np.rint(np.minimum(np.maximum(value, 0.0), 255.0 * FRACTION)).astype(np.int64)
    boxes = fine.reshape(len(colour), resolution, OVERSAMPLING, resolution, OVERSAMPLING).sum(axis=(2, 4))
    whole = FRACTION * OVERSAMPLING**2
    return ((boxes + whole // 2) // whole).astype(np.uint8)


def _footprint(leaves: Leaves, leaf: int, at: np.ndarray) -> tuple[slice, slice, np.ndarray]:
    """Return the rows and columns of a square around the leaf, and which of its pixels the leaf covers."""
    x, y = leaves.centre[:, leaf]
    radius, aspect, disc = leaves.radius[leaf], leaves.aspect[leaf], leaves.disc[leaf]
    reach = radius * (1.0 if disc else np.sqrt(1.0 + aspect * aspect)) + 1.0 / len(at)  # one pixel of margin
    rows = slice(*np.searchsorted(at, [y - reach, y + reach]))
    columns = slice(*np.searchsorted(at, [x - reach, x + reach]))
    dx, dy = at[None, columns] - x, at[rows, None] - y
    if disc:
        return rows, columns, dx * dx + dy * dy <= radius * radius
    across = leaves.cosine[leaf] * dx + leaves.sine[leaf] * dy
    along = leaves.cosine[leaf] * dy - leaves.sine[leaf] * dx
    return rows, columns, (np.abs(across) <= radius) & (np.abs(along) <= radius * aspect)


def power_law_radius(u: np.ndarray) -> np.ndarray:
    """Turn uniforms into radii of density proportional to r^-2.5 on [SMALLEST, LARGEST], by inversion.

    The cumulative distribution is linear in q = r^-1.5, so r = q^(-2/3): the square of q^(-1/3), by Newton's iteration
    from below, which needs no logarithm. Sixteen steps reach full precision over this range of q.
    """
    high, low = 1.0 / (SMALLEST * np.sqrt(SMALLEST)), 1.0 / (LARGEST * np.sqrt(LARGEST))
    q = high - u * (high - low)
    root = np.full_like(q, np.sqrt(SMALLEST))
    for _ in range(16):
        root = root * (4.0 - q * root * root * root) / 3.0
    return root * root


def sine_turns(turns: np.ndarray) -> np.ndarray:
    """Return sin(2 pi turns) by its Taylor polynomial of degree 15 on a quarter turn; absolute error below 1e-11."""
    turns = turns - np.rint(turns)  # [-1/2, 1/2]
    folded = np.where(np.abs(turns) > 0.25, np.where(turns > 0, 0.5, -0.5) - turns, turns)  # [-1/4, 1/4], same sine
    x = folded * 6.283185307179586
    square = x * x
    total = np.ones_like(x)
    for n in (14, 12, 10, 8, 6, 4, 2):  # Horner: 1 - x^2/(2*3) (1 - x^2/(4*5) (...))
        total = 1.0 - square / (n * (n + 1.0)) * total
    return x * total


def near_normal(words: np.ndarray) -> np.ndarray:
    """Return the standardised sum of 12 uniforms along axis -2 of raw words, summed in integers; within [-6, 6]."""
    total = (words >> np.uint64(40)).astype(np.int64).sum(axis=-2)  # twelve 24-bit integers
    return (total - 6 * (2**24 - 1)) * 2.0**-24
