"""Which metrics are wanted, and what they need: extractors, and enough samples and reference images."""

from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark.errors import UsageError, unknown
from benchmark.quality import inception, randconv
from benchmark.quality.features import Extractor, check_images
from benchmark.quality.reference import Reference

INCEPTION = ("fid", "kid", "is", "prc", "sfid")
METRICS = (*INCEPTION, "fd_randconv", "memorisation")
LEAST = {inception.NAME: 2048, randconv.NAME: 512}  # samples of a number that is not marked as small
FLOOR = 10  # samples and reference images below which a metric is not defined


@dataclass(frozen=True)
class Quality:
    """Which metrics of sample quality, and what may be taken that is not by the book."""

    metrics: tuple[str, ...]
    weights: Path | None = None
    allow_small: bool = False
    allow_other_weights: bool = False
    batch: int = 64


def chosen(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the metrics of these names, each once; raise UsageError where one is unknown."""
    for name in names:
        if name not in METRICS:
            raise unknown("metric", name, ("psnr", *METRICS))
    return tuple(dict.fromkeys(names))


def prepare(wanted: Quality, samples: int, against: Reference, device: torch.device) -> list[Extractor]:
    """Return the extractors that the metrics need; refuse before any sample is drawn what would be refused after."""
    if (channels := against.images.shape[1]) != 3:
        grey = " (grey)" if channels == 1 else ""
        raise UsageError(
            f"Sample quality is measured of RGB images: the features are of 3 channels, and these images have {channels}{grey}. "
            "PSNR and the gap are measured of them all the same."
        )
    check_images(against.images, "reference images")
    check_counts(wanted, samples, len(against.images))
    found = []
    if any(name in INCEPTION for name in wanted.metrics):
        found.append(inception.extractor(wanted.weights, device, allow_other=wanted.allow_other_weights))
    if "fd_randconv" in wanted.metrics:
        found.append(randconv.extractor(device))
    return found


def check_counts(wanted: Quality, samples: int, references: int) -> None:
    """Refuse too few samples, and a reference whose covariance cannot have full rank, unless small ones are allowed."""
    for name in (metric for metric in wanted.metrics if metric != "memorisation"):
        network = randconv.NAME if name == "fd_randconv" else inception.NAME
        least, width = LEAST[network], 2 * sum(randconv.CHANNELS) if network == randconv.NAME else inception.LAYERS["pool"]
        if min(samples, references) < FLOOR:
            raise UsageError(
                f"The metric {name} needs at least {FLOOR} samples and reference images; there are {samples} and {references}."
            )
        if wanted.allow_small:
            continue
        if samples < least:
            raise UsageError(
                f"The metric {name} of {samples:,} samples means little: {least:,} are the least, and 50,000 the custom for "
                "FID. Ask for more with `benchmark.sampling.Request(count=...)`, or `allow_small=True`: the score is then marked as small."
            )
        if references < width and name != "is":
            raise UsageError(
                f"The dataset has {references:,} images, fewer than the {width:,} features that {name} compares them by. "
                "Use a larger dataset, or `allow_small=True`: the score is then marked as small."
            )
