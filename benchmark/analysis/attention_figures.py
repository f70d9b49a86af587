"""Attention maps as pictures: Fig. 4 of An et al. 2024, one token's view at every noise level, and locality by layer."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmark.analysis.locality import NAMES, WINDOWS, locality
from benchmark.recording.style import COLOURS, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Draw = Callable[["Figure"], None]
Arrays = dict[str, np.ndarray]

COLUMNS = 6  # layers side by side
BRIGHTEST = 0.1  # where the paper's colours end, after a map of its 1024 tokens is brought to [0, 1]
SHADES = 32  # of a map: as many as an eye tells apart, and few enough to keep an SVG small
PIXELS = 128  # of an image in an SVG at least: viewers smooth what they enlarge
RATIO = 16  # to uniform attention, and its inverse: where the colours of a token's view end
TOKEN = COLOURS[2]  # vermilion, which no map holds
PANELS = {
    "distance": "mean distance (pixels)",
    "mass_3": "mass within 3 x 3 tokens",
    "entropy": "entropy of a row (nats)",
    "position_invariance": "position invariance",
}


def figures(arrays: Arrays, resolution: int) -> dict[str, Draw]:
    """Return the pictures of an analysis: arrays as `attention.analyse` returns them, of images `resolution` pixels wide."""
    return {
        "maps": partial(draw_maps, arrays),
        "tokens": partial(draw_tokens, arrays),
        "locality": partial(draw_locality, arrays, resolution),
    }


def brought_to_unit(maps: np.ndarray) -> np.ndarray:
    """Return every map (..., T, T) with its smallest weight at 0 and its largest at 1; all 0 where it has but one weight."""
    low, high = maps.min((-2, -1), keepdims=True), maps.max((-2, -1), keepdims=True)
    return (maps - low) / np.where(high > low, high - low, 1)


def draw_maps(arrays: Arrays, figure: "Figure") -> None:
    """Draw every layer's map at the middle noise level, its centre enlarged, and below it one token's row as an image."""
    from matplotlib import colormaps

    timesteps = arrays["timesteps"]
    level = int(np.argsort(timesteps)[(len(timesteps) - 1) // 2])
    maps = brought_to_unit(arrays["maps"][level].mean(1))  # assumed: the mean over heads, of which the paper says nothing
    side, token = _side(maps), _centre(maps)
    # With fewer tokens, weights are nearer to the largest: the colours end at the same multiple of uniform attention.
    brightest = min(1.0, BRIGHTEST * 1024 / maps.shape[-1])
    shown = {"vmin": 0, "vmax": brightest, "cmap": colormaps["viridis"].resampled(SHADES)}
    for layer, (axes, below) in enumerate(_grid(figure, len(maps), 2)):
        image = _image(axes, maps[layer], **shown)
        axes.set_title(f"layer {layer + 1}", fontsize=9)
        axes.plot([-0.5], [token], color=TOKEN, marker=">", markersize=5, clip_on=False)
        _enlarge(axes, maps[layer], side, shown)
        _image(below, maps[layer, token].reshape(side, side), **shown)
        _mark(below, token, side, TOKEN)
        if layer % COLUMNS == 0:
            axes.set_ylabel("query")
            below.set_ylabel("keys of one query")
    bar = figure.colorbar(
        image,
        ax=figure.axes,
        location="bottom",
        extend="max" if brightest < 1 else "neither",
        shrink=0.4,
        aspect=30,
        pad=0.03,
        label=f"attention weight at t = {timesteps[level]}, each map brought to [0, 1]",
    )
    _without_seams(bar)


def draw_tokens(arrays: Arrays, figure: "Figure") -> None:
    """Draw what the centre token attends to, in every layer (columns) and at every noise level (rows)."""
    from matplotlib.colors import LogNorm

    timesteps, maps = arrays["timesteps"], arrays["maps"].mean(2)  # (levels, layers, T, T)
    side, token = _side(maps), _centre(maps)
    views = (maps[:, :, token] * side**2).clip(1 / RATIO / 2, None)  # a component's map may have weights below zero
    for layer, column in enumerate(_grid(figure, maps.shape[1], len(timesteps))):
        column[0].set_title(f"layer {layer + 1}", fontsize=9)
        for level, axes in enumerate(column):
            image = _image(axes, views[level, layer].reshape(side, side), norm=LogNorm(1 / RATIO, RATIO), cmap="PuOr_r")
            _mark(axes, token, side, "black")
            if layer % COLUMNS == 0:
                axes.set_ylabel(f"t = {timesteps[level]}")
    bar = figure.colorbar(
        image,
        ax=figure.axes,
        location="bottom",
        extend="both",
        shrink=0.4,
        aspect=30,
        pad=0.03,
        label="attention weight of the marked token, over that of uniform attention",
    )
    _without_seams(bar)
    bar.set_ticks([1 / 16, 1 / 4, 1, 4, 16], labels=["1/16", "1/4", "1", "4", "16"])
    bar.minorticks_off()


def draw_locality(arrays: Arrays, resolution: int, figure: "Figure") -> None:
    """Draw the numbers of locality by layer, a line for each noise level, beside what uniform attention has."""
    from matplotlib.lines import Line2D

    from benchmark.recording.style import DASHED, WIDTH

    figure.set_size_inches(WIDTH, 5.4)
    panels = figure.subplots(2, 3)
    uniform = _uniform(arrays, resolution)
    layers = np.arange(1, arrays["distance"].shape[1] + 1)
    for axes, (name, label) in zip(panels[:, :2].flat, PANELS.items(), strict=True):
        for place, values in enumerate(arrays[name].mean(2)):
            axes.plot(layers, values, **_look(place))
        axes.axhline(uniform[name], color="grey", linestyle=DASHED, linewidth=1.2)
        axes.set_ylabel(label)
        axes.set_xlabel("layer")
        axes.set_xticks(_ticks(arrays))
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    _draw_mass(panels[0, 2], arrays, uniform)
    _draw_heads(panels[1, 2], arrays)
    handles = [Line2D([], [], label=f"t = {t}", **_look(place)) for place, t in enumerate(arrays["timesteps"])]
    handles.append(Line2D([], [], color="grey", linestyle=DASHED, label="uniform attention"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), frameon=False)


def _draw_mass(axes: "Axes", arrays: Arrays, uniform: dict[str, float]) -> None:
    """Draw the mass within windows of every size, a line for each noise level, over all layers."""
    for place in range(len(arrays["timesteps"])):
        axes.plot(WINDOWS, [arrays[f"mass_{window}"][place].mean() for window in WINDOWS], **_look(place))
    axes.plot(WINDOWS, [uniform[f"mass_{window}"] for window in WINDOWS], color="grey", linestyle=(0, (3, 2)), linewidth=1.2)
    axes.set_xticks(WINDOWS)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("side w of the window (tokens)")
    axes.set_ylabel("mass within w x w tokens")


def _draw_heads(axes: "Axes", arrays: Arrays) -> None:
    """Draw the mean attention distance of every head over the noise levels."""
    for layer, heads in enumerate(arrays["distance"].mean(0), start=1):
        axes.plot([layer] * len(heads), heads, color=COLOURS[0], marker="o", markersize=5, linestyle="none", alpha=0.6, markeredgewidth=0)
    axes.set_xticks(_ticks(arrays))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("layer")
    axes.set_ylabel("distance, each head (pixels)")


def _grid(figure: "Figure", layers: int, rows: int) -> "Iterator[list[Axes]]":
    """Yield, layer by layer, the column of `rows` square axes that it gets; COLUMNS of them stand side by side."""
    from benchmark.recording.style import WIDTH

    bands = -(-layers // COLUMNS)
    columns = -(-layers // bands)
    cell = 0.94 * WIDTH / COLUMNS
    figure.set_size_inches(max(4.0, cell * columns + 0.3), bands * (rows * cell + 0.25) + 1.0)
    grid = figure.subplots(bands * rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    for place in range(bands * columns):
        band, column = divmod(place, columns)
        found = list(grid[band * rows : (band + 1) * rows, column])
        if place < layers:
            yield found
        else:
            for axes in found:
                axes.set_visible(False)


def _enlarge(axes: "Axes", unit: np.ndarray, side: int, shown: dict[str, Any]) -> None:
    """Show the centre of a map, the tokens of two rows of the image, enlarged in the upper right corner."""
    if side < 4:
        return
    first = (len(unit) - 2 * side) // 2
    inset = axes.inset_axes((0.58, 0.58, 0.42, 0.42))
    _image(inset, unit[first : first + 2 * side, first : first + 2 * side], **shown)
    inset.set(xticks=[], yticks=[])
    inset.grid(visible=False)
    for spine in inset.spines.values():
        spine.set(visible=True, color="white", linewidth=1)


def _image(axes: "Axes", values: np.ndarray, **shown: Any) -> "AxesImage":
    """Show a square array: each value of a small one as a block of pixels, the mean over blocks of a large one."""
    side = len(values)
    if side >= 2 * PIXELS and side % PIXELS == 0:
        blocks = values.reshape(PIXELS, side // PIXELS, PIXELS, -1).mean((1, 3))
    else:
        blocks = values.repeat(-(-PIXELS // side), 0).repeat(-(-PIXELS // side), 1)
    return axes.imshow(blocks, interpolation="none", extent=(-0.5, side - 0.5, side - 0.5, -0.5), **shown)


def _without_seams(bar: "Colorbar") -> None:
    """Make the shades of a colour bar one image: SVG viewers leave white lines between neighbours."""
    if bar.solids is not None:
        bar.solids.set_rasterized(True)


def _mark(axes: "Axes", token: int, side: int, colour: str) -> None:
    """Outline a token in an image of all tokens."""
    from matplotlib.patches import Rectangle

    row, column = divmod(token, side)
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=colour, linewidth=1.2))


def _uniform(arrays: Arrays, resolution: int) -> dict[str, float]:
    """Return the numbers of uniform attention over as many tokens."""
    tokens = arrays["maps"].shape[-1]
    found = locality(torch.full((tokens, tokens), 1 / tokens), patch=resolution // round(tokens**0.5))
    return {name: found[name].item() for name in NAMES}


def _ticks(arrays: Arrays) -> list[int]:
    layers = arrays["distance"].shape[1]
    return list(range(1, layers + 1, 1 + layers // 8))


def _look(place: int) -> dict[str, Any]:
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "markersize": 4, "linewidth": 1.3}


def _side(maps: np.ndarray) -> int:
    return round(maps.shape[-1] ** 0.5)


def _centre(maps: np.ndarray) -> int:
    side = _side(maps)
    return side // 2 * side + side // 2
