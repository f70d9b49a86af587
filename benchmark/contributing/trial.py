"""A backbone on trial: its network, and the images of a few pixels that its rules are held on."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from benchmark.contract import ArtifactMissing, Attention, Backbone, ClosedForm, ImageShape
from benchmark.declaring.fields import FieldError
from benchmark.errors import NotRun
from benchmark.running.collector import give_back

# What a backbone is tried on: the first of these that it builds for. Some take grey images or one resolution only.
SHAPES = tuple(ImageShape(channels, side) for side in (8, 16, 32, 64) for channels in (3, 1))
STEPS = (0, 1, 10, 100, 250, 500, 750, 900, 998, 999)  # diffusion steps, both ends included


@dataclass(frozen=True)
class Trial:
    """A backbone, and the small images that it is tried on."""

    config: Backbone
    images: ImageShape

    @property
    def attention(self) -> tuple[Attention, ...]:
        """Window 3 on every layer that a layout can address."""
        return tuple(Attention(window=3) for _ in range(self.config.attention_layers))

    @property
    def classes(self) -> int:
        """How many class labels the backbone wants; 0 for none."""
        return getattr(self.config, "num_classes", 0)

    def fresh(self, seed: int = 0) -> nn.Module:
        """Build the network as a run does: initialised by the seed, and fitted where that is its training."""
        torch.manual_seed(seed)
        try:
            network = self.config.build(self.images, self.attention)
        except ArtifactMissing as missing:
            raise NotRun(str(missing)) from None
        if isinstance(network, ClosedForm):
            generator = torch.Generator().manual_seed(1)
            network.fit(torch.randint(256, (4, *self._shape), generator=generator, dtype=torch.uint8))
        return network.eval()

    @cached_property
    def network(self) -> nn.Module:
        """The network off its start: what is initialised to zero is drawn, so that no branch hides behind a zero gate."""
        network = self.fresh()
        for parameter in network.parameters():
            if parameter.requires_grad and not largest(parameter):
                nn.init.normal_(parameter, std=0.02)
        return network

    @cached_property
    def other(self) -> nn.Module:
        """The network as another seed starts it: large networks take longest to build, and two rules need one."""
        return self.fresh(3)

    @cached_property
    @torch.no_grad()
    def estimate(self) -> Tensor:
        """The estimate of the network on two images: several rules hold another one against it."""
        torch.manual_seed(4)
        return self.network(*self.inputs(2))

    def continue_with(self, network: nn.Module) -> None:
        """Have the rules that are left hold this network, which is equal to the one before; one is kept, for networks are large."""
        vars(self)["network"] = network
        vars(self).pop("other", None)
        give_back()

    def inputs(self, count: int, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor | None]:
        """Return x (count, C, R, R), t (count,) at steps far apart, and labels y (count,) or None."""
        generator = torch.Generator().manual_seed(2)
        x = torch.randn(count, *self._shape, generator=generator).to(device)
        y = (torch.arange(count) % self.classes).to(device) if self.classes else None
        return x, torch.tensor(STEPS).repeat(count)[3 : 3 + count].to(device), y

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.images.channels, self.images.resolution, self.images.resolution


def trial(config: Backbone) -> Trial:
    """Return a backbone with the first of SHAPES that it builds for, on meta; raise FieldError where it takes none."""
    refusals = []
    for images in SHAPES:
        try:
            with torch.device("meta"):
                config.build(images, Trial(config, images).attention)
            return Trial(config, images)
        except FieldError as problem:
            refusals.append(str(problem))
    raise FieldError(
        f"it builds for none of {', '.join(f'{s.channels}x{s.resolution}x{s.resolution}' for s in SHAPES)}; for the first: {refusals[0]}"
    )


def largest(tensor: Tensor) -> float:
    """Return the largest absolute value, not finite where one is not; in one pass, for networks are large."""
    if not tensor.numel():
        return 0.0
    real = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    return max((abs(end.item()) for end in real.aminmax()), key=lambda end: (math.isnan(end), end))
