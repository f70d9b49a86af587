"""Samples to memorisation: how many are copies of a training image, and how near samples lie to images never trained on.

A sample is memorised where its nearest training image is less than a third as far as the second nearest (l2), or where
it is that image. Ratio and third are of Yoon et al. 2023 (Diffusion Probabilistic Models Generalize when They Fail to
Memorize, ICML workshop SPIGM); Carlini et al. 2023 (Extracting Training Data from Diffusion Models) hold the nearest
against the mean of the 50 nearest instead. Training images with the same bytes count once, or a copied image with a twin
would pass for a new one.

The nearest of many images is nearer than that of few, so the ratio of the distances to the nearest training and to the
nearest test image is no 1 for images that were never trained on. What it is for those, its null, is taken of the test
images, each against the others of them.
"""

from typing import Annotated

import numpy as np
import torch

from benchmark.contract import Count, Fraction, Positive, Range, checked
from benchmark.errors import BenchError
from benchmark.recording.grids import pairs
from benchmark.sampling.neighbours import Neighbours, Progress, nearest

THRESHOLD = 1 / 3
VERSION = "memorisation-1"
RATIO_VERSION = "memorisation-2"  # 1: nearest training / nearest test image, without its null

NonNegative = Annotated[float, Range(least=0)]


@checked
class Memorisation:
    """How near samples lie to the training images, in one space.

    Distances are l2 norms of whole rows: of pixels in [-1, 1], or of features as given. A ratio is None where it is
    infinite: where half the samples are test images to the byte, or there is no second training image.
    """

    version: str
    space: str  # 'pixels', or the name of the extractor of the features
    samples: Positive
    train_images: Positive  # with different bytes
    test_images: Positive
    memorised: Count
    share: Fraction | None  # memorised / samples; None where there is no second training image
    nearest_train: NonNegative  # median over the samples
    nearest_test: NonNegative
    ratio_second: Fraction | None  # median of nearest / second nearest training image
    ratio_test: NonNegative | None  # median of nearest training / nearest test image; the larger set is nearer by its size
    null_test: NonNegative | None  # the same of every test image, with the nearest of the other test images

    @property
    def ratio_over_null(self) -> float | None:
        """`ratio_test` over its null: 1 for images never trained on, below it for samples nearer to the training images."""
        return self.ratio_test / self.null_test if self.ratio_test is not None and self.null_test else None


def distinct(images: np.ndarray) -> np.ndarray:
    """Return the indices of the first image of every kind, by their bytes."""
    seen: dict[bytes, int] = {}
    for index, image in enumerate(images):
        seen.setdefault(image.tobytes(), index)
    return np.fromiter(seen.values(), dtype=np.int64)


def memorisation(
    samples: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    *,
    space: str = "pixels",
    block: int = 4096,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Memorisation:
    """Measure the memorisation of samples, (N, C, R, R) uint8 or (N, D) features; `train` has no row twice (`distinct`)."""
    if not len(samples) or not len(train) or not len(test):
        raise BenchError(f"Memorisation needs samples, training and test images; there are {len(samples)}, {len(train)} and {len(test)}.")
    unit = 127.5 if samples.dtype == np.uint8 else 1.0
    near = nearest(samples, train, min(2, len(train)), block=block, device=device, progress=progress)
    held_out = nearest(samples, test, 1, block=block, device=device).distances[:, 0]
    first = near.distances[:, 0]
    copies, share, second_ratio = int((first == 0).sum()), None, None
    if len(train) > 1:
        copies = int(memorised(near).sum())
        share = copies / len(samples)
        second_ratio = _median_ratio(first, near.distances[:, 1])
    return Memorisation(
        version=VERSION,
        space=space,
        samples=len(samples),
        train_images=len(train),
        test_images=len(test),
        memorised=copies,
        share=share,
        nearest_train=float(np.median(first)) / unit,
        nearest_test=float(np.median(held_out)) / unit,
        ratio_second=second_ratio,
        ratio_test=_median_ratio(first, held_out),
        null_test=_null(train, test, block, device),
    )


def _null(train: np.ndarray, test: np.ndarray, block: int, device: torch.device | str) -> float | None:
    if len(test) < 2:
        return None
    others = nearest(test, test, 2, block=block, device=device).distances[:, 1]  # the first is the image itself, or its twin
    return _median_ratio(nearest(test, train, 1, block=block, device=device).distances[:, 0], others)


def memorised(near: Neighbours) -> np.ndarray:
    """Tell of every sample, from its two nearest training images, whether it is memorised: (N,) bool."""
    first, second = near.distances[:, 0], near.distances[:, 1]
    return (first < THRESHOLD * second) | (first == 0)


def contact_sheet(samples: np.ndarray, train: np.ndarray, count: int = 10, *, device: torch.device | str = "cpu") -> bytes:
    """Return a PNG of the samples nearest to a training image, nearest first, each above that image."""
    near = nearest(samples, train, 1, device=device)
    chosen = np.argsort(near.distances[:, 0], kind="stable")[:count]
    return pairs(samples[chosen], train[near.indices[chosen, 0]])


def _median_ratio(above: np.ndarray, below: np.ndarray) -> float | None:
    """Return the median of above / below; 0 / 0, two equal rows on both sides, is a ratio of 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = above / below
    median = float(np.median(np.where(np.isnan(ratios), 1.0, ratios)))
    return median if np.isfinite(median) else None
