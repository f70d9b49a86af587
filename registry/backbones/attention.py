"""Multi-head self-attention over a square grid of tokens, global or within local windows.

Every attention layer of a DiT is called with the tokens (N, side**2, hidden) and the condition (N, hidden), whether it
uses the latter or not, and returns tokens; `maps` of the same two returns its weights, for analysis.
"""

from torch import Tensor, nn

from benchmark.attention import Attend, is_global, visible_keys
from benchmark.contract import Attention

__all__ = ["Attend", "SelfAttention", "is_global", "joined", "visible_keys"]


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
