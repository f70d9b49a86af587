"""A DiT whose attention maps are combinations of fixed components (An et al. 2024, section 3.1: fewer parameters).

The components of each layer are the principal components of the attention maps of a trained DiT, over images, heads
and diffusion steps (`bench pca`). Queries and keys are gone; a layer learns the coefficients of its components, for
each head and as a function of the diffusion step, and applies the map to the values:
A_h(t) = mean + sum_k c_hk(t) s_k P_k, with s_k the standard deviation along the component P_k. There is no softmax:
the rows of the mean sum to one and those of every component to zero, so that every map's rows sum to one; weights may
be negative.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.contract import (
    ArtifactMissing,
    Attention,
    FieldError,
    ImageShape,
    Positive,
    entry,
)
from benchmark.networks import artifacts
from registry.backbones.attention import AttentionLayer, is_global, joined, visible_keys
from registry.backbones.dit import DiT


@entry(kind="dit_pca")
class PcaDiT(DiT):
    """A DiT that attends with the first `count` components of a file that `bench pca` made.

    `components` is that file's sha256; None where it is yet to be made, which allows everything but a run. With
    `from_input` the coefficients depend on the mean of the layer's tokens too, not on the condition alone. Where a
    layout's window cuts a layer, what lies outside is dropped and the rows are brought back to their sums.
    """

    count: Positive
    components: str | None = None
    from_input: bool = False

    def validate(self) -> None:
        """Check what no single field can."""
        super().validate()
        if self.components is not None and not artifacts.DIGEST.fullmatch(self.components):
            raise FieldError(f"components = {self.components!r} must be the sha256 of a file of components, 64 hex digits")

    def build(self, images: ImageShape, attention: tuple[Attention, ...]) -> nn.Module:
        """Build the network with its components, which on meta need not be there."""
        network = super().build(images, attention)
        path = None if _on_meta() or self.components is None else artifacts.find(self.components)
        if path is not None and self.components is not None:
            found = artifacts.tensors(path, self.components)
            layers = [module for module in network.modules() if isinstance(module, ComponentAttention)]
            for layer, attend in enumerate(layers):
                attend.take(found["mean"][layer], found["components"][layer, : self.count], found["deviations"][layer, : self.count])
        return network

    def check_fit(self, images: ImageShape, attention: tuple[Attention, ...]) -> None:
        """Raise FieldError where images, attention or components do not fit, ArtifactMissing where there are none."""
        super().check_fit(images, attention)
        path = artifacts.find(self.components) if self.components else None
        if path is None:
            if _on_meta():
                return
            raise ArtifactMissing(self._way_to_components())
        layers, available, tokens, _ = artifacts.shapes(path).get("components", (0, 0, 0, 0))
        side = images.resolution // self.patch
        if (layers, tokens) != (self.depth, side**2):
            raise FieldError(
                f"components: {path.name} is for {layers} layers of {tokens} tokens; depth = {self.depth} "
                f"and {side} x {side} tokens need {self.depth} layers of {side**2}"
            )
        if available < self.count:
            raise FieldError(f"count = {self.count} must be at most {available}, what {path.name} holds of each layer")

    def attention_layer(self, attention: Attention, side: int, before: list[AttentionLayer]) -> AttentionLayer:
        """Build the attention of the next block, its components yet to be filled in."""
        return ComponentAttention(self, attention, side)

    def _way_to_components(self) -> str:
        which = f"{self.components[:12]}… are not here" if self.components else "are yet to be made"
        return (
            f"components: those of this model {which}. "
            f"`benchmark.analysis.pca.attention_components(network=RUN, count={self.count})` makes them from a finished run of "
            f"the plain DiT of depth {self.depth} on images of the same size (`benchmark.records()` names "
            "those there are); the sha256 of their file is `components` in the entry, or `overrides=['model.components=SHA256']`"
        )


class ComponentAttention(AttentionLayer):
    """Attention with maps put together from fixed components; only coefficients and values are learned."""

    mean: Tensor
    components: Tensor

    def __init__(self, spec: PcaDiT, attention: Attention, side: int) -> None:
        super().__init__()
        self.heads, self.attention, self.side = spec.heads, attention, side
        self.value = nn.Linear(spec.hidden, spec.hidden)
        self.coefficients = nn.Linear(spec.hidden, spec.heads * spec.count)
        self.input_coefficients = nn.Linear(spec.hidden, spec.heads * spec.count) if spec.from_input else None
        self.proj = nn.Linear(spec.hidden, spec.hidden)
        self.register_buffer("mean", torch.empty(side**2, side**2), persistent=False)
        self.register_buffer("components", torch.empty(spec.count, side**2, side**2), persistent=False)

    def initialise(self) -> None:
        """Start every head at the mean map."""
        for layer in (self.coefficients, self.input_coefficients):
            if layer is not None:
                nn.init.zeros_(layer.weight)

    def take(self, mean: Tensor, components: Tensor, deviations: Tensor) -> None:
        """Fill in the mean (T, T), components (count, T, T) and standard deviations (count,) of this layer."""
        scaled = components * deviations[:, None, None]
        if not is_global(self.attention, self.side):
            mean, scaled = restricted(mean, scaled, visible_keys(self.attention, self.side))
        self.mean.copy_(mean)
        self.components.copy_(scaled)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return the attended tokens (N, tokens, hidden) of x of that shape, given the condition (N, hidden)."""
        value = self.value(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (N, heads, tokens, d)
        return self.proj(joined(self.maps(x, condition).to(value.dtype) @ value))

    def maps(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return the attention maps (N, heads, queries, keys), which x: (N, tokens, hidden) changes only if asked to."""
        coefficients = self.coefficients(F.silu(condition))
        if self.input_coefficients is not None:
            coefficients = coefficients + self.input_coefficients(x.mean(1))
        coefficients = coefficients.unflatten(1, (self.heads, -1))  # (N, heads, count)
        return self.mean + (coefficients @ self.components.flatten(1)).unflatten(2, self.mean.shape)


def restricted(mean: Tensor, components: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean (T, T) and components (count, T, T) within `visible` (T, T): rows sum to one and to zero again.

    The mean's rows are scaled, the components' are shifted. What was computed within such windows does not change.
    """
    mean, components = mean * visible, components * visible
    shift = components.sum(2, keepdim=True) / visible.sum(1, keepdim=True)
    return mean / mean.sum(1, keepdim=True), components - shift * visible


def _on_meta() -> bool:
    return torch.empty(0).is_meta
