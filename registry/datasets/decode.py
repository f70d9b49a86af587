"""The bytes of a stored image to its pixels: any format and mode that Pillow reads, upright, resized by the protocol."""

from __future__ import annotations

import io
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from benchmark.contract import ImageError, install
from registry.datasets.resize import shrink, to_array

if TYPE_CHECKING:
    from PIL import Image

TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def to_pixels(image_id: str, content: bytes, channels: int, resolution: int) -> np.ndarray:
    """Return a stored image as uint8 (C, R, R); raise ImageError naming it where it is damaged or no image."""
    try:
        return to_array(shrink(decode(content, channels), resolution))
    except ImageError as problem:
        raise ImageError(f"{image_id}: {problem}") from None


def decode(content: bytes, channels: int) -> Image.Image:
    """Return a stored image upright and in mode RGB (3 channels) or L (1), or raise ImageError.

    The EXIF orientation is applied. Transparent parts show white. 16-bit grey is scaled to 8 bits, CMYK goes to RGB
    by Pillow's plain formula, colour profiles are not applied; of an animation the first frame counts.
    """
    pil = pillow()
    try:
        with pil.Image.open(io.BytesIO(content)) as image:
            image.load()
            upright = pil.ImageOps.exif_transpose(image)
        return _eight_bits(upright).convert("L" if channels == 1 else "RGB")
    except pil.UnidentifiedImageError:
        raise ImageError("empty file" if not content else "no image that Pillow can read") from None
    except ImageError:
        raise
    except Exception as problem:  # on a damaged file a decoder raises anything: OSError, SyntaxError, struct.error ...
        raise ImageError(f"damaged: {problem or type(problem).__name__}") from None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return `image` with 8 bits per channel and without transparency."""
    from PIL import Image

    if image.mode in SIXTEEN_BITS:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError("its grey values do not fit 16 bits")
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in TRANSPARENT or "transparency" in image.info:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    if image.mode == "F":
        raise ImageError("floating-point grey values have no agreed range: convert it to 8 or 16 bits")
    return image


def pillow() -> ModuleType:
    """Return Pillow, which only reading stored images needs, with every format registered."""
    try:
        import PIL
        from PIL import Image, ImageOps  # noqa: F401  makes PIL.ImageOps
    except ImportError:
        raise ImageError(f"reading images needs Pillow: {install('data')}") from None
    Image.init()  # here, because the first use in several threads at once would race
    return PIL
