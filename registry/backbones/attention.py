"""Multi-head self-attention over a square grid of tokens, global or within local windows."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.contract import Attention


def is_global(attention: Attention, side: int) -> bool:
    """Tell whether every query of a side x side grid sees every key.

    A truncated window reaches (w - 1) / 2 tokens from its query, so that a corner needs w >= 2 side - 1 to see all.
    """
    if attention.window is None:
        return True
    return attention.window >= (side if attention.border == "shifted" else 2 * side - 1)


def visible_keys(attention: Attention, side: int) -> Tensor:
    """Return which keys (columns) each query (rows) sees: boolean (side**2, side**2), tokens in raster order."""
    if is_global(attention, side):
        return torch.ones(side**2, side**2, dtype=torch.bool)
    window = attention.window
    position = torch.arange(side)
    first = position - window // 2  # first row (or column) of the window of each query
    if attention.border == "shifted":
        first = first.clamp(0, side - window)
    offset = position[None, :] - first[:, None]  # (query, key)
    axis = (offset >= 0) & (offset < window)
    return (axis[:, None, :, None] & axis[None, :, None, :]).reshape(side**2, side**2)


class Attend(nn.Module):
    """softmax(q k^T / sqrt(d)) v over the keys that each query sees: all that depends on the window.

    A faster computation of the same replaces this class; nothing else knows how the window is kept. This one scores
    every pair and masks, so that a window costs as much as global attention. It has no parameters, and its mask is
    no part of a checkpoint.
    """

    mask: Tensor | None

    def __init__(self, attention: Attention, side: int) -> None:
        super().__init__()
        mask = None if is_global(attention, side) else visible_keys(attention, side)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the attended values (N, heads, side**2, d) of q, k and v of that shape."""
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)


class SelfAttention(nn.Module):
    """Multi-head self-attention of a side x side grid, with the parameters of the official DiT's (qkv, proj)."""

    def __init__(self, hidden: int, heads: int, attention: Attention, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.attend = Attend(attention, side)
        self.proj = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended tokens (N, side**2, hidden) of x of that shape."""
        n, tokens, hidden = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.heads, hidden // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (N, heads, tokens, d)
        attended = self.attend(q, k, v)
        return self.proj(attended.transpose(1, 2).reshape(n, tokens, hidden))
