"""Similarities of stages as pictures: heat maps of all pairs, and the effective rank by stage."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.recording.style import COLOURS, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Draw = Callable[["Figure"], None]
Arrays = dict[str, np.ndarray]

COLUMNS = 4  # noise levels side by side
LABELS = 8  # stages up to which each is labelled
PIXELS = 128  # of an image in an SVG at least: viewers smooth what they enlarge
UNDEFINED = "#d9d9d9"  # pairs of stages whose features differ in shape
KINDS: dict[str, dict[str, Any]] = {
    "cka": {"label": "linear CKA", "cmap": "viridis", "vmin": 0, "vmax": 1},
    "cosine": {"label": "cosine similarity", "cmap": "PuOr_r", "vmin": -1, "vmax": 1},
}


def figures(arrays: Arrays) -> dict[str, Draw]:
    """Return the pictures of an analysis, from arrays as `representations.analyse` returns them."""
    return {"similarity": partial(draw_similarity, arrays), "rank": partial(draw_rank, arrays)}


def draw_similarity(arrays: Arrays, figure: "Figure") -> None:
    """Draw CKA and cosine similarity of all pairs of stages, a column for each noise level."""
    from benchmark.recording.style import WIDTH

    names, timesteps = arrays["stages"].tolist(), arrays["timesteps"].tolist()
    columns = min(COLUMNS, len(timesteps))
    starts = range(0, len(timesteps), columns)
    figure.set_size_inches(0.9 + (WIDTH - 0.9) * columns / COLUMNS, 0.3 + 1.95 * len(KINDS) * len(starts))
    grid = figure.subplots(len(KINDS) * len(starts), columns, squeeze=False)
    for row, (kind, start) in enumerate(product(KINDS, starts)):
        look = dict(KINDS[kind])
        label = look.pop("label")
        for column, axes in enumerate(grid[row]):
            if start + column >= len(timesteps):
                axes.set_visible(False)
                continue
            image = _heat(axes, arrays[kind][start + column], look)
            axes.set_title(f"t = {timesteps[start + column]}{_mean(arrays[kind][start + column])}", fontsize=9)
            _name_stages(axes, names, left=column == 0, below=row == len(grid) - 1)
        figure.colorbar(image, ax=grid[row], label=label, shrink=0.9, aspect=18, pad=0.01)


def draw_rank(arrays: Arrays, figure: "Figure") -> None:
    """Draw the effective rank of every stage's features, a line for each noise level."""
    from benchmark.recording.style import WIDTH

    names = arrays["stages"].tolist()
    figure.set_size_inches(0.75 * WIDTH, 3.4)
    axes = figure.subplots()
    for place, (timestep, ranks) in enumerate(zip(arrays["timesteps"].tolist(), arrays["effective_rank"], strict=True)):
        axes.plot(
            ranks,
            color=COLOURS[place % len(COLOURS)],
            marker=MARKERS[place % len(MARKERS)],
            markersize=4,
            linewidth=1.3,
            label=f"t = {timestep}",
        )
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > LABELS else 0, fontsize=7 if len(names) > LABELS else 9)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("effective rank (directions)")
    figure.legend(loc="outside lower center", ncols=min(6, len(arrays["timesteps"])), frameon=False)


def _mean(matrix: np.ndarray) -> str:
    """Say the mean over the pairs of different stages whose similarity is defined."""
    pairs = matrix[np.triu_indices(len(matrix), 1)]
    return f", mean {np.nanmean(pairs):.2f}" if not np.isnan(pairs).all() else ""


def _heat(axes: "Axes", matrix: np.ndarray, look: dict[str, Any]) -> Any:
    """Show a matrix, undefined entries in grey, as blocks of pixels."""
    side = len(matrix)
    block = -(-PIXELS // side)
    axes.set_facecolor(UNDEFINED)
    axes.grid(visible=False)
    return axes.imshow(matrix.repeat(block, 0).repeat(block, 1), interpolation="none", extent=(-0.5, side - 0.5, side - 0.5, -0.5), **look)


def _name_stages(axes: "Axes", names: list[str], *, left: bool, below: bool) -> None:
    """Name the stages along the outer axes: all where they are few, else the first of each kind, and the last."""
    kinds = [name.split()[0] for name in names]
    places = list(range(len(names)))
    if len(names) > LABELS:
        places = [place for place in places[:-1] if place == 0 or kinds[place] != kinds[place - 1]]
        places = [place for place in places if place - 1 not in places] + [len(names) - 1]
    one_kind = len(set(kinds)) == 1
    short = [names[place].removeprefix(f"{kinds[0]} ") if one_kind else names[place] for place in places]
    axes.set_xticks(places, short if below else [""] * len(places), rotation=0 if one_kind else 90, fontsize=7)
    axes.set_yticks(places, short if left else [""] * len(places), fontsize=7)
    axes.set_xlabel(kinds[0] if one_kind and below else "", fontsize=8)
    axes.set_ylabel(kinds[0] if one_kind and left else "", fontsize=8)
