"""The resize of the protocol: box halving, bicubic, centre crop. Every dataset of stored images shares it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

# Written into every manifest. Change it with anything that changes the bytes of an image: decoding, modes, resize.
PREPROCESSING_VERSION = "box-bicubic-crop-1"


def shrink(image: Image.Image, resolution: int) -> Image.Image:
    """Return `image` (mode RGB or L) as a square of `resolution` pixels.

    Both sides are halved by box averages while the shorter one is at least twice `resolution`; then a bicubic resize
    takes the shorter side to `resolution` and the centre is cropped. An image that is smaller is enlarged by the
    same bicubic step. Halving an odd side rounds down; an odd remainder of the crop is cut from the far side.
    """
    from PIL.Image import Resampling

    width, height = image.size
    while min(width, height) >= 2 * resolution:
        width, height = width // 2, height // 2
        image = image.resize((width, height), Resampling.BOX)
    shorter = min(width, height)
    width, height = (max(resolution, _rounded(side * resolution, shorter)) for side in (width, height))
    image = image.resize((width, height), Resampling.BICUBIC)
    left, top = (width - resolution) // 2, (height - resolution) // 2
    return image.crop((left, top, left + resolution, top + resolution))


def to_array(image: Image.Image) -> np.ndarray:
    """Return an image of mode RGB or L as uint8 of shape (C, R, R)."""
    pixels = np.asarray(image, dtype=np.uint8)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
