"""my_layout: one window on every second layer, as a start."""

from benchmark.contract import Attention, FieldError, Positive, Window, entry


@entry(kind="my_layout")
class MyLayout:
    """A window on every `every`-th layer, beginning with the first; the others see everything."""

    # The fields are what a .gin file binds and `--set layout.window=5` changes; types and ranges are checked.
    window: Window
    every: Positive = 2

    def validate(self) -> None:
        """Check what no single field can: Attention refuses an even window."""
        Attention(window=self.window)

    def place(self, depth: int) -> tuple[Attention, ...]:
        """Return one Attention for each of `depth` layers; raise FieldError where the layout does not fit."""
        if depth == 0:
            raise FieldError("a layout can address no layer of this backbone")
        local, everything = Attention(window=self.window), Attention()
        return tuple(everything if layer % self.every else local for layer in range(depth))
