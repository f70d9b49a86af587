"""The same products on wider matrices: on a GPU, 16-bit rows that are no multiple of 16 bytes are several times slower.

Zeros are put behind the numbers of a row and what comes of them is cut off, so that the function is the same. Weights are
stored and optimised in their own shapes: their zeros are made anew in every pass, and a compiler writes those of the tokens
together with what it writes in any case.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MULTIPLE = 8  # numbers in a row: 16 bytes in a 16-bit type, what a GPU reads at once

Attended = Callable[[Tensor, Tensor, Tensor, float], Tensor]


class Linear(nn.Linear):
    """torch's linear layer with its parameters, computed by `linear`; `aligned` None: with zeros where that is faster."""

    aligned: bool | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) for x: (..., in)."""
        return linear(x, self.weight, self.bias, self.aligned)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, aligned: bool | None = None) -> Tensor:
    """Return x: (..., in) times weight: (out, in) plus bias: (out,); with zeros if `aligned`, None: where that is faster."""
    out, columns = weight.shape
    if not (zeros(out) or zeros(columns)) or not (faster(x) if aligned is None else aligned):
        return F.linear(x, weight, bias)
    wide = F.pad(weight, (0, zeros(columns), 0, zeros(out)))
    return F.linear(widened(x.to(computed_in(x))), wide, None if bias is None else widened(bias))[..., :out]


def attended(attend: Attended, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Return `attend` of q, k and v, (N, heads, tokens, d) each, and the scale, computed with zeros in every head."""
    return attend(widened(q), widened(k), widened(v), scale)[..., : v.shape[3]]


def faster(x: Tensor) -> bool:
    """Tell whether zeros pay in a product with x: on a GPU, in a 16-bit type. (Rows of 252 numbers in fp32 are aligned.)"""
    return x.is_cuda and computed_in(x) in (torch.bfloat16, torch.float16)


def computed_in(x: Tensor) -> torch.dtype:
    """Return the type in which a product with x is computed: under autocast its own, which leaves float64 alone."""
    if x.dtype != torch.float64 and torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def widened(x: Tensor) -> Tensor:
    """Return x: (..., n) with zeros up to a multiple in its last axis."""
    return F.pad(x, (0, missing)) if (missing := zeros(x.shape[-1])) else x


def zeros(width: int) -> int:
    """Return how many numbers a row of `width` lacks."""
    return -width % MULTIPLE
