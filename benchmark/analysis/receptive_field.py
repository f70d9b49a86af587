"""How far a pixel's output reaches: where the gradient of the noise estimate at a pixel lies, by distance.

The mass of an input pixel is sum |d eps_hat_c(p) / d x_c'(q)| over the channels c of the output pixel p and c' of the
input pixel q (the effective receptive field of Luo et al. 2016, with every output pixel in place of the central one).
The mass of every p sums to one. At high noise the estimate is mostly the pixel itself, whatever the network, so that
the mass of the other pixels is also told alone. Distances are Euclidean, in pixels, between pixel centres.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.analysis import study
from benchmark.analysis.derivatives import Linearised

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = "receptive-field-1"
SIDE = 16  # of the largest image whose every pixel is asked, and of the grid of pixels asked of a larger one


def analyse(network: nn.Module, images: Tensor, request: study.Request, progress: study.Progress, parts: study.Parts) -> study.Result:
    """Return the gradient mass by offset and by distance, and the radii that hold half and nine tenths of it."""
    side = images.shape[-1]
    pixels = asked(side)
    masses = []
    for place, timestep in enumerate(request.timesteps):

        def measure(timestep: int = timestep, done: int = place) -> dict[str, Tensor]:
            x, _ = study.noisy(images, timestep, request)
            around = Linearised(network, x, timestep)
            return {
                "mass": mass_by_offset(around, pixels, lambda n: progress(done * len(pixels) + n, len(request.timesteps) * len(pixels)))
            }

        masses.append(parts.keep(f"t{timestep}", measure)["mass"].double().numpy())
        progress((place + 1) * len(pixels), len(request.timesteps) * len(pixels))
    distances, uniform = distances_of(side), uniform_mass(side, pixels)
    numbers = {
        f"{name}_t{timestep}": value
        for timestep, mass in zip(request.timesteps, masses, strict=True)
        for name, value in summary(mass, distances).items()
    }
    arrays = {"timesteps": np.array(request.timesteps), "mass": np.stack(masses), "uniform": uniform, "distance": distances}
    settings = {"uniform": {name: float(f"{value:.6g}") for name, value in summary(uniform, distances).items()}, "pixels": len(pixels)}
    return study.Result(numbers, arrays, {"reach": partial(draw, arrays)}, settings)


def asked(side: int) -> list[tuple[int, int]]:
    """Return the output pixels (row, column) that are asked: all of a small image, an even grid of a large one."""
    along = range(side) if side <= SIDE else [(2 * i + 1) * side // (2 * SIDE) for i in range(SIDE)]
    return [(row, column) for row in along for column in along]


def mass_by_offset(around: Linearised, pixels: list[tuple[int, int]], progress: study.Progress = lambda done: None) -> Tensor:
    """Return the mean mass at every offset (2 R - 1, 2 R - 1) from the output pixel, which is at the centre; sums to one."""
    channels, side = around.x.shape[1], around.x.shape[-1]
    total = torch.zeros(2 * side - 1, 2 * side - 1, dtype=torch.float64)
    outputs = [channel * side**2 + row * side + column for row, column in pixels for channel in range(channels)]
    seen, mass = 0, torch.zeros(around.images, side, side, dtype=torch.float64)
    for gradients in around.gradients(outputs):
        for one in gradients.abs().unflatten(2, (channels, side, side)).sum(2).double().cpu():  # (K, R, R)
            mass = mass + one
            seen += 1
            if seen % channels == 0:
                row, column = pixels[seen // channels - 1]
                whole = mass.sum((1, 2), keepdim=True)
                share = torch.where(whole > 0, mass / whole.clamp_min(1e-300), 0.0).mean(0)
                total[side - 1 - row : 2 * side - 1 - row, side - 1 - column : 2 * side - 1 - column] += share
                mass = torch.zeros_like(mass)
        progress(seen // channels)
    return total / len(pixels)


def uniform_mass(side: int, pixels: list[tuple[int, int]]) -> np.ndarray:
    """Return what `mass_by_offset` is where every input pixel counts the same: what the shape of the image alone gives."""
    total = np.zeros((2 * side - 1, 2 * side - 1))
    for row, column in pixels:
        total[side - 1 - row : 2 * side - 1 - row, side - 1 - column : 2 * side - 1 - column] += 1 / side**2
    return total / len(pixels)


def distances_of(side: int) -> np.ndarray:
    """Return the distance (2 R - 1, 2 R - 1) of every offset, in pixels."""
    offset = np.arange(-side + 1, side)
    return np.hypot(offset[:, None], offset[None, :])


def summary(mass: np.ndarray, distances: np.ndarray) -> dict[str, float]:
    """Return the share of the pixel itself, and the radii that hold 50% and 90% of all and of the others' mass."""
    centre = distances == 0
    others = np.where(centre, 0.0, mass)
    rest = others.sum()
    found = {"own_share": float(mass[centre].sum()), "radius50": radius(mass, distances, 0.5), "radius90": radius(mass, distances, 0.9)}
    if rest <= 0:  # a pointwise network: nothing comes from elsewhere
        return found | {"others_radius50": 0.0, "others_radius90": 0.0, "others_mean_distance": 0.0}
    return found | {
        "others_radius50": radius(others, distances, 0.5),
        "others_radius90": radius(others, distances, 0.9),
        "others_mean_distance": float((others * distances).sum() / rest),
    }


def radius(mass: np.ndarray, distances: np.ndarray, share: float) -> float:
    """Return the smallest distance, in pixels, within which that share of the mass lies."""
    steps, held = cumulative(mass, distances)
    return float(steps[np.searchsorted(held, share * (1 - 1e-12))])


def cumulative(mass: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances that occur, in order, and the share of the mass within each."""
    steps, place = np.unique(distances.round(9), return_inverse=True)
    held = np.cumsum(np.bincount(place.ravel(), weights=mass.ravel(), minlength=len(steps)))
    return steps, held / held[-1]


def draw(arrays: dict[str, np.ndarray], figure: "Figure") -> None:
    """Draw the mass within each distance, and where the others' mass lies around the pixel, per noise level."""
    from benchmark.recording.style import COLOURS, WIDTH

    timesteps, distances = arrays["timesteps"], arrays["distance"]
    others = np.where(distances == 0, np.nan, arrays["mass"])
    figure.set_size_inches(WIDTH, 3.3)
    columns: Any = figure.subfigures(1, 2, width_ratios=(1.2, 1))
    axes = columns[0].subplots()
    for index, (timestep, mass) in enumerate(zip(timesteps, arrays["mass"], strict=True), start=1):
        axes.step(*cumulative(mass, distances), where="post", color=COLOURS[index % len(COLOURS)], linewidth=1.4, label=f"t = {timestep}")
    axes.step(*cumulative(arrays["uniform"], distances), where="post", color="grey", linestyle=(0, (3, 2)), label="all pixels alike")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("distance from the output pixel (pixels)")
    axes.set_ylabel("share of the gradient within it")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    rows = -(-len(timesteps) // 2)
    maps = columns[1].subplots(rows, min(2, len(timesteps)), squeeze=False).ravel()
    reach = len(distances) // 2 + 0.5
    for panel, timestep, mass in zip(maps, timesteps, others, strict=False):
        share = mass / max(np.nansum(mass), 1e-300)
        panel.imshow(share.repeat(4, 0).repeat(4, 1), cmap="viridis", interpolation="none", extent=(-reach, reach, reach, -reach), vmin=0)
        panel.set_title(f"t = {timestep}: 0 to {np.nanmax(share):.1%}", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.grid(visible=False)
    for panel in maps[len(timesteps) :]:
        panel.set_visible(False)
    columns[1].suptitle("share of each other pixel, from dark to bright", fontsize=8)
    columns[1].supxlabel("columns from the output pixel", fontsize=8)
    columns[1].supylabel("rows from the output pixel", fontsize=8)
