"""Strong generalization (Kadkhodaie et al. 2024): do two models trained on disjoint images make the same images?

The same noise goes through the deterministic sampler of both. Where both have learned the distribution, the images
agree with each other more than with any training image; where they have memorised, it is the other way round.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np

from benchmark import run
from benchmark.contract import Count, Positive, Range, checked
from benchmark.declaring.fields import to_json
from benchmark.declaring.spec import Spec, from_record
from benchmark.errors import UsageError
from benchmark.images.subsets import Subset
from benchmark.recording import record
from benchmark.running.progress import Display
from benchmark.sampling.neighbours import nearest
from benchmark.sampling.request import Request
from benchmark.sampling.runs import sample_run

if TYPE_CHECKING:
    from benchmark.run import Place

VERSION = "compare-1"


@checked
class Likeness:
    """How alike pairs of images are, pixels in [-1, 1].

    psnr: 10 (log10 4 - log10 of the mean squared error over all pairs), dB, None where all are equal; cosine: mean over
    the pairs of the cosine of the angle between them; distance: the root mean square over the pairs of the l2 norm of
    their difference, between two models' samples the probability flow distance (arXiv 2505.20123).
    """

    psnr: float | None
    cosine: Annotated[float, Range(least=-1.000001, most=1.000001)]
    distance: Annotated[float, Range(least=0)]


@checked
class Comparison:
    """Two runs: their samples from the same noise, against each other and each against its nearest training images.

    `shared_images` counts the training images of the first run that the second has too, by their bytes. Samples are
    rounded to 256 grey levels, so that a distance below about 0.0032 sqrt(values of an image) means none.
    """

    version: str
    runs: tuple[str, str]
    count: Positive
    sampler: str
    steps: Positive
    seed: Count
    train_images: tuple[Positive, Positive]
    shared_images: Count
    between: Likeness
    first_to_train: Likeness
    second_to_train: Likeness


def compare(
    folders: tuple[Path, Path],
    request: Request,
    place: "Place",
    display: Display,
    search: tuple[Path, ...],
    *,
    overlap: bool = False,
    batch: int | None = None,
) -> Comparison:
    """Sample two finished runs from the same noise and compare; raise UsageError where that would mean nothing."""
    specs = tuple(_spec(folder, search) for folder in folders)
    _check_images(specs)
    subset, other = (run.load_subset(spec, place, display) for spec in specs)
    shared = shared_images(subset, other)
    if shared and not overlap:
        raise UsageError(
            f"The runs {folders[0].name} and {folders[1].name} share {shared} of their {len(subset.train)} and "
            f"{len(other.train)} training images, so that alike samples would not show generalization. "
            "Compare the two halves of one seed (`half='a'` and `half='b'`), or say `overlap=True`."
        )
    first, second = (sample_run(folder, request, place, display, search, batch).images for folder in folders)
    return Comparison(
        version=VERSION,
        runs=(folders[0].name, folders[1].name),
        count=request.count,
        sampler=request.sampler,
        steps=request.steps,
        seed=request.seed,
        train_images=(len(subset.train), len(other.train)),
        shared_images=shared,
        between=likeness(first, second),
        first_to_train=_to_nearest(first, subset, place),
        second_to_train=_to_nearest(second, other, place),
    )


def likeness(left: np.ndarray, right: np.ndarray) -> Likeness:
    """Compare images pair by pair: both (N, C, R, R) uint8."""
    errors, cosines = [], []
    for one, other in zip(left, right, strict=True):  # one pair at a time: memory does not grow with their number
        a, b = (image.astype(np.float64).ravel() / 127.5 - 1 for image in (one, other))
        errors.append(float(np.square(a - b).sum()))
        cosines.append(float(a @ b / math.sqrt((a @ a) * (b @ b))))  # no level is 0, so no norm is
    squared = math.fsum(errors) / len(errors)
    mse = squared / left[0].size
    psnr = 10 * (math.log10(4) - math.log10(mse)) if mse else None
    return Likeness(psnr=psnr, cosine=math.fsum(cosines) / len(cosines), distance=math.sqrt(squared))


def shared_images(first: Subset, second: Subset) -> int:
    """Return how many training images of `first` have the bytes of one of `second`."""
    theirs = {image.tobytes() for image in second.train}
    return sum(image.tobytes() in theirs for image in first.train)


def rows(result: Comparison) -> list[tuple[str, str, str, str]]:
    """Return the result as rows of a table."""
    said = (
        ("the two runs' samples", result.between),
        ("the first's and its nearest training images", result.first_to_train),
        ("the second's and its nearest training images", result.second_to_train),
    )
    return [(what, "equal" if one.psnr is None else f"{one.psnr:.2f}", f"{one.cosine:.4f}", f"{one.distance:.4f}") for what, one in said]


def sentence(result: Comparison) -> str:
    """Say which of the two is the nearer: the other run's images, or the training images."""
    nearer = {result.between.distance < one.distance for one in (result.first_to_train, result.second_to_train)}
    if nearer == {False}:
        return "The samples are nearer to training images than to each other, as of models that memorise."
    if nearer == {True}:
        return (
            "The samples are nearer to each other than to training images, as of models that generalize. Models that have learned little "
            "agree too: look at the samples (`benchmark.sample(...)`) and at PSNR test."
        )
    return "The samples of one run alone are nearer to the other's than to its training images: no verdict."


def _to_nearest(images: np.ndarray, subset: Subset, place: "Place") -> Likeness:
    found = nearest(images, subset.train, 1, device=place.device).indices[:, 0]
    return likeness(images, subset.train[found])


def _spec(folder: Path, search: tuple[Path, ...]) -> Spec:
    if not (folder / "record.json").exists():
        raise UsageError(f"The run {folder.name} is not finished, so there is nothing to compare. `benchmark.run(...)` finishes it.")
    stored = record.read(folder / "record.json")
    return from_record(stored.spec, overrides=stored.overrides, assumed=stored.assumed, search=search)


def _check_images(specs: tuple[Spec, ...]) -> None:
    first, second = specs
    if first.images != second.images:
        raise UsageError(
            f"The runs make images of different shapes: {first.images.channels} x {first.images.resolution}² and "
            f"{second.images.channels} x {second.images.resolution}². Compare runs on one dataset."
        )
    if to_json(first.dataset.config) != to_json(second.dataset.config) or first.dataset.kind != second.dataset.kind:
        raise UsageError(
            f"The runs were trained on different images ({first.dataset.name} and {second.dataset.name}). Compare runs on one dataset."
        )
    if first.id == second.id:
        raise UsageError(
            f"{first.id} is one run, named twice. Name two runs that were trained on different images: the two halves of one "
            "seed (`half='a'` and `half='b'`)."
        )
