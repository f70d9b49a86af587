"""A DiT whose blocks share their attention parameters (An et al. 2024, section 3.1: fewer parameters as a bias).

Blocks keep their own MLP and their own modulation, and what an attention layer may see is still given layer by layer:
only the projections qkv and proj are one and the same for the blocks of a group.
"""

from benchmark.contract import Attention, FieldError, Positive, entry
from registry.backbones.attention import AttentionLayer
from registry.backbones.dit import DiT


@entry(kind="dit_shared")
class SharedDiT(DiT):
    """A DiT in which every `group` consecutive blocks use one set of attention parameters.

    `group` = depth is one set for all blocks, depth / 2 one for each half, 2 one for each pair, 1 the plain DiT. A
    state dict holds a shared tensor once per block that uses it, under the plain DiT's names.
    """

    group: Positive

    def validate(self) -> None:
        """Check what no single field can."""
        super().validate()
        if self.depth % self.group:
            fitting = ", ".join(str(size) for size in range(1, self.depth + 1) if self.depth % size == 0)
            raise FieldError(f"group = {self.group} must divide depth = {self.depth}, so that all groups are equal: one of {fitting}")

    def attention_layer(self, attention: Attention, side: int, before: list[AttentionLayer]) -> AttentionLayer:
        """Build the attention of the next block with the projections of the first block of its group."""
        layer = super().attention_layer(attention, side, before)
        if behind := len(before) % self.group:
            first = before[-behind]
            layer.qkv, layer.proj = first.qkv, first.proj
        return layer
