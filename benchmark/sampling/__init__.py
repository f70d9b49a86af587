"""Run to samples: a packed array of which the k-th image depends on (seed, k) alone, made or resumed.

Asking for more images later goes on where these end; asking for fewer returns the first of them.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmark import run
from benchmark.contract import (
    Count,
    FieldError,
    Fraction,
    ImageShape,
    Positive,
    Range,
    checked,
)
from benchmark.declaring.spec import Spec, from_record
from benchmark.errors import BenchError, UsageError, unknown
from benchmark.files import check_room, write_bytes
from benchmark.images.packing import digest
from benchmark.networks.denoiser import Estimate, device_of, noise_estimate
from benchmark.networks.diffusion import random_key
from benchmark.networks.numerics import compile_passes, tf32
from benchmark.networks.passes import Passes
from benchmark.recording import record
from benchmark.running.progress import Display
from benchmark.sampling.samplers import (
    Variance,
    guided,
    kept_steps,
    predictor,
    signal_levels,
    trajectory,
)
from benchmark.sampling.store import Store, held

Progress = Callable[[int, int, str], None]
Sampler = Literal["ancestral", "ddim", "dpm", "euler", "heun"]
Precision = Literal["fp32", "tf32", "bf16"]
DEFAULT_STEPS: dict[Sampler, int] = {"ancestral": 250, "ddim": 50, "dpm": 20, "euler": 50, "heun": 25}


@checked
class Request:
    """Which samples of a run: the sampler and what it depends on, the seed of the noise, how many."""

    count: Positive
    sampler: Sampler = "ancestral"
    steps: Annotated[int, Range(least=1, most=1000)] = 250
    eta: Fraction = 0.0  # of ddim alone
    variance: Variance = "beta_tilde"  # of ancestral alone
    guidance: Annotated[float, Range(least=0)] | None = None  # None: 1 where the model has classes
    seed: Count = 0
    precision: Precision = "fp32"  # of the network's passes; the recursion between them is fp32

    @property
    def key(self) -> str:
        """The name of the folder: everything but the count, because the first images do not depend on it."""
        eta = f"-eta{self.eta:g}" if self.eta else ""
        variance = f"-{self.variance}" if self.variance != "beta_tilde" else ""
        guidance = f"-guidance{self.guidance:g}" if self.guidance is not None else ""
        precision = f"-{self.precision}" if self.precision != "fp32" else ""
        return f"{self.sampler}{self.steps}{eta}{variance}{guidance}{precision}-seed{self.seed}"

    def validate(self) -> None:
        if self.eta and self.sampler != "ddim":
            raise FieldError(f"eta = {self.eta:g} belongs to the sampler 'ddim'; '{self.sampler}' has no such choice")
        if self.variance != "beta_tilde" and self.sampler != "ancestral":
            raise FieldError(f"variance = {self.variance} belongs to the sampler 'ancestral'; '{self.sampler}' has no such choice")


def request_of(
    count: int,
    sampler: str,
    steps: int | None,
    *,
    eta: float = 0.0,
    variance: Variance = "beta_tilde",
    guidance: float | None = None,
    seed: int = 0,
    precision: Precision = "fp32",
) -> Request:
    """Return a request whose steps are the sampler's usual ones where none are named; raise UsageError for another sampler."""
    if (known := next((name for name in DEFAULT_STEPS if name == sampler), None)) is None:
        raise unknown("sampler", sampler, DEFAULT_STEPS)
    taken = DEFAULT_STEPS[known] if steps is None else steps
    return Request(count=count, sampler=known, steps=taken, eta=eta, variance=variance, guidance=guidance, seed=seed, precision=precision)


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
    _check_guidance(request, classes, null)
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
                content = io.BytesIO()
                np.save(content, labels(request.seed, range(store.done), classes).numpy().astype(np.uint16), allow_pickle=False)
                write_bytes(target / "labels.npy", content.getvalue())
            store.finish()
        images = store.images()
    taken = images[: request.count]
    return Samples(taken, store.identity | {"count": len(taken), "sha256": digest(taken), "complete": True})


@torch.no_grad()
def draw_samples(
    network: Estimate,
    request: Request,
    numbers: range,
    shape: ImageShape,
    device: torch.device,
    classes: int = 0,
    progress: Progress | None = None,
    clip: bool = True,
) -> np.ndarray:
    """Return the samples of these numbers k as uint8 (N, C, R, R)."""
    steps = kept_steps(request.sampler, request.steps)
    draw = noise_source(request.seed, numbers, shape, device)
    estimate = in_precision(network, request.precision, device)
    if classes:
        estimate = guided(
            estimate, labels(request.seed, numbers, classes).to(device), classes, 1.0 if request.guidance is None else request.guidance
        )
    predict = predictor(estimate, steps, clip=clip)
    way = trajectory(request.sampler, draw(), predict, signal_levels(steps), draw, request.eta, request.variance)
    for i, x in enumerate(way, 1):  # noqa: B007  the last x is the sample
        if progress:
            done = numbers.start * len(steps) + i * len(numbers)
            progress(done, request.count * len(steps), f"image {numbers.stop} of {request.count}")
    if not x.isfinite().all():
        bad = next(k for k, image in zip(numbers, x, strict=True) if not image.isfinite().all())
        raise BenchError(
            f"The sample number {bad} (seed {request.seed}) is not finite: the network returned NaN or inf. "
            "Nothing of it was kept; score the run with `benchmark.run.evaluate(...)` to see at which steps it fails."
        )
    return grey_levels(x).cpu().numpy()


def draw_batches(
    network: nn.Module, request: Request, shape: ImageShape, batch: int, progress: Progress, *, classes: int = 0, null: bool = False
) -> np.ndarray:
    """Return the samples of a request as uint8 (count, C, R, R), drawn on the network's device and kept nowhere else."""
    _check_guidance(request, classes, null)
    starts = range(0, request.count, batch)
    numbers = [range(start, min(start + batch, request.count)) for start in starts]
    device = device_of(network)
    estimate = passes(network, request, batch, classes)
    return np.concatenate([draw_samples(estimate, request, part, shape, device, classes, progress) for part in numbers])


def passes(network: nn.Module, request: Request, batch: int, classes: int = 0) -> Estimate:
    """Return a network's passes over the samples of a batch: in parts where they do not fit, of one shape where it is compiled."""
    twice = classes and request.guidance not in (None, 1)  # with and without the class
    return Passes(network, 2 * batch if twice else batch).over


def in_precision(estimate: Callable[..., Tensor], precision: Precision, device: torch.device) -> Callable[..., Tensor]:
    """Return a network's passes computed in a precision: bf16 by autocast, or fp32 with TF32 products, which only a GPU has."""
    if precision == "tf32" and device.type != "cuda":
        raise UsageError(f"`precision='tf32'`: {device.type} has no TF32. Take `precision='bf16'`, or none, which is fp32.")

    def computed(*inputs: Tensor) -> Tensor:
        with tf32(precision == "tf32"), torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            return estimate(*inputs)

    return computed


def grey_levels(x: Tensor) -> Tensor:
    """Return images in [-1, 1] as uint8, the inverse of `diffusion.scaled`: rounded to the nearest level."""
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def noise_source(seed: int, numbers: range, shape: ImageShape, device: torch.device) -> Callable[[], Tensor]:
    """Return draw() of the samples k in `numbers`: the next noise (N, C, R, R), each k from a stream of its own.

    The streams are keyed by (seed, k) and drawn on the CPU, so that no image depends on its neighbours or the device.
    """
    streams = [torch.Generator().manual_seed(random_key("sample", seed, k)) for k in numbers]

    def draw() -> Tensor:
        noise = torch.empty(len(streams), shape.channels, shape.resolution, shape.resolution, pin_memory=device.type == "cuda")
        for image, stream in zip(noise, streams, strict=True):
            image.normal_(generator=stream)
        return noise.to(device, non_blocking=True)

    return draw


def labels(seed: int, numbers: range, classes: int) -> Tensor:
    """Return the class of each sample k, shape (N,), a function of (seed, k)."""
    streams = (torch.Generator().manual_seed(random_key("sample", seed, k, "label")) for k in numbers)
    return torch.cat([torch.randint(classes, (1,), generator=stream) for stream in streams])


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


def _check_guidance(request: Request, classes: int, null: bool) -> None:
    if request.guidance is None:
        return
    if not classes:
        raise UsageError(f"`guidance={request.guidance:g}` needs a model with classes; this one has none (num_classes = 0). Leave it out.")
    if not null and request.guidance != 1:
        raise UsageError(
            f"`guidance={request.guidance:g}` needs a model trained with a label for no class; this one was not "
            "(class_dropout = 0). Leave it out."
        )
