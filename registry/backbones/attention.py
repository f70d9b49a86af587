"""Multi-head self-attention over a square grid of tokens, global or within local windows.

Every attention layer of a DiT is called with the tokens (N, side**2, hidden) and the condition (N, hidden), whether it
uses the latter or not, and returns tokens; `maps` of the same two returns its weights, for analysis.
"""

import math

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

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        """Return the weights that `forward` gives to the values: (N, heads, side**2 queries, side**2 keys)."""
        scores = q @ k.mT / math.sqrt(q.shape[3])
        if self.mask is not None:
            scores = scores.masked_fill(~self.mask, -torch.inf)
        return scores.softmax(dim=3)


class SelfAttention(nn.Module):
    """Multi-head self-attention of a side x side grid, with the parameters of the official DiT's (qkv, proj)."""

    def __init__(self, hidden: int, heads: int, attention: Attention, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.attend = Attend(attention, side)
        self.proj = nn.Linear(hidden, hidden)

    def initialise(self) -> None:
        """Set what does not start as every linear layer of the network does: nothing here."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the attended tokens (N, side**2, hidden) of x of that shape; the condition changes nothing."""
        q, k, v = self.project(x)
        return self.proj(joined(self.attend(q, k, v)))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each (N, heads, side**2, d), of x: (N, side**2, hidden)."""
        n, tokens, hidden = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.heads, hidden // self.heads)
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)

    def maps(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the attention maps (N, heads, side**2 queries, side**2 keys) of x: (N, side**2, hidden)."""
        q, k, _ = self.project(x)
        return self.attend.weights(q, k)


def joined(heads: Tensor) -> Tensor:
    """Return (N, heads, tokens, d) as tokens of all heads side by side, (N, tokens, heads * d)."""
    return heads.transpose(1, 2).flatten(2)
