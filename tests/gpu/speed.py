"""How fast a GPU trains and attends: images a second of whole steps, beside a plain DiT on the same card; kernels side by side."""

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from benchmark.contract import Attention
from benchmark.declaring import registry
from benchmark.declaring.entries import load
from benchmark.networks.attention import Attend, kernels_used, set_kernel, timing
from benchmark.networks.attention.choice import Circumstances, refusal
from benchmark.running.environment import synchronize
from benchmark.training.loop import start
from benchmark.training.state import Training
from benchmark.training.step import Work, prepare, take_step
from tests.gpu.correctness import Where

TYPES = {"bf16": "bfloat16", "fp32": "float32"}
BATCH = 128
ROWS = tuple((model, layout) for model in ("dit_xs1", "dit_s1") for layout in ("global", "local_head"))


class Way(NamedTuple):
    """A training step that can be timed: a row of the registry, the type of its numbers, and how it is to be compiled."""

    model: str
    layout: str
    precision: str
    asked: str


BARRED = tuple(Way(*row, "bf16", "blocks") for row in ROWS)
OTHERS = (
    *(Way(f"plain {model}", "global", "bf16", "none") for model in ("dit_xs1", "dit_s1")),
    *(Way(*row, "fp32", "blocks") for row in ROWS if row[0] == "dit_xs1"),
    *(Way(*row, "bf16", how) for how in ("graphs", "none") for row in ROWS),
)


class Step(NamedTuple):
    """A training step as it was timed: images a second, what compiled it in the end and what computed its attention."""

    model: str
    layout: str
    precision: str
    asked: str
    compiled: str
    batch: int
    images_per_second: float
    kernels: str


class Layer(NamedTuple):
    """Milliseconds of the forward pass and of both, by kernel, of a layer with a window."""

    window: int
    precision: str
    milliseconds: dict[str, tuple[float, float]]


def timed(where: Where, way: Way, batch: int = BATCH, seconds: float = 4.0) -> Step:
    """Time a training step; one that fails is told by its error, at 0 images a second."""
    if way.model.startswith("plain "):
        return _timed_plain(where, way, batch, seconds)
    training, work = begun(where, way.model, way.layout, batch=batch, precision=way.precision, compile=way.asked)
    try:
        each = _median(lambda: take_step(training, where.images, work), where, seconds)
    except Exception as problem:
        return Step(*way, f"{way.asked}: {type(problem).__name__}", batch, 0.0, "")
    used = sorted(set(kernels_used(training.network).get(f"{where.device.type} {TYPES[way.precision]}", ())) - {""})
    return Step(*way, work.compiled, work.micro_batch or batch, batch / each, ", ".join(used))


def _timed_plain(where: Where, way: Way, batch: int, seconds: float) -> Step:
    """Time forward and backward pass and AdamW of the plain DiT in bf16, eager: stock PyTorch, heads of its own size, no EMA."""
    from tests.perf.plain_dit import plain

    model = way.model.removeprefix("plain ")
    spec = load(registry.find("model", model)).config
    network = plain(copy.deepcopy(built(where, model, "global")), spec).to(where.device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    x = torch.randn(batch, where.shape.channels, where.shape.resolution, where.shape.resolution, device=where.device)
    t = torch.randint(1000, (batch,), device=where.device)

    def step() -> None:
        with torch.autocast(where.device.type, dtype=torch.bfloat16):
            loss = network(x, t).float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return Step(*way, "none", batch, batch / _median(step, where, seconds), "torch's own")


def layer(where: Where, precision: str, window: int) -> Layer:
    """Time the kernels of a window side by side."""
    dtype, attention = getattr(torch, TYPES[precision]), Attention(window=window)
    given = Circumstances(where.device.type, dtype, trains=True)
    able = tuple(name for name in ("masked", "bands", "flex") if refusal(name, attention, where.shape.resolution, given) is None)
    return Layer(window, precision, timing.milliseconds(able, attention, where.shape.resolution, where.device, dtype))


class Part(NamedTuple):
    """Milliseconds of a part of DiT-XS/1's step at its own width and at the next one whose rows are multiples of 16 bytes."""

    what: str
    own: float
    padded: float


LINEAR = ((252, 756), (252, 252), (252, 1008), (1008, 252))


def linear(where: Where, given: int, made: int) -> Part:
    """Time the forward pass of a linear layer in bf16 beside a padded one."""
    rows, sizes = BATCH * where.shape.resolution**2, ((given, made), (_aligned(given), _aligned(made)))
    own, padded = (_median(_linear(where, rows, *size), where, seconds=0.3) for size in sizes)
    return Part(f"linear layer, {given} to {made}", 1000 * own, 1000 * padded)


def heads(where: Where, window: int | None) -> Part:
    """Time both passes of torch's attention in bf16 on heads of 63 beside heads of 64, with the padding itself."""
    mask = None if window is None else Attend(Attention(window=window), where.shape.resolution).mask.to(where.device)
    own, padded = (_median(_attention(where, BATCH, where.shape.resolution**2, mask, size), where, seconds=0.3) for size in (63, 64))
    what = "global attention" if window is None else f"masked attention, window {window}"
    return Part(f"{what}, heads of 63", 1000 * own, 1000 * padded)


PRODUCTS = ("linear layers", "attention", "GELU")  # what a step cannot do without
GROUPS = {  # of the kernels of a step, by a part of their name; the first that fits
    "attention": ("sdpa", "fmha", "flash", "flex_attention"),
    "linear layers": ("gemm", "cutlass", "nvjet"),
    "GELU": ("gelu",),
    "LayerNorm, modulation, gates": ("native_layer_norm", "fused_mul", "fused__to_copy_mul"),
    "strided copies": ("elementwise_kernel<128, 4", "copy"),
}
ELSE = "everything else"


class Profile(NamedTuple):
    """Milliseconds of the kernels of one training step in bf16, compiled by blocks, by group."""

    model: str
    layout: str
    batch: int
    milliseconds: float
    groups: dict[str, float]


def profiled(where: Where, model: str, layout: str, batch: int = BATCH, turns: int = 3) -> Profile:
    """Profile the kernels of a row's training step on a GPU."""
    training, work = begun(where, model, layout, batch=batch, precision="bf16", compile="blocks")
    for _ in range(4):
        take_step(training, where.images, work)
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(turns):
            take_step(training, where.images, work)
        synchronize(where.device)
    groups = grouped({kernel.key: kernel.self_device_time_total / turns / 1000 for kernel in seen.key_averages()})
    return Profile(model, layout, batch, sum(groups.values()), groups)


def grouped(kernels: Mapping[str, float]) -> dict[str, float]:
    """Return the sum of each group of kernels, from the milliseconds of each by name."""
    groups = dict.fromkeys([*GROUPS, ELSE], 0.0)
    for kernel, milliseconds in kernels.items():
        groups[next((group for group, names in GROUPS.items() if any(name in kernel for name in names)), ELSE)] += milliseconds
    return groups


def lines(where: Where) -> Iterator[tuple[str, str, Callable[[], Step | Profile | Part | Layer]]]:
    """Yield what is to be measured in its order, as the part of the page, the name in it and the measurement.

    What has a bar comes first, and then what explains it, since a card may be at hand for minutes.
    """
    for way in BARRED:
        yield "steps", " ".join(way), partial(timed, where, way)
    if where.large:
        for row in ROWS:
            yield "profiles", " ".join(row), partial(profiled, where, *row)
    for way in OTHERS:
        yield "steps", " ".join(way), partial(timed, where, way)
    for given, made in LINEAR:
        yield "parts", f"linear layer, {given} to {made}", partial(linear, where, given, made)
    for window in (None, 7):
        yield "parts", f"attention, window {window}", partial(heads, where, window)
    for precision in TYPES:
        for window in (3, 7, 13):
            yield "layers", f"window {window}, {precision}", partial(layer, where, precision, window)


def _linear(where: Where, rows: int, given: int, made: int) -> Callable[[], object]:
    x, weight = (torch.randn(size, device=where.device, dtype=torch.bfloat16) for size in ((rows, given), (made, given)))
    return lambda: F.linear(x, weight)


def _attention(where: Where, batch: int, tokens: int, mask: Tensor | None, size: int) -> Callable[[], object]:
    packed = torch.randn(batch, tokens, 3, 4, 63, device=where.device, dtype=torch.bfloat16, requires_grad=True)

    def turn() -> None:
        q, k, v = (F.pad(each, (0, size - 63)) for each in packed.permute(2, 0, 3, 1, 4).unbind(0))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=63**-0.5)[..., :63]
        torch.autograd.grad(out.sum(), packed)

    return turn


def _aligned(width: int) -> int:
    return -(-width // 64) * 64


def begun(where: Where, model: str, layout: str, **changed: object) -> tuple[Training, Work]:
    """Begin a training of a declared network under the paper's recipe, changed; what `take_step` is asked with."""
    recipe = replace(load(registry.find("recipe", "paper")).config, **changed)
    network = built(where, model, layout).train()
    set_kernel(network, "auto", timed=True)
    work = Work(recipe, seed=0, warn=lambda said: None)
    training = start(network, recipe)
    prepare(network, work, where.device)
    return training, work


def built(where: Where, model: str, layout: str) -> nn.Module:
    """Build a declared network; on a CPU, where only the logic is of interest, one of two thin blocks."""
    spec = load(registry.find("model", model)).config
    placed = load(registry.find("layout", layout)).config.place(spec.depth)
    if not where.large:
        spec, placed = replace(spec, hidden=32, depth=2, heads=2), placed[:2]
    torch.manual_seed(0)
    return spec.build(where.shape, placed).to(where.device)


def _median(turn: Callable[[], object], where: Where, seconds: float) -> float:
    """Return the median seconds of a turn, after a few that compile."""
    for _ in range(4):
        turn()
    taken, began = list[float](), time.perf_counter()
    while len(taken) < 10 or time.perf_counter() - began < seconds:
        synchronize(where.device)
        start_ = time.perf_counter()
        turn()
        synchronize(where.device)
        taken.append(time.perf_counter() - start_)
    return statistics.median(taken)
