"""Pictures in fewer bytes: the same drawing, the same pixels."""

import base64
import io
import re

import numpy as np

_EMBEDDED = re.compile(r"(data:image/png;base64,)([A-Za-z0-9+/=\s]+)")


def compact(svg: str) -> str:
    """Return an SVG without comments, indentation and thousandths of a point, its images by palette where they have few colours."""
    lines = (line.strip() for line in re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL).splitlines())
    text = "\n".join(line for line in lines if line) + "\n"
    text = re.sub(r'(?<= )(d|x|y)="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), text)
    return _EMBEDDED.sub(lambda found: found[1] + _shorter(found[2]), text)


def _shorter(encoded: str) -> str:
    """Return an image of at most 256 opaque colours as one with a palette, pixel for pixel the same; else the image as it is."""
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA")
    pixels = np.asarray(image)
    colours, places = np.unique(pixels.reshape(-1, 4), axis=0, return_inverse=True)
    if len(colours) > 256 or (colours[:, 3] < 255).any():
        return encoded
    indexed = Image.frombytes("P", image.size, places.astype(np.uint8).tobytes())
    indexed.putpalette(colours[:, :3].tobytes())
    buffer = io.BytesIO()
    indexed.save(buffer, format="png", optimize=True)
    return min(base64.b64encode(buffer.getvalue()).decode(), encoded, key=len)
