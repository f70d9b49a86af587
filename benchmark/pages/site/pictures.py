"""Pictures on the site: each once for a light page and once, in other colours, for a dark one."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path("pictures")
GROUND, INK = "#15181d", "#e4e6ea"
# What a colour of the one style becomes on a dark ground; every other colour stays.
DARK: Mapping[str, str] = {
    "#ffffff": GROUND,
    "#000000": INK,
    "#0072b2": "#56a8e0",
    "#d55e00": "#ff8a3d",
    "#009e73": "#2fc99a",
    "#56b4e9": "#f0e442",  # two blues are one on a dark page; this is the eighth of Okabe and Ito's colours
    "#808080": "#9aa0a8",
    "#b0b0b0": "#4a5058",
}
_COLOUR = re.compile("|".join(DARK), re.IGNORECASE)
_ROOT = re.compile(r"<svg ", re.IGNORECASE)


class Gallery:
    """The pictures that pages have asked for, each written once under its content's digest."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._added: dict[Path, tuple[str, str]] = {}

    def file(self, source: Path) -> tuple[str, str]:
        """Add a picture file; return its paths for a light and for a dark page under the site."""
        if source not in self._added:
            self._added[source] = self.add(source.read_bytes(), source.suffix)
        return self._added[source]

    def add(self, content: bytes, suffix: str) -> tuple[str, str]:
        """Add a picture; return its paths for a light and for a dark page under the site."""
        stem = (FOLDER / hashlib.sha256(content).hexdigest()[:20]).as_posix()
        light = f"{stem}{suffix}"
        self._write(light, content)
        if suffix != ".svg":
            return light, light
        dark = f"{stem}-dark.svg"
        self._write(dark, redrawn(content.decode("utf-8")).encode())
        return light, dark

    def _write(self, path: str, content: bytes) -> None:
        there = self._out / path
        if not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(content)


def redrawn(svg: str) -> str:
    """Return a drawing of ours in the colours of a dark page: ground, ink, and the darker of the lines' colours."""
    recoloured = _COLOUR.sub(lambda found: DARK[found.group().lower()], svg)
    return _ROOT.sub(f'<svg fill="{INK}" ', recoloured, count=1)  # glyphs have no fill of their own: black by default
