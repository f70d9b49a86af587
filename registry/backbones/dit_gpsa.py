"""A DiT whose first layers are ConViT's gated positional self-attention (d'Ascoli et al. 2021): locality as a soft start.

Attention is (1 - sigma(lambda_h)) softmax(q k^T / sqrt(d)) + sigma(lambda_h) softmax(v_h . r), with
r = (|delta|^2, column of delta, row of delta) and delta the way from the query to the key, in tokens. It starts with
v_h = -strength (1, -2 Delta_h): a Gaussian of variance 1 / (2 strength) around the token at Delta_h from the query.
"""

from typing import Annotated

import torch
from torch import Tensor, nn

from benchmark.contract import Attention, Count, FieldError, Range, entry
from registry.backbones.attention import AttentionLayer, SelfAttention
from registry.backbones.dit import DiT


@entry(kind="dit_gpsa")
class GatedPositionalDiT(DiT):
    """A DiT with gated positional self-attention in its first `gated` layers and plain attention in the others.

    `strength` is the locality strength alpha, `gate` the initial lambda of every head (sigma(1) = 0.73 of the weight
    is positional), `spacing` the distance between the heads' centres in tokens. A layout's window applies to both
    softmaxes.
    """

    gated: Count
    strength: Annotated[float, Range(above=0)] = 1.0
    gate: float = 1.0
    spacing: Annotated[float, Range(above=0)] = 1.0

    def validate(self) -> None:
        """Check what no single field can."""
        super().validate()
        if self.gated > self.depth:
            raise FieldError(f"gated = {self.gated} must be at most depth = {self.depth}, the number of layers")

    def attention_layer(self, attention: Attention, side: int, before: list[AttentionLayer]) -> AttentionLayer:
        """Build the attention of the next block: gated where it is among the first."""
        if len(before) >= self.gated:
            return super().attention_layer(attention, side, before)
        return GatedPositionalAttention(self, attention, side)


class GatedPositionalAttention(SelfAttention):
    """Self-attention mixed, head by head, with a softmax over relative positions that is the same for every image."""

    offsets: Tensor

    def __init__(self, spec: GatedPositionalDiT, attention: Attention, side: int) -> None:
        super().__init__(spec.hidden, spec.heads, attention, side)
        self.start = (spec.strength, spec.spacing, spec.gate)
        self.position = nn.Parameter(torch.empty(spec.heads, 3))  # v_h; ConViT's bias cancels in the softmax
        self.gate = nn.Parameter(torch.empty(spec.heads))  # lambda_h
        self.register_buffer("offsets", offsets(side), persistent=False)

    @torch.no_grad()
    def initialise(self) -> None:
        """Start local, as ConViT: heads at their centres, gates open, values passed on as they are."""
        strength, spacing, gate = self.start
        nn.init.constant_(self.gate, gate)
        self.position[:, 0] = -strength
        self.position[:, 1:] = 2 * strength * spacing * centres(self.heads).to(self.position)
        nn.init.eye_(self.qkv.weight[-self.qkv.in_features :])  # the rows of the values

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the attended tokens (N, side**2, hidden) of x of that shape; the condition changes nothing."""
        q, k, v = self.project(x)
        gate = self.gate.sigmoid()[:, None, None].to(v.dtype)
        # Both maps sum to one over the keys, and so does their mixture: ConViT's last normalisation changes nothing.
        content = self.attend(q, k, v, scale=self.scale)
        return self.merge((1 - gate) * content + gate * (self.positional().to(v.dtype) @ v))

    def positional(self) -> Tensor:
        """Return the maps over relative positions, (heads, side**2 queries, side**2 keys)."""
        # Term by term, not as a matrix product, which autocast would take in bf16: too coarse for |delta|^2.
        terms = [self.position[:, r, None, None] * self.offsets[r] for r in range(3)]
        scores = terms[0] + terms[1] + terms[2]
        if self.attend.mask is not None:
            scores = scores.masked_fill(~self.attend.mask, -torch.inf)
        return scores.softmax(dim=2)

    def maps(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the gated attention maps (N, heads, side**2 queries, side**2 keys) of x: (N, side**2, hidden)."""
        gate = self.gate.sigmoid()[:, None, None]
        return (1 - gate) * super().maps(x) + gate * self.positional()


def centres(heads: int) -> Tensor:
    """Return the centre (column, row) of each head, (heads, 2): the most nearly square grid around the query.

    Four heads are ConViT's 2 x 2, nine its 3 x 3; two stand side by side, at -1/2 and 1/2 of a column.
    """
    rows = max(n for n in range(1, int(heads**0.5) + 1) if heads % n == 0)
    columns = heads // rows
    across, down = torch.arange(columns) - (columns - 1) / 2, torch.arange(rows) - (rows - 1) / 2
    return torch.stack([across.repeat_interleave(rows), down.repeat(columns)], dim=1)


def offsets(side: int) -> Tensor:
    """Return r = (|delta|^2, column of delta, row of delta) of every query and key, (3, side**2, side**2)."""
    token = torch.arange(side**2)
    row, column = token // side, token % side
    down, across = row[None] - row[:, None], column[None] - column[:, None]  # (query, key)
    return torch.stack([down**2 + across**2, across, down]).float()
