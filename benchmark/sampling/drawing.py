"""A network and a request to images: the k-th depends on (seed, k) alone, whatever is drawn beside it."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.contract import ImageShape
from benchmark.errors import BenchError, UsageError
from benchmark.networks.denoiser import Estimate, device_of
from benchmark.networks.diffusion import random_key
from benchmark.networks.numerics import tf32
from benchmark.networks.passes import Passes
from benchmark.sampling.request import Precision, Request, check_guidance
from benchmark.sampling.samplers import guided, kept_steps, predictor, signal_levels, trajectory

Progress = Callable[[int, int, str], None]


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
    check_guidance(request, classes, null)
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
