"""What a training step cannot be faster than: its matrix products, attention and activations alone, each at the speed it reaches."""

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from benchmark.contract import Attention
from benchmark.networks.attention import Attend
from benchmark.networks.attention.bands import _chunks, bands, rows_of
from registry.backbones.dit import DiT

Turn = Callable[[], object]


@dataclass(frozen=True)
class Parts:
    """Seconds of a step's parts, forward and backward, all layers together, when each is computed again and again."""

    linear: float
    attention: float
    activation: float

    @property
    def seconds(self) -> float:
        """Return what they take together: a step in which all else costs nothing."""
        return self.linear + self.attention + self.activation


@dataclass(frozen=True)
class Bound:
    """A step, what its parts alone take, and the plain step it is held against, if it is."""

    what: str
    precision: str
    parts: Parts
    seconds: float
    images: int
    plain: float | None = None


def medians(turns: dict[str, Turn], repeat: int) -> dict[str, float]:
    """Return the median seconds of each, taken in turn `repeat` times after one round that does not count.

    CPU seconds on one thread, which other processes disturb least; seconds on the clock on several.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    spent: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(repeat + 1):
        for name, turn in turns.items():
            began = clock()
            turn()
            spent[name].append(clock() - began)
    return {name: statistics.median(seconds[1:]) for name, seconds in spent.items()}


def parts_alone(model: DiT, layers: tuple[Attention, ...], side: int, dtype: torch.dtype, batch: int, repeat: int = 5) -> Parts:
    """Measure the parts of a step on `batch` images of side x side tokens by themselves, their operands in the caches that hold them."""
    rows, inner = batch * side**2, int(model.hidden * model.mlp_ratio)
    size = model.hidden // model.heads
    size += -size % 8  # as heads are padded
    width = model.heads * size
    turns: dict[str, Turn] = {
        f"linear {ins} {outs}": products(rows, ins, outs, dtype)
        for ins, outs in ((model.hidden, 3 * width), (width, model.hidden), (model.hidden, inner), (inner, model.hidden))
    }
    kinds = tuple(dict.fromkeys(layers))
    turns |= {f"attention {number}": attended(kind, side, model.heads, size, dtype, batch) for number, kind in enumerate(kinds)}
    turns["activation"] = activated(rows, inner, dtype)
    found = medians(turns, repeat)
    return Parts(
        linear=len(layers) * sum(seconds for name, seconds in found.items() if name.startswith("linear")),
        attention=sum(found[f"attention {kinds.index(layer)}"] for layer in layers),
        activation=len(layers) * found["activation"],
    )


def products(rows: int, ins: int, outs: int, dtype: torch.dtype) -> Turn:
    """Return the three products of a linear layer: forward, and backward for its input and its weights."""
    x, weight, gradient = (torch.randn(shape, dtype=dtype) for shape in ((rows, ins), (outs, ins), (rows, outs)))

    def turn() -> None:
        F.linear(x, weight)
        gradient @ weight
        gradient.T @ x

    return turn


def attended(attention: Attention, side: int, heads: int, size: int, dtype: torch.dtype, batch: int) -> Turn:
    """Return one attention layer, forward and backward, by the kernel that a step takes."""
    layer = Attend(attention, side)
    packed = torch.randn(batch, side**2, 3, heads, size, dtype=dtype, requires_grad=True)
    gradient = torch.randn(batch, heads, side**2, size, dtype=dtype)

    def turn() -> None:
        packed.grad = None
        layer(*packed.permute(2, 0, 3, 1, 4).unbind(0)).backward(gradient)

    return turn


def banded(attention: Attention, side: int, heads: int, size: int, dtype: torch.dtype, batch: int) -> Turn:
    """Return the matrix products and the softmax of a layer of bands, forward and backward, on the operands of one band."""
    whole = torch.empty(batch, heads, side**2, size, dtype=dtype, device="meta")
    stacks = [(chunk.stop - chunk.start) * heads for chunk in _chunks(whole)]
    shapes = [(stack, *band.shape) for stack in stacks for band in bands(attention, side, rows_of(attention, side, dtype))]
    operands = {
        (stack, few, many): tuple(torch.randn(shape, dtype=dtype) for shape in ((stack, few, size), (stack, many, size), (few, many)))
        for stack, few, many in shapes
    }

    def turn() -> None:
        for shape in shapes:
            q, k, bias = operands[shape]
            weights = torch.baddbmm(bias, q, k.mT).softmax(2)
            torch.bmm(weights, k)  # the values; then the gradients of the values, the weights, the scores, the queries and the keys
            torch.bmm(weights.mT, q)
            scores = torch._softmax_backward_data(torch.bmm(q, k.mT), weights, 2, dtype)
            torch.bmm(scores, k)
            torch.bmm(scores.mT, q)

    return turn


def activated(rows: int, inner: int, dtype: torch.dtype) -> Turn:
    """Return the GELU of an MLP, forward and backward."""
    x, gradient = torch.randn(rows, inner, dtype=dtype, requires_grad=True), torch.randn(rows, inner, dtype=dtype)

    def turn() -> None:
        x.grad = None
        F.gelu(x, approximate="tanh").backward(gradient)

    return turn


def section(bounds: Iterable[Bound]) -> list[str]:
    """Return the lines of the page that say what bounds a step."""
    return [
        "## What bounds a step",
        "",
        "Linear layers, attention and GELU alone, forward and backward, each repeated by itself on one layer's operands, times the number "
        "of layers. A step in which all else cost nothing (normalisation, modulation, residuals, conversions, optimizer, EMA, calls) would "
        "take their sum, and be faster than the plain step by the last column at most; a bar above it cannot be met by removing what is "
        "beside them.",
        "",
        "| step | type | linear | attention | GELU | together | measured | images/s | so at most |",
        "|-|-|-|-|-|-|-|-|-|",
        *(
            f"| {one.what} | {one.precision} | {1e3 * one.parts.linear:.0f} ms | {1e3 * one.parts.attention:.0f} ms | "
            f"{1e3 * one.parts.activation:.0f} ms | {1e3 * one.parts.seconds:.0f} ms | {1e3 * one.seconds:.0f} ms | "
            f"{one.images / one.seconds:.1f} | {'' if one.plain is None else f'{one.plain / one.parts.seconds:.2f}x'} |"
            for one in bounds
        ),
        "",
    ]
