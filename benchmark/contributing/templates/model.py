"""my_model: a small convolutional denoiser, as a start."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.contract import Attention, ImageShape, Positive, entry


@entry(kind="my_model")
class MyModel:
    """A convolutional denoiser: 3x3 convolutions in residual branches, the step added to the channels."""

    # The fields are what a .gin file binds and `--set model.width=64` changes; types and ranges are checked.
    width: Positive
    depth: Positive = 3

    @property
    def attention_layers(self) -> int:
        """Return how many attention layers a layout can address: none here, so that only `--layout global` fits."""
        return 0

    def build(self, images: ImageShape, attention: tuple[Attention, ...]) -> nn.Module:
        """Build the freshly initialised network; draw from torch's global generator, which the run has seeded."""
        return Denoiser(self, images)


class Denoiser(nn.Module):
    """The network: images and steps to the estimated noise."""

    def __init__(self, config: MyModel, images: ImageShape) -> None:
        super().__init__()
        self.stem = nn.Conv2d(images.channels, config.width, 3, padding=1)
        self.step = nn.Linear(config.width, config.width)
        self.layers = nn.ModuleList(nn.Conv2d(config.width, config.width, 3, padding=1) for _ in range(config.depth))
        self.out = nn.Conv2d(config.width, images.channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the estimated noise (N, C, R, R) in x: (N, C, R, R) at steps t: (N,) in [0, 1000); y is not used."""
        condition = self.step(sinusoids(t, self.step.in_features).to(x.dtype))[:, :, None, None]  # (N, width, 1, 1)
        hidden = self.stem(x)
        for layer in self.layers:
            hidden = hidden + layer(F.silu(hidden + condition))
        return self.out(F.silu(hidden))


def sinusoids(t: Tensor, width: int) -> Tensor:
    """Return t: (N,) as (N, width): cosines and sines at geometric frequencies from 1 down to 1/1000."""
    half = (width + 1) // 2
    frequencies = torch.exp(-math.log(1000) * torch.arange(half, device=t.device) / half)
    angles = t[:, None].float() * frequencies  # (N, half)
    return torch.cat([angles.cos(), angles.sin()], dim=1)[:, :width]
