"""The second composition: the samples of a network that is there become scores in its record; nothing is trained.

record -> samples -> features of both sides -> scores -> record. Samples and features stay on disk as they are made, so
the same command goes on where a kill ended it, and gives the same numbers.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from benchmark import run
from benchmark.declaring.spec import Spec, from_record
from benchmark.errors import UsageError
from benchmark.files import write_bytes
from benchmark.images import datasets
from benchmark.images.packing import Packed
from benchmark.images.subsets import training_indices
from benchmark.quality import memorisation
from benchmark.quality.choice import Quality, prepare
from benchmark.quality.features import Extractor, extract
from benchmark.quality.reference import Reference, reference, trained_on
from benchmark.quality.scores import score
from benchmark.recording import record
from benchmark.recording.record import Record, Score
from benchmark.running.hold import only_one
from benchmark.running.progress import Display
from benchmark.sampling import Request, Samples, sample_loaded, sample_run


def evaluate(
    folder: Path, wanted: Quality, request: Request, place: run.Place, display: Display, search: tuple[Path, ...], batch: int | None = None
) -> Record:
    """Score the samples of a finished run and put the numbers into its record, beside those that are there."""
    stored = record.read(folder / "record.json")
    spec = from_record(stored.spec, overrides=stored.overrides, assumed=stored.assumed, search=search)

    def drawn() -> Samples:
        return sample_run(folder, request, place, display, search, batch)

    return run.publish(_scored(folder, spec, wanted, request, place, display, search, drawn), spec, place)


def evaluate_loaded(
    folder: Path,
    spec: Spec,
    network: nn.Module,
    wanted: Quality,
    request: Request,
    place: run.Place,
    display: Display,
    search: tuple[Path, ...],
    batch: int | None = None,
) -> Record:
    """Score the samples of a network that was trained elsewhere, whose record lies in `folder`; put the numbers into that record."""

    def drawn() -> Samples:
        return sample_loaded(folder, spec, network, request, place, display, batch)

    return _scored(folder, spec, wanted, request, place, display, search, drawn)


def check(spec: Spec, wanted: Quality, request: Request, place: run.Place, display: Display, search: tuple[Path, ...]) -> None:
    """Raise UsageError where the samples of a network could not be scored as is wanted: before anything is measured of it."""
    _prepared(spec, wanted, request, place, display, search)


def _prepared(
    spec: Spec, wanted: Quality, request: Request, place: run.Place, display: Display, search: tuple[Path, ...]
) -> tuple[Packed, Reference, list[Extractor]]:
    packed = datasets.load(datasets.packed_name(spec), spec.dataset.config, home=place.home, progress=display.bar("packing"))
    against = reference(packed, spec.dataset.name, place.home, _trained_on(spec, packed, search))
    return packed, against, prepare(wanted, request.count, against, place.device)


def _scored(
    folder: Path,
    spec: Spec,
    wanted: Quality,
    request: Request,
    place: run.Place,
    display: Display,
    search: tuple[Path, ...],
    draw: Callable[[], Samples],
) -> Record:
    """Score the samples that `draw` returns, made or read, and write the record of the folder with the numbers in it."""
    packed, against, extractors = _prepared(spec, wanted, request, place, display, search)
    before = record.read(folder / "record.json")
    drawn = draw()
    kept = folder / "samples" / request.key / "features"
    scores = score(wanted, extractors, drawn.images, kept, against, sampling=sampling(request), device=place.device, bars=display.bar)
    if "memorisation" in wanted.metrics:
        scores |= _memorisation(spec, packed, drawn, request, extractors, kept, place, display)
    with only_one(folder):
        after = record.read(folder / "record.json")
        if after.weights_sha256 != before.weights_sha256:
            raise UsageError(f"The run {folder.name} was trained anew while its samples were scored. Score it again.")
        _refuse_smaller(after, scores)
        result = replace(after, scores=after.scores | scores)
        record.write(result, folder / "record.json")
        return result


def sampling(request: Request) -> str:
    """Say how the samples were drawn: what must agree before two scores are compared."""
    eta = f", eta {request.eta:g}" if request.eta else ""
    guidance = f", guidance {request.guidance:g}" if request.guidance is not None else ""
    variance = f", variance {request.variance}" if request.variance != "beta_tilde" else ""
    precision = f", {request.precision}" if request.precision != "fp32" else ""
    return f"{request.sampler}, {request.steps} steps{eta}{variance}{guidance}{precision}, seed {request.seed}"


def _trained_on(spec: Spec, packed: Packed, search: tuple[Path, ...]) -> set[int]:
    """Return the indices of the images that a declared row, or this run, trains on."""
    own = training_indices(packed, spec.dataset.name, spec.subset, spec.seed, spec.half)
    return trained_on(packed, spec.dataset.name, search).union(own)


def _memorisation(
    spec: Spec,
    packed: Packed,
    drawn: Samples,
    request: Request,
    extractors: list[Extractor],
    kept: Path,
    place: run.Place,
    display: Display,
) -> dict[str, Score]:
    """Measure memorisation in pixels and in the features of every extractor at hand; draw the nearest pairs."""
    subset = datasets.subset(packed, spec.dataset.name, spec.subset, spec.seed, spec.half)
    train = subset.train[memorisation.distinct(subset.train)]
    sides = {"samples": drawn.images, "training images": train, "test images": subset.test}
    scores = _memorised("memorisation", "pixels", None, sides, request, place, display)
    for one in extractors:
        layer = next(iter(one.layers))
        features = {
            what: extract(
                one, images, kept / one.key / _place(what), what, device=place.device, progress=display.bar(f"{one.name}, {what}")
            ).layer(layer)
            for what, images in sides.items()
        }
        name = f"memorisation_{one.name.partition('-')[0]}"
        scores |= _memorised(name, one.name, one.weights_digest, features, request, place, display)
    sheet = kept.parent / "nearest.png"
    write_bytes(sheet, memorisation.contact_sheet(drawn.images, train, device=place.device))
    display.note(f"The ten samples nearest to a training image, each above that image: {sheet}")
    return scores


def _memorised(
    name: str,
    space: str,
    weights: str | None,
    sides: dict[str, np.ndarray],
    request: Request,
    place: run.Place,
    display: Display,
) -> dict[str, Score]:
    """Measure memorisation in one space: the share of samples that are memorised, and the ratio to what test images give."""
    measured = memorisation.memorisation(*sides.values(), space=space, device=place.device, progress=display.bar(name))
    readings = (
        (name, measured.share, None, memorisation.VERSION),
        (f"{name}_ratio_test", measured.ratio_over_null, measured.null_test, memorisation.RATIO_VERSION),
    )
    return {
        key: Score(
            value=value,
            sd=None,
            samples=measured.samples,
            extractor=space,
            weights_digest=weights,
            reference_digest="",
            version=version,
            sampling=sampling(request),
            null=null,
        )
        for key, value, null, version in readings
        if value is not None
    }


def _place(what: str) -> str:
    return "" if what == "samples" else what.replace(" ", "-")


def _refuse_smaller(before: Record, scores: dict[str, Score]) -> None:
    for name, new in scores.items():
        if new.small and name in before.scores and not before.scores[name].small:
            raise UsageError(
                f"The record has {name} of {before.scores[name].samples:,} samples; one of {new.samples:,}, marked as "
                "small, does not replace it. Ask for more with `benchmark.sampling.Request(count=...)`."
            )
