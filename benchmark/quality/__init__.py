"""Samples to scores: FID and its company through torch-fidelity's Inception, and `fd_randconv` where that is not here.

A number is called FID only where the published Inception weights made it. Every other has a name of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmark.errors import UsageError, unknown
from benchmark.quality import inception, metrics, randconv
from benchmark.quality.features import Extractor, Features, check_images, extract
from benchmark.quality.metrics import Number
from benchmark.quality.reference import VERSION as REFERENCE_VERSION
from benchmark.quality.reference import Reference, reference, trained_on
from benchmark.recording.record import Score

__all__ = ["INCEPTION", "METRICS", "Quality", "Reference", "chosen", "prepare", "reference", "score", "trained_on"]

INCEPTION = ("fid", "kid", "is", "prc", "sfid")
METRICS = (*INCEPTION, "fd_randconv", "memorisation")
# The names of the same numbers where the weights are not the published ones.
OTHER = {
    "fid": "fd_other_inception",
    "sfid": "sfd_other_inception",
    "kid": "kd_other_inception",
    "is": "score_other_inception",
    "precision": "precision_other_inception",
    "recall": "recall_other_inception",
}
LEAST = {inception.NAME: 2048, randconv.NAME: 512}  # samples of a number that is not marked as small
FLOOR = 10  # samples and reference images below which a metric is not defined

Bars = Callable[[str], Callable[..., None]]


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
    _check_counts(wanted, samples, len(against.images))
    found = []
    if any(name in INCEPTION for name in wanted.metrics):
        found.append(inception.extractor(wanted.weights, device, allow_other=wanted.allow_other_weights))
    if "fd_randconv" in wanted.metrics:
        found.append(randconv.extractor(device))
    return found


def score(
    wanted: Quality,
    extractors: list[Extractor],
    images: np.ndarray,
    folder: Path,
    against: Reference,
    *,
    sampling: str,
    device: torch.device,
    bars: Bars,
) -> dict[str, Score]:
    """Score samples (N, 3, R, R) uint8 whose features are kept under `folder`; one pass of each network over both sides."""
    check_images(images, "samples")
    if images.shape[1:] != against.images.shape[1:]:
        raise UsageError(
            f"The samples are {_size(images.shape)} and the reference images {_size(against.images.shape)}: they "
            "must have the same resolution."
        )
    _check_counts(wanted, len(images), len(against.images))
    scores: dict[str, Score] = {}
    for extractor in extractors:
        mine = extract(
            extractor,
            images,
            folder / extractor.key,
            "samples",
            device=device,
            batch=wanted.batch,
            progress=bars(f"{extractor.name}, samples"),
        )
        theirs = extract(
            extractor,
            against.images,
            against.features_folder(extractor),
            "reference images",
            device=device,
            batch=wanted.batch,
            progress=bars(f"{extractor.name}, reference"),
        )
        for name, number in _numbers(wanted.metrics, extractor, mine, theirs, device).items():
            scores |= _score(name, number, extractor, mine, theirs, against, sampling)
    return scores


def _numbers(names: tuple[str, ...], extractor: Extractor, mine: Features, theirs: Features, device: torch.device) -> dict[str, Number]:
    if extractor.name == randconv.NAME:
        return {"fd_randconv": metrics.frechet(mine, theirs, "features")}
    found: dict[str, Number] = {}
    if "fid" in names:
        found["fid"] = metrics.frechet(mine, theirs, "pool")
    if "sfid" in names:
        found["sfid"] = metrics.frechet(mine, theirs, "spatial")
    if "kid" in names:
        found["kid"] = metrics.kernel_distance(mine, theirs)
    if "is" in names:
        found["is"] = metrics.inception_score(mine)
    if "prc" in names:
        found["precision"], found["recall"] = metrics.precision_recall(mine, theirs, device)
    return found


def _score(
    name: str, number: Number, extractor: Extractor, mine: Features, theirs: Features, against: Reference, sampling: str
) -> dict[str, Score]:
    value, sd = number
    alone = name == "is"  # the only number without a reference
    made = Score(
        value=value,
        sd=sd,
        samples=mine.count,
        extractor=extractor.name,
        weights_digest=extractor.weights_digest,
        reference_digest="" if alone else against.digest,
        version=f"{name}-{extractor.version}" + ("" if alone else f".{REFERENCE_VERSION}"),
        reference_samples=0 if alone else theirs.count,
        sampling=sampling,
        reference_trained_on=None if alone else against.trained_on,
        small=mine.count < _least(extractor.name) or (not alone and theirs.count < _width(extractor)),
    )
    return {OTHER[name] if "@" in extractor.name else name: made}


def _check_counts(wanted: Quality, samples: int, references: int) -> None:
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


def _least(extractor: str) -> int:
    return LEAST[extractor.partition("@")[0]]


def _width(extractor: Extractor) -> int:
    return max(width for layer, width in extractor.layers.items() if layer != "logits")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[3]}"
