"""The bias-free convolutional denoiser BF-CNN (Mohan et al. 2020), without scales and blind to the noise level.

Convolutions of one width and one resolution, none of which adds a constant, each but the first and the last followed by a norm
without means and a rectifier. The names of the parameters are those of the code of Kadkhodaie et al. 2024.
"""

from typing import Annotated

import torch
from torch import Tensor, nn

from benchmark.contract import Attention, FieldError, ImageShape, Positive, Range, entry
from registry.backbones.unet_simple import BiasFreeNorm, convolution


@entry(kind="bf_cnn")
class BiasFreeCnn:
    """A BF-CNN, declared: `layers` convolutions in all; `rectified_first` puts a rectifier behind the first of them, too."""

    channels: Positive = 64
    layers: Annotated[int, Range(least=3)] = 20
    rectified_first: bool = False

    @property
    def attention_layers(self) -> int:
        """Return how many layers a layout can address: none."""
        return 0

    def build(self, images: ImageShape, attention: tuple[Attention, ...] = ()) -> nn.Module:
        """Build the freshly initialised network; raise FieldError where attention does not fit."""
        if attention:
            raise FieldError(f"a CNN has no layer that a layout can address, but the layout gives {len(attention)}")
        return BiasFreeConvolutions(self, images)


class BiasFreeConvolutions(nn.Module):
    """The network of a BiasFreeCnn: what it puts out is the noise, so that the image is the input less the output."""

    def __init__(self, spec: BiasFreeCnn, images: ImageShape) -> None:
        super().__init__()
        self.rectified_first = spec.rectified_first
        widths = [images.channels, *[spec.channels] * (spec.layers - 1), images.channels]
        self.conv_layers = nn.ModuleList(convolution(*pair) for pair in zip(widths, widths[1:], strict=False))
        self.BN_layers = nn.ModuleList(BiasFreeNorm(spec.channels) for _ in range(spec.layers - 2))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the estimated noise (N, C, R, R) in x: (N, C, R, R); the steps t: (N,) are not looked at.

        Raise FieldError where there are labels.
        """
        if y is not None:
            raise FieldError("y: this network takes no labels")
        first, *between, last = self.conv_layers
        x = first(x)
        if self.rectified_first:
            x = torch.relu(x)
        for layer, norm in zip(between, self.BN_layers, strict=True):
            x = torch.relu(norm(layer(x)))
        return last(x)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the modules whose outputs (N, C, H, W) are the stages of the network, with their names."""
        return [(f"layer {i}", layer) for i, layer in enumerate(self.conv_layers, start=1)]
