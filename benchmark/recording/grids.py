"""Images to one PNG: a grid of samples, samples beside their nearest training images, a sheet of labelled sections."""

import importlib
import io
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from benchmark.errors import BenchError
from benchmark.files import install

SIDE = 8  # images in a row of a grid
PIXELS = 64  # about the side of one image on the picture: small images are enlarged, pixel by pixel
MARGIN = 2
TEXT = 13  # height of a label, pixels


def grid(images: np.ndarray, columns: int = SIDE) -> bytes:
    """Return a PNG of the first `columns` squared images (uint8, (N, C, R, R), C = 1 or 3), row by row."""
    return _png(_sheet(images[: columns * columns], columns))


def pairs(left: np.ndarray, right: np.ndarray) -> bytes:
    """Return a PNG with each image of `left` above the one of `right` that belongs to it."""
    if left.shape != right.shape:
        raise BenchError(f"A contact sheet needs pairs, but there are images of shape {left.shape} and {right.shape}.")
    return _png(_sheet(np.concatenate([left, right]), len(left)))


def labelled(sections: Sequence[tuple[str, np.ndarray]], columns: int = SIDE) -> bytes:
    """Return a PNG of sections one below the other: a label, and its images (uint8, (N, C, R, R)) row by row."""
    image, draw, font = _pillow("Image"), _pillow("ImageDraw"), _pillow("ImageFont").load_default(TEXT)
    sheets = [_sheet(images, min(columns, len(images))) for _, images in sections]
    width = max(max(sheet.shape[1] for sheet in sheets), *(round(font.getlength(label)) + 2 * MARGIN for label, _ in sections))
    height = sum(sheet.shape[0] for sheet in sheets) + 2 * TEXT * len(sections)
    page, top = image.new("RGB", (width, height), "white"), 0
    for (label, _), sheet in zip(sections, sheets, strict=True):
        draw.Draw(page).text((MARGIN, top + TEXT // 2), label, fill="black", font=font)
        page.paste(image.fromarray(sheet.repeat(3 // sheet.shape[2], axis=2)), (0, top + 2 * TEXT))
        top += 2 * TEXT + sheet.shape[0]
    return _png(np.asarray(page))


def _sheet(images: np.ndarray, columns: int) -> np.ndarray:
    """Lay images out in rows on white, enlarged by a whole factor: (height, width, C)."""
    if not len(images):
        raise BenchError("There are no images to draw.")
    factor = max(1, PIXELS // images.shape[-1])
    large = images.repeat(factor, axis=2).repeat(factor, axis=3).transpose(0, 2, 3, 1)  # (N, side, side, C)
    cell = large.shape[1] + MARGIN
    rows = -(-len(images) // columns)
    sheet = np.full((rows * cell + MARGIN, columns * cell + MARGIN, large.shape[3]), 255, dtype=np.uint8)
    for index, image in enumerate(large):
        top, left = (place * cell + MARGIN for place in divmod(index, columns))
        sheet[top : top + cell - MARGIN, left : left + cell - MARGIN] = image
    return sheet


def _pillow(module: str) -> ModuleType:
    try:
        return importlib.import_module(f"PIL.{module}")  # an extra
    except ImportError:
        raise BenchError(f"Pictures need Pillow. `{install('data')}` adds it.") from None


def _png(sheet: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    _pillow("Image").fromarray(sheet[:, :, 0] if sheet.shape[2] == 1 else sheet).save(buffer, format="PNG")
    return buffer.getvalue()
