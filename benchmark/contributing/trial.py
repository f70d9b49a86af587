"""A backbone on trial: its network, the images of a few pixels that its rules are held on, and the passes that they share."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.contract import ArtifactMissing, Attention, Backbone, ClosedForm, ImageShape
from benchmark.declaring.fields import FieldError
from benchmark.errors import NotRun
from benchmark.networks import cost
from benchmark.running.collector import give_back

# What a backbone is tried on: the first of these that it builds for. Some take grey images or one resolution only.
SHAPES = tuple(ImageShape(channels, side) for side in (8, 16, 32, 64) for channels in (3, 1))
STEPS = (0, 1, 10, 100, 250, 500, 750, 900, 998, 999)  # diffusion steps, both ends included

Given = tuple[Tensor, Tensor, Tensor | None]  # images, steps, and labels or None


class Traced(NamedTuple):
    """What is found without memory for weights: the number of parameters, and what one pass of two images gives and costs."""

    parameters: int
    trainable: int
    estimate: Tensor
    flops: float  # of an image


class Pass(NamedTuple):
    """What a network estimates, and whether it leaves what it is given as it was."""

    estimate: Tensor
    untouched: bool


@dataclass(frozen=True)
class Trial:
    """A backbone, and the small images that it is tried on. What several rules look at is made once, when the first of them does."""

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
        """Build the network as a run does: by the seed, and fitted where that is its training."""
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
    def on_meta(self) -> nn.Module:
        """The network without memory for its weights, through which nothing has passed yet: only `traced` runs it."""
        return cost.built_on_meta(self.config, self.images, self.attention, 4)

    @cached_property
    @torch.no_grad()
    def traced(self) -> Traced:
        """The network on meta in evaluation, as `--dry-run` counts it: parameters before its first pass, FLOPs in it."""
        total, trainable = cost.parameters(self.on_meta)
        given = self.inputs(2, "meta")
        with FlopCounterMode(display=False) as counter:
            estimate = self.on_meta.eval()(*given)
        return Traced(total, trainable, estimate, counter.get_total_flops() / 2)

    @cached_property
    def network(self) -> nn.Module:
        """The network off its start: what is initialised to zero is drawn, so that no branch hides behind a zero gate."""
        network = self.fresh()
        vars(self)["differing"] = differing(network, self.fresh())
        for parameter in network.parameters():
            if parameter.requires_grad and not largest(parameter):
                nn.init.normal_(parameter, std=0.02)
        return network

    @property
    def unseeded(self) -> tuple[str, ...]:
        """The names of the tensors in which a second build under the network's own seed differs from it at its start."""
        assert self.network
        return vars(self)["differing"]

    @cached_property
    def pair(self) -> Pass:
        """The network's pass of two images: several rules hold another one against it."""
        torch.manual_seed(4)
        return passed(self.network, self.inputs(2))

    @cached_property
    def every_step(self) -> Pass:
        """The network's pass of one image at each of STEPS."""
        return passed(self.network, self.inputs(len(STEPS)))

    def continue_with(self, network: nn.Module) -> None:
        """Have the rules that are left hold this network, which is equal to the one before; one is kept, for networks are large."""
        vars(self)["network"] = network
        give_back()

    def inputs(self, count: int, device: str = "cpu") -> Given:
        """Return x (count, C, R, R), t (count,) at steps far apart, and labels y (count,) or None."""
        generator = torch.Generator().manual_seed(2)
        x = torch.randn(count, *self._shape, generator=generator).to(device)
        y = (torch.arange(count) % self.classes).to(device) if self.classes else None
        return x, torch.tensor(STEPS).repeat(count)[3 : 3 + count].to(device), y

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.images.channels, self.images.resolution, self.images.resolution


class Watched:
    """A backbone that keeps what its networks estimate."""

    def __init__(self, config: Backbone) -> None:
        self._config = config
        self.attention_layers = config.attention_layers
        self.num_classes = getattr(config, "num_classes", 0)
        self.estimates: list[Tensor] = []

    def build(self, images: ImageShape, attention: tuple[Attention, ...]) -> nn.Module:
        """Build the backbone's network."""
        network = self._config.build(images, attention)
        network.register_forward_hook(lambda module, given, estimate: self.estimates.append(estimate))
        return network


def trial(config: Backbone) -> Trial:
    """Return a backbone with the first of SHAPES that it builds for, on meta; raise FieldError where it takes none."""
    refusals = []
    for images in SHAPES:
        tried = Trial(config, images)
        try:
            assert tried.on_meta
            return tried
        except FieldError as problem:
            refusals.append(str(problem))
    raise FieldError(
        f"it builds for none of {', '.join(f'{s.channels}x{s.resolution}x{s.resolution}' for s in SHAPES)}; for the first: {refusals[0]}"
    )


@torch.no_grad()
def passed(network: nn.Module, given: Given) -> Pass:
    """Return what a network estimates of images that it is given, which are not used again."""
    kept = [(tensor, tensor.clone()) for tensor in given if tensor is not None]
    estimate = network(*given)
    return Pass(estimate, all(torch.equal(tensor, before) for tensor, before in kept))


def differing(one: nn.Module, other: nn.Module) -> tuple[str, ...]:
    """Return the names of the tensors of a network that have other bytes in another one."""
    mine, its = one.state_dict(), other.state_dict()
    return tuple(name for name in mine if name not in its or not torch.equal(_bytes(mine[name]), _bytes(its[name])))


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def largest(tensor: Tensor) -> float:
    """Return the largest absolute value, not finite where one is not; in one pass, for networks are large."""
    if not tensor.numel():
        return 0.0
    real = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    return max((abs(end.item()) for end in real.aminmax()), key=lambda end: (math.isnan(end), end))
