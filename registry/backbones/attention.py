"""Multi-head self-attention over a square grid of tokens, global or within local windows.

Every attention layer of a DiT is called with the tokens (N, side**2, hidden) and the condition (N, hidden), whether it
uses the latter or not, and returns tokens; `maps` of the same two returns its weights, for analysis.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.contract import Attention
from benchmark.networks.attention import SMALLEST_GRID, Attend, is_global, visible_keys

__all__ = ["Attend", "AttentionLayer", "SelfAttention", "is_global", "joined", "visible_keys"]


class AttentionLayer(nn.Module):
    """The attention of one block: what a DiT asks of it beyond its forward pass."""

    def initialise(self) -> None:
        """Set what does not start as every linear layer of the network does: nothing, where a layer does not say otherwise."""


class SelfAttention(AttentionLayer):
    """Multi-head self-attention of a side x side grid, with the parameters of the official DiT's (qkv, proj).

    Heads of an odd size (252 / 4 = 63) are slow everywhere: on a grid of more than 64 tokens they are computed with zeros
    up to the next multiple of 8, which changes nothing but the rounding. The zeros are no part of the parameters.
    """

    def __init__(self, hidden: int, heads: int, attention: Attention, side: int) -> None:
        super().__init__()
        self.heads, self.size = heads, hidden // heads
        self.padding = -self.size % 8 if side**2 > SMALLEST_GRID else 0  # of each head
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.attend = Attend(attention, side)
        self.proj = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the attended tokens (N, side**2, hidden) of x of that shape; the condition changes nothing."""
        q, k, v = self.project(x)
        return self.merge(self.attend(q, k, v, scale=self.scale))

    @property
    def scale(self) -> float:
        """Return what the products of queries and keys are multiplied with: 1 / sqrt(size of a head), without its zeros."""
        return self.size**-0.5

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each (N, heads, side**2, d), of x: (N, side**2, hidden)."""
        if padding := self.padding_of(x):
            weight = F.pad(self.qkv.weight.unflatten(0, (-1, self.size)), (0, 0, 0, padding)).flatten(0, 1)
            bias = F.pad(self.qkv.bias.unflatten(0, (-1, self.size)), (0, padding)).flatten()
            qkv = F.linear(x, weight, bias)
        else:
            qkv = self.qkv(x)
        return qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def merge(self, heads: Tensor) -> Tensor:
        """Return the tokens (N, side**2, hidden) that the heads (N, heads, side**2, d) make together."""
        if padding := self.padding_of(heads):
            weight = F.pad(self.proj.weight.unflatten(1, (-1, self.size)), (0, padding)).flatten(1)
            return F.linear(joined(heads), weight, self.proj.bias)
        return self.proj(joined(heads))

    def padding_of(self, x: Tensor) -> int:
        """Return how many zeros every head is given: none on meta, where the FLOPs of the network are counted."""
        return 0 if x.is_meta else self.padding

    def maps(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the attention maps (N, heads, side**2 queries, side**2 keys) of x: (N, side**2, hidden)."""
        q, k, _ = self.project(x)
        return self.attend.weights(q, k, self.size)


def joined(heads: Tensor) -> Tensor:
    """Return (N, heads, tokens, d) as tokens of all heads side by side, (N, tokens, heads * d)."""
    return heads.transpose(1, 2).flatten(2)
