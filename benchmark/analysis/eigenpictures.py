"""Pictures of a Jacobian: its directions split by channel, as Figs. 1 and 3 of the paper show them, and its spectra."""

from typing import TYPE_CHECKING

import numpy as np

from benchmark.recording.style import COLOURS, DASHED, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 12  # directions
CELL = WIDTH / 19  # inches
PIXELS = 16  # about the side of a direction on the picture: small ones are enlarged, pixel by pixel
BOXES = ((0.8, 0.1, 0.15), (0.0, 0.55, 0.25), (0.0, 0.3, 0.85))  # as the paper outlines the channels; each row is named too
CHANNELS = ("red", "green", "blue")
KINDS = {
    "eigen": ("eigenvectors", "eigenvalues", ""),
    "eigen_noise": ("eigenvectors_noise", "eigenvalues_noise", "_noise"),
    "singular": ("right", "singular_values", ""),
}
OUTPUTS = {"": "denoised image", "_noise": "noise estimate"}


def directions(arrays: dict[str, np.ndarray], kind: str, figure: "Figure") -> None:
    """Draw, for the first image at each step, the spectrum and the leading directions, one row a channel."""
    vectors, values, suffix = KINDS[kind]
    timesteps, shown = arrays["timesteps"], arrays[vectors][:, 0, :SHOWN]  # (T, S, C, R, R)
    channels = shown.shape[2]
    figure.set_size_inches(WIDTH, 0.55 + len(timesteps) * (CELL * max(channels, 2) + 0.5))
    grid = figure.subplots(len(timesteps), 2, width_ratios=(0.2, 0.8), squeeze=False)
    singular = kind == "singular"
    symbol, title = ("$s_k$", "right singular vectors") if singular else ("$\\lambda_k$", "eigenvectors of its symmetric part")
    for (left, right), timestep, vector, value, noisy, clean in zip(
        grid, timesteps, shown, arrays[values], arrays["noisy"], arrays["denoised"], strict=True
    ):
        spectrum(left, value, symbol, COLOURS[1])
        left.set_title(f"t = {timestep}", fontsize=9)
        mosaic(right, [noisy[0], clean[0]], vector, value[0])
    grid[-1][0].set_xlabel("place k")
    figure.suptitle(f"Jacobian of the {OUTPUTS[suffix]}: {symbol} of every image, and the {title} at the first", fontsize=9)


def spectrum(axes: "Axes", values: np.ndarray, symbol: str, colour: str) -> None:
    """Draw the values (K, n) of each image, and their mean, against their place; `symbol` names them."""
    place = np.unique(np.geomspace(1, values.shape[1], 24).round().astype(int))  # as many as can be told apart
    for one in values:
        axes.plot(place, one[place - 1], color=colour, linewidth=0.7, alpha=0.45)
    axes.plot(place, values.mean(0)[place - 1], color=colour, linewidth=1.6)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.tick_params(labelsize=7)
    axes.set_ylabel(symbol, fontsize=8)


def mosaic(axes: "Axes", images: list[np.ndarray], vectors: np.ndarray, values: np.ndarray) -> None:
    """Draw two images (C, R, R) and, one row a channel, directions (S, C, R, R) in grey: 0 is the middle."""
    (count, channels), side = vectors.shape[:2], vectors.shape[-1]
    factor = max(1, PIXELS // side)
    cell, edge = side * factor, max(1, side * factor // 16)
    step, first = cell + 3 * edge, 2 * (cell + 3 * edge) + cell // 2  # from cell to cell; where the directions begin
    sheet = np.ones((channels * step, first + count * step, 3))  # one picture for all: an SVG of hundreds is large
    for place, image in enumerate(images):
        shown = np.clip((image.transpose(1, 2, 0) + 1) / 2, 0, 1)
        _put(sheet, shown if channels == 3 else shown[..., :1], 0, place * step, factor, edge, (0, 0, 0))
    for k, vector in enumerate(vectors):
        largest = np.abs(vector).max() or 1.0
        for channel, plane in enumerate(vector):
            _put(
                sheet,
                plane[..., None] / largest / 2 + 0.5,
                channel * step,
                first + k * step,
                factor,
                edge,
                BOXES[channel] if channels == 3 else (0, 0, 0),
            )
    axes.imshow(sheet, interpolation="none", extent=(0, sheet.shape[1], sheet.shape[0], 0))
    axes.set_axis_off()
    names = [(place * step, name) for place, name in enumerate(("noisy", "denoised"))]
    for x, text in names + [(first + k * step, f"{value:.2g}") for k, value in zip(range(count), values, strict=False)]:
        axes.text(x + step / 2, -0.05 * step, text, ha="center", va="bottom", fontsize=6)
    for channel, (name, colour) in enumerate(zip(CHANNELS, BOXES, strict=True) if channels == 3 else ()):
        axes.text(first - 0.05 * step, (channel + 0.5) * step, name, color=colour, fontsize=6.5, rotation=90, ha="right", va="center")


def _put(sheet: np.ndarray, picture: np.ndarray, row: int, column: int, factor: int, edge: int, colour: tuple[float, ...]) -> None:
    """Put a picture (R, R, 1 or 3), enlarged, into the sheet with an edge of that colour around it."""
    large = picture.repeat(factor, 0).repeat(factor, 1)
    framed = np.empty((len(large) + 2 * edge, len(large) + 2 * edge, 3))
    framed[:] = colour
    framed[edge:-edge, edge:-edge] = large
    sheet[row : row + len(framed), column : column + len(framed)] = framed


def spectra(arrays: dict[str, np.ndarray], figure: "Figure") -> None:
    """Draw eigenvalues and singular values of both Jacobians, one line a step."""
    figure.set_size_inches(WIDTH, 3.2)
    panels = figure.subplots(1, 2)
    for axes, suffix in zip(panels, ("", "_noise"), strict=True):
        for index, timestep in enumerate(arrays["timesteps"], start=1):
            colour = COLOURS[index % len(COLOURS)]
            for name, style in (("eigenvalues", "solid"), ("singular_values", DASHED)):
                values = arrays[name + suffix][index - 1].mean(0)
                axes.plot(
                    np.arange(1, len(values) + 1),
                    values,
                    color=colour,
                    linewidth=1.3,
                    linestyle=style,
                    label=f"t = {timestep}" if style == "solid" else None,
                )
        axes.plot([], [], color="grey", linestyle=DASHED, label="singular values")
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set_title(f"Jacobian of the {OUTPUTS[suffix]}", fontsize=9)
        axes.set_xlabel("place k")
    panels[0].set_ylabel("eigenvalue of the symmetric part (solid)")
    panels[1].legend(frameon=False, fontsize=8)
