"""Where the time and the memory of a training step go, and what the run would take; measured on made-up images."""

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.analysis.memory import memory_by_part
from benchmark.contract import ClosedForm
from benchmark.declaring.spec import Spec
from benchmark.errors import BenchError, UsageError
from benchmark.networks.attention import set_kernel
from benchmark.networks.cost import forward_flops
from benchmark.networks.denoiser import OneLabel
from benchmark.networks.numerics import recompute, tf32
from benchmark.run import Place, build
from benchmark.running import environment
from benchmark.scoring.psnr import psnr
from benchmark.training.loop import start
from benchmark.training.state import Training
from benchmark.training.step import Labels, Work, prepare, take_step

PARTS = ("data", "forward", "backward", "optimizer", "ema")
WARM_UP = 2  # steps that are not counted: they compile, choose kernels and make the optimizer's moments
MOST_STEPS = 10_000
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Profile:
    """Medians over the steps. FLOPs count 2 for a multiply-add and every pair of tokens, whether or not a window hides it."""

    device: str
    threads: int
    precision: str
    steps: int
    batch: int
    micro_batch: int  # 0: all at once
    step_seconds: float
    seconds: dict[str, float]  # by part
    images_per_second: float
    step_flops: int  # three forward passes of the batch
    achieved_flops: float  # per second
    peak_flops: dict[str, float]  # per second, of a large matrix product, measured here
    utilisation: float  # achieved over the peak of the recipe's precision
    memory_bytes: dict[str, int]  # by part, and the measured peak
    training_seconds: float  # projected
    evaluation_seconds: float
    kernels: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]


class Clock:
    """Seconds between marks, by part; on a GPU by its own events, so that nothing waits while the steps run."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: list[tuple[str, object]] = []

    def mark(self, part: str) -> None:
        """End a part; 'begin' only begins the next."""
        self._marks.append((part, self._now()))

    def seconds(self) -> dict[str, float]:
        """Return the seconds of every part since the last 'begin', and forget the marks."""
        if self._cuda:
            torch.cuda.synchronize()
        found: dict[str, float] = defaultdict(float)
        for (_, before), (part, now) in zip(self._marks, self._marks[1:], strict=False):
            found[part] += before.elapsed_time(now) / 1000 if self._cuda else now - before  # type: ignore[attr-defined,operator]
        self._marks = []
        return found

    def _now(self) -> object:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def profile(
    spec: Spec,
    place: Place,
    *,
    steps: int = 10,
    trace: Path | None = None,
    warn: Callable[[str], None] = print,
    progress: Progress = lambda done, total, what: None,
) -> Profile:
    """Take some training steps of a spec and measure them; write a Chrome trace of three more to `trace` if it is given."""
    _check_steps(steps)
    training, images, work = _on_made_up_images(spec, place, warn)
    taken = _steps(training, images, work, steps, progress)
    if trace:
        progress(steps, steps, "writing the trace")
        _trace(training, images, work, trace)
    progress(steps, steps, "measuring the peak of matrix products")
    peaks = matmul_peaks(place.device)
    memory = memory_by_part(training, images, work)
    progress(steps, steps, "scoring a few images")
    evaluation = _evaluation_seconds(spec, training.ema, images)
    return _profile(spec, place, training, work, taken, peaks, memory, evaluation)


def matmul_peaks(device: torch.device) -> dict[str, float]:
    """Return the FLOP/s of a large square matrix product by precision, the best of repetitions over about a second."""
    side = 8192 if device.type == "cuda" else 1024
    kinds = {"fp32": (torch.float32, False), "bf16": (torch.bfloat16, False)}
    if device.type == "cuda":
        kinds["tf32"] = (torch.float32, True)
    found = {}
    for name, (kind, short) in kinds.items():
        a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
        clock, times, began = Clock(device), list[float](), time.monotonic()
        with tf32(short):
            while len(times) < 3 or time.monotonic() - began < 0.5:
                clock.mark("begin")
                a @ b
                clock.mark("product")
                times.append(clock.seconds()["product"])
        found[name] = 2 * side**3 / min(times)
    return found


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise UsageError(f"`steps={steps}` must be at least 1.")
    if steps > MOST_STEPS:
        raise UsageError(f"`steps={steps}` must be at most {MOST_STEPS:,}: the median of a few says as much.")


def _on_made_up_images(spec: Spec, place: Place, warn: Callable[[str], None]) -> tuple[Training, Tensor, Work]:
    """Return a freshly built network in training, images and labels of the spec's shape, and how a step is computed."""
    recipe, device = spec.recipe.config, place.device
    network = build(spec).to(device)
    if isinstance(network, ClosedForm):
        raise UsageError(f"The model '{spec.model.name}' is fitted in closed form: there is no training step to profile.")
    set_kernel(network, place.attention_kernel, timed=not place.deterministic)
    shape = (min(spec.subset, 1024), spec.images.channels, spec.images.resolution, spec.images.resolution)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    training = start(network, recipe)
    if place.recompute:
        recompute(network)
    network.train()
    labels = None
    if spec.classes:
        given = torch.randint(spec.classes, (len(images),), device=device)
        labels = Labels(given, spec.no_class, getattr(spec.model.config, "class_dropout", 0.0))
    work = Work(recipe, spec.seed, place.processes, place.micro_batch, labels=labels, warn=warn)
    prepare(network, work, device)
    return training, images, work


def _profile(
    spec: Spec,
    place: Place,
    training: Training,
    work: Work,
    taken: Sequence[Mapping[str, float]],
    peaks: dict[str, float],
    memory: dict[str, int],
    evaluation: float,
) -> Profile:
    """Return what was measured as rates and projections; `taken`: the seconds of each step, by part."""
    recipe, whole = spec.recipe.config, statistics.median(sum(one.values()) for one in taken)
    flops = 3 * forward_flops(spec) * recipe.batch
    peak = peaks["tf32" if recipe.tf32 and "tf32" in peaks and recipe.precision == "fp32" else recipe.precision]
    return Profile(
        device=environment.device_name(place.device),
        threads=torch.get_num_threads(),
        precision=recipe.precision,
        steps=len(taken),
        batch=recipe.batch,
        micro_batch=work.micro_batch or 0,
        step_seconds=whole,
        seconds={part: statistics.median(one[part] for one in taken) for part in PARTS},
        images_per_second=recipe.batch / whole,
        step_flops=flops,
        achieved_flops=flops / whole,
        peak_flops=peaks,
        utilisation=flops / whole / peak,
        memory_bytes=memory,
        training_seconds=whole * recipe.steps,
        evaluation_seconds=evaluation,
        kernels=training.kernels,
        notes=tuple(work.notes),
    )


def _steps(training: Training, images: Tensor, work: Work, steps: int, progress: Progress) -> list[dict[str, float]]:
    clock, taken = Clock(images.device), []
    for i in range(WARM_UP + steps):
        clock.mark("begin")
        take_step(training, images, work, clock.mark)
        training.step += 1
        found = clock.seconds()
        if i >= WARM_UP:
            taken.append(found)
            progress(i + 1 - WARM_UP, steps, f"{sum(found.values()):.3g} s a step")
    return taken


def _evaluation_seconds(spec: Spec, ema: nn.Module, images: Tensor) -> float:
    """Return the projected seconds of all PSNR scores of a run, from scoring as many images as take about a second."""
    recipe, flops = spec.recipe.config, forward_flops(spec)
    budget = 2e13 if images.device.type == "cuda" else 5e10
    few = max(2, min(recipe.psnr_images, len(images), int(budget / (4 * flops))))
    ema = OneLabel(ema.eval(), 0) if spec.classes else ema.eval()
    for _ in range(2 if images.device.type == "cuda" else 1):  # the first one chooses kernels
        began = time.perf_counter()
        psnr(ema, images[:few], images[:few], seed=0, steps=2, images=few)
    pairs = (2 if spec.no_class is None else 4) * recipe.psnr_images * recipe.psnr_steps
    points = sum(step <= recipe.steps for step in recipe.trajectory)
    pairs += 2 * recipe.trajectory_psnr_images * recipe.trajectory_psnr_steps * points
    return (time.perf_counter() - began) / (4 * few) * pairs


def _trace(training: Training, images: Tensor, work: Work, path: Path) -> None:
    """Write three steps as a Chrome trace, atomically."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # its notes on missing devices are no result
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as traced

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if images.device.type == "cuda" else [])]
    with traced(activities=activities) as found:
        for _ in range(3):
            take_step(training, images, work)
            training.step += 1
    aside = path.with_name(f".{path.name}.tmp.json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        found.export_chrome_trace(str(aside))
        aside.replace(path)
    except (OSError, RuntimeError) as problem:
        raise BenchError(f"The trace {path} cannot be written: {problem}.") from None
    finally:
        aside.unlink(missing_ok=True)
