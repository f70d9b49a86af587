"""What the rows of a suite cost, and which are done."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.declaring import registry
from benchmark.declaring.row import Row
from benchmark.declaring.spec import AXES, Spec, resolve
from benchmark.networks import cost
from benchmark.recording import record
from benchmark.recording.record import path_of
from benchmark.run import build

# The dense peak of an H100 SXM by the recipe's precision (fp32 without TF32), and the share of it that a training reaches.
# In fp32 an assumption. In bf16 what DiT-XS/1 reached: 1,442 images/s at 32x32, batch 128, compile = 'blocks', PyTorch 2.11, on
# an H200, whose peak is the same. A small network or batch reaches less: its kernels end before the next one is started.
H100_PEAK = {"fp32": 67e12, "bf16": 989e12}  # FLOP/s
H100_SHARE = {"fp32": 0.4, "bf16": 0.137}
H100_BASIS = {"fp32": "assumed", "bf16": "measured on DiT-XS/1"}
NO_KERNEL = (torch.ops.aten._unsafe_view.default, torch.ops.aten.empty.memory_format, torch.ops.aten.empty_like.default)
LAUNCH = 5e-6  # seconds from the start of a kernel to that of the next, assumed; CUDA graphs are faster
PASSES = 3  # forward passes that a step is counted as

State = str


class Kernels(TorchDispatchMode):
    """Within it every operation that a GPU starts a kernel for is counted: all but those that only see memory in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Count an operation and do it."""
        self.count += not (function.is_view or function in NO_KERNEL)
        return function(*args, **kwargs or {})


@dataclass(frozen=True)
class Forward:
    """What one image's forward pass takes: FLOPs, and kernels, which are as many for a batch."""

    flops: int
    kernels: int


def forward(network: nn.Module, spec: Spec) -> Forward:
    """Count a spec's forward pass through its network on meta."""
    with Kernels() as kernels:
        flops = cost.network_flops(network, spec.images, spec.classes)
    return Forward(flops, kernels.count)


@dataclass(frozen=True)
class Cost:
    """One row: the training's FLOPs (a step is 3 forward passes), the hours, and whether it is done."""

    row: Row
    id: str
    training_flops: int
    evaluation_flops: int
    hours_here: float | None  # None where no step was timed
    hours_h100: float  # in the recipe's precision
    hours_h100_bf16: float  # with the training in bf16
    state: State  # done, older code, another configuration (a record of that name describes other fields), open


def costs(
    rows: Sequence[Row],
    records: Path,
    *,
    search: tuple[Path, ...] = (registry.STOCK,),
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Cost]:
    """Return the cost of every row; `device`: time one step of every model on it, None: time nothing.

    Layouts, subsets and seeds change no count of FLOPs that matters here: a model is timed once for every shape of
    image and recipe, with the layout of its first row, and its other layouts by their FLOPs.
    """
    counted: dict[tuple[str, str, object], Forward] = {}
    speed: dict[tuple[str, object, str], float] = {}
    found = []
    for number, row in enumerate(rows):
        if progress:
            progress(number, len(rows))
        spec = resolve({axis: getattr(row, axis) for axis in AXES}, subset=row.subset, seed=row.seed, search=search)
        key = (row.model, row.layout, spec.images)
        if key not in counted:
            counted[key] = forward(cost.on_meta(spec), spec)
        recipe, passed = spec.recipe.config, counted[key]
        step = PASSES * passed.flops * recipe.batch
        pace = (row.model, spec.images, row.recipe)
        if device and pace not in speed:
            speed[pace] = cost.step_seconds(spec, build(spec).to(device), device) / step
        training, scoring = step * recipe.steps, _scoring(spec, passed.flops)
        kernels = PASSES * passed.kernels * recipe.steps
        hours_here = speed[pace] * (training + scoring) / 3600 if device else None
        found.append(
            Cost(
                row,
                spec.id,
                training,
                scoring,
                hours_here,
                hours_of_h100(training, kernels, scoring, recipe.precision),
                hours_of_h100(training, kernels, scoring, "bf16"),
                _state(spec, records),
            )
        )
    return found


def hours_of_h100(training: float, kernels: int, scoring: float, precision: str) -> float:
    """Return the hours of an H100 for a training of so many FLOPs and kernels in a precision, and for FLOPs of scoring in fp32."""
    return (max(seconds_of_h100(training, precision), kernels * LAUNCH) + seconds_of_h100(scoring, "fp32")) / 3600


def seconds_of_h100(flops: float, precision: str) -> float:
    """Return what so many FLOPs take on an H100 in a precision."""
    return flops / (H100_PEAK[precision] * H100_SHARE[precision])


def h100_said(precision: str) -> str:
    """Say what the hours of an H100 rest on."""
    return f"{H100_SHARE[precision]:.0%} of {H100_PEAK[precision] / 1e12:.0f} TFLOP/s in {precision}, {H100_BASIS[precision]}"


def petaflops(flops: float) -> str:
    """Return a count of operations as a person reads it: three figures, and no power of ten."""
    figures = float(f"{flops / 1e15:.3g}")
    return f"{figures:,.0f}" if figures >= 100 else f"{figures:g}"


def _scoring(spec: Spec, forward: int) -> int:
    """Return the FLOPs of the PSNR curves: at the end, and along the trajectory."""
    recipe = spec.recipe.config
    points = sum(step <= recipe.steps for step in recipe.trajectory)
    passes = recipe.psnr_images * recipe.psnr_steps + points * recipe.trajectory_psnr_images * recipe.trajectory_psnr_steps
    return 2 * passes * forward  # training and test images


def _state(spec: Spec, records: Path) -> State:
    path = path_of(records, spec.row)
    if not path.exists():
        return "open"
    found = record.read(path)
    if not spec.describes(found.spec):
        return "another configuration"
    return "done" if spec.same_numbers(found.code) else "older code"
