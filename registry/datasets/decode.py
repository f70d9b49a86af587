"""The bytes of a stored image to its pixels: any format and mode that Pillow reads, upright, resized by the protocol."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from benchmark.contract import ImageError, install
from registry.datasets.resize import shrink, to_array
from registry.datasets.sources import instead

if TYPE_CHECKING:
    from PIL import Image

TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
LARGEST = 500_000_000  # pixels of an image: Pillow holds 2 GB of it, and half as much again while it is reduced
STRIP = 4_000_000  # pixels of a large image that are worked on at a time: a second copy of it would be held otherwise
PNG = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112  # of EXIF
TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
NO_DECODER = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # Pillow names them and needs another program to read them


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
        try:
            image = _loaded(content)
        except ValueError:  # Pillow refuses long texts and colour profiles of a PNG, which no pixel depends on
            if not content.startswith(PNG):
                raise
            image = _loaded(_without_texts(content))
        wanted, image = "L" if channels == 1 else "RGB", _eight_bits(image)
        return image if image.mode == wanted else image.convert(wanted)  # which copies: a large image is held once
    except pil.UnidentifiedImageError:
        raise ImageError("empty file" if not content else instead(content) or "no image that Pillow can read") from None
    except ImageError:
        raise
    except Exception as problem:  # a decoder raises anything: OSError, SyntaxError, struct.error ...
        raise ImageError(f"Pillow cannot decode it: {problem or type(problem).__name__}") from None


def _loaded(content: bytes) -> Image.Image:
    """Return an image, its pixels read and turned upright."""
    pil = pillow()
    image = pil.Image.open(io.BytesIO(content))
    width, height = image.size
    if width * height > LARGEST:
        raise ImageError(
            f"{width:,}x{height:,} pixels are more than the {LARGEST:,} that are read ({len(content):,} bytes hold them): "
            "a decompression bomb, or a picture to reduce first"
        )
    image.load()
    return _upright(image)


def _upright(image: Image.Image) -> Image.Image:
    """Return an image turned as its EXIF orientation says, as it is where that cannot be read: the pixels are sound.

    ImageOps.exif_transpose writes the rest of the EXIF anew, and fails where that is broken though the orientation is not.
    """
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # SyntaxError, struct.error, ...
        turn = None
    return image if turn is None else image.transpose(getattr(pillow().Image.Transpose, turn))


def _without_texts(content: bytes) -> bytes:
    """Return a PNG without its texts and its colour profile."""
    kept, at = [PNG], len(PNG)
    while at + 8 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        if content[at + 4 : at + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(content[at:end])
        at = end
    return b"".join(kept)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return `image` with 8 bits per channel and without transparency."""
    if image.mode in SIXTEEN_BITS:
        return _in_strips(image, "L", _scaled)
    if image.mode in TRANSPARENT or "transparency" in image.info:
        return _in_strips(image, "RGB", _over_white)
    if image.mode == "F":
        raise ImageError("floating-point grey values have no agreed range: convert it to 8 or 16 bits")
    return image


def _in_strips(image: Image.Image, mode: str, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Return `change(image)`, of that mode, for a change of every pixel by itself, strip by strip where the image is large."""
    from PIL import Image

    width, height = image.size
    if width * height <= STRIP:
        return change(image)
    changed, rows = Image.new(mode, image.size), max(1, STRIP // width)
    for top in range(0, height, rows):
        changed.paste(change(image.crop((0, top, width, min(top + rows, height)))), (0, top))
    return changed


def _scaled(image: Image.Image) -> Image.Image:
    from PIL import Image

    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError("its grey values do not fit 16 bits")
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


def _over_white(image: Image.Image) -> Image.Image:
    from PIL import Image

    over = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")


def pillow() -> ModuleType:
    """Return Pillow, which only reading stored images needs, with every format registered."""
    try:
        import PIL
        from PIL import Image
    except ImportError:
        raise ImageError(f"reading images needs Pillow: {install('data')}") from None
    Image.init()  # here, because the first use in several threads at once would race
    Image.MAX_IMAGE_PIXELS = None  # LARGEST stands in its place: a large photograph is no attack
    return PIL


def suffixes() -> frozenset[str]:
    """Return the suffixes of the images that the installed Pillow reads, in small letters."""
    image = pillow().Image
    return frozenset(suffix for suffix, kind in image.registered_extensions().items() if kind in image.OPEN and kind not in NO_DECODER)
