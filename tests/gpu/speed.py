"""How fast a GPU trains and attends: images a second of whole steps, beside a plain DiT on the same card; kernels side by side."""

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
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

LEAST = {("dit_xs1", "global"): 4_000, ("dit_s1", "global"): 2_100}  # images a second in bf16 on an H100: arithmetic, not seen
ROWS = [(model, layout) for model in ("dit_xs1", "dit_s1") for layout in ("global", "local_head")]
TYPES = {"bf16": "bfloat16", "fp32": "float32"}
WAYS = (("bf16", "none"), ("bf16", "blocks"), ("bf16", "graphs"), ("fp32", "blocks"))


class Step(NamedTuple):
    """A training step as it was timed: images a second, and what computed its attention."""

    model: str
    layout: str
    precision: str
    compiled: str
    batch: int
    images_per_second: float
    kernels: str


class Layer(NamedTuple):
    """Milliseconds of the forward pass and of both, by kernel, of a layer with a window."""

    window: int
    precision: str
    milliseconds: dict[str, tuple[float, float]]


def steps(where: Where, batch: int = 128, seconds: float = 4.0) -> Iterator[Step]:
    """Time the training step of each row, each way; a way that fails is told by its error."""
    images = where.images
    for model, layout in ROWS:
        for precision, how in WAYS:
            if precision == "fp32" and model != "dit_xs1":
                continue
            training, work = begun(where, model, layout, batch=batch, precision=precision, compile=how)
            network = training.network
            try:
                each = _median(lambda t=training, w=work: take_step(t, images, w), where, seconds)
            except Exception as problem:
                yield Step(model, layout, precision, f"{how}: {type(problem).__name__}", batch, 0.0, "")
                continue
            used = sorted(set(kernels_used(network).get(f"{where.device.type} {TYPES[precision]}", ())) - {""})
            yield Step(model, layout, precision, work.compiled, work.micro_batch or batch, batch / each, ", ".join(used))
            del training, network
            if where.large:
                torch.cuda.empty_cache()


def plain_steps(where: Where, batch: int = 128, seconds: float = 4.0) -> Iterator[Step]:
    """Time forward and backward pass and AdamW of the plain DiT in bf16, eager: stock PyTorch, heads of its own size, no EMA."""
    from tests.perf.plain_dit import plain

    for model in ("dit_xs1", "dit_s1"):
        spec = load(registry.find("model", model)).config
        network = plain(copy.deepcopy(built(where, model, "global")), spec).to(where.device).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
        x = torch.randn(batch, where.shape.channels, where.shape.resolution, where.shape.resolution, device=where.device)
        t = torch.randint(1000, (batch,), device=where.device)

        def step(
            network: nn.Module = network, optimizer: torch.optim.Optimizer = optimizer, x: torch.Tensor = x, t: torch.Tensor = t
        ) -> None:
            with torch.autocast(where.device.type, dtype=torch.bfloat16):
                loss = network(x, t).float().square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        each = _median(step, where, seconds)
        yield Step(f"plain {model}", "global", "bf16", "none", batch, batch / each, "torch's own")


def layers(where: Where) -> Iterator[Layer]:
    """Time the kernels of a window side by side."""
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        for window in (3, 7, 13):
            attention, given = Attention(window=window), Circumstances(where.device.type, dtype, trains=True)
            able = tuple(name for name in ("masked", "bands", "flex") if refusal(name, attention, where.shape.resolution, given) is None)
            yield Layer(window, precision, timing.milliseconds(able, attention, where.shape.resolution, where.device, dtype))


class Part(NamedTuple):
    """Milliseconds of a part of DiT-XS/1's step at its own width and at the next one whose rows are multiples of 16 bytes."""

    what: str
    own: float
    padded: float


def parts(where: Where, batch: int = 128, seconds: float = 0.3) -> Iterator[Part]:
    """Time linear layers, and both passes of attention with the padding itself, in bf16 beside padded ones."""
    tokens = where.shape.resolution**2
    for given, made in ((252, 756), (252, 252), (252, 1008), (1008, 252)):
        sizes = ((given, made), (_aligned(given), _aligned(made)))
        own, padded = (_median(_linear(where, batch * tokens, *size), where, seconds) for size in sizes)
        yield Part(f"linear layer, {given} to {made}", 1000 * own, 1000 * padded)
    seen = Attend(Attention(window=7), where.shape.resolution).mask
    for what, mask in (("global attention", None), ("masked attention, window 7", seen)):
        one = None if mask is None else mask.to(where.device)
        own, padded = (_median(_attention(where, batch, tokens, one, size), where, seconds) for size in (63, 64))
        yield Part(f"{what}, heads of 63", 1000 * own, 1000 * padded)


GROUPS = {  # of the kernels of a step, by a part of their name; the first that fits
    "attention": ("sdpa", "fmha", "flash", "flex_attention"),
    "linear layers": ("gemm", "cutlass"),
    "GELU": ("gelu",),
    "LayerNorm, modulation, gates": ("native_layer_norm", "fused_mul", "fused__to_copy_mul"),
    "strided copies": ("elementwise_kernel<128, 4", "copy"),
}


def kernels_of_a_step(where: Where, batch: int = 128) -> dict[str, object]:
    """Return what the kernels of DiT-XS/1's step take on a GPU, in bf16 compiled by blocks, milliseconds by group."""
    training, work = begun(where, "dit_xs1", "global", batch=batch, precision="bf16", compile="blocks")
    for _ in range(4):
        take_step(training, where.images, work)
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(3):
            take_step(training, where.images, work)
        synchronize(where.device)
    groups = dict.fromkeys([*GROUPS, "everything else"], 0.0)
    for kernel in seen.key_averages():
        fits = (group for group, names in GROUPS.items() if any(name in kernel.key for name in names))
        groups[next(fits, "everything else")] += kernel.self_device_time_total / 3000
    whole = sum(groups.values())
    said = f"A step of DiT-XS/1, global, bf16, compiled by blocks, batch {batch}, by torch's profiler: {whole:.1f} ms of kernels."
    return {"step": said, "milliseconds": whole, "groups": groups}


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
    while len(taken) < 5 or time.perf_counter() - began < seconds:
        synchronize(where.device)
        start_ = time.perf_counter()
        turn()
        synchronize(where.device)
        taken.append(time.perf_counter() - start_)
    return statistics.median(taken)
