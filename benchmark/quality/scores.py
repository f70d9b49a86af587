"""Samples and reference images to scores: the features of both, and the numbers that are taken of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmark.errors import UsageError
from benchmark.quality import metrics, randconv
from benchmark.quality.choice import LEAST, Quality, check_counts
from benchmark.quality.features import Extractor, Features, check_images, extract
from benchmark.quality.metrics import Number
from benchmark.quality.reference import VERSION as REFERENCE_VERSION
from benchmark.quality.reference import Reference
from benchmark.recording.record import Score

# The names of the same numbers where the weights are not the published ones.
OTHER = {
    "fid": "fd_other_inception",
    "sfid": "sfd_other_inception",
    "kid": "kd_other_inception",
    "is": "score_other_inception",
    "precision": "precision_other_inception",
    "recall": "recall_other_inception",
}

Bars = Callable[[str], Callable[..., None]]


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
    check_counts(wanted, len(images), len(against.images))
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


def _least(extractor: str) -> int:
    return LEAST[extractor.partition("@")[0]]


def _width(extractor: Extractor) -> int:
    return max(width for layer, width in extractor.layers.items() if layer != "logits")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[3]}"
