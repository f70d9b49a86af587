"""Patterns beyond square windows, on some layers of a network; every other layer sees everything.

A pattern is a rule (side, query) -> keys on the numbers of the tokens in raster order. Each class below is one, and the
layout that places it: a pattern of one's own is such a class and a .gin file that binds its fields.
"""

import hashlib

from benchmark.contract import Attention, FieldError, Positive, Window, checked, entry
from registry.layouts.windows import Placement, placed


@entry(kind="axial")
class Axial:
    """The row and the column of the query (Ho et al. 2019)."""

    layers: Positive
    placement: Placement = "head"

    def keys(self, side: int, query: int) -> set[int]:
        """Return the keys that a query sees."""
        row, column = divmod(query, side)
        return {row * side + k for k in range(side)} | {k * side + column for k in range(side)}

    def place(self, depth: int) -> tuple[Attention, ...]:
        """Return one Attention for each of `depth` layers; raise FieldError where there are too few."""
        return placed([Attention(pattern=self)] * self.layers, self.placement, depth, f"layers = {self.layers}")


@entry(kind="dilated")
class Dilated:
    """A window with gaps: of the tokens a multiple of `dilation` rows and columns away, the nearest `window` on each axis.

    The dilated neighbourhoods of Hassani & Shi (2022), cut off at the edge of the image.
    """

    layers: Positive
    window: Window
    dilation: Positive
    placement: Placement = "head"

    def validate(self) -> None:
        """Check what no single field can."""
        if self.window % 2 == 0:
            raise FieldError(f"window = {self.window} must be odd, so that it has a centre")

    def keys(self, side: int, query: int) -> set[int]:
        """Return the keys that a query sees."""
        reach = self.window // 2
        steps = [self.dilation * k for k in range(-reach, reach + 1)]
        rows, columns = ([at + step for step in steps if 0 <= at + step < side] for at in divmod(query, side))
        return {row * side + column for row in rows for column in columns}

    def place(self, depth: int) -> tuple[Attention, ...]:
        """Return one Attention for each of `depth` layers; raise FieldError where there are too few."""
        return placed([Attention(pattern=self)] * self.layers, self.placement, depth, f"layers = {self.layers}")


@checked
class Block:
    """The block of a partition into squares of `size` tokens, whose borders lie `offset` tokens before a multiple of it."""

    size: Positive
    offset: int

    def keys(self, side: int, query: int) -> set[int]:
        """Return the keys in the query's block."""
        row, column = ((at + self.offset) // self.size for at in divmod(query, side))
        rows, columns = ([k for k in range(side) if (k + self.offset) // self.size == block] for block in (row, column))
        return {y * side + x for y in rows for x in columns}


@entry(kind="shifted_windows")
class ShiftedWindows:
    """Blocks that do not overlap, shifted by half a block in every second local layer (Swin, Liu et al. 2021).

    A shifted block is cut off at the edge of the image, which is what Swin's cyclic shift with its mask computes.
    """

    layers: Positive
    size: Positive
    placement: Placement = "head"

    def place(self, depth: int) -> tuple[Attention, ...]:
        """Return one Attention for each of `depth` layers; raise FieldError where there are too few."""
        blocks = [Attention(pattern=Block(size=self.size, offset=number % 2 * (self.size // 2))) for number in range(self.layers)]
        return placed(blocks, self.placement, depth, f"layers = {self.layers}")


@entry(kind="scattered")
class Scattered:
    """The query and `others` other tokens at random places: near in nothing, and as few as a window holds.

    The places are the same in every local layer: those whose sha256('key:side:query:token') is smallest.
    """

    layers: Positive
    others: Positive
    key: str
    placement: Placement = "head"

    def keys(self, side: int, query: int) -> set[int]:
        """Return the keys that a query sees; raise FieldError where there are too few tokens."""
        tokens = [token for token in range(side**2) if token != query]
        if self.others > len(tokens):
            raise FieldError(f"others = {self.others} are more than the {len(tokens)} other tokens of a grid of {side} x {side}")
        return {query, *sorted(tokens, key=lambda token: self._rank(side, query, token))[: self.others]}

    def place(self, depth: int) -> tuple[Attention, ...]:
        """Return one Attention for each of `depth` layers; raise FieldError where there are too few."""
        return placed([Attention(pattern=self)] * self.layers, self.placement, depth, f"layers = {self.layers}")

    def _rank(self, side: int, query: int, token: int) -> bytes:
        return hashlib.sha256(f"{self.key}:{side}:{query}:{token}".encode()).digest()
