"""The rule: which keys of a square grid a query sees."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from benchmark.contract import Attention, FieldError, Pattern


def is_global(attention: Attention, side: int) -> bool:
    """Tell whether every query of a side x side grid sees every key.

    A truncated window reaches (w - 1) / 2 tokens from its query, so that a corner needs w >= 2 side - 1 to see all.
    """
    if attention.pattern is not None:
        return bool(_of_pattern(attention.pattern, side).all())
    if attention.window is None:
        return True
    return attention.window >= (side if attention.border == "shifted" else 2 * side - 1)


def window_of(attention: Attention) -> int:
    """Return the side of a layer's window; raise ValueError where it has none."""
    if attention.window is None:
        raise ValueError(f"{attention} has no window")
    return attention.window


def visible_rows(attention: Attention, side: int) -> list[range]:
    """Return the rows of keys that each row of queries sees; columns go by the same rule."""
    if is_global(attention, side):
        return [range(side)] * side
    window = window_of(attention)
    first = [position - window // 2 for position in range(side)]
    if attention.border == "shifted":
        first = [min(max(start, 0), side - window) for start in first]
    return [range(max(start, 0), min(start + window, side)) for start in first]


def visible_keys(attention: Attention, side: int) -> Tensor:
    """Return which keys (columns) each query (rows) sees: boolean (side**2, side**2), tokens in raster order."""
    if attention.pattern is not None:
        return torch.tensor(_of_pattern(attention.pattern, side))
    axis = torch.tensor([[key in seen for key in range(side)] for seen in visible_rows(attention, side)])
    return (axis[:, None, :, None] & axis[None, :, None, :]).reshape(side**2, side**2)


def pairs(attention: Attention, side: int) -> int:
    """Return how many pairs of a query and a key are scored, of side**4."""
    if attention.pattern is not None:
        return int(_of_pattern(attention.pattern, side).sum())
    return sum(map(len, visible_rows(attention, side))) ** 2


@lru_cache(maxsize=64)
def _of_pattern(pattern: Pattern, side: int) -> np.ndarray:
    visible = np.zeros((side**2, side**2), dtype=bool)
    for query in range(side**2):
        keys = sorted(set(pattern.keys(side, query)))
        if not keys or keys[0] < 0 or keys[-1] >= side**2:
            raise FieldError(f"{pattern} gives query {query} of {side} x {side} tokens the keys {keys}: at least one, of {side**2}")
        visible[query, keys] = True
    return visible
