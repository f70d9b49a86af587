"""The rule: which keys of a square grid a query sees."""

import torch
from torch import Tensor

from benchmark.contract import Attention


def is_global(attention: Attention, side: int) -> bool:
    """Tell whether every query of a side x side grid sees every key.

    A truncated window reaches (w - 1) / 2 tokens from its query, so that a corner needs w >= 2 side - 1 to see all.
    """
    if attention.window is None:
        return True
    return attention.window >= (side if attention.border == "shifted" else 2 * side - 1)


def visible_on_axis(attention: Attention, side: int) -> Tensor:
    """Return which rows (or columns) of keys each row (or column) of queries sees: boolean (side, side)."""
    if is_global(attention, side):
        return torch.ones(side, side, dtype=torch.bool)
    window = attention.window
    position = torch.arange(side)
    first = position - window // 2  # first row (or column) of the window of each query
    if attention.border == "shifted":
        first = first.clamp(0, side - window)
    offset = position[None, :] - first[:, None]  # (query, key)
    return (offset >= 0) & (offset < window)


def visible_keys(attention: Attention, side: int) -> Tensor:
    """Return which keys (columns) each query (rows) sees: boolean (side**2, side**2), tokens in raster order."""
    axis = visible_on_axis(attention, side)
    return (axis[:, None, :, None] & axis[None, :, None, :]).reshape(side**2, side**2)
