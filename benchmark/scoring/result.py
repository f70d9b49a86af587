"""What a run found: a trained network to its scores, and both to a record, written with its picture."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from benchmark.declaring.spec import Spec
from benchmark.errors import BenchError
from benchmark.files import write_text
from benchmark.images.datasets import Subset
from benchmark.networks.attention import kernel_milliseconds
from benchmark.networks.cost import forward_flops, parameters, peak_memory_bytes
from benchmark.networks.denoiser import noise_estimate
from benchmark.recording import curves, errors, record
from benchmark.recording.record import LABELS_VERSION, METRIC_VERSION, Budget, Data, Psnr, Record
from benchmark.running import environment
from benchmark.running.place import Place
from benchmark.running.progress import Display
from benchmark.running.signals import stop_requested
from benchmark.scoring.measure import Measured, by_image, measure, on_device
from benchmark.scoring.partial import PARTIAL, PartialScores, depends_on, stopped
from benchmark.training import checkpoint
from benchmark.training.state import Sitting, Trained


class Scored(NamedTuple):
    """What was measured of a network, and the seconds it took."""

    measured: Measured
    seconds: float


def score(spec: Spec, place: Place, display: Display, network: nn.Module, subset: Subset, keep: Path | None = None) -> Scored:
    """Score a network by the recipe; the errors of what is scored go into the folder `keep`, where a killed scoring resumes."""
    began = time.monotonic()
    recipe, images = spec.recipe.config, on_device(subset, place.device)
    network, processes = noise_estimate(network, recipe), place.processes
    partial, bar = None, display.bar("scoring")
    pairs = recipe.peer_images if subset.peers else 0
    if keep:
        depends = depends_on(network, subset, spec, recipe.psnr_steps, recipe.psnr_images, pairs)
        partial = PartialScores(keep / PARTIAL, depends, seconds=place.checkpoint_seconds, processes=processes)
    with stop_requested(patient=processes.size > 1) as stop:

        def progress(done: int, total: int) -> None:
            if any(processes.any(stop())):
                raise stopped(f"Stopped at {100 * done // total}% of the scoring", partial)
            bar(done, total)

        measured = measure(
            network,
            images,
            seed=spec.seed,
            steps=recipe.psnr_steps,
            most=recipe.psnr_images,
            peer_pairs=pairs,
            no_class=spec.no_class,
            progress=progress,
            processes=processes,
            partial=partial,
        )
    return Scored(measured, time.monotonic() - began)


def record_of(spec: Spec, place: Place, trained: Trained, scored: Scored, subset: Subset) -> Record:
    """Return the record of a trained and scored network."""
    total, trainable = parameters(trained.network)
    sitting = trained.sitting or sitting_in(place)  # which took no step
    budget = Budget(
        steps=trained.step,
        device=sitting.device,
        threads=sitting.threads,
        wall_seconds=trained.wall_seconds,
        evaluation_seconds=scored.seconds,
        peak_memory_bytes=max(trained.peak_memory_bytes, peak_memory_bytes(place.device)),
        resumed=trained.resumed,
        parameters=total,
        parameters_trainable=trainable,
        forward_flops=forward_flops(spec),
        processes=sitting.processes,
        micro_batch=trained.micro_batch,
        recompute=sitting.recompute,
        kernels=trained.kernels,
        notes=tuple(trained.notes),
        deterministic=sitting.deterministic,
        kernel_milliseconds=kernel_milliseconds(trained.network),
    )
    images = Data(
        manifest_sha256=subset.manifest_digest,
        train_sha256=subset.digest,
        test_sha256=subset.test_digest,
        dropped_duplicates=subset.dropped_duplicates,
        labels_sha256=subset.labels_digest,
    )
    fields: dict[str, Any] = {
        "schema": 1,
        "id": spec.id,
        "metric_version": LABELS_VERSION if spec.classes else METRIC_VERSION,
        "spec": spec.to_json(),
        "overrides": spec.overrides,
        "assumed": spec.assumed,
        "trajectory": tuple(trained.trajectory),
        "scores": {},
        "training": budget,
        "data": images,
        "weights_sha256": checkpoint.weights_digest(trained.ema.state_dict()),
        "environment": environment.describe(),
        "code": spec.code,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return _with_measured(fields, scored.measured)


def sitting_in(place: Place) -> Sitting:
    """Return what a record says of where this process, and those beside it, compute."""
    return Sitting(
        device=environment.device_name(place.device),
        threads=torch.get_num_threads(),
        processes=place.processes.size,
        recompute=place.recompute,
        deterministic=place.deterministic,
    )


def rescored(before: Record, scored: Scored) -> Record:
    """Return a record with the PSNR of its network scored again."""
    budget = vars(before.training) | {"evaluation_seconds": scored.seconds}
    return _with_measured(vars(before) | {"training": Budget(**budget)}, scored.measured)


def headline(curves: Psnr) -> dict[str, float]:
    """Return the headline: the means of the clipped reading over the diffusion steps, in dB."""
    return {"psnr_train": curves.psnr_train, "psnr_test": curves.psnr_test, "psnr_gap": curves.psnr_gap}


def save(result: Record, folder: Path, display: Display, scored: Scored) -> None:
    """Write the record of a run, the errors of its images and its picture into the run's folder."""
    matrices = {name: by_image(found) for name, found in scored.measured.errors.items()}
    errors.write(folder / errors.FILE, matrices, result.id, result.psnr.diffusion_steps)
    record.write(result, folder / "record.json")
    (folder / PARTIAL).unlink(missing_ok=True)
    _draw(result, folder / "figures" / "psnr.svg", display)


def _with_measured(fields: dict[str, Any], measured: Measured) -> Record:
    found = {"psnr": measured.psnr, "membership": measured.membership, "unlabelled": measured.unlabelled}
    return Record(**fields | found | headline(measured.psnr))


def _draw(result: Record, path: Path, display: Display) -> None:
    """Draw the PSNR curves of one record; where matplotlib is not installed (a bare GPU node), say so and go on."""
    try:
        write_text(path, curves.run_svg(result))
    except BenchError as problem:
        display.note(f"No picture of this run: {problem}")
