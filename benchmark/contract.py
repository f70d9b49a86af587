"""What a registry entry promises. Registry modules import this and nothing else of the instrument.

An entry is a frozen dataclass that `@entry` makes known to gin; its .gin file binds its fields. Four kinds:
a Backbone builds a denoiser, a Layout says what every attention layer may see, a Dataset opens a source of images,
a Recipe (benchmark/declaring/recipe.py) is the budget. No import of torch here: `bench list` must stay instant.

A field of type Entry holds another entry of the same axis: the .gin file gives its name, the spec holds it whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Protocol,
    TypeVar,
    dataclass_transform,
    overload,
    runtime_checkable,
)

import gin

from benchmark.declaring.fields import (
    Count,
    FieldError,
    Fraction,
    Positive,
    Range,
    added,
    checked,
    to_json,
)
from benchmark.files import install

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

__all__ = [
    "HELD_OUT",
    "ArtifactMissing",
    "Attention",
    "Backbone",
    "Border",
    "ClosedForm",
    "Count",
    "Dataset",
    "Derived",
    "Entry",
    "FieldError",
    "Fraction",
    "HeldOut",
    "ImageError",
    "ImageShape",
    "Layout",
    "LeftOut",
    "OwnLoss",
    "Pattern",
    "Positive",
    "Range",
    "Source",
    "Window",
    "added",
    "checked",
    "entry",
    "install",
]

T = TypeVar("T")


@overload
def entry(cls: type[T]) -> type[T]: ...
@overload
def entry(*, kind: str) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, kw_only_default=True)
def entry(cls: type[T] | None = None, *, kind: str | None = None) -> type[T] | Callable[[type[T]], type[T]]:
    """Declare a class as something that a .gin file can configure: checked frozen fields, known to gin by its name.

    `kind` is what records call the class (benchmark/declaring/kinds.py); without it, 'module:Class': such a class cannot
    move or be renamed without its runs getting new ids.
    """

    def declare(mine: type[T]) -> type[T]:
        if kind is not None:
            mine.__kind__ = kind  # type: ignore[attr-defined]
        return gin.configurable(mine.__name__, module=mine.__module__)(checked(mine))

    return declare(cls) if cls is not None else declare


@dataclass(frozen=True)
class Entry:
    """A named entry and its configuration; `kind` names the configuration's class, wherever its code lives."""

    name: str
    kind: str
    config: Any

    def to_json(self) -> dict[str, Any]:
        """Return the entry as plain JSON."""
        return {"name": self.name, "kind": self.kind, "config": to_json(self.config)}


HELD_OUT = 300  # images for testing, never trained on, unless the dataset says otherwise; most of what PSNR is taken on

Window = Annotated[int, Range(least=1)]
HeldOut = Annotated[int, Range(least=1, most=HELD_OUT)]
Border = Literal["truncated", "shifted"]


@runtime_checkable
class Pattern(Protocol):
    """Which keys a query of a side x side grid sees, as a rule on the numbers of tokens in raster order.

    An instance is frozen, hashable and equal where its fields are: a class under `@checked`.
    """

    def keys(self, side: int, query: int) -> Collection[int]:
        """Return the keys that a query sees: at least one, each in 0 ... side**2 - 1."""
        ...

    def __hash__(self) -> int: ...


@checked
class Attention:
    """What one attention layer may see: everything, the tokens of a square window around the query, or those of a pattern.

    `window` is the side w in tokens, odd. `border` says what happens at the edge of the image: 'truncated' drops the
    part of the window outside of it (fewer keys); 'shifted' moves the window inside, so that every query keeps w x w
    keys (the rule of neighbourhood attention, Hassani et al. 2023). A window has fast kernels; a `pattern` takes its place
    with any other rule, computed exactly through a mask.
    """

    window: Window | None = None
    border: Border = "truncated"
    pattern: Pattern | None = None

    def validate(self) -> None:
        if self.pattern is not None and self.window is not None:
            raise FieldError(f"window = {self.window} and pattern = {self.pattern} are two rules; a layer has one")
        if self.window is not None and self.window % 2 == 0:
            raise FieldError(f"window = {self.window} must be odd, so that it has a centre")

    @property
    def local(self) -> bool:
        """Whether there is a rule that may hide keys."""
        return self.window is not None or self.pattern is not None


@dataclass(frozen=True)
class ImageShape:
    """The shape of one image: `channels` x `resolution` x `resolution`."""

    channels: int
    resolution: int


@runtime_checkable
class Backbone(Protocol):
    """A denoising network, declared. `attention_layers` is how many layers a layout can address; 0 means none."""

    @property
    def attention_layers(self) -> int: ...

    def build(self, images: ImageShape, attention: tuple[Attention, ...]) -> nn.Module:
        """Build the freshly initialised network for `images`, one Attention per addressable layer.

        The module's `forward(x, t, y=None)` takes x: (N, C, R, R) noisy images, t: (N,) diffusion steps in [0, 1000),
        y: (N,) class labels or None, and returns the estimated noise (N, C, R, R), or what the recipe's `prediction` names
        in its place. The steps are whole numbers under the linear noise schedule, real ones under another.

        A backbone with a field `num_classes` above 0 is given labels in 0 ... num_classes - 1. Where it has a field
        `class_dropout` above 0 as well, the label num_classes is "no class": training puts it in the place of that share of
        the labels (the network itself drops none), and PSNR is taken with the images' own labels and with no class.

        Three methods are optional. `estimate_with_loss(x, t, y=None)` returns that estimate and a scalar loss of the
        network's own, weighted already, which training adds to Eq. 1. `fit(images)`, with images (N, C, R, R) uint8 of
        the training subset, makes a network that is not trained but fitted in closed form: it is called once, the
        recipe's steps are not taken, and the buffers that it fills are no part of the checkpoint (persistent=False).
        `stages()` names the submodules whose outputs `bench analyze` compares: (name, module) in the order in which a
        forward pass calls them, each once; each returns (N, tokens, channels) or (N, channels, H, W).

        An entry that needs a file made offline names its sha256 in a field and takes it here with
        `benchmark.artifacts.tensors`, into buffers that are no part of the checkpoint either. Where the file is not
        there it raises ArtifactMissing, except on torch's meta device, where the network's shape is all that is asked.
        """
        ...


@runtime_checkable
class OwnLoss(Protocol):
    """A network with a loss of its own, as a Backbone may build."""

    def estimate_with_loss(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the estimated noise, and the scalar that is added to Eq. 1."""
        ...


@runtime_checkable
class ClosedForm(Protocol):
    """A network that is fitted in closed form, as a Backbone may build."""

    def fit(self, images: Tensor) -> None:
        """Fit the network to the training images (N, C, R, R) uint8."""
        ...


@runtime_checkable
class Layout(Protocol):
    """Attention per layer, placed on a depth; not tied to a backbone."""

    def place(self, depth: int) -> tuple[Attention, ...]:
        """Return one Attention for each of `depth` layers; raise FieldError where the layout does not fit."""
        ...


class ArtifactMissing(FieldError):
    """A file made offline that an entry needs is not here; the message says how to make it."""


class ImageError(Exception):
    """One image of a source cannot be read; the message names it and says why."""


@dataclass(frozen=True)
class LeftOut:
    """What a source does not take for one reason: how many, and the first of their names.

    `expected` tells what an entry leaves out by its rule, or what lies beside images as a matter of course; `asked` what
    must be accepted however few they are, as images of the dataset that cannot be read where they lie.
    """

    reason: str
    count: int
    first: tuple[str, ...]
    expected: bool = False
    asked: bool = False


@runtime_checkable
class Source(Protocol):
    """An opened source of images: `ids` in a stable order, and the image of each.

    `fingerprint` is a sha256 that changes when the source does, without decoding an image. `read` is called from
    several threads, or several forked processes, at once. Optional members: `close()` is called once no image is
    read any more; `in_parts = True` says that images come in large parts that should be unpacked once, for threads alone;
    `left_out: Sequence[LeftOut]` is what lies there and is not taken; `newest: Sequence[str]` the ids of what was
    changed last; `distribution: str` what it was read from, where that is not the official distribution;
    `only(ids) -> Source` the same source with these images alone; `label(image_id) -> int` the class of an image, where its
    dataset has classes.
    """

    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def fingerprint(self) -> str: ...

    def read(self, image_id: str) -> np.ndarray:
        """Return the image as uint8 of shape (C, R, R); raise ImageError where it cannot be read."""
        ...


@runtime_checkable
class Dataset(Protocol):
    """Images of one kind. `embedded` datasets are generated and need no root folder.

    `preprocessing` names the version of what turns the source into bytes: change it when the bytes change. Optional:
    `official_count`, how many images the official distribution holds (a source with another number is remarked on);
    `follows`, the name of the dataset whose order this one takes (with the same ids it has the same subsets);
    `held_out`, how many images are for testing (300 unless said); `held_out_from`, how the ids of those images begin
    that are for testing alone: the held-out images are taken from them, and none of the others of them is trained on;
    `classes`, how many classes the labels of its images tell apart.

    A dataset made from another one has a field `of: Entry` and a method `derive(images: Source) -> Source`, which is
    called with the packed images of that dataset in place of `open`; it is `embedded`: what it needs is here, and its images
    have the labels of those of the same ids.
    """

    resolution: int
    channels: int
    embedded: bool
    preprocessing: str

    def open(self, root: Path | None) -> Source:
        """Open the images under `root` (None if embedded); raise ImageError where that is not this dataset."""
        ...


@runtime_checkable
class Derived(Dataset, Protocol):
    """A dataset made from another one."""

    of: Entry

    def derive(self, images: Source) -> Source:
        """Return the source that is made from the packed images of the other."""
        ...
