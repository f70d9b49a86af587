"""Local attention windows placed on some layers of a network; every other layer sees everything (section 3)."""

from collections.abc import Sequence
from typing import Literal

from benchmark.contract import Attention, FieldError, Window, entry

Placement = Literal["head", "mix", "tail"]


@entry(kind="windows")
class Windows:
    """Square windows, one per local layer, in the order of the layers that get them.

    `placement` says which layers are local (section 3.2): 'head' the first, 'tail' the last, 'mix' evenly spread
    among global ones, beginning with the first layer. No windows at all is global attention everywhere.
    """

    windows: tuple[Window, ...] = ()
    placement: Placement = "head"
    border: Literal["truncated", "shifted"] = "truncated"

    def validate(self) -> None:
        """Check every window as the layer that gets it would."""
        for number, window in enumerate(self.windows):
            try:
                Attention(window=window, border=self.border)
            except FieldError as problem:
                raise FieldError(f"windows[{number}]: {problem}") from None

    def place(self, depth: int) -> tuple[Attention, ...]:
        """Return one Attention for each of `depth` layers; raise FieldError where the windows outnumber the layers."""
        return placed(
            [Attention(window=window, border=self.border) for window in self.windows], self.placement, depth, f"windows = {self.windows}"
        )


def placed(local: Sequence[Attention], placement: Placement, depth: int, asked: str) -> tuple[Attention, ...]:
    """Return `depth` layers, the local ones at their places; raise FieldError, naming what `asked`, where they are too many."""
    count = len(local)
    if depth == 0 and count:
        raise FieldError(
            f"{asked} asks for {count} local layers, but a layout can address no "
            "layer of this backbone; take a backbone of attention layers, or the layout global"
        )
    if count > depth:
        raise FieldError(
            f"{asked} asks for {count} local layers, but the backbone has {depth} attention layers; take fewer windows or a deeper backbone"
        )
    layers = [Attention()] * depth
    for layer, attention in zip(_local_layers(count, placement, depth), local, strict=True):
        layers[layer] = attention
    return tuple(layers)


def _local_layers(count: int, placement: Placement, depth: int) -> list[int]:
    if placement == "head":
        return list(range(count))
    if placement == "tail":
        return list(range(depth - count, depth))
    return [k * depth // count for k in range(count)]
