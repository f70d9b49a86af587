"""The local score machine of Kamb & Ganguli 2024: the Bayes-optimal denoiser that sees patches and not where they are.

Each pixel's clean value is the posterior mean over the centres of the training patches, given the noisy patch around
the pixel. Source: "An analytic theory of creativity in convolutional diffusion models", the ELS machine.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from benchmark.contract import Attention, Count, FieldError, ImageShape, Range, entry
from benchmark.networks.diffusion import STEPS, alphas_cumprod, scaled
from registry.backbones.reference import (
    PAIRS_AT_ONCE,
    Level,
    fitted,
    no_attention,
    noise_estimate,
    posterior_mean,
)

QUERIES_AT_ONCE = 1024

Side = Annotated[int, Range(least=1)]
Axis = tuple[list[int], list[list[int]]]  # positions along a side of the image, and the pixels of the patch around each


@entry(kind="local_score")
class LocalScore:
    """A local score machine, declared.

    `patches` are the sides of the patch in pixels, odd; each holds from the step of `from_steps` of the same place on.
    `border` says what a patch at the edge is compared with. 'circular': with every training patch, the image being
    continued on its other side, so that nothing tells where the edge is (a patch wider than the image is cut to it).
    'truncated': the part outside is dropped and only training patches that lack the same part compare, so that a pixel
    knows how far the edge is, as far as the patch reaches.
    """

    patches: tuple[Side, ...]
    from_steps: tuple[Count, ...]
    border: Literal["circular", "truncated"] = "circular"

    attention_layers = 0

    def validate(self) -> None:
        """Check what no single field can."""
        if even := [side for side in self.patches if side % 2 == 0]:
            raise FieldError(f"patches: the side {even[0]} must be odd, so that the patch has a centre")
        if len(self.patches) != len(self.from_steps) or not self.patches:
            raise FieldError(
                f"patches and from_steps name {len(self.patches)} and {len(self.from_steps)} values; "
                "both need one for each patch side, and at least one"
            )
        if self.from_steps[0] != 0 or any(a >= b for a, b in zip(self.from_steps, self.from_steps[1:], strict=False)):
            raise FieldError(f"from_steps = {self.from_steps} must begin with 0 and grow")
        if self.from_steps[-1] >= STEPS:
            raise FieldError(f"from_steps: {self.from_steps[-1]} is no diffusion step; the last is {STEPS - 1}")

    def build(self, images: ImageShape, attention: tuple[Attention, ...] = ()) -> nn.Module:
        """Build the network, to be fitted; raise FieldError where there is attention."""
        no_attention(attention)
        return LocalDenoiser(self)


class LocalDenoiser(nn.Module):
    """Each pixel of x_0 is the centre of some training patch, each as likely as the other."""

    images: Tensor | None
    abar: Tensor

    def __init__(self, spec: LocalScore) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("abar", alphas_cumprod(), persistent=False)
        self.register_buffer("images", None, persistent=False)

    def fit(self, images: Tensor) -> None:
        """Keep the training images (N, C, R, R), uint8."""
        self.images = images

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the estimated noise (N, C, R, R) in x: (N, C, R, R) at steps t: (N,); raise FieldError before the fit.

        On meta, where the steps are not known, every patch is as large as at the last step.
        """
        fitted(self.images)
        clean = torch.empty(x.shape, dtype=torch.float64, device=x.device)
        places = [self._place(STEPS - 1 if t.is_meta else step) for step in ([0] * len(t) if t.is_meta else t.tolist())]
        for place in sorted(set(places)):
            chosen = [i for i, other in enumerate(places) if other == place]
            clean[chosen] = self._clean(x[chosen].double(), Level.at(self.abar, t[chosen]), self.spec.patches[place])
        return noise_estimate(x, clean, Level.at(self.abar, t))

    def _place(self, step: int) -> int:
        return sum(step >= first for first in self.spec.from_steps) - 1

    def _clean(self, x: Tensor, level: Level, patch: int) -> Tensor:
        """Return the posterior mean (N, C, R, R) of every pixel given the patch of that side around it."""
        clean, axes = torch.empty_like(x), alike(x.shape[2], patch, self.spec.border)
        for rows in axes:
            for columns in axes:
                place = (slice(rows[0][0], rows[0][-1] + 1), slice(columns[0][0], columns[0][-1] + 1))
                each = len(rows[0]) * len(columns[0])
                count = max(1, QUERIES_AT_ONCE // each)
                for some in (slice(start, start + count) for start in range(0, len(x), count)):
                    queries, _ = around(x[some], rows, columns)
                    levels = Level(*(part[some].repeat_interleave(each, dim=0) for part in level))
                    found = posterior_mean(queries, levels, self._patches(rows, columns))
                    pixels = found.unflatten(0, (-1, len(rows[0]), len(columns[0]))).permute(0, 3, 1, 2)
                    clean[some, :, *place] = pixels
        return clean

    def _patches(self, rows: Axis, columns: Axis) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the training patches (n, D) around those positions and their centres (n, C), block by block."""
        count = max(1, PAIRS_AT_ONCE // QUERIES_AT_ONCE // (len(rows[0]) * len(columns[0])))
        for block in fitted(self.images).split(count):
            yield around(scaled(block).double(), rows, columns)


def alike(side: int, patch: int, border: str) -> list[Axis]:
    """Return the positions along a side of the image, in groups of neighbours whose patches lack the same part."""
    if border == "circular":
        reach = min(patch, side if side % 2 else side - 1) // 2
        return [(list(range(side)), [[(i + k) % side for k in range(-reach, reach + 1)] for i in range(side)])]
    groups: dict[tuple[int, int], Axis] = {}
    for i in range(side):
        before, behind = min(i, patch // 2), min(side - 1 - i, patch // 2)
        positions, pixels = groups.setdefault((before, behind), ([], []))
        positions.append(i)
        pixels.append(list(range(i - before, i + behind + 1)))
    return list(groups.values())


def around(images: Tensor, rows: Axis, columns: Axis) -> tuple[Tensor, Tensor]:
    """Return the patches of images: (N, C, R, R) around every row and column, (N rows columns, D), and their centres."""
    down, across = (torch.tensor(axis[1]) for axis in (rows, columns))  # (positions, pixels)
    patches = images[:, :, down][:, :, :, :, across]  # (N, C, rows, h, columns, w)
    centres = images[:, :, rows[0]][:, :, :, columns[0]]  # (N, C, rows, columns)
    patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (N, rows, columns, D)
    return patches.flatten(0, 2), centres.permute(0, 2, 3, 1).flatten(0, 2)
