"""softmax(q k^T / sqrt(d)) v over the keys that each query sees, by the kernel that is forced or fastest."""

import math
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask

from benchmark.contract import Attention
from benchmark.errors import UsageError
from benchmark.networks.attention import bands, flex, neighbourhood
from benchmark.networks.attention.choice import (
    KERNELS,
    Circumstances,
    choose,
    chosen,
    describe,
    may_be_flex,
    to_be_timed,
    without_flex,
)
from benchmark.networks.attention.timing import Milliseconds, fastest, milliseconds
from benchmark.networks.attention.windows import is_global, pairs, visible_keys

_COMPUTED_BY = {"bands": bands.attend, "natten": neighbourhood.attend}


class Attend(nn.Module):
    """softmax(q k^T / sqrt(d)) v over the keys that each query sees: all that depends on the window or pattern.

    It has no parameters, and its mask is no part of a checkpoint. Every kernel computes the same, to rounding; `masked`
    is torch's own attention, which scores every pair.
    """

    mask: Tensor | None

    def __init__(self, attention: Attention, side: int) -> None:
        super().__init__()
        self.attention, self.side, self.kernel = attention, side, "auto"
        self.used = SimpleNamespace()  # "cpu float32" = kernel; compiled code can set an attribute of it, without a guard
        self.failed: set[str] = set()  # where FlexAttention does not compile; `set_kernel` has all layers share one
        self.blocks: BlockMask | None = None  # of FlexAttention, once `set_kernel` has seen the device
        self.times: Milliseconds = {}  # in fp32, where `set_kernel` has measured them
        self.timed: tuple[str, str] | None = None  # the fastest of them in fp32: without and with gradients
        mask = None if is_global(attention, side) else visible_keys(attention, side)
        self.patterned = attention.pattern is not None and mask is not None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
        """Return the attended values (N, heads, side**2, d) of q, k and v of that shape; `scale` is d**-0.5 unless given.

        Raise UsageError where the kernel that was forced cannot serve them. Under torch.func (vmap, jvp) and under
        sdpa_kernel(MATH) it is torch's own attention whatever was forced.
        """
        if not q.is_meta and torch.is_autocast_enabled(q.device.type):
            q, k, v = (x.to(torch.get_autocast_dtype(q.device.type)) for x in (q, k, v))
        trains = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
        if _plain():
            return self._masked(q, k, v, scale)
        window, border = self.attention.window, self.attention.border
        forced = self.kernel if self.timed is None or q.dtype != torch.float32 else self.timed[trains]
        kernel, circumstances = chosen(forced, window, border, self.patterned, self.side, q.device.type, q.dtype, trains)
        if circumstances:
            setattr(self.used, circumstances, kernel)
        if kernel == "masked":
            return self._masked(q, k, v, scale)
        size = q.shape[3] ** -0.5 if scale is None else scale
        if kernel != "flex":
            return _COMPUTED_BY[kernel](q, k, v, self.attention, self.side, size)
        if torch.compiler.is_compiling():  # a failure is that of the block around, and is met there
            return flex.attend(q, k, v, self.attention, self.side, size, self.blocks)
        return self.by_flex(q, k, v, size, Circumstances(q.device.type, q.dtype, trains))

    def by_flex(self, q: Tensor, k: Tensor, v: Tensor, scale: float, given: Circumstances) -> Tensor:
        """Return what `forward` does, by FlexAttention; by torch's own attention where that does not compile.

        Raise UsageError in that case if it was forced.
        """
        if given.name not in self.failed:
            try:
                return flex.attend(q, k, v, self.attention, self.side, scale, self.blocks)
            except RuntimeError as raised:
                if not flex.compile_failed(raised):
                    raise
                without_flex(self.kernel, self.attention, self.side, given, raised)
            self.failed.add(given.name)
        setattr(self.used, given.name, "masked")
        return self._masked(q, k, v, scale)

    def _masked(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, scale=scale)

    def weights(self, q: Tensor, k: Tensor, size: int | None = None) -> Tensor:
        """Return the weights that `forward` gives to the values, (N, heads, side**2 queries, side**2 keys), at size**-0.5."""
        scores = q @ k.mT / math.sqrt(size or q.shape[3])
        if self.mask is not None:
            scores = scores.masked_fill(~self.mask, -torch.inf)
        return scores.softmax(dim=3)


def set_kernel(network: nn.Module, name: str, *, timed: bool = False) -> None:
    """Compute every attention layer of a network with one kernel, or with the fastest for each ('auto').

    `timed` lets the clock decide where nothing else does, windows in fp32 on a GPU; without it they are masked.
    Call it once the network is on its device. Raise UsageError where a layer cannot be served, with what can; a layer
    without a window is torch's own attention under 'natten'. A network without such layers is left as it is.
    """
    if name not in KERNELS:
        raise UsageError(f"The attention kernel {name!r} does not exist. There are {', '.join(KERNELS)}.")
    layers = _layers(network)
    weight = next(network.parameters(), torch.empty(0))
    trains = any(parameter.requires_grad for parameter in network.parameters())
    given = Circumstances(weight.device.type, weight.dtype, trains)
    for layer in layers:
        choose(name, layer.attention, layer.side, given)
    failed: set[str] = set()
    for layer in layers:
        layer.kernel, layer.used, layer.failed = name, SimpleNamespace(), failed
        may = may_be_flex(name, layer.attention, layer.side, given)
        layer.blocks = flex.block_mask(layer.attention, layer.side, weight.device) if may else None
        layer.times, layer.timed = {}, None
        if timed and (rivals := to_be_timed(name, layer.attention, layer.side, given)):
            layer.times = milliseconds(rivals, layer.attention, layer.side, weight.device, weight.dtype)
            layer.timed = fastest(layer.times, trains=False), fastest(layer.times, trains=True)


def kernels_used(network: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return, for each device and type that the network has run with ("cpu float32"), the kernel of every layer in order.

    "" stands for a layer that has not run so. Empty for a network without such layers, or that has not run.
    """
    used = [vars(layer.used) for layer in _layers(network)]
    circumstances = sorted({one for layer in used for one in layer})
    return {one: tuple(layer.get(one, "") for layer in used) for one in circumstances}


def kernel_milliseconds(network: nn.Module) -> dict[str, tuple[float, ...]]:
    """Return what was measured to choose kernels: milliseconds of the forward pass and of both, by kernel and layer in words."""
    return {
        f"{kernel}, float32, {describe(layer.attention, layer.side)}": both
        for layer in _layers(network)
        for kernel, both in layer.times.items()
    }


def compiles(network: nn.Module) -> bool:
    """Tell whether a layer may be computed by FlexAttention, which is compiled for every shape."""
    return any(layer.kernel == "flex" or layer.blocks is not None for layer in _layers(network))


def pairs_scored(network: nn.Module) -> tuple[int, ...]:
    """Return how many pairs of a query and a key every attention layer scores in a head, in order."""
    return tuple(pairs(layer.attention, layer.side) for layer in _layers(network))


def _layers(network: nn.Module) -> list[Attend]:
    return [module for module in network.modules() if isinstance(module, Attend)]


def _plain() -> bool:
    """Tell whether derivatives are asked for that only torch's own attention has: in torch.func, or in its MATH form."""
    if torch._C._are_functorch_transforms_active():
        return True
    return not torch.compiler.is_compiling() and not torch.backends.cuda.flash_sdp_enabled()
