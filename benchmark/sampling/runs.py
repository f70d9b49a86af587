"""Run to samples: a packed array of which the k-th image depends on (seed, k) alone, made or resumed.

Asking for more images later goes on where these end; asking for fewer returns the first of them.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmark import run
from benchmark.contract import ImageShape
from benchmark.declaring.spec import Spec, from_record
from benchmark.errors import UsageError
from benchmark.files import check_room, write_bytes
from benchmark.images.packing import digest
from benchmark.networks.denoiser import noise_estimate
from benchmark.networks.numerics import compile_passes
from benchmark.recording import record
from benchmark.running.progress import Display
from benchmark.sampling.drawing import Progress, draw_samples, labels, passes
from benchmark.sampling.request import Request, check_guidance
from benchmark.sampling.store import Store, held


class Samples(NamedTuple):
    """The samples asked for, mapped from disk: (count, C, R, R) uint8; `info` is what samples.json says of them."""

    images: np.ndarray
    info: dict[str, Any]


def sample_run(
    folder: Path, request: Request, place: "run.Place", display: Display, search: tuple[Path, ...], batch: int | None = None
) -> Samples:
    """Return the samples of a finished run from its EMA weights, making those that are not there yet."""
    if not (folder / "record.json").exists():
        raise UsageError(f"The run {folder.name} is not finished, so there is nothing to sample from. `benchmark.run(...)` finishes it.")
    stored = record.read(folder / "record.json")
    spec = from_record(stored.spec, overrides=stored.overrides, assumed=stored.assumed, search=search)

    def network() -> nn.Module:
        trained = run.trained_network(spec, place, display, None, stored.weights_sha256)
        compile_passes(trained, spec.recipe.config)
        return trained

    return _of_spec(folder, spec, request, stored.weights_sha256, network, place, display, batch)


def sample_loaded(
    folder: Path, spec: Spec, network: nn.Module, request: Request, place: "run.Place", display: Display, batch: int | None = None
) -> Samples:
    """Return the samples of a network that was trained elsewhere, whose record lies in `folder`, making those that are not there yet."""

    def ready() -> nn.Module:
        return noise_estimate(network.to(place.device), spec.recipe.config).eval()

    return _of_spec(folder, spec, request, record.read(folder / "record.json").weights_sha256, ready, place, display, batch)


def _of_spec(
    folder: Path,
    spec: Spec,
    request: Request,
    weights_sha256: str,
    network: Callable[[], nn.Module],
    place: "run.Place",
    display: Display,
    batch: int | None,
) -> Samples:
    """Return the samples of a network of a spec: of its images' shape, and of its classes where it has some."""
    return samples(
        folder,
        request,
        shape=spec.images,
        weights_sha256=weights_sha256,
        network=network,
        classes=spec.classes,
        null=spec.no_class is not None,
        device=place.device,
        batch=batch,
        progress=display.bar("sampling"),
    )


def samples(
    folder: Path,
    request: Request,
    *,
    shape: ImageShape,
    weights_sha256: str,
    network: Callable[[], nn.Module],
    classes: int = 0,
    null: bool = False,
    device: torch.device,
    batch: int | None = None,
    progress: Progress | None = None,
) -> Samples:
    """Return the samples of the run in `folder`, making those that are not there yet.

    `network()` is called only then. `classes` is the number of labels it takes (0: none), and `null` tells whether it
    has one more for "no class". The k-th image is of a class drawn evenly from all, a function of (seed, k): labels.npy beside
    the images holds them. A kill loses at most the images of one batch; one that does not fit into memory is taken in
    halves. Up to the rounding of fp32 (one grey level, rarely) an image depends on neither the batch size nor the device.
    """
    check_guidance(request, classes, null)
    batch = batch or (256 if device.type == "cuda" else 32)
    target = folder / "samples" / request.key
    with held(target):
        store = Store(target, _identity(folder, request, weights_sha256, classes), (shape.channels, shape.resolution, shape.resolution))
        if store.done < request.count or not store.complete:
            size = shape.channels * shape.resolution**2
            check_room((request.count - store.done) * size, folder, f"{request.count:,} samples of {size:,} bytes")
            store.extend(request.count)
            denoiser = passes(network(), request, batch, classes)
            for start in range(store.done, request.count, batch):
                numbers = range(start, min(start + batch, request.count))
                store.append(draw_samples(denoiser, request, numbers, shape, device, classes, progress))
            if classes:
                _keep_labels(target / "labels.npy", labels(request.seed, range(store.done), classes))
            store.finish()
        images = store.images()
    taken = images[: request.count]
    return Samples(taken, store.identity | {"count": len(taken), "sha256": digest(taken), "complete": True})


def _keep_labels(path: Path, found: Tensor) -> None:
    content = io.BytesIO()
    np.save(content, found.numpy().astype(np.uint16), allow_pickle=False)
    write_bytes(path, content.getvalue())


def _identity(folder: Path, request: Request, weights_sha256: str, classes: int) -> dict[str, Any]:
    return {
        "run": folder.name,
        "sampler": request.sampler,
        "steps": request.steps,
        "eta": request.eta,
        "guidance": request.guidance,
        "seed": request.seed,
        "weights_sha256": weights_sha256,
        **({"labels": f"drawn evenly from {classes} classes"} if classes else {}),
        **({"variance": request.variance} if request.variance != "beta_tilde" else {}),
        **({"precision": request.precision} if request.precision != "fp32" else {}),
    }
