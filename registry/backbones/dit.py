"""The diffusion transformer with adaLN-Zero (Peebles & Xie 2023), on pixels.

Architecture, initialisation and parameter names are those of the official code (facebookresearch/DiT, models.py), so
that its checkpoints load by name. What differs: attention per layer is given by a layout, and the label table is
optional.
"""

from typing import Annotated

import torch
from torch import Tensor, nn

from benchmark.contract import (
    Attention,
    Count,
    FieldError,
    Fraction,
    ImageShape,
    Positive,
    Range,
    entry,
)
from registry.backbones.attention import AttentionLayer, SelfAttention
from registry.backbones.timesteps import embed_timesteps

FREQUENCIES = 256  # of the timestep embedding, whatever the hidden size


@entry(kind="dit")
class DiT:
    """A diffusion transformer, declared.

    `num_classes` = 0 is unconditional, without a label table. From 1 on there is a table with one row per class and,
    if `class_dropout` > 0, the official extra row for "no class" (label `num_classes`), which training puts in the place of
    that fraction of the labels. `learned_variance` doubles the output channels, as in the official checkpoints;
    `forward` returns the noise estimate alone, so that the variance half is never trained here.
    """

    hidden: Positive
    depth: Positive
    heads: Positive
    patch: Positive = 1
    mlp_ratio: Annotated[float, Range(above=0)] = 4.0
    num_classes: Count = 0
    class_dropout: Fraction = 0.1
    learned_variance: bool = False

    def validate(self) -> None:
        """Check what no single field can."""
        if self.hidden % self.heads:
            raise FieldError(f"heads = {self.heads} must divide hidden = {self.hidden}")
        if self.hidden % 4:
            raise FieldError(f"hidden = {self.hidden} must be divisible by 4: sine and cosine of row and column")
        if int(self.hidden * self.mlp_ratio) < 1:
            raise FieldError(f"mlp_ratio = {self.mlp_ratio} leaves no unit in the MLP of hidden = {self.hidden}")

    @property
    def attention_layers(self) -> int:
        """Return how many layers a layout can address."""
        return self.depth

    def build(self, images: ImageShape, attention: tuple[Attention, ...]) -> nn.Module:
        """Build the freshly initialised network; raise FieldError where images or attention do not fit."""
        self.check_fit(images, attention)
        return DiffusionTransformer(self, images, attention)

    def check_fit(self, images: ImageShape, attention: tuple[Attention, ...]) -> None:
        """Raise FieldError where images or attention do not fit."""
        if images.resolution % self.patch:
            raise FieldError(f"patch = {self.patch} must divide the resolution of the images, {images.resolution}")
        if len(attention) != self.depth:
            raise FieldError(f"depth = {self.depth} needs as many attention layers, but the layout gives {len(attention)}")

    def attention_layer(self, attention: Attention, side: int, before: list[AttentionLayer]) -> AttentionLayer:
        """Build the attention of the next block, given that of the blocks `before` it; a variant overrides this."""
        return SelfAttention(self.hidden, self.heads, attention, side)


class DiffusionTransformer(nn.Module):
    """The network of a DiT: patches + positions -> blocks conditioned on (t, y) -> noise."""

    def __init__(self, spec: DiT, images: ImageShape, attention: tuple[Attention, ...]) -> None:
        super().__init__()
        self.images, self.patch = images, spec.patch
        side = images.resolution // spec.patch
        self.x_embedder = PatchEmbedder(images.channels, spec.hidden, spec.patch)
        self.t_embedder = TimestepEmbedder(spec.hidden)
        rows = spec.num_classes + (spec.class_dropout > 0)
        self.y_embedder = LabelEmbedder(rows, spec.hidden) if spec.num_classes else None
        self.pos_embed = nn.Parameter(positions(spec.hidden, side), requires_grad=False)
        mlp_hidden = int(spec.hidden * spec.mlp_ratio)
        self.blocks, before = nn.ModuleList(), list[AttentionLayer]()
        for layer in attention:
            before.append(spec.attention_layer(layer, side, list(before)))
            self.blocks.append(Block(spec.hidden, mlp_hidden, before[-1]))
        channels = images.channels * (2 if spec.learned_variance else 1)
        self.final_layer = FinalLayer(spec.hidden, spec.patch**2 * channels)
        self.initialise()

    def initialise(self) -> None:
        """Draw the official initial weights: adaLN-Zero makes every block the identity and the output zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        self.x_embedder.initialise()
        if self.y_embedder is not None:
            nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        for layer in self.t_embedder.layers():
            nn.init.normal_(layer.weight, std=0.02)
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        for zeroed in (*(linear(block.adaLN_modulation[1]) for block in blocks), linear(self.final_layer.adaLN_modulation[1])):
            nn.init.zeros_(zeroed.weight)
        nn.init.zeros_(self.final_layer.linear.weight)
        for block in blocks:
            block.attn.initialise()

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the estimated noise (N, C, R, R) in x: (N, C, R, R) at steps t: (N,), of classes y: (N,) or None.

        Raise FieldError where labels are missing or not wanted.
        """
        tokens, condition = self.embed(x, t, y)
        for block in self.blocks:
            tokens = block(tokens, condition)
        return self.estimate(tokens, condition)

    def embed(self, x: Tensor, t: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the tokens (N, tokens, hidden) that enter the first block, and the condition (N, hidden)."""
        if (y is None) != (self.y_embedder is None):
            wanted = "no labels: num_classes is 0" if self.y_embedder is None else "the labels y: num_classes is not 0"
            raise FieldError(f"num_classes: this network takes {wanted}")
        condition = self.t_embedder(t)  # (N, hidden)
        if self.y_embedder is not None:
            condition = condition + self.y_embedder(y)
        return self.x_embedder(x) + self.pos_embed, condition

    def estimate(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """Return the estimated noise (N, C, R, R) from the tokens that leave the last block."""
        return self.unpatchify(self.final_layer(tokens, condition))[:, : self.images.channels]

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the modules whose outputs, tokens (N, tokens, hidden), are the stages of the network, with their names."""
        return [(f"block {i}", block) for i, block in enumerate(self.blocks, start=1)]

    def unpatchify(self, tokens: Tensor) -> Tensor:
        """Return tokens (N, side**2, patch * patch * channels) as images (N, channels, R, R)."""
        side = self.images.resolution // self.patch
        grid = tokens.unflatten(2, (self.patch, self.patch, -1)).unflatten(1, (side, side))  # (N, row, col, p, p, C)
        return grid.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


class PatchEmbedder(nn.Module):
    """Patches to tokens, linearly."""

    def __init__(self, channels: int, hidden: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, hidden, kernel_size=patch, stride=patch)

    def initialise(self) -> None:
        """Draw the weights as those of the linear layer that it is."""
        nn.init.xavier_uniform_(self.proj.weight.flatten(1))
        if self.proj.bias is not None:
            nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens (N, side**2, hidden) of images (N, C, R, R)."""
        return self.proj(x).flatten(2).transpose(1, 2)


class TimestepEmbedder(nn.Module):
    """Diffusion steps to condition vectors: sinusoids, then an MLP."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, hidden), nn.SiLU(), nn.Linear(hidden, hidden))

    def forward(self, t: Tensor) -> Tensor:
        """Return (N, hidden) for t: (N,)."""
        return self.mlp(embed_timesteps(t, FREQUENCIES).to(self.layers()[0].weight.dtype))

    def layers(self) -> tuple[nn.Linear, nn.Linear]:
        """Return the two linear layers."""
        return linear(self.mlp[0]), linear(self.mlp[2])


class LabelEmbedder(nn.Module):
    """Class labels to condition vectors; what drops labels is the training, not this module, whose official twin does it itself."""

    def __init__(self, rows: int, hidden: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(rows, hidden)

    def forward(self, y: Tensor) -> Tensor:
        """Return (N, hidden) for labels y: (N,)."""
        return self.embedding_table(y)


class Block(nn.Module):
    """Attention and MLP, each modulated and gated by the condition (adaLN-Zero)."""

    def __init__(self, hidden: int, mlp_hidden: int, attention: AttentionLayer) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden, elementwise_affine=False, eps=1e-6)
        self.attn = attention
        self.norm2 = nn.LayerNorm(hidden, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(hidden, mlp_hidden)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 6 * hidden))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return the tokens (N, tokens, hidden) after this block, given the condition (N, hidden)."""
        modulation = self.adaLN_modulation(condition)[:, None]  # (N, 1, 6 hidden)
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, dim=2)
        x = x + gate1 * self.attn(modulate(self.norm1(x), shift1, scale1), condition)
        return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))


class Mlp(nn.Module):
    """The two-layer perceptron of a block."""

    def __init__(self, hidden: int, mlp_hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden, mlp_hidden)
        self.act = nn.GELU(approximate="tanh")
        self.fc2 = nn.Linear(mlp_hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, tokens, hidden) for x of that shape."""
        return self.fc2(self.act(self.fc1(x)))


class FinalLayer(nn.Module):
    """Tokens to patches of noise, modulated by the condition."""

    def __init__(self, hidden: int, out: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(hidden, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(hidden, out)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 2 * hidden))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return (N, tokens, out) for x: (N, tokens, hidden), given the condition (N, hidden)."""
        shift, scale = self.adaLN_modulation(condition)[:, None].chunk(2, dim=2)
        return self.linear(modulate(self.norm_final(x), shift, scale))


def linear(layer: nn.Module) -> nn.Linear:
    """Return a layer of a sequence that is known to be linear."""
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"{type(layer).__name__} is no linear layer")
    return layer


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return x scaled by 1 + scale and shifted."""
    return x * (1 + scale) + shift


def positions(hidden: int, side: int) -> Tensor:
    """Return the fixed position of each token, (1, side**2, hidden), tokens in raster order.

    The first half encodes the column, the second the row; each half is sines, then cosines, at hidden / 4 geometric
    frequencies from 1 towards 1/10000.
    """
    quarter = hidden // 4
    frequencies = 10000.0 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = torch.arange(side, dtype=torch.float64)[:, None] * frequencies  # (side, hidden / 4)
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, hidden / 2)
    columns, rows = axis[None].expand(side, -1, -1), axis[:, None].expand(-1, side, -1)
    return torch.cat([columns, rows], dim=2).reshape(1, side**2, hidden).float()
