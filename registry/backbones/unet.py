"""The UNet of improved diffusion models (Nichol & Dhariwal 2021).

Architecture, initialisation and parameter names are those of the official code (openai/improved-diffusion, unet.py),
so that its checkpoints load by name.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.contract import (
    Attention,
    Count,
    FieldError,
    Fraction,
    ImageShape,
    Positive,
    entry,
)
from registry.backbones.timesteps import embed_timesteps


@entry(kind="unet")
class UNet:
    """A convolutional UNet, declared.

    `multipliers` are the widths of the levels, in units of `channels`; each level halves the resolution of the one
    before. Attention with `heads` heads stands in the middle, and behind every residual block where the image is
    reduced by one of the factors `attention_resolutions`. `num_classes` = 0 is unconditional. `learned_variance`
    doubles the output channels, as in the official checkpoints; `forward` returns the noise estimate alone.
    """

    channels: Positive = 128
    residual_blocks: Positive = 3
    multipliers: tuple[Positive, ...] = (1, 2, 3, 4)
    attention_resolutions: tuple[Positive, ...] = ()
    heads: Positive = 4
    scale_shift_norm: bool = True
    dropout: Fraction = 0.0
    num_classes: Count = 0
    learned_variance: bool = False

    def validate(self) -> None:
        """Check what no single field can."""
        if not self.multipliers:
            raise FieldError("multipliers = () must name at least one level")
        for factor in self.attention_resolutions:
            if factor not in self.factors:
                raise FieldError(
                    f"attention_resolutions: no level reduces the image by {factor}; the levels reduce it "
                    f"by {', '.join(map(str, self.factors))}"
                )
        for factor, multiplier in zip(self.factors, self.multipliers, strict=True):
            width = multiplier * self.channels
            if (factor in self.attention_resolutions or factor == self.factors[-1]) and width % self.heads:
                raise FieldError(f"heads = {self.heads} must divide the {width} channels where the attention stands")

    @property
    def factors(self) -> tuple[int, ...]:
        """Return by how much each level reduces the image."""
        return tuple(2**level for level in range(len(self.multipliers)))

    @property
    def attention_layers(self) -> int:
        """Return how many layers a layout can address: none, a layout is about a stack of attention layers."""
        return 0

    def build(self, images: ImageShape, attention: tuple[Attention, ...] = ()) -> nn.Module:
        """Build the freshly initialised network; raise FieldError where images or attention do not fit."""
        if attention:
            raise FieldError(f"a UNet has no layer that a layout can address, but the layout gives {len(attention)}")
        if images.resolution % self.factors[-1]:
            raise FieldError(
                f"multipliers = {self.multipliers} halve the image {len(self.multipliers) - 1} times, "
                f"which the resolution {images.resolution} does not allow"
            )
        return UNetwork(self, images)


class UNetwork(nn.Module):
    """The network of a UNet: input_blocks keep their outputs, output_blocks take them back in reverse."""

    def __init__(self, spec: UNet, images: ImageShape) -> None:
        super().__init__()
        self.images, self.channels = images, spec.channels
        embedding = 4 * spec.channels
        self.time_embed = nn.Sequential(nn.Linear(spec.channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.label_emb = nn.Embedding(spec.num_classes, embedding) if spec.num_classes else None
        stem = Conditioned(nn.Conv2d(images.channels, spec.channels, 3, padding=1))
        self.input_blocks, kept = descend(spec, stem)
        width = kept[-1]
        self.middle_block = Conditioned(residual(spec, width, width), AttentionBlock(width, spec.heads), residual(spec, width, width))
        self.output_blocks = ascend(spec, kept)
        out = images.channels * (2 if spec.learned_variance else 1)
        width = spec.multipliers[0] * spec.channels
        self.out = nn.Sequential(norm(width), nn.SiLU(), zeroed(nn.Conv2d(width, out, 3, padding=1)))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the estimated noise (N, C, R, R) in x: (N, C, R, R) at steps t: (N,), of classes y: (N,) or None.

        Raise FieldError where labels are missing or not wanted.
        """
        if (y is None) != (self.label_emb is None):
            wanted = "no labels: num_classes is 0" if self.label_emb is None else "the labels y: num_classes is not 0"
            raise FieldError(f"num_classes: this network takes {wanted}")
        embedded = embed_timesteps(t, self.channels).to(next(self.time_embed.parameters()).dtype)
        condition = self.time_embed(embedded)  # (N, 4 channels)
        if self.label_emb is not None:
            condition = condition + self.label_emb(y)
        kept = []
        for block in self.input_blocks:
            x = block(x, condition)
            kept.append(x)
        x = self.middle_block(x, condition)
        for block in self.output_blocks:
            x = block(torch.cat([x, kept.pop()], dim=1), condition)
        return self.out(x)[:, : self.images.channels]

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the modules whose outputs (N, C, H, W) are the stages of the network, with their names."""
        down = [(f"down {i}", block) for i, block in enumerate(self.input_blocks, start=1)]
        return [*down, ("middle", self.middle_block), *((f"up {i}", block) for i, block in enumerate(self.output_blocks, start=1))]


def descend(spec: UNet, stem: nn.Module) -> tuple[nn.ModuleList, list[int]]:
    """Return the blocks from the image down to the coarsest level, and the channels that each one puts out."""
    blocks, kept = nn.ModuleList([stem]), [spec.channels]
    for factor, multiplier in zip(spec.factors, spec.multipliers, strict=True):
        width = multiplier * spec.channels
        for _ in range(spec.residual_blocks):
            layers: list[nn.Module] = [residual(spec, kept[-1], width)]
            if factor in spec.attention_resolutions:
                layers.append(AttentionBlock(width, spec.heads))
            blocks.append(Conditioned(*layers))
            kept.append(width)
        if factor != spec.factors[-1]:
            blocks.append(Conditioned(Downsample(width)))
            kept.append(width)
    return blocks, kept


def ascend(spec: UNet, kept: list[int]) -> nn.ModuleList:
    """Return the blocks from the coarsest level back to the image; each takes what the mirrored one put out."""
    blocks, skips, width = nn.ModuleList(), list(kept), kept[-1]
    for factor, multiplier in zip(reversed(spec.factors), reversed(spec.multipliers), strict=True):
        for block in range(spec.residual_blocks + 1):
            layers: list[nn.Module] = [residual(spec, width + skips.pop(), multiplier * spec.channels)]
            width = multiplier * spec.channels
            if factor in spec.attention_resolutions:
                layers.append(AttentionBlock(width, spec.heads))
            if factor > 1 and block == spec.residual_blocks:
                layers.append(Upsample(width))
            blocks.append(Conditioned(*layers))
    return blocks


def residual(spec: UNet, channels: int, out: int) -> "ResidualBlock":
    """Build one residual block of `spec` from `channels` to `out` channels."""
    return ResidualBlock(channels, out, 4 * spec.channels, spec.scale_shift_norm, spec.dropout)


class Conditioned(nn.Module):
    """Layers in sequence; residual blocks among them also get the condition."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        for place, layer in enumerate(layers):
            self.add_module(str(place), layer)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return what the last layer makes of x: (N, C, H, W), given the condition (N, E)."""
        for layer in self.children():
            x = layer(x, condition) if isinstance(layer, ResidualBlock) else layer(x)
        return x


class ResidualBlock(nn.Module):
    """Two convolutions with the condition in between, by scale and shift of the second norm or by a sum."""

    def __init__(self, channels: int, out: int, embedding: int, scale_shift_norm: bool, dropout: float) -> None:
        super().__init__()
        self.scale_shift_norm = scale_shift_norm
        self.in_layers = nn.Sequential(norm(channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, (2 if scale_shift_norm else 1) * out))
        self.out_layers = nn.Sequential(norm(out), nn.SiLU(), nn.Dropout(dropout), zeroed(nn.Conv2d(out, out, 3, padding=1)))
        self.skip_connection = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return (N, out, H, W) for x: (N, channels, H, W), given the condition (N, E)."""
        hidden = self.in_layers(x)
        condition = self.emb_layers(condition)[:, :, None, None]
        if self.scale_shift_norm:
            scale, shift = condition.chunk(2, dim=1)
            hidden = self.out_layers[1:](self.out_layers[0](hidden) * (1 + scale) + shift)
        else:
            hidden = self.out_layers(hidden + condition)
        return self.skip_connection(x) + hidden


class AttentionBlock(nn.Module):
    """Global self-attention over all pixels, with a residual connection."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W) for x of that shape."""
        flat = x.flatten(2)  # (N, C, pixels)
        qkv = self.qkv(self.norm(flat)).unflatten(1, (self.heads, 3, -1)).transpose(3, 4)  # (N, heads, 3, pixels, d)
        attended = F.scaled_dot_product_attention(*qkv.unbind(2))
        return (flat + self.proj_out(attended.transpose(2, 3).flatten(1, 2))).reshape(x.shape)


class Downsample(nn.Module):
    """Half the resolution, by a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H/2, W/2) for x: (N, C, H, W)."""
        return self.op(x)


class Upsample(nn.Module):
    """Twice the resolution, by repetition and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, 2H, 2W) for x: (N, C, H, W)."""
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


def norm(channels: int) -> nn.GroupNorm:
    """Build the official norm of 32 groups, or of as many as divide the channels of a smaller network."""
    return nn.GroupNorm(math.gcd(32, channels), channels)


def zeroed(layer: nn.Module) -> nn.Module:
    """Return `layer` with all its parameters set to zero, so that its residual branch starts as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
