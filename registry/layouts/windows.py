"""Local attention windows placed on some layers of a network; every other layer sees everything (section 3)."""

from typing import Literal

from benchmark.contract import Attention, FieldError, Window, entry


@entry(kind="windows")
class Windows:
    """Square windows, one per local layer, in the order of the layers that get them.

    `placement` says which layers are local (section 3.2): 'head' the first, 'tail' the last, 'mix' evenly spread
    among global ones, beginning with the first layer. No windows at all is global attention everywhere.
    """

    windows: tuple[Window, ...] = ()
    placement: Literal["head", "mix", "tail"] = "head"
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
        count = len(self.windows)
        if depth == 0 and count:
            raise FieldError(
                f"windows = {self.windows} asks for {count} local layers, but a layout can address no "
                "layer of this backbone; take a backbone of attention layers, or the layout global"
            )
        if count > depth:
            raise FieldError(
                f"windows = {self.windows} asks for {count} local layers, but the backbone has {depth} "
                "attention layers; take fewer windows or a deeper backbone"
            )
        layers = [Attention()] * depth
        for layer, window in zip(self._local_layers(depth), self.windows, strict=True):
            layers[layer] = Attention(window=window, border=self.border)
        return tuple(layers)

    def _local_layers(self, depth: int) -> list[int]:
        count = len(self.windows)
        if self.placement == "head":
            return list(range(count))
        if self.placement == "tail":
            return list(range(depth - count, depth))
        return [k * depth // count for k in range(count)]
