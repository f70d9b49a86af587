"""softmax(q k^T / sqrt(d)) v over the keys that each query sees, and the choice of what computes it."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.attention.windows import is_global, visible_keys
from benchmark.contract import Attention, FieldError

KERNELS = ("auto", "masked")


class Attend(nn.Module):
    """softmax(q k^T / sqrt(d)) v over the keys that each query sees: all that depends on the window.

    It has no parameters, and its mask is no part of a checkpoint.
    """

    mask: Tensor | None

    def __init__(self, attention: Attention, side: int) -> None:
        super().__init__()
        self.attention, self.side, self.kernel = attention, side, "auto"
        self.used: dict[str, str] = {}  # "cpu float32" -> kernel
        mask = None if is_global(attention, side) else visible_keys(attention, side)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
        """Return the attended values (N, heads, side**2, d) of q, k and v of that shape; `scale` is d**-0.5 unless given."""
        self.used[f"{q.device.type} {str(q.dtype).removeprefix('torch.')}"] = "masked"
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, scale=scale)

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        """Return the weights that `forward` gives to the values: (N, heads, side**2 queries, side**2 keys)."""
        scores = q @ k.mT / math.sqrt(q.shape[3])
        if self.mask is not None:
            scores = scores.masked_fill(~self.mask, -torch.inf)
        return scores.softmax(dim=3)


def set_kernel(network: nn.Module, name: str) -> None:
    """Compute every attention layer of a network with one kernel, or with the fastest for each ('auto').

    Call it once the network is on its device. Raise FieldError where a layer cannot be served, with what can. A network
    without such layers is left as it is.
    """
    if name not in KERNELS:
        raise FieldError(f"attention kernel {name!r} does not exist; there are {', '.join(KERNELS)}")
    for layer in _layers(network):
        layer.kernel = name


def kernels_used(network: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return, for each device and type that the network has run with ("cpu float32"), the kernel of every layer in order.

    "" stands for a layer that has not run so. Empty for a network without such layers, or that has not run.
    """
    layers = _layers(network)
    circumstances = sorted({one for layer in layers for one in layer.used})
    return {one: tuple(layer.used.get(one, "") for layer in layers) for one in circumstances}


def _layers(network: nn.Module) -> list[Attend]:
    return [module for module in network.modules() if isinstance(module, Attend)]
