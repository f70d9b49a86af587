"""The simplified UNet of Kadkhodaie et al. 2024 (appendix A): bias-free and noise-blind, for grey images.

No layer adds a constant, so that in evaluation mode f(a x) = a f(x) for every a > 0 (Mohan et al. 2020). "Three scales"
are three blocks on the way down, each followed by a halving, one block in the middle and three on the way up: with 64
channels, doubled at each halving, 7.66M parameters (the paper prints 7.6M). What its text leaves open (average
pooling, transposed convolutions upwards, no norm behind the first and last convolution) and the names of the parameters
are those of the authors' code.
"""

import torch
from torch import Tensor, nn

from benchmark.contract import Attention, FieldError, ImageShape, Positive, entry

MOMENTUM = 0.1  # of the running deviation
SMALLEST = 1e-5  # added to the variance of a batch
LARGEST_GAIN = 0.025  # of the norms, at the start


@entry(kind="unet_simple")
class SimpleUNet:
    """A bias-free, noise-blind UNet, declared: `scales` halvings, `convolutions` in every block."""

    channels: Positive = 64
    scales: Positive = 3
    convolutions: Positive = 2

    def validate(self) -> None:
        """Check what no type can."""
        if self.convolutions < 2:
            raise FieldError(f"convolutions = {self.convolutions} must be at least 2: one into the features, one out of them")

    @property
    def attention_layers(self) -> int:
        """Return how many layers a layout can address: none."""
        return 0

    def build(self, images: ImageShape, attention: tuple[Attention, ...] = ()) -> nn.Module:
        """Build the freshly initialised network; raise FieldError where images or attention do not fit."""
        if attention:
            raise FieldError(f"a UNet has no layer that a layout can address, but the layout gives {len(attention)}")
        if images.resolution % 2**self.scales:
            raise FieldError(f"scales = {self.scales} halve the image as often, which the resolution {images.resolution} does not allow")
        return SimpleUNetwork(self, images)


class SimpleUNetwork(nn.Module):
    """The network of a SimpleUNet: what it puts out is the noise, so that the image is the input less the output."""

    def __init__(self, spec: SimpleUNet, images: ImageShape) -> None:
        super().__init__()
        widths = [spec.channels * 2**scale for scale in range(spec.scales + 1)]
        depth = spec.convolutions
        self.encoder, self.upsample, self.decoder = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        stem = convolution(images.channels, widths[0])
        self.encoder["0"] = nn.Sequential(stem, nn.ReLU(), *block(widths[0], widths[0], depth - 1))
        for scale in range(1, spec.scales):
            self.encoder[str(scale)] = block(widths[scale - 1], widths[scale], depth)
        self.mid_block = block(widths[-2], widths[-1], depth)
        for scale in reversed(range(1, spec.scales)):
            self.decoder[str(scale)] = block(widths[scale + 1], widths[scale], depth)
        last = convolution(widths[0], images.channels)
        self.decoder["0"] = nn.Sequential(*block(widths[1], widths[0], depth - 1), last)
        for scale in reversed(range(spec.scales)):
            self.upsample[str(scale)] = nn.ConvTranspose2d(widths[scale + 1], widths[scale], 2, stride=2, bias=False)
        self.initialise()

    def initialise(self) -> None:
        """Draw the initial weights: He et al. 2015 for every convolution (source: the authors' code)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the estimated noise (N, C, R, R) in x: (N, C, R, R); the steps t: (N,) are not looked at.

        Raise FieldError where there are labels.
        """
        if y is not None:
            raise FieldError("y: this network takes no labels")
        kept = []
        for encode in self.encoder.values():
            kept.append(encode(x))
            x = nn.functional.avg_pool2d(kept[-1], 2)
        x = self.mid_block(x)
        for scale in reversed(range(len(kept))):
            x = self.decoder[str(scale)](torch.cat([self.upsample[str(scale)](x), kept[scale]], dim=1))
        return x

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the modules whose outputs (N, C, H, W) are the stages of the network, with their names."""
        down = [(f"down {i}", block) for i, block in enumerate(self.encoder.values(), start=1)]
        return [*down, ("middle", self.mid_block), *((f"up {i}", block) for i, block in enumerate(self.decoder.values(), start=1))]


class BiasFreeNorm(nn.Module):
    """Batch norm without means: divides each channel by its standard deviation and multiplies it by a gain.

    In training the deviation is the batch's, in evaluation its running average. The gains start small and random.
    """

    running_sd: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_sd", torch.ones(1, channels, 1, 1))
        self.gammas = nn.Parameter((torch.randn(1, channels, 1, 1) * 2 / 9 / 64).clamp(-LARGEST_GAIN, LARGEST_GAIN))

    def forward(self, x: Tensor) -> Tensor:
        """Return x: (N, C, H, W), normalised."""
        if not self.training:
            return x / self.running_sd * self.gammas
        deviation = (x.float().var(dim=(0, 2, 3), keepdim=True, correction=0) + SMALLEST).sqrt()
        with torch.no_grad():
            self.running_sd.lerp_(deviation, MOMENTUM)
        return x / deviation * self.gammas


def convolution(channels: int, out: int) -> nn.Conv2d:
    """Build a bias-free 3x3 convolution that keeps the size of the image."""
    return nn.Conv2d(channels, out, 3, padding=1, bias=False)


def block(channels: int, out: int, convolutions: int) -> nn.Sequential:
    """Build a block: convolutions, each followed by a norm and a rectifier."""
    layers: list[nn.Module] = []
    for place in range(convolutions):
        layers += [convolution(channels if place == 0 else out, out), BiasFreeNorm(out), nn.ReLU()]
    return nn.Sequential(*layers)
