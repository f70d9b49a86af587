"""Attention by NATTEN, where it is installed: the neighbourhood attention of Hassani et al. (2023), whose border is shifted."""

from functools import lru_cache
from importlib.util import find_spec

from torch import Tensor

from benchmark.contract import Attention


def attend(q: Tensor, k: Tensor, v: Tensor, attention: Attention, side: int, scale: float) -> Tensor:
    """Return the attended values (N, heads, side**2, d) of q, k and v of that shape; softmax of `scale` * q k^T."""
    from natten import na2d  # an optional package

    grids = (x.transpose(1, 2).unflatten(1, (side, side)) for x in (q, k, v))  # (N, row, column, heads, d)
    return na2d(*grids, kernel_size=(attention.window, attention.window), scale=scale).flatten(1, 2).transpose(1, 2)


@lru_cache(maxsize=1)
def installed() -> bool:
    """Tell whether the package is there."""
    return find_spec("natten") is not None
