"""The one style of all pictures, and a picture as the numbers that it shows: their digest tells whether it is up to date.

Nothing here imports matplotlib before something is drawn.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from benchmark.errors import BenchError
from benchmark.files import install

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Draw = Callable[["Figure", dict[str, Any]], None]

STYLE = 2  # raise it when the same numbers are to be drawn differently
# Okabe and Ito's colours, which stay apart for colour-blind readers; black is the baseline.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_IDENTIFIER = re.compile(r"<dc:identifier>([^<]*)</dc:identifier>")
WIDTH = 8.0  # inches: as wide as a page
DASHED = (0, (3, 2))
DOTTED = (0, (5, 1.5, 1, 1.5))


@dataclass(frozen=True)
class Picture:
    """One figure of a section: where it goes (under the page), what it says, and the numbers that it shows."""

    kind: str
    path: PurePosixPath
    alt: str
    numbers: dict[str, Any] = field(repr=False)

    @property
    def digest(self) -> str:
        """sha256 of the numbers and of the way they are drawn."""
        canonical = json.dumps([STYLE, self.kind, self.numbers], sort_keys=True, separators=(",", ":"), allow_nan=False)
        return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def digest_in(svg: Path) -> str | None:
    """Return the digest that a drawn picture carries, or None."""
    try:
        found = _IDENTIFIER.search(svg.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return found.group(1) if found else None


def drawn(picture: Picture, draw: Draw) -> str:
    """Draw a picture as SVG, the same text for the same numbers."""
    with styled(picture.digest) as figure:
        draw(figure, picture.numbers)
        return as_svg(figure, {"Title": picture.alt, "Identifier": picture.digest})


def shown(numbers: dict[str, Any], draw: Draw, alt: str) -> "Figure":
    """Return a figure for a notebook, which shows it as SVG; it may be changed and saved like any other."""
    with styled(alt) as blank:
        from matplotlib.figure import Figure

        class Shown(Figure):
            """A figure that a notebook shows without pyplot."""

            def _repr_svg_(self) -> str:
                with styled(alt):
                    return as_svg(self, {"Title": alt})

        figure = Shown(layout=blank.get_layout_engine())
        draw(figure, numbers)
        return figure


@contextmanager
def styled(salt: str) -> "Iterator[Figure]":
    """Give an empty figure in the one style of all pictures, to be drawn and saved inside; `salt` makes its SVG repeatable."""
    try:
        import matplotlib.style
        from matplotlib.figure import Figure
    except ImportError:
        raise BenchError(
            "The pictures need matplotlib, which is not installed here. `make setup` installs everything; "
            f"`{install('leaderboard')}` only what the leaderboard needs."
        ) from None
    style = {
        "svg.hashsalt": salt,
        "svg.fonttype": "path",
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
    }
    with matplotlib.style.context(["default", style]):  # the reader's own matplotlibrc has no say
        yield Figure(layout="constrained")


def as_svg(figure: "Figure", metadata: dict[str, str]) -> str:
    """Return a figure as SVG, the same text for the same drawing."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None, "Creator": None, **metadata})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    """Return a marker that makes, with the colour, a pair of its own for the first 49 series."""
    return MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]


def stroke(index: int, *, dashed: bool) -> Any:
    """Return the line style of a series: dashes where they mean something, dots between where its colour is an earlier series' too."""
    if dashed:
        return DASHED
    return "solid" if index < len(COLOURS) else DOTTED


def legend(figure: "Figure", handles: "list[Line2D]", title: str | None = None) -> None:
    """Put the legend below the axes, in as many columns as the longest label allows."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = min(4, len(handles), max(1, int(figure.get_figwidth() * 14 / (longest + 8))))  # 14 letters an inch
    rows = -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + 0.2 * rows)
    figure.legend(handles=handles, title=title, loc="outside lower center", ncols=columns, frameon=False)


def short(value: float) -> float:
    """Return a number as pictures keep it, six decimals."""
    return round(value, 6) + 0.0  # no -0.0, no last digits that differ between machines
